//! DATA under masks: taken out of its frames, as many bytes as before, and never across streams.

use super::*;
use crate::mask::{Detector, HoldAction, HoldLimit, Mode, Rule, Rules};
use crate::names::Direction;
use std::sync::Arc;
use std::time::Duration;

fn masking() -> Masking {
    masking_until(HoldAction::Mask)
}

fn masking_until(action: HoldAction) -> Masking {
    let hold = HoldLimit { events: 64, time: Duration::from_secs(5), action };
    let rules = Detector::all().map(Rule::Known).collect();
    let rules = Some(Arc::new(Rules::new(rules, Mode::Mask, hold).unwrap()));
    Masking { up: rules.clone(), down: rules, keep_spans: false }
}

/// Streams 1, 3, … are open, each masked.
fn opened(streams: u32) -> Http2 {
    let mut http = greeted();
    for n in 0..streams {
        http.mask(masking());
        feed(&mut http, &get(2 * n + 1, &[("authorization", "Bearer good")]), 1_000);
    }
    http
}

fn answer(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[&[(":status", "200")][..], more].concat()))
}

/// DATA of one stream, joined, its padding taken off, and whether it ended.
fn data(bytes: &[u8], stream: u32) -> (String, bool) {
    let (mut all, mut ended) = (Vec::new(), false);
    for (head, payload) in frames(bytes) {
        if head.kind == DATA && head.stream == stream {
            assert!(!ended, "DATA after the end");
            let padding = if head.has(PADDED) { 1 + usize::from(payload[0]) } else { 0 };
            all.extend_from_slice(
                &payload[usize::from(padding > 0)..payload.len() - padding.saturating_sub(1)],
            );
        }
        ended |= head.stream == stream && head.has(END_STREAM) && matches!(head.kind, DATA | HEADERS);
    }
    (String::from_utf8(all).unwrap(), ended)
}

/// Bytes that count against windows.
fn window(bytes: &[u8]) -> usize {
    frames(bytes).iter().filter(|(head, _)| head.kind == DATA).map(|(head, _)| head.length).sum()
}

#[test]
fn a_value_over_frames_of_two_streams_is_overwritten_in_its_own() {
    let down = [
        answer(1, &[]),
        answer(3, &[]),
        frame(DATA, 0, 1, b"card 4111 1111 "),
        frame(DATA, 0, 3, b"other 17"),
        frame(DATA, PADDED, 1, b"\x03111\0\0\0"),
        frame(DATA, END_STREAM, 3, b" 1111 text"),
        frame(DATA, PADDED, 1, b"\x001 11"),
        frame(DATA, PADDED | END_STREAM, 1, b"\x0111 and so\0"),
    ]
    .concat();
    for step in [1, 2, 3, 5, 9, 10, 24, 1_000] {
        let mut http = opened(2);
        let (got, fault) = feed_down(&mut http, &down, step);
        assert_eq!(fault, None);
        assert_eq!(data(&got, 1), ("card 4111 11** **** 1111 and so".into(), true), "step {step}");
        assert_eq!(data(&got, 3), ("other 17 1111 text".into(), true));
        assert_eq!(window(&got), window(&down), "flow control sees as many bytes");
        assert_eq!(http.in_flight(), 0);
        let report = http.mask_report().unwrap();
        assert_eq!(
            (report.key, report.direction, report.counts.iter().sum::<u32>()),
            (1, Direction::Down, 1)
        );
    }
}

#[test]
fn another_stream_is_not_held_by_what_one_holds() {
    let mut http = opened(2);
    let heads = [answer(1, &[]), answer(3, &[])].concat();
    feed_down(&mut http, &heads, 1_000);
    let (got, _) = feed_down(&mut http, &frame(DATA, 0, 1, b"4111 1111 1"), 1_000);
    assert_eq!(data(&got, 1).0, "4111 11");
    let (got, _) = feed_down(&mut http, &frame(DATA, 0, 3, b"at once"), 1_000);
    assert_eq!(data(&got, 3).0, "at once");
    assert!(std::iter::from_fn(|| http.event()).any(|event| event == Event::Held));
    assert!(http.mask_due().is_some());
    http.tick(5_000);
    http.expire_masks().unwrap();
    assert!(http.wants_down());
    let (got, _) = feed_down(&mut http, &frame(DATA, END_STREAM, 1, b"x"), 1_000);
    assert_eq!(data(&got, 1), ("****x".into(), true));
}

#[test]
fn what_is_held_goes_before_trailers() {
    let mut http = opened(1);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-end", "1")]));
    let down = [answer(1, &[]), frame(DATA, 0, 1, b"4111111111111111"), trailers].concat();
    let (got, fault) = feed_down(&mut http, &down, 1_000);
    assert_eq!(fault, None);
    assert_eq!(data(&got, 1), ("411111******1111".into(), true));
    assert_eq!(http.in_flight(), 0);
}

