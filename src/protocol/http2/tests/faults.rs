//! What ends a connection: rules broken, floods, arbitrary frames.

use super::*;

#[test]
fn what_cannot_stand_where_it_stands_ends_the_connection_with_goaway() {
    let table: &[(&str, Vec<u8>)] = &[
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x")),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("CONTINUATION out of the blue", frame(CONTINUATION, END_HEADERS, 1, &[])),
        ("an even stream", get(2, &[])),
        ("WINDOW_UPDATE of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a frame inside a header block",
            [frame(HEADERS, 0, 1, &[0x82]), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a frame larger than announced", frame(DATA, 0, 1, &[0; MAX_FRAME + 1])),
        ("a malformed block", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("PING of a wrong length", frame(PING, 0, 0, &[0; 7])),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("padding longer than its frame", frame(HEADERS, PADDED | END_HEADERS, 1, &[200, 0x82])),
        ("DATA that is all padding and more", [post(1), frame(DATA, PADDED, 1, &[4, 0, 0, 0])].concat()),
        ("ENABLE_PUSH of 2", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        ("a smaller stream", [get(5, &[]), get(3, &[])].concat()),
        ("HEADERS on a closed stream", [get(1, &[]), get(1, &[])].concat()),
        (
            "a connection window beyond all",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2),
        ),
    ];
    for (name, bytes) in table {
        let mut http = greeted();
        let fault = feed(&mut http, bytes, 50_000).fault.unwrap_or_else(|| panic!("{name} passed"));
        assert_eq!(fault.culprit, Culprit::Client, "{name}");
        assert!(
            http.is_over() && frames(&said(&mut http)).iter().any(|(head, _)| head.kind == GOAWAY),
            "{name}"
        );
    }
}

#[test]
fn every_flood_is_ended_with_enhance_your_calm() {
    let mut opened = 0;
    let mut next = || {
        opened += 2;
        opened - 1
    };
    let rapid: Vec<u8> = (0..200)
        .flat_map(|_| {
            let stream = next();
            [get(stream, &[("authorization", "Bearer good")]), frame(RST_STREAM, 0, stream, &[0; 4])].concat()
        })
        .collect();
    let malformed: Vec<u8> = (0..200).flat_map(|n| get(n * 2 + 1, &[("te", "gzip")])).collect();
    let too_much =
        [frame(HEADERS, 0, 1, &[0; MAX_FRAME]), frame(CONTINUATION, 0, 1, &[0; MAX_FRAME]).repeat(4)]
            .concat();
    let table: &[(&str, Vec<u8>)] = &[
        ("rapid reset (CVE-2023-44487)", rapid),
        ("resets we are made to send (CVE-2025-8671)", malformed),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(2_000)),
        ("PING", frame(PING, 0, 0, &[0; 8]).repeat(2_000)),
        ("PRIORITY", frame(PRIORITY, 0, 9, &[0; 5]).repeat(2_000)),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(2_000)),
        ("empty DATA", [post(1), frame(DATA, 0, 1, &[]).repeat(2_000)].concat()),
        ("unknown frames", frame(0xbb, 0, 0, &[]).repeat(2_000)),
        (
            "CONTINUATION (CVE-2024-27316)",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(50)].concat(),
        ),
        ("a head beyond all limits", too_much),
    ];
    for (name, bytes) in table {
        let mut http = greeted();
        let fault = feed(&mut http, bytes, 100_000).fault.unwrap_or_else(|| panic!("{name} passed"));
        assert_eq!(fault.culprit, Culprit::Client, "{name}");
        let said = frames(&said(&mut http));
        let goaway =
            said.iter().find(|(head, _)| head.kind == GOAWAY).unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        assert_eq!(goaway.1[4..8], ENHANCE_YOUR_CALM.to_be_bytes(), "{name}");
    }
}

#[test]
fn budgets_recover_with_time() {
    let mut http = greeted();
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(900);
    for _ in 0..10 {
        assert_eq!(feed(&mut http, &pings, 100_000).fault, None);
        said(&mut http);
        http.tick(5_000);
    }
}

