//! DATA of the gateway's own and the client's flow-control windows. The first tests are h2spec's cases for RFC 9113 6.5.3, 6.9.1 and 6.9.2
//! against a gateway that refuses every request: what they want to see is a refusal's body, an octet at a time.

use super::*;

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn initial_window(sizes: &[u32]) -> Vec<u8> {
    let mut payload = Vec::new();
    sizes.iter().for_each(|size| push_setting(&mut payload, INITIAL_WINDOW_SIZE, *size));
    frame(SETTINGS, 0, 0, &payload)
}

/// A connection without an upstream, past its greeting.
fn alone() -> Http2 {
    let mut http = Http2::new(Limits::default());
    assert_eq!(feed(&mut http, &greeting(), 1_000).fault, None);
    said(&mut http);
    http
}

fn bad(stream: u32) -> Vec<u8> {
    get(stream, &[("authorization", "Bearer bad")])
}

fn good(stream: u32) -> Vec<u8> {
    get(stream, &[("authorization", "Bearer good")])
}

/// DATA that the client hears in answer: stream, bytes, whether the stream ends.
fn heard(http: &mut Http2, bytes: &[u8]) -> Vec<(u32, usize, bool)> {
    assert_eq!(feed(http, bytes, 1_000).fault, None);
    data(&said(http))
}

fn data(bytes: &[u8]) -> Vec<(u32, usize, bool)> {
    let data = |(head, _): (Head, Vec<u8>)| {
        (head.kind == DATA).then_some((head.stream, head.length, head.flags == END_STREAM))
    };
    frames(bytes).into_iter().filter_map(data).collect()
}

/// The code with which the client is told of its fault, and whether that is its stream's or the connection's.
fn code(http: &mut Http2, bytes: &[u8]) -> (u8, u32) {
    feed(http, bytes, 1_000);
    let told = frames(&said(http)).into_iter().find(|(head, _)| matches!(head.kind, RST_STREAM | GOAWAY));
    let (head, payload) = told.expect("the client is told");
    (head.kind, u32::from_be_bytes(*payload.last_chunk().unwrap()))
}

/// The length of a refusal's body.
fn whole() -> usize {
    heard(&mut alone(), &bad(1))[0].1
}

#[test]
fn the_first_refusal_has_its_body_before_any_window_update() {
    assert_eq!(heard(&mut alone(), &bad(1)), [(1, whole(), true)]);
    assert!(whole() > 20);
}

#[test]
fn of_two_initial_windows_in_one_frame_the_last_counts() {
    // h2spec http2/6.5.3/1.
    let mut http = alone();
    assert_eq!(heard(&mut http, &[initial_window(&[100, 1]), bad(1)].concat()), [(1, 1, false)]);
}

#[test]
fn a_window_of_one_octet_brings_one_octet() {
    // h2spec http2/6.9.1/1.
    let mut http = alone();
    assert_eq!(heard(&mut http, &[initial_window(&[1]), bad(1)].concat()), [(1, 1, false)]);
    let body: Vec<_> = (1..whole()).flat_map(|_| heard(&mut http, &window(1, 1))).collect();
    assert_eq!(body.len(), whole() - 1, "an octet for each");
    assert_eq!(body.last(), Some(&(1, 1, true)));
    assert_eq!(heard(&mut http, &window(1, 1)), [], "nothing behind the end");
}

#[test]
fn an_initial_window_that_grows_lets_a_body_go_on() {
    // h2spec http2/6.9.2/1.
    let mut http = alone();
    assert_eq!(heard(&mut http, &[initial_window(&[0]), bad(1)].concat()), []);
    assert_eq!(heard(&mut http, &initial_window(&[1])), [(1, 1, false)]);
    assert_eq!(heard(&mut http, &initial_window(&[1_000])), [(1, whole() - 1, true)]);
}

#[test]
fn an_initial_window_that_shrinks_leaves_a_stream_in_debt() {
    // h2spec http2/6.9.2/2.
    let mut http = alone();
    assert_eq!(heard(&mut http, &[initial_window(&[3]), bad(1)].concat()), [(1, 3, false)]);
    assert_eq!(heard(&mut http, &initial_window(&[2])), []);
    assert_eq!(heard(&mut http, &window(1, 1)), [], "the window is zero");
    assert_eq!(heard(&mut http, &window(1, 1)), [(1, 1, false)]);
}

