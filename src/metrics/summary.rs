//! The few figures that fit on one screen, summed over all workers.

use super::histogram::{BOUNDS, Snapshot};
use super::route::RouteMetrics;
use super::words::{CLOSE_REASONS, REFUSALS};
use super::{Histogram, WorkerMetrics};
use crate::names::RouteName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Sums since the process began; durations in seconds.
#[derive(Debug, Serialize)]
pub struct Totals {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Sessions that live.
    pub sessions: u64,
    /// Requests that are under way.
    pub requests_in_flight: u64,
    /// Permits that were given.
    pub permitted: u64,
    /// Requests that were refused, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Sessions that ended, by reason.
    pub closed: BTreeMap<&'static str, u64>,
    /// Bytes that were relayed.
    pub up_bytes: u64,
    /// The same, down.
    pub down_bytes: u64,
    /// TLS handshakes that were completed.
    pub handshakes: u64,
    /// Of these, with a post-quantum key exchange.
    pub handshakes_post_quantum: u64,
    /// Upstream connections without TLS.
    pub plaintext_upstreams: u64,
    /// Client handshakes.
    pub handshake_seconds: Quantiles,
    /// Reaching upstreams.
    pub dial_seconds: Quantiles,
    /// From a permit to the first byte of the response.
    pub first_byte_seconds: Quantiles,
}

/// Times below which a share of all stayed; upper bounds of the histogram's buckets. `None` without any.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    /// How many were counted.
    pub count: u64,
    /// Half.
    pub p50: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
}

impl Quantiles {
    fn of<T>(counted: &[Arc<T>], histogram: impl Fn(&T) -> &Histogram) -> Self {
        let buckets = sum(counted, histogram);
        let count = buckets.iter().sum();
        Quantiles { count, p50: quantile(&buckets, 0.5), p99: quantile(&buckets, 0.99) }
    }
}

/// Sums over all workers.
pub fn totals(workers: &[Arc<WorkerMetrics>]) -> Totals {
    let all = |get: &dyn Fn(&WorkerMetrics) -> u64| workers.iter().map(|worker| get(worker)).sum::<u64>();
    let handshakes = |worker: &WorkerMetrics, post_quantum: usize| -> u64 {
        worker.handshakes.iter().flatten().map(|by_kind| by_kind[post_quantum].get()).sum()
    };
    let routes: Vec<_> = by_route(workers, &[]).into_values().flatten().collect();
    let of_routes = |get: &dyn Fn(&RouteMetrics) -> u64| routes.iter().map(|route| get(route)).sum::<u64>();
    let post_quantum = all(&|w| handshakes(w, 1));
    Totals {
        accepted: all(&|w| w.accepted.get()),
        sessions: all(&WorkerMetrics::sessions),
        requests_in_flight: all(&WorkerMetrics::in_flight),
        permitted: of_routes(&|r| r.permitted.get()),
        refused: counted(&REFUSALS, |n| of_routes(&|r| r.refused[n].get())),
        closed: counted(&CLOSE_REASONS, |n| {
            of_routes(&|r| r.sessions_closed[n].iter().map(|c| c.get()).sum())
        }),
        up_bytes: of_routes(&|r| r.bytes[0].get()),
        down_bytes: of_routes(&|r| r.bytes[1].get()),
        handshakes: all(&|w| handshakes(w, 0)) + post_quantum,
        handshakes_post_quantum: post_quantum,
        plaintext_upstreams: all(&|w| w.plaintext_upstreams.get()),
        handshake_seconds: Quantiles::of(workers, |w| &w.handshake_seconds[0]),
        dial_seconds: Quantiles::of(&routes, |r| &r.dial_seconds),
        first_byte_seconds: Quantiles::of(&routes, |r| &r.first_byte_seconds),
    }
}

/// How the upstream of a route was reached since the process began.
#[derive(Debug)]
pub struct Dials {
    /// How long it took.
    pub seconds: Quantiles,
    /// How often it could not be reached, or did not verify.
    pub failed: u64,
    /// When it was reached last.
    pub reached_at: Option<SystemTime>,
    /// When it could not be, the last time.
    pub unreached_at: Option<SystemTime>,
}

/// How upstreams were reached, by route.
pub fn dials(workers: &[Arc<WorkerMetrics>]) -> BTreeMap<RouteName, Dials> {
    let of_route = |counters: &[Arc<RouteMetrics>]| Dials {
        seconds: Quantiles::of(counters, |route| &route.dial_seconds),
        failed: counters.iter().map(|route| route.dials_failed.get()).sum(),
        reached_at: counters.iter().filter_map(|route| route.reached_at.get()).max(),
        unreached_at: counters.iter().filter_map(|route| route.unreached_at.get()).max(),
    };
    by_route(workers, &[]).into_iter().map(|(name, counters)| (name, of_route(&counters))).collect()
}

/// What is not zero, by its word.
fn counted(words: &[&'static str], count: impl Fn(usize) -> u64) -> BTreeMap<&'static str, u64> {
    words.iter().enumerate().map(|(n, word)| (*word, count(n))).filter(|(_, count)| *count > 0).collect()
}

/// How many first bytes fell into each bucket.
pub fn first_bytes(workers: &[Arc<WorkerMetrics>]) -> Vec<u64> {
    let routes: Vec<_> = by_route(workers, &[]).into_values().flatten().collect();
    sum(&routes, |route| &route.first_byte_seconds)
}

fn sum<T>(counted: &[Arc<T>], histogram: impl Fn(&T) -> &Histogram) -> Vec<u64> {
    let mut total = Snapshot::default();
    counted.iter().for_each(|one| histogram(one).add_to(&mut total));
    total.buckets.to_vec()
}

/// The upper bound in seconds of the bucket in which this share of all is reached.
pub fn quantile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = (all as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let bucket = buckets.iter().position(|count| {
        seen += count;
        seen >= wanted
    })?;
    // What is longer than the last bound is as long at least.
    let (nanos, _) = BOUNDS[bucket.min(BOUNDS.len() - 1)];
    Some(nanos as f64 / 1e9)
}

/// The counters of all workers by route.
pub(super) type ByRoute = BTreeMap<RouteName, Vec<Arc<RouteMetrics>>>;

/// The counters of all workers by route; `configured` are there although nothing was counted for them yet.
pub(super) fn by_route(workers: &[Arc<WorkerMetrics>], configured: &[RouteName]) -> ByRoute {
    let mut routes: ByRoute = configured.iter().map(|name| (name.clone(), Vec::new())).collect();
    routes.entry(RouteName("".into())).or_default();
    for (name, counters) in workers.iter().flat_map(|worker| worker.routes.all()) {
        routes.entry(name).or_default().push(counters);
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let worker = Arc::new(WorkerMetrics::default());
        assert_eq!(quantile(&first_bytes(std::slice::from_ref(&worker)), 0.5), None);
        (0..99).for_each(|_| worker.unrouted().first_byte(Duration::from_micros(200)));
        worker.unrouted().first_byte(Duration::from_millis(80));
        let totals = totals(&[worker]);
        let Quantiles { count, p50, p99 } = totals.first_byte_seconds;
        assert_eq!((count, p50, p99), (100, Some(0.00025), Some(0.00025)));
        assert_eq!(quantile(&[0, 98, 0, 2], 0.99), Some(0.0025));
    }
}
