//! Counters of one worker, and their sum in Prometheus' text format.
//!
//! Each worker owns one [`WorkerMetrics`] and is the only one that counts in it, so no cache line moves between
//! cores on the data path; [`render()`] reads all of them, relaxed: a scrape may see a session's bytes before its
//! close, never less than an earlier scrape. There is a label per
//! route ([`RouteMetrics`]), and none per user, path or address: their number is not bounded.

mod histogram;
mod masking;
mod render;
mod route;
mod signals;
mod spans;
mod summary;
mod words;

pub use histogram::Histogram;
pub use masking::MaskCounters;
pub use render::{AcmeFacts, LogFacts, ProcessFacts, RecordingFacts, TimestampFacts, WitnessFacts, render};
pub use route::RouteMetrics;
pub use signals::{SignalOutcome, count_signal};
pub use spans::{SpanOutcome, count_spans};
pub use summary::{Dials, Quantiles, Totals, dials, first_bytes, quantile, totals};
pub use words::REFUSALS;

use crate::close::Plaintext;
use crate::names::{Culprit, Direction, RouteName, SessionId, Side};
use route::RouteTable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use words::{Counter, PLAINTEXTS, index};

/// What one worker counted. Aligned to two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    accepted: Counter,
    handed_off: Counter,
    accept_errors: [Counter; AcceptFault::ALL.len()],
    limits: [Counter; LimitHit::ALL.len()],
    not_tls: [Counter; PLAINTEXTS.len()],
    /// Side × resumed × post-quantum.
    handshakes: [[[Counter; 2]; 2]; 2],
    handshakes_failed: [Counter; 2],
    plaintext_upstreams: Counter,
    key_updates: [Counter; 2],
    alarms: Counter,
    relay_polls: Counter,
    stalls: Counter,
    is_stalled: AtomicBool,
    /// The session that was polled last; 0: none yet.
    polled_session: AtomicU64,
    sessions_opened: Counter,
    /// Upstream connections dialled ahead: given up, and used.
    dialled_ahead: [Counter; 2],
    tokens_hit: Counter,
    tokens_missed: Counter,
    handshake_seconds: [Histogram; 2],
    routes: RouteTable,
}

/// Why an accept failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptFault {
    /// The process or the system is out of descriptors (EMFILE, ENFILE).
    Descriptors,
    /// The system is out of memory for sockets (ENOBUFS, ENOMEM).
    Memory,
    /// The client left before it was accepted (ECONNABORTED and the like).
    Aborted,
    /// Anything else.
    Other,
}

impl AcceptFault {
    /// All of them, in the order of their counters.
    pub const ALL: [AcceptFault; 4] =
        [AcceptFault::Descriptors, AcceptFault::Memory, AcceptFault::Aborted, AcceptFault::Other];

    /// The word used as a label.
    pub fn name(self) -> &'static str {
        match self {
            AcceptFault::Descriptors => "descriptors",
            AcceptFault::Memory => "memory",
            AcceptFault::Aborted => "aborted",
            AcceptFault::Other => "other",
        }
    }
}

/// The limit that a connection reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitHit {
    /// Connections in all.
    Connections,
    /// Connections of one source address.
    PerAddress,
    /// Connections that are not permitted yet, of one source address or in all.
    HalfOpen,
    /// The first of these, and the connection waits for its turn.
    Queued,
    /// The PROXY protocol header was missing, malformed or not allowed.
    ProxyProtocol,
    /// The memory of the process' control group.
    Memory,
}

impl LimitHit {
    /// All of them, in the order of their counters.
    pub const ALL: [LimitHit; 6] = [
        LimitHit::Connections,
        LimitHit::PerAddress,
        LimitHit::HalfOpen,
        LimitHit::Queued,
        LimitHit::ProxyProtocol,
        LimitHit::Memory,
    ];

    /// The word used as a label.
    pub fn name(self) -> &'static str {
        match self {
            LimitHit::Connections => "connections",
            LimitHit::PerAddress => "per_address",
            LimitHit::HalfOpen => "half_open",
            LimitHit::Queued => "half_open_queued",
            LimitHit::ProxyProtocol => "proxy_protocol",
            LimitHit::Memory => "memory",
        }
    }
}

impl WorkerMetrics {
    /// A connection was accepted on this worker's sockets.
    pub fn accepted(&self) {
        self.accepted.add(1);
    }

