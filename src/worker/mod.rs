//! One thread per core, each with its own runtime, sockets and sessions.
//!
//! All listening sockets are bound in one place before any thread starts, so that a port that is taken is a clean
//! error and not half a gateway. The kernel spreads connections over the `SO_REUSEPORT` sockets by hash, which is
//! uneven; the worker that accepts one hands it to the least loaded worker if the difference is worth it.

mod busy_poll;
mod port_owner;
mod sockets;
mod thread;
mod watchdog;

pub use port_owner::listen_fault;
pub use sockets::Bound;

use crate::close::Close;
use crate::gateway::{Gateway, Listener};
use crate::metrics::WorkerMetrics;
use crate::names::Remote;
use crate::session::Shared;
use crate::session::admission::{Admission, Admitted};
use crate::session::postgres::cancel::Cancels;
use arc_swap::ArcSwap;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use thread::Worker;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use watchdog::Watchdog;

/// How many workers, and whether each keeps to one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Worker threads; 0: one per core.
    pub count: usize,
    /// Pins worker n to the n-th core that the process may use.
    pub pin: bool,
    /// How long a worker without work stays awake; zero: it sleeps at once.
    pub busy_poll: Duration,
}

/// The running workers.
pub struct Workers {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    /// Each worker's counters.
    pub metrics: Vec<Arc<WorkerMetrics>>,
}

/// How a worker is reached.
#[derive(Clone)]
struct Handle {
    orders: UnboundedSender<Order>,
    load: Arc<AtomicUsize>,
}

enum Order {
    Take(TcpStream, Remote, Listener, Admitted),
    Drain,
    Stop(Close),
    /// End all sessions and those that come, but go on accepting.
    EndSessions(Close),
    /// Let those that come live again.
    KeepSessions,
}

/// Orders for the sessions of all workers.
#[derive(Clone)]
pub struct SessionControl(Vec<Handle>);

impl SessionControl {
    /// Ends all sessions, and those that come, until [`SessionControl::keep`].
    pub fn end(&self, close: Close) {
        tell(&self.0, || Order::EndSessions(close));
    }

    /// Lets new sessions live again.
    pub fn keep(&self) {
        tell(&self.0, || Order::KeepSessions);
    }
}

fn tell(handles: &[Handle], order: impl Fn() -> Order) {
    for handle in handles {
        // A worker that has ended needs no telling.
        let _ = handle.orders.send(order());
    }
}

impl Workers {
    /// Starts one thread for each set of sockets.
    pub fn start(bound: Bound, layout: Layout, gateway: Arc<ArcSwap<Gateway>>) -> io::Result<Self> {
        let cores = if layout.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let (admission, cancels) = (Arc::new(Admission::default()), Arc::new(Cancels::default()));
        let (handles, receivers): (Vec<_>, Vec<_>) = bound
            .sockets
            .iter()
            .map(|_| {
                let (orders, receiver) = unbounded_channel();
                (Handle { orders, load: Arc::default() }, receiver)
            })
            .unzip();
        let mut workers = Workers { handles: handles.clone(), threads: Vec::new(), metrics: Vec::new() };
        let watchdog = Watchdog::start()?;
        for (number, (sockets, receiver)) in bound.sockets.into_iter().zip(receivers).enumerate() {
            let metrics = Arc::new(WorkerMetrics::default());
            workers.metrics.push(metrics.clone());
            let mut seed = [0; 8];
            ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
                .map_err(|_| io::Error::other("the system has no randomness"))?;
            let core = cores.get(number % cores.len().max(1)).copied();
            let (gateway, admission, handles) = (gateway.clone(), admission.clone(), handles.clone());
            let cancels = cancels.clone();
            let entrance = watchdog.entrance();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.threads.push(thread.spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                let shared = Rc::new(Shared::new(
                    number,
                    metrics,
                    admission.clone(),
                    cancels,
                    u64::from_ne_bytes(seed),
                ));
                let (complained, unsaid) = Default::default();
                let busy_poll = (!layout.busy_poll.is_zero()).then(Rc::default);
                let worker =
                    Worker { number, shared, gateway, admission, handles, busy_poll, complained, unsaid };
                Rc::new(worker).run(sockets, receiver, layout.busy_poll, entrance);
            })?);
        }
        Ok(workers)
    }

    /// Stops accepting and tells all sessions to finish what is under way.
    pub fn drain(&self) {
        tell(&self.handles, || Order::Drain);
    }

    /// Ends all sessions now.
    pub fn stop(&self, close: Close) {
        tell(&self.handles, || Order::Stop(close));
    }

    /// Sessions that live.
    pub fn sessions(&self) -> usize {
        self.handles.iter().map(|handle| handle.load.load(Relaxed)).sum()
    }

    /// Waits for threads that were told to drain or stop.
    pub fn join(self) {
        for thread in self.threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }

    /// How sessions are ended while workers go on.
    pub fn control(&self) -> SessionControl {
        SessionControl(self.handles.clone())
    }
}