#[test]
fn the_upstreams_faults_are_the_upstreams() {
    let table: &[(&str, Vec<u8>)] = &[
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])),
        ("a frame larger than announced", frame(DATA, 0, 1, &[0; MAX_FRAME + 1])),
        ("a malformed block", frame(HEADERS, END_HEADERS, 1, &[0x80])),
        ("padding longer than its frame", frame(DATA, PADDED, 1, &[9; 4])),
    ];
    for (name, bytes) in table {
        let mut http = greeted();
        feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
        let fault = feed_down(&mut http, bytes, 50_000).1.unwrap_or_else(|| panic!("{name} passed"));
        assert_eq!(fault.culprit, Culprit::Upstream, "{name}");
        let goaway = frames(&said(&mut http)).pop().unwrap();
        assert_eq!((goaway.0.kind, &goaway.1[4..8]), (GOAWAY, &INTERNAL_ERROR.to_be_bytes()[..]), "{name}");
    }
    let mut http = Http2::new(Limits::default());
    assert!(feed_down(&mut http, &frame(DATA, 0, 1, b"x"), 100).1.is_some(), "no SETTINGS first");
}

proptest::proptest! {
    #[test]
    fn arbitrary_frames_never_panic(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        kind in 0u8..12,
        flags in proptest::num::u8::ANY,
        step in 1usize..50,
    ) {
        let mut http = greeted();
        feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
        let one = frame(kind, flags, 1, &bytes);
        feed(&mut http, &one, step);
        feed_down(&mut http, &one, step);
    }
}

