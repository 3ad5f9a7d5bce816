//! Counters of spans, where traces are exported.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanOutcome {
    /// The collector has it.
    Exported,
    /// The collector took the others of its batch.
    Rejected,
    /// There was no room for it, or the collector did not take its batch.
    Dropped,
}

impl SpanOutcome {
    /// All of them, in the order of their counters, with their labels.
    pub(super) const ALL: [(SpanOutcome, &str); 3] = [
        (SpanOutcome::Exported, "exported"),
        (SpanOutcome::Rejected, "rejected"),
        (SpanOutcome::Dropped, "dropped"),
    ];
}

static COUNTERS: [AtomicU64; SpanOutcome::ALL.len()] = [const { AtomicU64::new(0) }; SpanOutcome::ALL.len()];

/// Counts spans.
pub fn count_spans(outcome: SpanOutcome, n: u64) {
    COUNTERS[outcome as usize].fetch_add(n, Relaxed);
}

/// How many there were.
pub(super) fn spans(outcome: SpanOutcome) -> u64 {
    COUNTERS[outcome as usize].load(Relaxed)
}
