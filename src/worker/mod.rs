//! One thread per core, each with its own runtime, sockets and sessions.
//!
//! All listening sockets are bound in one place before any thread starts, so that a port that is taken is a clean
//! error and not half a gateway. The kernel spreads connections over the `SO_REUSEPORT` sockets by hash, which is
//! uneven; the worker that accepts one hands it to the least loaded worker if the difference is worth it.

mod busy_poll;
pub mod memory;
mod port_owner;
mod sockets;
mod thread;
mod watchdog;

pub use port_owner::listen_fault;
pub use sockets::{Bound, Inherited};

use crate::close::Close;
use crate::gateway::{Gateway, Listener};
use crate::metrics::WorkerMetrics;
use crate::names::Remote;
use crate::recording::archive::Archive;
use crate::session::admission::{Admission, Admitted};
use crate::session::database::cancels::Cancels;
use crate::session::registry::Registry;
use crate::session::{WorkerRecordings, WorkerState};
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
    admission: Arc<Admission>,
    /// Each worker's counters.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// The live sessions of all workers.
    pub registry: Arc<Registry>,
}

/// A handle to a worker, for other threads.
#[derive(Clone)]
struct Handle {
    orders: UnboundedSender<Order>,
    load: Arc<AtomicUsize>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "handing a socket over is the common order, and a box would cost it an allocation"
)]
enum Order {
    Take(TcpStream, Remote, Listener, Admitted),
    Drain,
    Stop(Close),
    /// End all sessions and those that come, but go on accepting.
    EndSessions(Close),
    /// Accept new sessions again.
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

    /// Accepts new sessions again.
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
    /// Starts one thread for each set of sockets. Routes that are recorded are so into `archive`.
    pub fn start(
        bound: Bound,
        layout: Layout,
        gateway: Arc<ArcSwap<Gateway>>,
        archive: Option<Arc<Archive>>,
    ) -> io::Result<Self> {
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
        let mut workers = Workers {
            handles: handles.clone(),
            threads: Vec::new(),
            metrics: Vec::new(),
            registry: Arc::new(Registry::new(receivers.len())),
            admission: admission.clone(),
        };
        let watchdog = Watchdog::start()?;
        for (number, (sockets, receiver)) in bound.sockets.into_iter().zip(receivers).enumerate() {
            let metrics = Arc::new(WorkerMetrics::default());
            workers.metrics.push(metrics.clone());
            let mut seed = [0; 8];
            ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
                .map_err(|_| io::Error::other("the system has no randomness"))?;
            let core = cores.get(number % cores.len().max(1)).copied();
            let (gateway, admission, handles) = (gateway.clone(), admission.clone(), handles.clone());
            let (cancels, archive) = (cancels.clone(), archive.clone());
            let entrance = watchdog.entrance();
            let Some(live) = workers.registry.shard(number).cloned() else { continue };
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.threads.push(thread.spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                let recordings = archive.map(|archive| WorkerRecordings::new(archive, number));
                let shared = WorkerState::new(
                    number,
                    metrics,
                    live,
                    admission.clone(),
                    cancels,
                    gateway.clone(),
                    u64::from_ne_bytes(seed),
                );
                let shared = Rc::new(shared.with_recordings(recordings));
                let (reported, unreported) = Default::default();
                let busy_poll = (!layout.busy_poll.is_zero()).then(Rc::default);
                let worker =
                    Worker { number, shared, gateway, admission, handles, busy_poll, reported, unreported };
                Rc::new(worker).run(sockets, receiver, layout.busy_poll, entrance);
            })?);
        }
        Ok(workers)
    }

    /// What counts the connections of all workers.
    pub fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Stops accepting and tells all sessions to finish what is under way.
    pub fn drain(&self) {
        tell(&self.handles, || Order::Drain);
    }

    /// Ends all sessions now.
    pub fn stop(&self, close: Close) {
        tell(&self.handles, || Order::Stop(close));
        // A worker that takes no orders any more may still have a session that came last.
        self.registry.stop(close);
    }

    /// The number of live sessions.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Limits;
    use crate::identify::oidc::Issuers;
    use crate::session::admission::Bounds;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_socket_that_was_handed_over_is_served_by_a_worker_that_drains() {
        let listener = Listener {
            number: 0,
            address: "127.0.0.1:0".parse().unwrap(),
            mysql: None,
            cancel_in_clear: false,
            proxy_protocol_from: Vec::new(),
            routes: None,
            default_route: None,
        };
        let limits = Limits {
            permit_deadline: Duration::from_secs(10),
            connections: 10,
            connections_per_address: 0,
            half_open: 0,
            half_open_per_address: 0,
            drain: Duration::from_secs(5),
            head: 32 * 1024,
            fields: 100,
            streams: 100,
            resets: 100,
            resets_per_second: 33,
            records_per_key: u64::MAX,
        };
        // On a busy machine the worker may be gone between the two orders: then nothing was handed over, and it is tried again.
        assert!((0..50).any(|_| is_served_while_draining(&listener, limits)), "the worker was always gone");
    }

    /// False when the worker was gone before the socket was handed to it.
    fn is_served_while_draining(listener: &Listener, limits: Limits) -> bool {
        let gateway =
            Gateway::new(vec![listener.clone()], Vec::new(), Issuers::new(Vec::new()).unwrap(), limits);
        let layout = Layout { count: 1, pin: false, busy_poll: Duration::ZERO };
        let bound = Bound::bind(std::slice::from_ref(listener), layout).unwrap();
        let workers = Workers::start(bound, layout, Arc::new(ArcSwap::from_pointee(gateway)), None).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (tcp, remote) = server.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let bounds = Bounds::from(&limits);
        let admitted = Arc::new(Admission::default()).admit(remote.ip(), bounds).unwrap();
        // Both orders lie in the queue when the idle worker looks.
        let handle = &workers.handles[0];
        handle.load.fetch_add(1, Relaxed);
        handle.orders.send(Order::Drain).unwrap();
        if handle.orders.send(Order::Take(tcp, Remote(remote), listener.clone(), admitted)).is_err() {
            workers.join();
            return false;
        }
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        workers.join();
        true
    }
}
