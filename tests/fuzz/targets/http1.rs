//! HTTP/1.1: no bytes make it panic, and cuts do not change what goes up or down.

use crate::common;
use staunch::protocol::Http;
use staunch::protocol::http1::{Http1, Limits};

/// One input.
pub fn run(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    common::run(&mut Http1::new(Limits::default()), rest);
    let asked = || {
        let mut http = Http1::new(Limits::default());
        let asks = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(common::feed_up(&mut http, asks, true, &mut Vec::new()));
        Box::new(http) as Box<dyn Http>
    };
    common::same_however_cut_down(asked, rest, usize::from(*step));
    common::same_however_cut(|| Box::new(Http1::new(Limits::default())), rest, usize::from(*step));
}
