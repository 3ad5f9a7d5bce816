//! HTTP/2: no frames make it panic, and cuts do not change what goes up or down.

use crate::common;
use staunch::protocol::Http;
use staunch::protocol::http2::{Http2, Limits};
use staunch::protocol::sniff::HTTP2_PREFACE;

/// One input.
pub fn run(data: &[u8]) {
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
    let asked = || {
        let mut http = greeted();
        // GET https / of the host a, on streams 1 and 3.
        for stream in [1, 3] {
            let head = [0, 0, 6, 1, 5, 0, 0, 0, stream, 0x82, 0x87, 0x84, 0x41, 1, b'a'];
            assert!(common::feed_up(&mut http, &head, true, &mut Vec::new()));
        }
        Box::new(http) as Box<dyn Http>
    };
    common::same_however_cut_down(asked, rest, usize::from(*step));
    common::same_however_cut(|| Box::new(greeted()), rest, usize::from(*step));
}
