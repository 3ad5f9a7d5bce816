//! Counters of one route on one worker.
//!
//! The label's values are the routes of the configuration and, for what came before a route was known, the empty name,
//! which Prometheus treats as no label. A route that a reload takes away keeps its counters until the process ends.

use super::histogram::Histogram;
use super::words::{CLOSE_REASONS, CULPRITS, Counter, REFUSALS, index};
use crate::close::Close;
use crate::names::{Direction, RouteName};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// What one worker counted for one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteMetrics {
    pub(super) permitted: Counter,
    pub(super) refused: [Counter; REFUSALS.len() + 1],
    pub(super) requests_begun: Counter,
    /// By status class; index 0: ended without a response.
    pub(super) requests: [Counter; 6],
    pub(super) bytes: [Counter; 2],
    pub(super) records: [Counter; 2],
    /// Reason × culprit.
    pub(super) sessions_closed: [[Counter; CULPRITS.len()]; CLOSE_REASONS.len()],
    pub(super) dial_seconds: Histogram,
    pub(super) dials_failed: Counter,
    /// When the upstream was reached last.
    pub(super) reached_at: Moment,
    /// When it could not be, the last time.
    pub(super) unreached_at: Moment,
    pub(super) first_byte_seconds: Histogram,
}

impl RouteMetrics {
    /// From the start of name resolution to a finished upstream handshake.
    pub fn dialled(&self, took: Duration) {
        self.dial_seconds.observe(took);
        self.reached_at.set_now();
    }

    /// The upstream could not be reached, or does not verify.
    pub fn dial_failed(&self) {
        self.dials_failed.add(1);
        self.unreached_at.set_now();
    }

    /// From a request's permit to the first byte of its response.
    pub fn first_byte(&self, took: Duration) {
        self.first_byte_seconds.observe(took);
    }

    /// A permit was given.
    pub fn permitted(&self) {
        self.permitted.add(1);
    }

    /// A request or connection was refused; `code` is one of [`REFUSALS`], anything else counts as `other`.
    pub fn refused(&self, code: &'static str) {
        self.refused[REFUSALS.iter().position(|c| *c == code).unwrap_or(REFUSALS.len())].add(1);
    }

    /// A permitted request is under way.
    pub fn request_begun(&self) {
        self.requests_begun.add(1);
    }

    /// A request that [`RouteMetrics::request_begun`] counted is over; `None`: it ended without a response.
    pub fn request(&self, status: Option<u16>) {
        let class = status.map_or(0, |s| usize::from(s / 100));
        self.requests[if class < self.requests.len() { class } else { 0 }].add(1);
    }

    /// Payload bytes that the relay moved.
    pub fn bytes(&self, direction: Direction, n: u64) {
        self.bytes[direction as usize].add(n);
    }

    /// TLS records that the relay moved.
    pub fn records(&self, direction: Direction, n: u64) {
        self.records[direction as usize].add(n);
    }

    /// A session that `WorkerMetrics::session_opened` counted is over.
    pub fn session_closed(&self, close: Close) {
        let (reason, culprit) =
            (index(&CLOSE_REASONS, &close.name()), index(&CULPRITS, &close.culprit().name()));
        self.sessions_closed[reason][culprit].add(1);
    }

    pub(super) fn closed(&self) -> u64 {
        self.sessions_closed.iter().flatten().map(Counter::get).sum()
    }

    pub(super) fn in_flight(&self) -> u64 {
        let over: u64 = self.requests.iter().map(Counter::get).sum();
        self.requests_begun.get().saturating_sub(over)
    }
}

/// A time in milliseconds since 1970; 0: never.
#[derive(Debug, Default)]
pub(super) struct Moment(AtomicU64);

impl Moment {
    fn set_now(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.0.store(since.map_or(0, |since| since.as_millis() as u64), Relaxed);
    }

    pub(super) fn get(&self) -> Option<SystemTime> {
        let millis = self.0.load(Relaxed);
        (millis > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// The routes of one worker.
#[derive(Debug)]
pub(super) struct RouteTable {
    unrouted: Arc<RouteMetrics>,
    by_name: Mutex<BTreeMap<RouteName, Arc<RouteMetrics>>>,
}

impl Default for RouteTable {
    fn default() -> Self {
        let unrouted = Arc::<RouteMetrics>::default();
        let by_name = Mutex::new(BTreeMap::from([(RouteName("".into()), unrouted.clone())]));
        RouteTable { unrouted, by_name }
    }
}

impl RouteTable {
    pub(super) fn route(&self, name: &RouteName) -> Arc<RouteMetrics> {
        let mut routes = self.by_name.lock();
        if let Some(known) = routes.get(name) {
            return known.clone();
        }
        routes.entry(name.clone()).or_default().clone()
    }

    pub(super) fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// Every route that was counted for, by name; the empty one first.
    pub(super) fn all(&self) -> Vec<(RouteName, Arc<RouteMetrics>)> {
        self.by_name.lock().iter().map(|(name, counters)| (name.clone(), counters.clone())).collect()
    }
}
