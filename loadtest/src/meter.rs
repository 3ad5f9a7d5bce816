//! What a run has measured so far. Everything is added as it happens, so that an interrupted run has its figures.

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shared by all tasks of a run.
pub(crate) struct Meter {
    /// Bytes, events, requests or connections: the unit of the shape.
    units: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    latency: Mutex<Latencies>,
    first: Mutex<Histogram<u64>>,
    /// Streams that wait for their first event.
    opening: AtomicU64,
}

struct Latencies {
    all: Histogram<u64>,
    /// Since the last [`Meter::stretch`].
    fresh: Histogram<u64>,
    /// Of stretches that were calm.
    calm: Histogram<u64>,
}

/// Quantiles in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// (percentile, microseconds) for a plot.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Meter {
            units: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::new(None),
            latency: Mutex::new(Latencies { all: histogram(), fresh: histogram(), calm: histogram() }),
            first: Mutex::new(histogram()),
            opening: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, units: u64) {
        self.units.fetch_add(units, Relaxed);
    }

    /// Nanoseconds from the intended moment to the arrival.
    pub(crate) fn latency(&self, ns: u64) {
        let mut latency = self.latency.lock();
        latency.all.record(ns).expect("the histogram grows with its values");
        latency.fresh.record(ns).expect("the histogram grows with its values");
    }

    /// Nanoseconds from the start of a connection or request to its first event or byte.
    pub(crate) fn first(&self, ns: u64) {
        self.first.lock().record(ns).expect("the histogram grows with its values");
    }

    /// So many streams are about to begin.
    pub(crate) fn opening(&self, streams: u32) {
        self.opening.fetch_add(streams.into(), Relaxed);
    }

    /// One of them had its first event.
    pub(crate) fn opened(&self) {
        self.opening.fetch_sub(1, Relaxed);
    }

    /// Whether every stream has begun.
    pub(crate) fn all_open(&self) -> bool {
        self.opening.load(Relaxed) == 0
    }

    /// Ends a stretch of time and begins the next: the 99th percentile in it, µs. `calm`: nothing disturbed it, so its
    /// latencies are the peer's own.
    pub(crate) fn stretch(&self, calm: bool) -> Option<f64> {
        let mut latency = self.latency.lock();
        let Latencies { fresh, calm: kept, .. } = &mut *latency;
        if calm {
            kept.add(&*fresh).expect("the histogram grows with its values");
        }
        let p99 = (!fresh.is_empty()).then(|| fresh.value_at_quantile(0.99) as f64 / 1e3);
        fresh.reset();
        p99
    }

    pub(crate) fn failed(&self, error: impl std::fmt::Display) {
        self.errors.fetch_add(1, Relaxed);
        self.first_error.lock().get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn units(&self) -> u64 {
        self.units.load(Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        self.first_error.lock().clone()
    }

    pub(crate) fn latencies(&self) -> Option<Quantiles> {
        quantiles(&self.latency.lock().all)
    }

    /// Of calm stretches alone.
    pub(crate) fn calm_latencies(&self) -> Option<Quantiles> {
        quantiles(&self.latency.lock().calm)
    }

    pub(crate) fn firsts(&self) -> Option<Quantiles> {
        quantiles(&self.first.lock())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within the histogram's limits")
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
    // Each step halves the distance to 100 %, which is how rare events are read.
    let steps = [0.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 100.0];
    (!histogram.is_empty()).then(|| Quantiles {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
        curve: steps.iter().map(|p| (*p, at(p / 100.0))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_latencies_are_those_of_calm_stretches() {
        let meter = Meter::new();
        let close = |us: Option<f64>, expected: f64| (us.unwrap() - expected).abs() < expected / 500.0;
        meter.latency(9_000_000);
        assert!(close(meter.stretch(false), 9000.0));
        meter.latency(1_000_000);
        assert!(close(meter.stretch(true), 1000.0));
        assert_eq!(meter.stretch(true), None, "a stretch has no latencies of the one before");
        assert_eq!(meter.latencies().unwrap().count, 2);
        let calm = meter.calm_latencies().unwrap();
        assert!(calm.count == 1 && close(Some(calm.max), 1000.0), "{calm:?}");
    }

    #[test]
    fn all_streams_are_open_when_each_had_an_event() {
        let meter = Meter::new();
        meter.opening(2);
        meter.opened();
        assert!(!meter.all_open());
        meter.opened();
        assert!(meter.all_open());
    }
}
