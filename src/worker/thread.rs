//! A worker's thread: accepts, admits, starts sessions, and ends them when it is told to.

use super::busy_poll::BusyPoll;
use super::watchdog::WorkerRegistration;
use super::{Handle, Order};
use crate::gateway::{Gateway, Listener};
use crate::metrics::AcceptFault;
use crate::names::Remote;
use crate::session::admission::{Admission, Admitted, Bounds, Full};
use crate::session::{NewConnection, WorkerState, run};
use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::Interest;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::SendError;
use tokio::time::Instant;

/// How long accepting pauses when descriptors or memory are short: live sessions go on, and nothing spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long sessions that are told to stop have for their closing lines.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a worker logs that connections are refused.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Connections accepted in a row before sessions of the worker get their turn.
const ACCEPTS_PER_TURN: usize = 32;

pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) shared: Rc<WorkerState>,
    pub(super) gateway: Arc<ArcSwap<Gateway>>,
    pub(super) admission: Arc<Admission>,
    pub(super) handles: Vec<Handle>,
    pub(super) busy_poll: Option<Rc<BusyPoll>>,
    /// When refused connections were last logged, and how many there were since.
    pub(super) reported: Cell<Option<Instant>>,
    pub(super) unreported: Cell<u64>,
}

impl Worker {
    pub(super) fn run(
        self: Rc<Self>,
        sockets: Vec<(Listener, TcpListener)>,
        orders: UnboundedReceiver<Order>,
        awake: Duration,
        watchdog: WorkerRegistration,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, worker = self.number, "a worker has no runtime"),
        };
        let metrics = self.shared.metrics.clone();
        let watched = watchdog.watch(self.number, metrics, runtime.metrics());
        runtime.block_on(async {
            // Giving up many sessions at the end may take its time.
            let _watched = watched;
            if let Some(recordings) = self.shared.recordings.clone() {
                tokio::task::spawn_local(recordings.run());
            }
            if let Some(busy_poll) = self.busy_poll.clone() {
                tokio::task::spawn_local(busy_poll.run(awake));
            }
            tokio::task::spawn_local(self.shared.live.clone().wake_sessions());
            self.serve(sockets, orders).await;
        });
    }

    async fn serve(
        self: Rc<Self>,
        sockets: Vec<(Listener, TcpListener)>,
        mut orders: UnboundedReceiver<Order>,
    ) {
        let mut accepting = Vec::new();
        for (listener, socket) in sockets {
            accepting.push(tokio::task::spawn_local(self.clone().accept(listener, socket)));
        }
        let mut ending = false;
        loop {
            if ending && self.shared.live.is_empty() {
                // Whoever hands a socket over from now on keeps it; what was handed over before is still served.
                orders.close();
                if orders.is_empty() {
                    return;
                }
            }
            let wait = if ending { Duration::from_millis(10) } else { Duration::from_secs(3600) };
            match tokio::time::timeout(wait, orders.recv()).await {
                Err(_) => {}
                // Closed above, and read to its end.
                Ok(None) if !self.shared.live.is_empty() => tokio::time::sleep(wait).await,
                Ok(None) => return,
                Ok(Some(Order::Take(tcp, remote, listener, admitted))) => {
                    self.start(tcp, remote, listener, admitted);
                }
                Ok(Some(Order::Drain)) => {
                    ending = true;
                    accepting.drain(..).for_each(|task| task.abort());
                    self.shared.live.drain();
                }
                Ok(Some(Order::EndSessions(close))) => self.shared.live.stop(close),
                Ok(Some(Order::KeepSessions)) if ending => self.shared.live.drain(),
                Ok(Some(Order::KeepSessions)) => self.shared.live.resume(),
                Ok(Some(Order::Stop(close))) => {
                    accepting.drain(..).for_each(|task| task.abort());
                    self.shared.live.stop(close);
                    // Sessions that have not reached the relay hear nothing; they are dropped with the runtime.
                    let deadline = Instant::now() + STOP_TIMEOUT;
                    while !self.shared.live.is_empty() && Instant::now() < deadline {
                        tokio::time::sleep(STOP_TIMEOUT / 20).await;
                    }
                    return;
                }
            }
        }
    }

    /// Accepts on one socket until its task is aborted.
    async fn accept(self: Rc<Self>, listener: Listener, socket: TcpListener) {
        // Tokio's listener registers what it accepts with this worker's reactor, which is wasted on a connection that
        // is handed over. Its stream type can wait for a socket without reading from it, so it stands in here.
        let socket = match tokio::net::TcpStream::from_std(TcpStream::from(OwnedFd::from(socket))) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, address = %listener.address, "cannot accept"),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            if let Err(error) = socket.readable().await {
                return tracing::error!(%error, address = %listener.address, "cannot accept any more");
            }
            for _ in 0..ACCEPTS_PER_TURN {
                let accepted = socket
                    .try_io(Interest::READABLE, || acceptfrom_with(&socket, flags).map_err(io::Error::from));
                match accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::WOULDBLOCK)) {
                    Ok((descriptor, address)) => {
                        self.shared.metrics.accepted();
                        if let Some(address) = address.and_then(|a| SocketAddr::try_from(a).ok()) {
                            self.admit(TcpStream::from(descriptor), Remote(address), &listener);
                        }
                    }
                    Err(Errno::WOULDBLOCK) => break,
                    Err(errno) => {
                        let fault = accept_fault(errno);
                        self.shared.metrics.accept_error(fault);
                        if fault != AcceptFault::Aborted {
                            tracing::warn!(%errno, address = %listener.address, "accepting pauses");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            break;
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Admits the connection or closes it, then hands it to the least loaded worker.
    fn admit(self: &Rc<Self>, tcp: TcpStream, remote: Remote, listener: &Listener) {
        let gateway = self.gateway.load();
        let bounds = Bounds::from(&gateway.limits);
        // What a balancer says of the client is not known yet; then it is counted again.
        let is_balancer = listener.proxy_protocol_from.iter().any(|n| n.contains(remote.0.ip()));
        let bounds = if is_balancer { bounds.of_balancer() } else { bounds };
        let admitted = match self.admission.admit(remote.0.ip(), bounds) {
            Ok(admitted) => admitted,
            Err(full) => {
                self.shared.metrics.limit(full.into());
                self.report_refused(full, remote);
                return;
            }
        };
        let least = self.least_loaded();
        if least == self.number {
            return self.start(tcp, remote, listener.clone(), admitted);
        }
        self.shared.metrics.handed_off();
        let handle = &self.handles[least];
        handle.load.fetch_add(1, Relaxed);
        let order = Order::Take(tcp, remote, listener.clone(), admitted);
        if let Err(SendError(Order::Take(tcp, remote, listener, admitted))) = handle.orders.send(order) {
            // It has just ended; the connection is served here.
            handle.load.fetch_sub(1, Relaxed);
            self.handles[self.number].load.fetch_add(1, Relaxed);
            self.start(tcp, remote, listener, admitted);
        }
    }

    /// Logs that connections are refused, not more often than [`REPORT_INTERVAL`]: there may be thousands.
    fn report_refused(&self, limit: Full, remote: Remote) {
        let (now, unreported) = (Instant::now(), self.unreported.get());
        match self.reported.get() {
            Some(last) if now < last + REPORT_INTERVAL => self.unreported.set(unreported + 1),
            _ => {
                self.reported.set(Some(now));
                self.unreported.set(0);
                let limit = limit.name();
                tracing::warn!(remote = %remote.0, limit, others = unreported, "closed at once: a limit is reached");
            }
        }
    }

    /// The worker that should take the next connection: this one, unless another has clearly less to do.
    fn least_loaded(&self) -> usize {
        let loads = self.handles.iter().map(|handle| handle.load.load(Relaxed));
        let Some((least, load)) = loads.enumerate().min_by_key(|&(_, load)| load) else { return self.number };
        let mine = &self.handles[self.number].load;
        if mine.load(Relaxed) > load + load / 4 {
            return least;
        }
        mine.fetch_add(1, Relaxed);
        self.number
    }

    /// Starts a session here. It is counted in this worker's load already.
    fn start(self: &Rc<Self>, tcp: TcpStream, remote: Remote, listener: Listener, admitted: Admitted) {
        let at = Instant::now();
        let load = Load(self.handles[self.number].load.clone());
        let tcp = match tokio::net::TcpStream::from_std(tcp) {
            Ok(tcp) => tcp,
            Err(error) => return tracing::warn!(%error, "a connection cannot be served"),
        };
        let arrival = NewConnection { tcp, remote, listener, at, admitted };
        let session = run(self.shared.clone(), self.gateway.load_full(), arrival, load);
        match self.busy_poll.clone() {
            None => tokio::task::spawn_local(session),
            Some(busy_poll) => tokio::task::spawn_local(busy_poll.watch(session)),
        };
    }
}

/// One session's share of a worker's load.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Sorts errors of accept(2): those of the network belong to the connection, shortages to the machine.
fn accept_fault(errno: Errno) -> AcceptFault {
    match errno {
        Errno::MFILE | Errno::NFILE => AcceptFault::Descriptors,
        Errno::NOBUFS | Errno::NOMEM => AcceptFault::Memory,
        Errno::CONNABORTED
        | Errno::INTR
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH
        | Errno::OPNOTSUPP
        | Errno::PERM => AcceptFault::Aborted,
        _ => AcceptFault::Other,
    }
}
