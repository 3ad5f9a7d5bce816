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
    latency: Mutex<Histogram<u64>>,
    first: Mutex<Histogram<u64>>,
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
        let histogram = || Histogram::new(3).expect("three digits are within the histogram's limits");
        Meter {
            units: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::new(None),
            latency: Mutex::new(histogram()),
            first: Mutex::new(histogram()),
        }
    }

    pub(crate) fn add(&self, units: u64) {
        self.units.fetch_add(units, Relaxed);
    }

    /// Nanoseconds from the intended moment to the arrival.
    pub(crate) fn latency(&self, ns: u64) {
        self.latency.lock().record(ns).expect("the histogram grows with its values");
    }

    /// Nanoseconds from the start of a connection or request to its first event or byte.
    pub(crate) fn first(&self, ns: u64) {
        self.first.lock().record(ns).expect("the histogram grows with its values");
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
        quantiles(&self.latency.lock())
    }

    pub(crate) fn firsts(&self) -> Option<Quantiles> {
        quantiles(&self.first.lock())
    }
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
