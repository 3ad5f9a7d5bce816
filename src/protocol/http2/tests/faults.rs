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
