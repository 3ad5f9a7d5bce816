//! What may reach whom: streams that one side never heard of, heads and frames in unusual pieces, ends and drains.

use super::*;

/// The same bytes in every split into two pieces and in single bytes; returns the outcome of all.
fn up_however_split(fresh: fn() -> Http2, bytes: &[u8]) -> Run {
    let whole = feed(&mut fresh(), bytes, bytes.len());
    assert_eq!(feed(&mut fresh(), bytes, 1), whole, "single bytes");
    for cut in 1..bytes.len() {
        let mut http = fresh();
        let mut run = feed(&mut http, &bytes[..cut], bytes.len());
        if run.fault.is_none() {
            let rest = feed(&mut http, &bytes[cut..], bytes.len());
            run.up.extend_from_slice(&rest.up);
            run.fault = rest.fault;
        }
        assert_eq!(run, whole, "cut at {cut}");
    }
    whole
}

fn kinds(bytes: &[u8]) -> Vec<(u8, u32)> {
    frames(bytes).iter().map(|(head, _)| (head.kind, head.stream)).collect()
}

fn good(stream: u32) -> Vec<u8> {
    get(stream, &[("authorization", "Bearer good")])
}

/// What the gateway has to say to the upstream just now.
fn said_up(http: &mut Http2) -> Vec<u8> {
    let mut out = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
    out
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[(":status", "200")]))
}

#[test]
fn a_head_that_an_empty_continuation_completes_is_withheld_like_any_other() {
    let head = block(&[&GET[..], &[("authorization", "Bearer bad")]].concat());
    let bytes = [
        frame(HEADERS, 0, 1, &head),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        frame(DATA, END_STREAM, 1, b"nobody permitted this"),
        good(3),
    ]
    .concat();
    let run = up_however_split(greeted, &bytes);
    assert_eq!((run.fault, kinds(&run.up)), (None, vec![(HEADERS, 3)]));
}