#[test]
fn an_empty_last_frame_lets_go_of_what_is_held() {
    let mut http = opened(1);
    let down =
        [answer(1, &[]), frame(DATA, 0, 1, b"4111111111111111"), frame(DATA, END_STREAM, 1, b"")].concat();
    let (got, _) = feed_down(&mut http, &down, 1_000);
    assert_eq!(data(&got, 1), ("411111******1111".into(), true));
    assert_eq!(http.in_flight(), 0);
}

#[test]
fn a_reset_drops_what_is_held_and_gives_its_window_back() {
    let mut http = opened(1);
    let reset = frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    let down = [answer(1, &[]), frame(DATA, 0, 1, b"4111 1111 1"), reset].concat();
    let (got, _) = feed_down(&mut http, &down, 1_000);
    assert_eq!(data(&got, 1).0, "4111 11");
    let mut out = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
    assert_eq!(out, frame(WINDOW_UPDATE, 0, 0, &4u32.to_be_bytes()));
}

#[test]
fn a_request_is_overwritten_on_its_way_up_whether_it_waits_or_not() {
    let body = |stream| {
        [
            post(stream),
            frame(DATA, 0, stream, b"mail jane@exa"),
            frame(DATA, END_STREAM, stream, b"mple.com or"),
        ]
        .concat()
    };
    for step in [1, 7, 1_000] {
        let mut http = greeted();
        http.upstream_streams = 1;
        let mut sent = Vec::new();
        for stream in [1, 3] {
            http.mask(masking());
            sent.extend(feed(&mut http, &body(stream), step).up);
        }
        assert_eq!(data(&sent, 1), ("mail jane************ or".into(), true), "step {step}");
        let (_, fault) = feed_down(
            &mut http,
            &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":status", "204")])),
            1_000,
        );
        assert_eq!(fault, None);
        let mut out = Vec::new();
        http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
        assert_eq!(data(&out, 3), ("mail jane************ or".into(), true), "it had waited");
    }
}

#[test]
fn only_the_stream_is_refused_whose_answer_cannot_be_masked() {
    let mut http = opened(2);
    let down = [
        answer(1, &[("content-encoding", "br")]),
        answer(3, &[]),
        frame(DATA, 0, 1, b"secret"),
        frame(DATA, END_STREAM, 3, b"fine"),
    ];
    let (mut got, fault) = feed_down(&mut http, &down.concat(), 1_000);
    got.extend(said(&mut http));
    assert_eq!(fault, None);
    assert_eq!(data(&got, 3), ("fine".into(), true));
    assert!(!data(&got, 1).0.contains("secret"));
    let statuses: Vec<u16> = std::iter::from_fn(|| http.event())
        .filter_map(|event| if let Event::Response { status, .. } = event { Some(status) } else { None })
        .collect();
    assert_eq!(statuses, [502, 200]);
    assert!(http.mask_report().unwrap().fault.is_some());
}

#[test]
fn only_the_stream_is_cut_whose_body_cannot_be_followed() {
    let mut http = opened(2);
    let json = [("content-type", "application/json")];
    let deep = "[".repeat(200);
    let down = [
        answer(1, &json),
        answer(3, &[]),
        frame(DATA, 0, 1, deep.as_bytes()),
        frame(DATA, END_STREAM, 3, b"fine"),
    ];
    let (mut got, fault) = feed_down(&mut http, &down.concat(), 1_000);
    got.extend(said(&mut http));
    assert_eq!(fault, None);
    assert!(frames(&got).iter().any(|(head, _)| head.kind == RST_STREAM && head.stream == 1));
    assert_eq!(data(&got, 3), ("fine".into(), true));
}

#[test]
fn only_the_stream_is_cut_whose_body_is_not_what_it_says_or_ends_with_a_digest() {
    let digest = block(&[("content-digest", "sha-256=:x:")]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &digest);
    let message = frame(DATA, 0, 1, b"\x01\0\0\0\x02ab");
    for (kind, broken) in [
        ("text/plain", trailers),
        ("text/plain", frame(DATA, 0, 1, b"\x1f\x8b\x08\0")),
        ("text/plain", frame(DATA, 0, 1, b"\xff\xfe4\0")),
        ("application/json", frame(DATA, 0, 1, b"\0{\0}")),
        ("application/grpc", message),
    ] {
        let mut http = opened(2);
        let kind = [("content-type", kind)];
        let down = [answer(1, &kind), answer(3, &[]), broken, frame(DATA, END_STREAM, 3, b"fine")];
        let (mut got, fault) = feed_down(&mut http, &down.concat(), 1_000);
        got.extend(said(&mut http));
        assert_eq!(fault, None);
        assert!(frames(&got).iter().any(|(head, _)| head.kind == RST_STREAM && head.stream == 1), "{kind:?}");
        assert!(!data(&got, 1).1, "it does not look whole");
        assert_eq!(data(&got, 3), ("fine".into(), true));
        assert!(http.mask_report().unwrap().fault.is_some());
    }
}

