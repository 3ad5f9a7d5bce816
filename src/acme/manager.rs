//! The manager: tasks of all certificates and their shared state.

use super::certificate::{Certificate, Slot};
use super::challenge::Challenges;
use super::http01;
use super::store::Store;
use super::task::{self, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Orders under way at a time: a gateway with a hundred names does not come with all of them at once.
const ORDERS_AT_ONCE: usize = 4;
/// A reload lifts the delay after a failed order that is older than this.
const MIN_DELAY_BEFORE_RELOAD_RETRY: Duration = Duration::from_secs(5);

/// What the configuration wants of ACME.
pub struct Plan {
    /// The state directory.
    pub store: Store,
    /// Where HTTP-01 challenges are answered.
    pub http: Option<SocketAddr>,
    /// The certificates, each once, however many routes show it.
    pub certificates: Vec<Arc<Certificate>>,
}

/// Orders certificates and renews them, until it is dropped.
pub struct Manager {
    shared: Arc<Shared>,
    http: Option<SocketAddr>,
    /// Where HTTP-01 challenges are answered, port filled in.
    pub http_address: Option<SocketAddr>,
    http_task: Option<JoinHandle<()>>,
    tasks: Mutex<HashMap<String, Task>>,
}

struct Task {
    slot: Arc<Slot>,
    handle: JoinHandle<()>,
}

impl Manager {
    /// Locks the state directory and listens on the port for challenges; orders nothing yet.
    pub fn start(plan: &Plan, runtime: &Handle) -> Result<Self, String> {
        let lock = plan.store.lock()?;
        let challenges = Arc::<Challenges>::default();
        let listener = plan.http.map(|address| {
            TcpListener::bind(address)
                .map_err(|error| format!("cannot listen on {address} for challenges: {error}"))
        });
        let listener = listener.transpose()?;
        let http_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let http_task = listener.map(|listener| {
            let challenges = challenges.clone();
            runtime.spawn(async move {
                if let Err(error) = http01::serve(listener, challenges).await {
                    tracing::error!(%error, "HTTP-01 challenges cannot be answered");
                }
            })
        });
        let (store, order_slots) = (plan.store.clone(), Semaphore::new(ORDERS_AT_ONCE));
        let shared = Arc::new(Shared { store, lock, challenges, order_slots });
        Ok(Manager { shared, http: plan.http, http_address, http_task, tasks: Mutex::default() })
    }

    /// The challenges that are under way, for handshakes.
    pub fn challenges(&self) -> Arc<Challenges> {
        self.shared.challenges.clone()
    }

    /// Settings of a plan that need a restart.
    pub fn restart_needed_for(&self, plan: &Plan) -> Option<&'static str> {
        if plan.store != self.shared.store {
            return Some("[acme] state changed");
        }
        (plan.http != self.http).then_some("[acme] http changed")
    }

    /// Begins to keep the certificates of a plan, goes on with those that it kept before, and ends what is not wanted any
    /// more.
    pub fn adopt(&self, plan: &Plan, runtime: &Handle) {
        let mut tasks = self.tasks.lock();
        let mut kept = HashMap::new();
        for certificate in &plan.certificates {
            let key = certificate.slot().key.clone();
            let task = match tasks.remove(&key) {
                Some(task) => {
                    certificate.adopt(&task.slot);
                    clear_backoff(&task.slot);
                    task
                }
                None => {
                    let slot = certificate.slot();
                    let handle = runtime.spawn(task::keep(slot.clone(), self.shared.clone()));
                    Task { slot, handle }
                }
            };
            kept.insert(key, task);
        }
        let gone = std::mem::replace(&mut *tasks, kept);
        gone.values().for_each(|task| task.handle.abort());
    }
}

/// Clears the back-off after a reload, which probably fixed the cause.
fn clear_backoff(slot: &Slot) {
    {
        let mut status = slot.status.lock();
        let last = status.last_attempt.map_or(UNIX_EPOCH, |at| UNIX_EPOCH + Duration::from_secs(at));
        if SystemTime::now().duration_since(last).is_ok_and(|since| since >= MIN_DELAY_BEFORE_RELOAD_RETRY) {
            status.next_attempt = None;
        }
    }
    slot.changed.notify_one();
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.tasks.lock().values().for_each(|task| task.handle.abort());
        self.http_task.iter().for_each(JoinHandle::abort);
    }
}
