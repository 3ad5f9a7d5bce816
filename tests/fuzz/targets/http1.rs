//! HTTP/1.1: no bytes make it panic, and cuts do not change what goes up.
#![no_main]
#[path = "common.rs"]
mod common;

use libfuzzer_sys::fuzz_target;
use staunch::protocol::http1::{Http1, Limits};

fuzz_target!(|data: &[u8]| {
    let [step, rest @ ..] = data else { return };
    common::run(&mut Http1::new(Limits::default()), rest);
    common::same_however_cut(|| Box::new(Http1::new(Limits::default())), rest, usize::from(*step));
});