#[test]
fn windows_of_streams_whose_bodies_wait_must_not_overflow() {
    let waiting = |size| {
        let mut http = alone();
        assert_eq!(
            heard(&mut http, &[initial_window(&[size]), bad(1)].concat()).len(),
            usize::from(size > 0)
        );
        http
    };
    // h2spec http2/6.9.1/3, and 6.9.2/3 for what SETTINGS do to it.
    let mut http = waiting(1);
    let twice = [window(0, 1), window(1, 0x7fff_ffff - 1), window(1, 0x7fff_ffff)].concat();
    assert_eq!(code(&mut waiting(1), &twice), (RST_STREAM, FLOW_CONTROL_ERROR));
    assert_eq!(heard(&mut http, &window(1, 0x7fff_ffff)), [(1, whole() - 1, true)], "an octet has left room");
    let mut http = waiting(0);
    feed(&mut http, &frame(WINDOW_UPDATE, 0, 1, &0u32.to_be_bytes()), 100);
    assert_eq!(frames(&said(&mut http))[0].0.kind, RST_STREAM, "an increment of zero is the stream's affair");
    assert_eq!(heard(&mut http, &window(1, 1_000)), [], "and ends it");
}

#[test]
fn a_body_that_waits_counts_as_a_stream_and_ends_with_a_reset() {
    let mut http = Http2::new(Limits { streams: 2, ..Limits::default() });
    feed(&mut http, &[HTTP2_PREFACE, &initial_window(&[0]), &bad(1), &bad(3)].concat(), 1_000);
    said(&mut http);
    assert_eq!(code(&mut http, &bad(5)), (RST_STREAM, REFUSED_STREAM));
    feed(&mut http, &frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()), 100);
    assert_eq!(heard(&mut http, &bad(7)), [], "there is room again");
    assert_eq!(heard(&mut http, &window(1, 100)), []);
    http.drain();
    said(&mut http);
    assert!(!http.is_over(), "two bodies are owed");
    let rest = heard(&mut http, &[window(3, 1_000), window(7, 1_000)].concat());
    assert_eq!(rest, [(3, whole(), true), (7, whole(), true)]);
    assert!(http.is_over());
}

#[test]
fn the_rest_of_an_unwanted_request_is_reset_behind_the_body() {
    let mut http = greeted();
    let begun = [window(0, 100_000), initial_window(&[0]), post(1), window(1, 5)].concat();
    assert_eq!(feed(&mut http, &begun, 1_000).fault, None);
    let (down, fault) =
        feed_down(&mut http, &frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "5x")])), 100);
    assert_eq!((fault, data(&down)), (None, vec![(1, 5, false)]), "as far as the stream's own credit goes");
    assert!(frames(&down).iter().all(|(head, _)| head.kind != RST_STREAM));
    assert_eq!(feed(&mut http, &window(1, 1_000), 100).fault, None);
    let rest: Vec<_> = frames(&said(&mut http)).iter().map(|(head, _)| head.kind).collect();
    assert_eq!(rest, [DATA, RST_STREAM]);
}

#[test]
fn bodies_of_refusals_stay_within_what_the_connection_may_spare() {
    for (credit, most) in [(0, REFUSED_BODY_CREDIT), (100_000, 2 * REFUSED_BODY_CREDIT)] {
        let mut http = alone();
        if credit > 0 {
            let run = feed(&mut http, &window(0, credit), 100);
            let passed = u32::from_be_bytes(frames(&run.up)[0].1[..].try_into().unwrap());
            assert_eq!(credit - passed, REFUSED_BODY_CREDIT, "the upstream is not told of it");
        }
        let streams = (1..201).step_by(2);
        let bodies: usize = streams.flat_map(|id| heard(&mut http, &bad(id))).map(|(_, n, _)| n).sum();
        assert!(bodies > most as usize - 200 && bodies <= most as usize, "{bodies} bytes of bodies");
    }
}

/// A connection whose first request was refused and whose second is permitted, with an upstream; and how much of the window of the
/// connection the refusal took.
fn indebted() -> (Http2, usize) {
    let mut http = alone();
    let debt = heard(&mut http, &bad(1))[0].1;
    assert_eq!(feed(&mut http, &[initial_window(&[1 << 20]), good(3), good(5)].concat(), 1_000).fault, None);
    let upstream = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[]).repeat(2)].concat();
    let heads = [3, 5].map(|id| frame(HEADERS, END_HEADERS, id, &block(&[(":status", "200")]))).concat();
    assert_eq!(feed_down(&mut http, &[upstream, heads].concat(), 1_000).1, None);
    (http, debt)
}