#[test]
fn a_request_that_cannot_be_followed_is_answered_415_and_only_it_whether_it_waits_or_not() {
    let digest = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[("content-digest", "sha-256=:x:")]));
    for (kind, broken, answered) in [
        ("text/plain", frame(DATA, 0, 3, b"\x1f\x8b\x08\0secret"), (":status", "415")),
        ("text/plain", frame(DATA, END_STREAM, 3, b"\xff\xfes\0e\0c\0"), (":status", "415")),
        ("text/plain", [frame(DATA, 0, 3, b"fine"), digest].concat(), (":status", "415")),
        ("application/json", frame(DATA, 0, 3, b"\0{\0}secret"), (":status", "415")),
        ("application/json", frame(DATA, 0, 3, "[".repeat(200).as_bytes()), (":status", "415")),
        ("application/grpc", frame(DATA, 0, 3, b"\x01\0\0\0\x06secret"), ("grpc-status", "12")),
        ("application/grpc", frame(DATA, 0, 3, b"\0\0\xff\0\0secret"), ("grpc-status", "12")),
    ] {
        for upstream_streams in [1, 100] {
            let mut http = greeted();
            http.upstream_streams = upstream_streams;
            let mut sent = Vec::new();
            for (stream, kind) in [(1, "text/plain"), (3, kind)] {
                http.mask(masking());
                sent.extend(feed(&mut http, &post_of(stream, &[("content-type", kind)]), 1_000).up);
            }
            sent.extend(feed(&mut http, &broken, 1_000).up);
            let got = said(&mut http);
            let heads = frames(&got).into_iter().filter(|(head, _)| head.kind == HEADERS);
            let heads: Vec<_> = heads.map(|(head, block)| (head.stream, fields(&block))).collect();
            let [(3, head)] = &heads[..] else { panic!("{kind}: {heads:?}") };
            assert!(head.contains(&(answered.0.into(), answered.1.into())), "{kind}: {head:?}");
            assert!(!text_of(&sent).contains("secret"), "{kind}");
            assert!(std::iter::from_fn(|| http.mask_report()).any(|report| report.fault.is_some()));
            // The other request, and the next, go on.
            sent.extend(feed(&mut http, &frame(DATA, END_STREAM, 1, b"mail jane@example.com"), 1_000).up);
            assert_eq!(data(&sent, 1), ("mail jane************".into(), true));
            http.mask(masking());
            let next = feed(&mut http, &get(5, &[("authorization", "Bearer good")]), 1_000);
            assert_eq!(next.fault, None);
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_request_in_which_something_is_held_for_too_long_is_answered_415_and_one_whose_answer_began_is_cut() {
    for answered in [false, true] {
        let mut http = greeted();
        http.mask(masking_until(HoldAction::Cut));
        let sent = feed(&mut http, &[post(1), frame(DATA, 0, 1, b"card 4111 1111")].concat(), 1_000).up;
        assert_eq!(data(&sent, 1).0, "card 4111 11");
        if answered {
            feed_down(&mut http, &answer(1, &[]), 1_000);
        }
        assert!(http.mask_due().is_some());
        http.tick(5_000);
        http.expire_masks().unwrap();
        let got = frames(&said(&mut http));
        let status = got.iter().filter(|(head, _)| head.kind == HEADERS).map(|(_, block)| fields(block));
        let status: Vec<_> = status.map(|fields| fields[0].1.clone()).collect();
        let expected: &[&str] = if answered { &[] } else { &["415"] };
        assert_eq!(status, expected);
        let cancelled =
            |(head, code): &(Head, Vec<u8>)| head.kind == RST_STREAM && code[..] == CANCEL.to_be_bytes();
        assert_eq!(got.iter().any(cancelled), answered, "{got:?}");
    }
}

#[test]
fn only_the_stream_is_cut_in_which_something_is_held_for_too_long() {
    for (action, kind, body) in [
        (HoldAction::Cut, "text/plain", &b"4111 1111 1"[..]),
        (HoldAction::Mask, "application/grpc", b"\0\0\0\0\x12\x0a\x10jane@ex"),
    ] {
        let mut http = greeted();
        for stream in [1, 3] {
            http.mask(masking_until(action));
            feed(&mut http, &get(stream, &[("authorization", "Bearer good")]), 1_000);
        }
        let heads = [answer(1, &[("content-type", kind)]), answer(3, &[]), frame(DATA, 0, 1, body)];
        let (got, _) = feed_down(&mut http, &heads.concat(), 1_000);
        let before = data(&got, 1).0.len();
        assert!(http.mask_due().is_some());
        http.tick(5_000);
        http.expire_masks().unwrap();
        let (mut got, fault) = feed_down(&mut http, &frame(DATA, END_STREAM, 3, b"fine"), 1_000);
        got.extend(said(&mut http));
        assert_eq!(fault, None);
        assert!(before <= 7 && data(&got, 1).0.is_empty(), "what was held does not pass");
        assert!(frames(&got).iter().any(|(head, _)| head.kind == RST_STREAM && head.stream == 1));
        assert_eq!(data(&got, 3), ("fine".into(), true));
        assert!(std::iter::from_fn(|| http.mask_report()).any(|report| report.fault.is_some()));
    }
}
