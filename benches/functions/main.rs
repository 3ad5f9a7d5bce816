//! The hot functions by themselves, in wall time: `cargo bench --bench functions`, or one area: `… -- reseal`.
//!
//! Times are of this machine in this minute. Compare within a run; between two versions of the code `benches/check`
//! decides, which counts instructions. Every function's result is checked once before it is timed.

mod hpack;
mod http1;
mod http2;
mod mask;
mod policy;
mod record;
mod samples;
mod sniff;
mod tokens;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// Functions of nanoseconds to some tens of microseconds need no five seconds each.
fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(40)
}

criterion_group! {
    name = functions;
    config = config();
    targets = record::reseal, http1::head, http2::block, hpack::code, tokens::token, mask::mask, policy::permit, sniff::sniff
}
criterion_main!(functions);