    /// An accepted connection went to a less loaded worker.
    pub fn handed_off(&self) {
        self.handed_off.add(1);
    }

    /// An accept failed.
    pub fn accept_error(&self, fault: AcceptFault) {
        self.accept_errors[fault as usize].add(1);
    }

    /// A connection was turned away, or held back, by a limit.
    pub fn limit(&self, hit: LimitHit) {
        self.limits[hit as usize].add(1);
    }

    /// A connection's first byte was not TLS.
    pub fn not_tls(&self, kind: Plaintext) {
        self.not_tls[index(&PLAINTEXTS, &kind.name())].add(1);
    }

    /// A leg's handshake is complete.
    pub fn handshake(&self, side: Side, resumed: bool, post_quantum: bool, took: Duration) {
        self.handshakes[side as usize][usize::from(resumed)][usize::from(post_quantum)].add(1);
        self.handshake_seconds[side as usize].observe(took);
    }

    /// An upstream leg without TLS stands.
    pub fn plaintext_upstream(&self) {
        self.plaintext_upstreams.add(1);
    }

    /// A leg's handshake failed.
    pub fn handshake_failed(&self, side: Side) {
        self.handshakes_failed[side as usize].add(1);
    }

    /// A honeytoken was shown.
    pub fn alarm(&self) {
        self.alarms.add(1);
    }

    /// The worker did not come back to its reactor for a second.
    pub fn worker_stalled(&self) {
        self.stalls.add(1);
        self.is_stalled.store(true, Relaxed);
    }

    /// The worker came back.
    pub fn worker_recovered(&self) {
        self.is_stalled.store(false, Relaxed);
    }

    /// True between the two.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Relaxed)
    }

    /// How often that was so.
    pub fn worker_stalls(&self) -> u64 {
        self.stalls.get()
    }

    /// A poll of this session begins.
    pub fn session_polled(&self, session: SessionId) {
        self.polled_session.store(session.0, Relaxed);
    }

    /// The session whose poll began last.
    pub fn polled_session(&self) -> Option<u64> {
        Some(self.polled_session.load(Relaxed)).filter(|session| *session != 0)
    }

    /// A session's relay was polled so often.
    pub fn relay_polls(&self, n: u64) {
        self.relay_polls.add(n);
    }

    /// A TLS 1.3 key was renewed on a leg, by either end.
    pub fn key_update(&self, side: Side) {
        self.key_updates[side as usize].add(1);
    }

    /// A session begins on this worker.
    pub fn session_opened(&self) {
        self.sessions_opened.add(1);
    }

    /// A token was found among those that were verified before.
    pub fn token_hit(&self) {
        self.tokens_hit.add(1);
    }

    /// An upstream connection that was dialled ahead was taken by a session, or given up.
    pub fn dialled_ahead(&self, used: bool) {
        self.dialled_ahead[usize::from(used)].add(1);
    }

    /// A token had to be verified.
    pub fn token_missed(&self) {
        self.tokens_missed.add(1);
    }

    /// The counters of a route. Asked once for a session; who keeps them counts without a lock.
    pub fn route(&self, name: &RouteName) -> Arc<RouteMetrics> {
        self.routes.route(name)
    }

    /// The counters of what came before a route was known.
    pub fn unrouted(&self) -> &Arc<RouteMetrics> {
        self.routes.unrouted()
    }

    /// Sessions alive on this worker.
    pub fn sessions(&self) -> u64 {
        // The ends are read first: a session that begins and ends in between must not make the difference negative.
        let closed: u64 = self.routes.all().iter().map(|(_, route)| route.closed()).sum();
        self.sessions_opened.get().saturating_sub(closed)
    }

    /// Permitted requests under way on this worker.
    pub fn in_flight(&self) -> u64 {
        self.routes.all().iter().map(|(_, route)| route.in_flight()).sum()
    }
}

const _: () = {
    // The order of these declarations is what the arrays are indexed by.
    assert!(Side::Client as usize == 0 && Side::Upstream as usize == 1);
    assert!(Direction::Up as usize == 0 && Direction::Down as usize == 1);
    assert!(Culprit::Client as usize == 0 && Culprit::Nobody as usize == 3);
};

#[cfg(test)]
mod tests;