#[test]
fn what_the_upstream_sends_into_window_that_is_gone_is_held_until_there_is_credit() {
    for step in [1, 7, 10_000] {
        let (mut http, debt) = indebted();
        // 65,535 octets, which is what the upstream knows of; the client has allowed less by a refusal's body.
        let first = frame(DATA, 0, 3, &[1; 16_384]).repeat(3);
        let fourth = frame(DATA, END_STREAM, 3, &[2; 16_383]);
        let behind = [frame(PING, 0, 0, b"12345678"), frame(DATA, END_STREAM, 5, &[])].concat();
        let all = [first.clone(), fourth, behind.clone()].concat();
        let (down, fault) = feed_down(&mut http, &all, step);
        let room = 65_535 - debt;
        let sent: usize = data(&down).iter().map(|(_, n, _)| n).sum();
        assert_eq!((fault, sent), (None, room), "the client's window is used to its last octet");
        assert!(
            down.starts_with(&first) && data(&down).iter().all(|(id, _, ends)| (*id, *ends) == (3, false))
        );
        assert!(!http.wants_down());
        assert_eq!(http.in_flight(), 2);
        let run = feed(&mut http, &window(0, 32_768), 100);
        let credit = frames(&run.up).into_iter().find(|(head, _)| head.kind == WINDOW_UPDATE).unwrap();
        let passed = u32::from_be_bytes(credit.1[..].try_into().unwrap()) as usize;
        assert_eq!(32_768 - passed, REFUSED_BODY_CREDIT as usize + debt, "the debt is made up for");
        assert!(http.wants_down());
        let rest = [frame(DATA, END_STREAM, 3, &vec![2; debt]), behind].concat();
        assert_eq!(said(&mut http), rest, "in pieces of {step}");
        assert_eq!(http.in_flight(), 0);
        assert!(!http.wants_down());
    }
}

#[test]
fn what_is_held_goes_on_by_whatever_credit_there_is() {
    let (mut http, debt) = indebted();
    let bulk = frame(DATA, 0, 3, &[1; 16_384]).repeat(3);
    feed_down(&mut http, &[bulk, frame(DATA, END_STREAM, 3, &[2; 16_383])].concat(), 100_000);
    for n in 1..=debt {
        assert_eq!(heard(&mut http, &window(0, 1)), [(3, 1, n == debt)], "octet {n} of {debt}");
    }
    // Padding does not come apart: such a frame waits for room for the whole of it.
    let (mut http, debt) = indebted();
    let bulk = frame(DATA, 0, 3, &[1; 16_384]).repeat(3);
    let padded = frame(DATA, END_STREAM | PADDED, 3, &[&[9][..], &[2; 16_382]].concat());
    let (down, fault) = feed_down(&mut http, &[bulk.clone(), padded.clone()].concat(), 100_000);
    assert_eq!((fault, down), (None, bulk));
    assert_eq!(feed(&mut http, &window(0, debt as u32 - 1), 100).fault, None);
    assert!(said(&mut http).is_empty());
    assert_eq!(feed(&mut http, &window(0, 1), 100).fault, None);
    assert_eq!(said(&mut http), padded);
}

#[test]
fn what_is_held_for_a_stream_that_is_reset_goes_nowhere_and_what_is_behind_it_goes_on() {
    let (mut http, _) = indebted();
    let bulk = frame(DATA, 0, 3, &[1; 16_384]).repeat(3);
    let held = frame(DATA, 0, 3, &[2; 16_383]);
    let ping = frame(PING, 0, 0, b"12345678");
    feed_down(&mut http, &[bulk, held, ping.clone()].concat(), 100_000);
    let run = feed(&mut http, &frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes()), 100);
    assert_eq!((run.fault, said(&mut http)), (None, ping));
}

#[test]
fn an_upstream_cannot_have_more_held_than_the_limit() {
    let (mut http, _) = indebted();
    let bulk = frame(DATA, 0, 3, &[1; 16_384]).repeat(3);
    feed_down(&mut http, &[bulk, frame(DATA, 0, 3, &[2; 16_383])].concat(), 100_000);
    let (_, fault) = feed_down(&mut http, &frame(PING, 0, 0, &[0; 8]).repeat(4_000), 100_000);
    assert_eq!(fault.map(|fault| (fault.culprit, fault.section)), Some((Culprit::Upstream, "limit")));
}