/// The cases of h2spec that went otherwise once, by the numbers of its sections.
#[test]
fn rules_that_h2spec_tries_are_kept_on_permitted_refused_and_waiting_streams() {
    let good = |stream| get(stream, &[("authorization", "Bearer good")]);
    let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    let window = |stream, bytes: u32| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    let refused = |more: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &block(&[&GET[..], more].concat()));
    let trailers = |flags, fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
    let depends = |stream: u32| [&stream.to_be_bytes()[..], &[15]].concat();
    let head_that_depends =
        frame(HEADERS, END_HEADERS | END_STREAM | PRIORITISED, 1, &[depends(1), block(&GET)].concat());
    let padded_head_that_depends = frame(
        HEADERS,
        END_HEADERS | END_STREAM | PRIORITISED | PADDED,
        1,
        &[vec![2], depends(1), block(&GET), vec![0, 0]].concat(),
    );
    let window_setting = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    // What is said of it: a reset of stream 1, or a GOAWAY where there is no stream.
    let table: &[(&str, Vec<u8>, u8, u32)] = &[
        (
            "5.1: DATA behind its own RST_STREAM",
            [post(1), reset(1, 8), frame(DATA, END_STREAM, 1, b"x")].concat(),
            RST_STREAM,
            STREAM_CLOSED,
        ),
        (
            "5.1: HEADERS behind its own RST_STREAM",
            [post(1), reset(1, 8), trailers(END_STREAM, &[])].concat(),
            GOAWAY,
            STREAM_CLOSED,
        ),
        (
            "5.1: DATA behind the RST_STREAM of a stream that waits",
            [good(3), post(5), reset(5, 8), frame(DATA, END_STREAM, 5, b"x")].concat(),
            RST_STREAM,
            STREAM_CLOSED,
        ),
        (
            "5.1: DATA behind the RST_STREAM of a refused stream",
            [refused(&[]), reset(1, 8), frame(DATA, END_STREAM, 1, b"x")].concat(),
            RST_STREAM,
            STREAM_CLOSED,
        ),
        ("5.3.1: HEADERS", head_that_depends, GOAWAY, PROTOCOL_ERROR),
        ("5.3.1: padded HEADERS", padded_head_that_depends, GOAWAY, PROTOCOL_ERROR),
        ("5.3.1: PRIORITY", [good(1), frame(PRIORITY, 0, 1, &depends(1))].concat(), GOAWAY, PROTOCOL_ERROR),
        (
            "5.3.1: PRIORITY of an idle stream, exclusive",
            frame(PRIORITY, 0, 7, &depends(0x8000_0007)),
            GOAWAY,
            PROTOCOL_ERROR,
        ),
        (
            "6.9.1: a stream's window",
            [post(1), window(1, 0x7fff_ffff)].concat(),
            RST_STREAM,
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.9.1: in two steps",
            [post(1), window(1, 0x4000_0000), window(1, 0x4000_0000)].concat(),
            RST_STREAM,
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.9.1: of a stream that waits",
            [good(3), post(5), window(5, 0x7fff_ffff)].concat(),
            RST_STREAM,
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.9.2: by SETTINGS",
            [post(1), window(1, 1), frame(SETTINGS, 0, 0, &window_setting)].concat(),
            GOAWAY,
            FLOW_CONTROL_ERROR,
        ),
        (
            "8.1: a refused request's HEADERS that end nothing",
            [refused(&[]), trailers(0, &[("x", "y")])].concat(),
            RST_STREAM,
            PROTOCOL_ERROR,
        ),
        (
            "8.1.2.1: a pseudo-header field in a refused request's trailers",
            [refused(&[]), trailers(END_STREAM, &[(":path", "/")])].concat(),
            RST_STREAM,
            PROTOCOL_ERROR,
        ),
        (
            "8.1.2.6: a refused request of another length",
            [refused(&[("content-length", "1")]), frame(DATA, END_STREAM, 1, b"test")].concat(),
            RST_STREAM,
            PROTOCOL_ERROR,
        ),
        (
            "8.1.2.6: over several frames",
            [
                refused(&[("content-length", "1")]),
                frame(DATA, 0, 1, b"te"),
                frame(DATA, END_STREAM, 1, b"st"),
            ]
            .concat(),
            RST_STREAM,
            PROTOCOL_ERROR,
        ),
        (
            "8.1.2.6: ended by trailers",
            [refused(&[("content-length", "1")]), trailers(END_STREAM, &[])].concat(),
            RST_STREAM,
            PROTOCOL_ERROR,
        ),
    ];
    for (name, bytes, kind, code) in table {
        let mut http = greeted();
        feed(&mut http, bytes, 50_000);
        let said = frames(&said(&mut http));
        let codes: Vec<_> = said
            .iter()
            .filter(|(head, _)| head.kind == *kind)
            .map(|(_, payload)| u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap()))
            .collect();
        assert_eq!(codes, [*code], "{name}: {said:?}");
        assert_eq!(http.is_over(), *kind == GOAWAY, "{name}");
    }
}

#[test]
fn windows_trailers_and_lengths_within_the_rules_pass() {
    let mut http = greeted();
    let window = |stream, bytes: u32| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    // The largest window there is, and behind it what padding has used.
    let fields = [("content-length", "4")];
    let refused = frame(HEADERS, END_HEADERS, 3, &block(&[&GET[..], &fields].concat()));
    let bytes = [
        post(1),
        window(1, 0x7fff_ffff - 65_535),
        refused,
        frame(DATA, PADDED, 3, &[1, b't', b'e', b's', b't', 0]),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[("x", "y")])),
    ]
    .concat();
    assert_eq!(feed(&mut http, &bytes, 50_000).fault, None);
    let answer = [
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")])),
        frame(DATA, PADDED, 1, &[1, b'x', 0]),
    ]
    .concat();
    assert_eq!(feed_down(&mut http, &answer, 1_000).1, None);
    assert_eq!(feed(&mut http, &window(1, 3), 1_000).fault, None);
    assert!(frames(&said(&mut http)).iter().all(|(head, _)| head.kind != RST_STREAM));
    assert_eq!(feed(&mut http, &window(1, 1), 1_000).fault, None);
    assert!(frames(&said(&mut http)).iter().any(|(head, _)| head.kind == RST_STREAM));
}
