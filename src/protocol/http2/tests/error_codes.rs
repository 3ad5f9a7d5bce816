//! RFC 9113 sections 4 to 6: every rule of a frame, and the error code that it names, before and after the first permit.

use super::*;

/// What is said of a fault: a reset of stream 1, or the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Reset(u32),
    Goaway(u32),
}
use Said::{Goaway, Reset};

/// Resets and ends among what was said to the client.
fn errors(http: &mut Http2) -> Vec<Said> {
    let code = |payload: &[u8]| u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap());
    frames(&said(http))
        .iter()
        .filter_map(|(head, payload)| match head.kind {
            RST_STREAM => Some(Reset(code(payload))),
            GOAWAY => Some(Goaway(code(payload))),
            _ => None,
        })
        .collect()
}

fn large(kind: u8, stream: u32) -> Vec<u8> {
    frame(kind, 0, stream, &[0; MAX_FRAME + 1])
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    push_setting(&mut payload, id, value);
    frame(SETTINGS, 0, 0, &payload)
}

/// Frames that break a rule, with `open`, a stream on which a body is sent, and `idle`, one that was never opened.
fn faults(open: u32, idle: u32) -> Vec<(&'static str, Vec<u8>, Said)> {
    vec![
        ("4.2: DATA larger than announced", large(DATA, open), Goaway(FRAME_SIZE_ERROR)),
        ("4.2: HEADERS larger than announced", large(HEADERS, idle), Goaway(FRAME_SIZE_ERROR)),
        ("4.2: an unknown frame larger than announced", large(0xbb, open), Goaway(FRAME_SIZE_ERROR)),
        ("4.3: a block of nonsense", frame(HEADERS, 5, idle, &[0xff; 6]), Goaway(COMPRESSION_ERROR)),
        ("4.3: an index of nothing", frame(HEADERS, 5, idle, &[0x80]), Goaway(COMPRESSION_ERROR)),
        ("5.1: DATA on an idle stream", frame(DATA, 0, idle, b"x"), Goaway(PROTOCOL_ERROR)),
        ("5.1: RST_STREAM of an idle stream", frame(RST_STREAM, 0, idle, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        (
            "5.1: WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, idle, &[0, 0, 0, 1]),
            Goaway(PROTOCOL_ERROR),
        ),
        ("5.1.1: an even stream", get(2, &[]), Goaway(PROTOCOL_ERROR)),
        ("5.1.1: DATA on an even stream", frame(DATA, 0, 2, b"x"), Goaway(PROTOCOL_ERROR)),
        ("6.1: DATA on stream 0", frame(DATA, 0, 0, b"x"), Goaway(PROTOCOL_ERROR)),
        (
            "6.1: padding as long as the frame",
            frame(DATA, PADDED, open, &[4, 0, 0, 0]),
            Goaway(PROTOCOL_ERROR),
        ),
        ("6.1: padding without its length", frame(DATA, PADDED, open, &[]), Goaway(FRAME_SIZE_ERROR)),
        ("6.2: HEADERS on stream 0", frame(HEADERS, 5, 0, &block(&GET)), Goaway(PROTOCOL_ERROR)),
        (
            "6.2: padding longer than the block",
            frame(HEADERS, 5 | PADDED, idle, &[9, 0x82]),
            Goaway(PROTOCOL_ERROR),
        ),
        ("6.2: padding without its length", frame(HEADERS, 5 | PADDED, idle, &[]), Goaway(FRAME_SIZE_ERROR)),
        ("6.2: half a priority", frame(HEADERS, 5 | PRIORITISED, idle, &[0; 3]), Goaway(FRAME_SIZE_ERROR)),
        (
            "6.2: padding in place of a priority",
            frame(HEADERS, 0x2d, idle, &[0; 5]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        ("6.3: PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), Goaway(PROTOCOL_ERROR)),
        ("6.3: PRIORITY of 4 bytes", frame(PRIORITY, 0, open, &[0; 4]), Reset(FRAME_SIZE_ERROR)),
        ("6.3: PRIORITY of 6 bytes", frame(PRIORITY, 0, open, &[0; 6]), Reset(FRAME_SIZE_ERROR)),
        ("6.3: PRIORITY of nothing", frame(PRIORITY, 0, open, &[]), Reset(FRAME_SIZE_ERROR)),
        (
            "6.3: the same where nothing can be reset",
            frame(PRIORITY, 0, idle, &[0; 4]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        ("6.4: RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        ("6.4: RST_STREAM of 3 bytes", frame(RST_STREAM, 0, open, &[0; 3]), Goaway(FRAME_SIZE_ERROR)),
        ("6.4: RST_STREAM of 5 bytes", frame(RST_STREAM, 0, open, &[0; 5]), Goaway(FRAME_SIZE_ERROR)),
        ("6.5: SETTINGS on a stream", frame(SETTINGS, 0, open, &[0, 4, 0, 0, 1, 0]), Goaway(PROTOCOL_ERROR)),
        ("6.5: SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Goaway(FRAME_SIZE_ERROR)),
        ("6.5: SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("6.5: an acknowledgement with payload", frame(SETTINGS, ACK, 0, &[0; 6]), Goaway(FRAME_SIZE_ERROR)),
        ("6.5: an acknowledgement of 1 byte", frame(SETTINGS, ACK, 0, &[0]), Goaway(FRAME_SIZE_ERROR)),
        ("6.5: settings without end", frame(SETTINGS, 0, 0, &[0; 1_200]), Goaway(ENHANCE_YOUR_CALM)),
        ("6.5.2: ENABLE_PUSH of 2", setting(ENABLE_PUSH, 2), Goaway(PROTOCOL_ERROR)),
        ("6.5.2: a window of 2^31", setting(INITIAL_WINDOW_SIZE, 1 << 31), Goaway(FLOW_CONTROL_ERROR)),
        ("6.5.2: frames of 16,383", setting(MAX_FRAME_SIZE, 16_383), Goaway(PROTOCOL_ERROR)),
        ("6.5.2: frames of 2^24", setting(MAX_FRAME_SIZE, 1 << 24), Goaway(PROTOCOL_ERROR)),
        ("6.6: PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, open, &[0, 0, 0, 2]), Goaway(PROTOCOL_ERROR)),
        ("6.6: PUSH_PROMISE on stream 0", frame(PUSH_PROMISE, 4, 0, &[0, 0, 0, 2]), Goaway(PROTOCOL_ERROR)),
        ("6.7: PING on a stream", frame(PING, 0, open, &[0; 8]), Goaway(PROTOCOL_ERROR)),
        ("6.7: PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("6.7: PING of 9 bytes", frame(PING, 0, 0, &[0; 9]), Goaway(FRAME_SIZE_ERROR)),
        ("6.7: PING of nothing", frame(PING, 0, 0, &[]), Goaway(FRAME_SIZE_ERROR)),
        ("6.7: an acknowledgement of 6 bytes", frame(PING, ACK, 0, &[0; 6]), Goaway(FRAME_SIZE_ERROR)),
        ("6.8: GOAWAY on a stream", frame(GOAWAY, 0, open, &[0; 8]), Goaway(PROTOCOL_ERROR)),
        ("6.8: GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("6.9: WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, open, &[0; 3]), Goaway(FRAME_SIZE_ERROR)),
        ("6.9: of 5 bytes, of the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 5]), Goaway(FRAME_SIZE_ERROR)),
        ("6.9: of nothing, of a stream", frame(WINDOW_UPDATE, 0, open, &[0; 4]), Reset(PROTOCOL_ERROR)),
        (
            "6.9: the reserved bit counts for nothing",
            frame(WINDOW_UPDATE, 0, open, &[0x80, 0, 0, 0]),
            Reset(PROTOCOL_ERROR),
        ),
        ("6.9: of nothing, of the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        (
            "6.9.1: a stream's window",
            frame(WINDOW_UPDATE, 0, open, &[0x7f, 255, 255, 255]),
            Reset(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1: the connection's",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        ("6.10: CONTINUATION of nothing", frame(CONTINUATION, 4, open, &[]), Goaway(PROTOCOL_ERROR)),
        ("6.10: CONTINUATION on stream 0", frame(CONTINUATION, 4, 0, &[]), Goaway(PROTOCOL_ERROR)),
        (
            "6.10: another frame within a block",
            [frame(HEADERS, 0, idle, &[0x82]), frame(PRIORITY, 0, idle, &[0; 5])].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
        (
            "6.10: another stream's CONTINUATION",
            [frame(HEADERS, 0, idle, &[0x82]), frame(CONTINUATION, 4, open, &[])].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
    ]
}

#[test]
fn each_fault_of_a_frame_gets_the_error_code_of_its_section() {
    for (name, bytes, expected) in faults(1, 3) {
        for step in [1, 9, 100_000] {
            let mut http = greeted();
            assert_eq!(feed(&mut http, &post(1), 1_000).fault, None);
            said(&mut http);
            let fault = feed(&mut http, &bytes, step).fault;
            assert_eq!(errors(&mut http), [expected], "{name}, permitted, in pieces of {step}");
            assert_eq!(fault.is_some(), matches!(expected, Goaway(_)), "{name}");
            assert_eq!(http.is_over(), fault.is_some(), "{name}");
        }
    }
}

#[test]
fn the_codes_are_the_same_for_streams_that_wait_and_while_nothing_was_permitted() {
    for (name, bytes, expected) in faults(3, 5) {
        let mut http = greeted();
        let good = get(1, &[("authorization", "Bearer good")]);
        assert_eq!(feed(&mut http, &[good, post(3)].concat(), 1_000).fault, None);
        said(&mut http);
        feed(&mut http, &bytes, 100_000);
        assert_eq!(errors(&mut http), [expected], "{name}, waiting");
    }
    for (name, bytes, expected) in faults(1, 3) {
        let mut http = greeted();
        let refused = frame(HEADERS, END_HEADERS, 1, &block(&GET));
        assert_eq!(feed(&mut http, &refused, 1_000).fault, None);
        said(&mut http);
        feed(&mut http, &bytes, 100_000);
        // The stream is closed already: its own errors are the connection's (section 5.4.1), but for its window.
        let expected = match expected {
            Reset(code) if code != FLOW_CONTROL_ERROR => Goaway(code),
            other => other,
        };
        assert_eq!(errors(&mut http), [expected], "{name}, refused");
    }
}

/// What the upstream breaks is its own fault, and the client never gets the frame: it would say that the gateway broke the rule.
#[test]
fn each_fault_of_a_frame_of_the_upstreams_is_found_before_the_client_finds_it() {
    let not_the_upstreams = ["5.1.1: an even stream", "6.2: HEADERS on stream 0"];
    let own = [
        ("6.5.3: an acknowledgement of nothing", frame(SETTINGS, ACK, 0, &[]), Goaway(PROTOCOL_ERROR)),
        (
            "6.9.2: settings by which a window is too large",
            [frame(WINDOW_UPDATE, 0, 1, &[0x7f, 254, 0, 0]), setting(INITIAL_WINDOW_SIZE, 1 << 20)].concat(),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        (
            "6.10: CONTINUATION without end",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(1_100)].concat(),
            Goaway(ENHANCE_YOUR_CALM),
        ),
    ];
    for (name, bytes, expected) in faults(1, 5).into_iter().chain(own) {
        if not_the_upstreams.contains(&name) {
            continue;
        }
        for step in [1, 9, 100_000] {
            let mut http = greeted();
            feed(&mut http, &[post(1), post(3)].concat(), 1_000);
            let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
            http.client_table.settings_sent();
            assert_eq!(feed_down(&mut http, &settings, 100).1, None);
            assert_eq!(http.in_flight(), 2);
            let (down, fault) = feed_down(&mut http, &bytes, step);
            if let Reset(code) = expected {
                assert_eq!(fault, None, "{name}");
                let told = frames(&down);
                assert!(fields(&told[0].1).contains(&(":status".into(), "502".into())), "{name}: {told:?}");
                let up = frames(&feed(&mut http, &frame(PING, 0, 0, &[0; 8]), 100).up);
                assert_eq!((up[0].0.kind, up[0].0.stream), (RST_STREAM, 1), "{name}");
                assert_eq!(up[0].1, code.to_be_bytes(), "{name}");
                assert_eq!(http.in_flight(), 1, "{name}: the other stream goes on");
                continue;
            }
            let fault = fault.unwrap_or_else(|| panic!("{name} passed: {down:?}"));
            let told = frames(&down);
            assert!(told.iter().all(|(head, _)| head.stream != 0), "{name} in pieces of {step}: {told:?}");
            assert_eq!(fault.culprit, Culprit::Upstream, "{name}");
            let told = frames(&said(&mut http));
            let end = told.last().map(|(head, payload)| (head.kind, payload[4..8].to_vec()));
            assert_eq!(end, Some((GOAWAY, INTERNAL_ERROR.to_be_bytes().to_vec())), "{name}");
            let answers = told.iter().filter(|(head, _)| head.kind == HEADERS);
            let mut refused: Vec<_> = answers
                .map(|(head, block)| (head.stream, fields(block).contains(&(":status".into(), "502".into()))))
                .collect();
            refused.sort_unstable();
            assert_eq!(refused, [(1, true), (3, true)], "{name} in pieces of {step}: both had no answer");
        }
    }
}

#[test]
fn an_upstream_that_sends_more_than_the_client_allowed_is_at_fault() {
    let answer = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")]));
    let begun = |settings: &[u8], acks: usize| {
        let mut http = greeted();
        feed(&mut http, &[settings, &get(1, &[("authorization", "Bearer good")])].concat(), 1_000);
        let first =
            [&frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[]).repeat(acks)[..], &answer].concat();
        assert_eq!(feed_down(&mut http, &first, 100).1, None);
        http
    };
    // A smaller window counts from the acknowledgement on; what was on its way before may exceed it.
    let small = setting(INITIAL_WINDOW_SIZE, 10);
    let bytes = frame(DATA, 0, 1, &[0; 11]);
    let mut http = begun(&small, 0);
    assert_eq!(feed_down(&mut http, &bytes, 100), (bytes.clone(), None), "not acknowledged yet");
    let mut http = begun(&small, 1);
    let (down, fault) = feed_down(&mut http, &bytes, 100);
    assert_eq!((fault, frames(&down)[0].0.kind, http.in_flight()), (None, RST_STREAM, 0));
    let ended = std::iter::from_fn(|| http.event()).last();
    assert!(matches!(ended, Some(Event::Ended { key: 1, down: 0, how: Ended::ByUpstream, .. })), "{ended:?}");
    let mut http = begun(&small, 1);
    let fits = [frame(DATA, 0, 1, &[0; 10]), frame(DATA, END_STREAM, 1, &[])].concat();
    assert_eq!(feed_down(&mut http, &fits, 7), (fits.clone(), None), "the end needs no window");
    // The connection's.
    let mut http = begun(&setting(INITIAL_WINDOW_SIZE, 1 << 20), 1);
    let bytes = frame(DATA, 0, 1, &[0; 16_384]).repeat(3);
    assert_eq!(feed_down(&mut http, &bytes, 1_000).1, None);
    let mut last = http;
    let (_, fault) = feed_down(&mut last, &frame(DATA, 0, 1, &[0; 16_384]), 100_000);
    assert_eq!(
        fault.map(|fault| (fault.culprit, fault.section)),
        Some((Culprit::Upstream, "RFC 9113 6.9.1"))
    );
}

#[test]
fn acknowledgements_that_the_upstream_asks_for_are_not_the_clients_flood() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    feed_down(&mut http, &frame(SETTINGS, 0, 0, &[]), 100);
    for _ in 0..5_000 {
        let (down, fault) = feed_down(&mut http, &frame(PING, 0, 0, &[7; 8]), 100);
        assert_eq!((down.len(), fault), (17, None));
        assert_eq!(feed(&mut http, &frame(PING, ACK, 0, &[7; 8]), 100).fault, None);
    }
    let unasked = feed(&mut http, &frame(PING, ACK, 0, &[7; 8]).repeat(5_000), 100_000);
    assert_eq!(unasked.fault.map(|fault| fault.culprit), Some(Culprit::Client));
}

#[test]
fn extensions_of_the_upstreams_go_no_further() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    feed_down(&mut http, &frame(SETTINGS, 0, 0, &[]), 100);
    said(&mut http);
    let origin = frame(0xc, 0, 0, b"\0\x12https://b.gw.test");
    let elsewhere = frame(0xa, 0, 0, b"\0\0h3=\"b.test:443\"");
    let ping = frame(PING, 0, 0, &[7; 8]);
    for step in [1, 5, 1_000] {
        let bytes = [&origin[..], &elsewhere, &frame(0xf0, 0, 1, &[]), &ping].concat();
        assert_eq!(feed_down(&mut http, &bytes, step), (ping.clone(), None), "in pieces of {step}");
    }
}
