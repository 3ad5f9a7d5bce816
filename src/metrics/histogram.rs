//! Durations in fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts durations by bucket and sums them.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last one takes what is longer than the last bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds: wraps after 584 years of waiting.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|(bound, _)| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// Adds this one's counts to `total`.
    pub(super) fn add_to(&self, total: &mut Snapshot) {
        for (mine, total) in self.buckets.iter().zip(&mut total.buckets) {
            *total += mine.load(Relaxed);
        }
        total.sum += self.sum.load(Relaxed);
    }
}

/// The sum of several histograms at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// As in [`Histogram`].
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    /// Nanoseconds.
    pub(super) sum: u64,
}

/// Upper bounds in nanoseconds with their `le` label in seconds: from a resumed handshake on loopback to a model that
/// thinks for a minute before its first token.
pub(super) const BOUNDS: [(u64, &str); 16] = [
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (60_000_000_000, "60"),
];
