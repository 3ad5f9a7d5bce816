//! HTTP/2: no frames make it panic, and cuts do not change what goes up.
#![no_main]
#[path = "common.rs"]
mod common;

use libfuzzer_sys::fuzz_target;
use staunch::protocol::http2::{Http2, Limits};
use staunch::protocol::sniff::HTTP2_PREFACE;

fuzz_target!(|data: &[u8]| {
    let [step, rest @ ..] = data else { return };
    // Past the preface and the first SETTINGS, so that the interesting part is reached.
    let greeting = [HTTP2_PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let greeted = || {
        let mut http = Http2::new(Limits::default());
        assert!(common::feed_up(&mut http, &greeting, true, &mut Vec::new()));
        assert!(common::feed_down(&mut http, &[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        http
    };
    common::run(&mut greeted(), rest);
    common::same_however_cut(|| Box::new(greeted()), rest, usize::from(*step));
});
