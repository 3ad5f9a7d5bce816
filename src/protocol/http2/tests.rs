mod streams;

use super::frame::*;
use super::*;
use crate::names::{RequestId, SessionId};
use crate::protocol::hpack::{Decoder, encode};
use crate::protocol::sniff::HTTP2_PREFACE;
use crate::protocol::{Kind, Why};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, kind, flags, stream, payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| encode(name.as_bytes(), value.as_bytes(), false, &mut out));
    out
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "client.example")];

fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[&GET[..], more].concat()))
}

fn post(stream: u32) -> Vec<u8> {
    let head = [(":method", "POST"), (":scheme", "https"), (":path", "/p"), ("authorization", "Bearer good")];
    frame(HEADERS, END_HEADERS, stream, &block(&head))
}

fn greeting() -> Vec<u8> {
    [HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Run {
    up: Vec<u8>,
    fault: Option<Fault>,
}

/// Feeds client bytes in pieces of `step`; requests with `Bearer good` are permitted, others refused.
fn feed(http: &mut Http2, bytes: &[u8], step: usize) -> Run {
    let mut run = Run { up: Vec::new(), fault: None };
    for piece in bytes.chunks(step) {
        let (mut data, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        let fault = loop {
            match http.up(&mut edit) {
                Err(fault) => break Some(fault),
                Ok(Up::Done) => break None,
                Ok(Up::Wait) => panic!("HTTP/2 never waits"),
                Ok(Up::Request) => {
                    let (token, barred) = (http.request().fields.get("authorization"), http.request().barred);
                    if token == Some(b"Bearer good") && barred.is_none() {
                        let set: [(&str, &[u8]); 1] = [("authorization", b"Bearer stored")];
                        let strip = ["authorization", "x-api-key"];
                        http.permit(
                            &mut edit,
                            &Rewrite { strip: &strip, set: &set, authority: Some("up.example") },
                        );
                    } else {
                        let id = RequestId { session: SessionId(1), number: http.request().key };
                        http.refuse(&Refusal { id, why: barred.unwrap_or(Why::InvalidToken) });
                    }
                }
            }
        };
        let (position, diverged) = (edit.position(), edit.diverged());
        run.up.extend_from_slice(if diverged { &out } else { &data[..position] });
        if fault.is_some() {
            run.fault = fault;
            break;
        }
    }
    run
}

fn feed_down(http: &mut Http2, bytes: &[u8], step: usize) -> (Vec<u8>, Option<Fault>) {
    let mut all = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        let (mut data, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        let fault = http.down(&mut edit).err();
        let (position, diverged) = (edit.position(), edit.diverged());
        all.extend_from_slice(if diverged { &out } else { &data[..position] });
        if fault.is_some() {
            return (all, fault);
        }
    }
    (all, None)
}

/// What the gateway has to say to the client just now.
fn said(http: &mut Http2) -> Vec<u8> {
    let mut out = Vec::new();
    http.down(&mut Edit::new(&mut [], &mut out)).unwrap();
    out
}

/// A connection past its greeting, what the gateway said at its start thrown away.
fn greeted() -> Http2 {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    assert_eq!(feed(&mut http, &greeting(), 1_000).fault, None);
    let upstream = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
    feed_down(&mut http, &upstream, 1_000);
    http
}

fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(head) = bytes.first_chunk() {
        let head = Head::parse(head);
        all.push((head, bytes[HEAD..HEAD + head.length].to_vec()));
        bytes = &bytes[HEAD + head.length..];
    }
    assert!(bytes.is_empty(), "half a frame");
    all
}

fn fields(head: &[u8]) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    Decoder::default().decode(head, 1 << 20, 1_000, &mut fields).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn the_same_bytes_go_up_however_they_are_cut() {
    let bytes = [
        greeting(),
        frame(SETTINGS, ACK, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]),
        post(1),
        frame(DATA, 0, 1, b"some body"),
        frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 9]),
        frame(PING, 0, 0, b"12345678"),
        frame(DATA, END_STREAM, 1, b"the rest"),
        get(3, &[("authorization", "Bearer bad")]),
        frame(0xee, 0, 0, b"an extension"),
        get(7, &[("authorization", "Bearer good"), ("x_api_key", "twin"), ("x-forwarded-for", "lie")]),
    ]
    .concat();
    let whole = feed(&mut Http2::new(Limits::default()), &bytes, bytes.len());
    assert_eq!(whole.fault, None);
    for step in 1..60 {
        assert_eq!(feed(&mut Http2::new(Limits::default()), &bytes, step), whole, "pieces of {step}");
    }
    let kinds: Vec<u8> = frames(&whole.up[HTTP2_PREFACE.len()..]).iter().map(|(head, _)| head.kind).collect();
    // No ACK of our settings, no priority, no refused stream, no extension.
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE, HEADERS, DATA, PING, DATA, HEADERS]);
}

#[test]
fn a_permitted_head_is_rewritten_with_literals() {
    let mut http = greeted();
    let fields_in =
        [("authorization", "Bearer good"), ("x_api_key", "twin"), ("forwarded", "lie"), ("x-keep", "1")];
    let run = feed(&mut http, &get(1, &fields_in), 1_000);
    let [(head, payload)] = &frames(&run.up)[..] else { panic!("one frame") };
    assert_eq!((head.kind, head.flags, head.stream), (HEADERS, END_HEADERS | END_STREAM, 1));
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/a?b"),
        (":authority", "up.example"),
        ("x-keep", "1"),
        ("authorization", "Bearer stored"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(payload), expected);
}

#[test]
fn heads_in_pieces_padded_and_prioritised_are_read() {
    let head = block(&[&GET[..], &[("authorization", "Bearer good")]].concat());
    let (first, rest) = head.split_at(10);
    let padded = [&[3, 0, 0, 0, 0, 9][..], first, &[0; 3]].concat();
    let bytes = [
        frame(HEADERS, PADDED | PRIORITISED | END_STREAM, 1, &padded),
        frame(CONTINUATION, 0, 1, &rest[..5]),
        frame(CONTINUATION, END_HEADERS, 1, &rest[5..]),
    ]
    .concat();
    let run = feed(&mut greeted(), &bytes, 7);
    let plain = feed(&mut greeted(), &get(1, &[("authorization", "Bearer good")]), 1_000);
    assert_eq!(run, plain);
}

#[test]
fn settings_that_would_break_following_are_changed_on_their_way() {
    let mut http = Http2::new(Limits { streams: 50, ..Limits::default() });
    let ours = frames(&said(&mut http));
    assert_eq!(settings(&ours[0].1).collect::<Vec<_>>(), [(1, 4_096), (3, 50), (6, 32 * 1024)]);
    let mut payload = Vec::new();
    push_setting(&mut payload, HEADER_TABLE_SIZE, 65_536);
    push_setting(&mut payload, ENABLE_PUSH, 1);
    push_setting(&mut payload, INITIAL_WINDOW_SIZE, 1 << 20);
    let run = feed(&mut http, &[HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat(), 1_000);
    let up = frames(&run.up[HTTP2_PREFACE.len()..]);
    assert_eq!(settings(&up[0].1).collect::<Vec<_>>(), [(1, 4_096), (2, 0), (4, 1 << 20)]);
    let mut payload = Vec::new();
    push_setting(&mut payload, MAX_CONCURRENT_STREAMS, 1_000);
    let (down, _) = feed_down(&mut http, &frame(SETTINGS, 0, 0, &payload), 4);
    assert_eq!(settings(&frames(&down)[0].1).collect::<Vec<_>>(), [(3, 50)]);
}

#[test]
fn only_our_own_settings_acknowledgement_is_swallowed() {
    let mut http = greeted();
    let acks = frame(SETTINGS, ACK, 0, &[]).repeat(3);
    assert_eq!(frames(&feed(&mut http, &acks, 1_000).up).len(), 2);
    let (down, _) = feed_down(&mut http, &frame(SETTINGS, ACK, 0, &[]), 1_000);
    assert_eq!(frames(&down).len(), 1, "the upstream's goes down");
}

#[test]
fn a_refused_stream_is_answered_swallowed_and_its_window_given_back() {
    let mut http = greeted();
    let bad = frame(HEADERS, END_HEADERS, 1, &block(&GET));
    let body = frame(DATA, 0, 1, &[7; 3_000]);
    let run = feed(&mut http, &[bad, body.clone(), body, frame(DATA, END_STREAM, 1, &[7; 10])].concat(), 500);
    assert_eq!((run.fault, run.up.len()), (None, 0));
    let said = frames(&said(&mut http));
    let kinds: Vec<u8> = said.iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [HEADERS, RST_STREAM, WINDOW_UPDATE, WINDOW_UPDATE], "no reserve, no body");
    assert!(fields(&said[0].1).contains(&(":status".into(), "401".into())));
    assert_eq!((&said[2].1[..], &said[3].1[..]), (&6_000u32.to_be_bytes()[..], &10u32.to_be_bytes()[..]));
    assert_eq!(http.in_flight(), 0);
}

#[test]
fn a_refusal_has_a_body_only_out_of_credit_that_the_upstream_never_saw() {
    let mut http = greeted();
    let run = feed(&mut http, &frame(WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()), 100);
    let withheld = 100_000 - u32::from_be_bytes(frames(&run.up)[0].1[..].try_into().unwrap());
    assert_eq!(withheld, RESERVE);
    let mut bodies = 0;
    for stream in (1..101).step_by(2) {
        feed(&mut http, &get(stream, &[]), 1_000);
        let data = frames(&said(&mut http)).into_iter().filter(|(head, _)| head.kind == DATA);
        bodies += data.map(|(head, _)| head.length as u32).sum::<u32>();
    }
    assert!(bodies > 1_000 && bodies <= withheld, "{bodies} bytes of bodies");
}

#[test]
fn grpc_is_refused_with_trailers_only() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("content-type", "application/grpc+proto"), ("te", "trailers")]), 1_000);
    let said = frames(&said(&mut http));
    assert_eq!((said.len(), said[0].0.flags), (1, END_HEADERS | END_STREAM));
    assert!(fields(&said[0].1).contains(&("grpc-status".into(), "16".into())));
    assert_eq!(http.request().kind, Kind::Grpc);
}

#[test]
fn connect_is_answered_405_and_goes_nowhere() {
    let mut http = greeted();
    let head = block(&[
        (":method", "CONNECT"),
        (":authority", "db.internal:5432"),
        ("authorization", "Bearer good"),
    ]);
    let run = feed(&mut http, &frame(HEADERS, END_HEADERS, 1, &head), 1_000);
    assert_eq!((run.fault, run.up.len()), (None, 0));
    let answer = fields(&frames(&said(&mut http))[0].1);
    assert!(answer.contains(&(":status".into(), "405".into())));
    let id = RequestId { session: SessionId(1), number: 1 };
    assert!(answer.contains(&("x-request-id".into(), id.to_string())), "{answer:?}");
}

#[test]
fn a_head_too_large_is_answered_431_and_the_connection_goes_on() {
    let crumbs: Vec<(&str, &str)> =
        [vec![("authorization", "Bearer good")], vec![("cookie", "a"); 500]].concat();
    // The table as the peer's encoder leaves it: a field that is remembered stands behind what is too much.
    let mut remembered = block(&GET);
    remembered.extend_from_slice(&[0x80 | 19; 200]);
    remembered.extend_from_slice(b"\x40\x01x\x01y");
    let huge = format!("{:040000}", 0);
    let mut http = greeted();
    for (stream, head) in [
        (1, get(1, &crumbs)),
        (3, frame(HEADERS, END_HEADERS | END_STREAM, 3, &remembered)),
        (5, {
            let block = block(&[&GET[..], &[("x", &huge)]].concat());
            let mut out = Vec::new();
            write_block(&mut out, 5, true, &block);
            out
        }),
    ] {
        let run = feed(&mut http, &head, 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{stream}");
        let answer = fields(&frames(&said(&mut http))[0].1);
        assert!(answer.contains(&(":status".into(), "431".into())), "{stream}: {answer:?}");
        assert_eq!(http.request().path(), b"/a", "the log can tell which");
    }
    // Index 62 is what was remembered last.
    let mut head = block(&[&GET[..], &[("authorization", "Bearer good")]].concat());
    head.push(0x80 | 62);
    let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 7, &head), 1_000);
    assert_eq!(run.fault, None);
    assert!(fields(&frames(&run.up)[0].1).contains(&("x".into(), "y".into())));
}

#[test]
fn a_client_with_a_smaller_table_is_told_so_before_our_own_answer() {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    let small = [0, 1, 0, 0, 0, 0];
    feed(&mut http, &[HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &small), &get(1, &[])].concat(), 1_000);
    let answer = frames(&said(&mut http)).remove(0);
    assert_eq!((answer.0.kind, answer.1[0]), (HEADERS, 0x20), "size 0 comes first (RFC 7541 section 4.2)");
    feed(&mut http, &get(3, &[("authorization", "Bearer good")]), 1_000);
    let own = [&[0x20][..], &block(&[(":status", "200")])].concat();
    let down = [
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &own),
    ];
    assert_eq!(feed_down(&mut http, &down.concat(), 1_000).1, None);
    feed(&mut http, &get(5, &[]), 1_000);
    let answer = frames(&said(&mut http)).remove(0);
    assert_ne!(answer.1[0], 0x20, "the upstream has said it");
}

#[test]
fn a_ping_is_answered_by_us_until_there_is_an_upstream() {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    let run = feed(&mut http, &[greeting(), frame(PING, 0, 0, b"12345678")].concat(), 7);
    assert!(frames(&run.up[HTTP2_PREFACE.len()..]).iter().all(|(head, _)| head.kind != PING));
    assert_eq!(said(&mut http), frame(PING, ACK, 0, b"12345678"));
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    let run = feed(&mut http, &frame(PING, 0, 0, b"abcdefgh"), 1_000);
    assert_eq!(run.up, frame(PING, 0, 0, b"abcdefgh"));
    assert!(said(&mut http).is_empty());
}

#[test]
fn malformed_heads_reset_their_stream_and_go_nowhere() {
    let table: &[&[(&str, &str)]] = &[
        &[(":method", "GET"), (":scheme", "https")],
        &[(":scheme", "https"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "relative")],
        &[(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), ("a", "b"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":status", "200")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("Upper", "x")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", "x")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("transfer-encoding", "chunked")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("te", "gzip")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("a", "b\r\nc: d")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("a", " b")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a"), ("host", "b")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("content-length", "1x")],
    ];
    for head in table {
        let mut http = greeted();
        let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(head)), 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{head:?}");
        let said = frames(&said(&mut http));
        assert_eq!(
            (said[0].0.kind, &said[0].1[..]),
            (RST_STREAM, &PROTOCOL_ERROR.to_be_bytes()[..]),
            "{head:?}"
        );
    }
}

#[test]
fn trailers_pass_and_those_that_authenticate_do_not() {
    let trailers = |list: &[(&str, &str)]| {
        let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(list));
        feed(&mut greeted(), &[post(1), end].concat(), 9)
    };
    let good = trailers(&[("x-checksum", "abc")]);
    assert_eq!(fields(&frames(&good.up)[1].1), [("x-checksum".to_owned(), "abc".to_owned())]);
    for name in ["authorization", "content-length", ":path", "x-api-key"] {
        assert!(trailers(&[(name, "1")]).fault.is_some(), "{name}");
    }
}

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
fn responses_pass_where_they_lie_and_are_followed() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    let response = [
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103")])),
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200"), ("x", "y")])),
        frame(DATA, 0, 1, b"body"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-trailer", "z")])),
    ]
    .concat();
    let (mut data, mut out) = (response.clone(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    http.down(&mut edit).unwrap();
    assert!(edit.is_done() && !edit.diverged(), "nothing is copied");
    assert_eq!(http.event(), Some(Event::Response { key: 1, status: 200 }));
    assert_eq!(http.event(), Some(Event::Ended { key: 1, up: 0, down: 4, how: Ended::Whole }));
    for step in 1..40 {
        let mut http = greeted();
        feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
        assert_eq!(feed_down(&mut http, &response, step), (response.clone(), None), "pieces of {step}");
    }
}

#[test]
fn nothing_is_put_into_a_frame_or_a_header_block() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    let head = block(&[(":status", "200")]);
    let begin = frame(HEADERS, 0, 1, &head);
    feed_down(&mut http, &begin[..5], 100);
    feed(&mut http, &get(3, &[]), 1_000);
    assert!(!http.wants_down(), "inside a frame's head");
    feed_down(&mut http, &begin[5..], 100);
    assert!(!http.wants_down(), "inside a header block");
    let (down, _) = feed_down(&mut http, &frame(CONTINUATION, END_HEADERS, 1, &[]), 100);
    let kinds: Vec<u8> = frames(&down).iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [CONTINUATION, HEADERS], "the refusal comes right behind the block");
}

#[test]
fn the_upstreams_faults_are_the_upstreams() {
    let table: &[(&str, Vec<u8>)] = &[
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])),
        ("a frame larger than announced", frame(DATA, 0, 1, &[0; MAX_FRAME + 1])),
        ("a malformed block", frame(HEADERS, END_HEADERS, 1, &[0x80])),
        ("two response heads", frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")])).repeat(2)),
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

#[test]
fn a_cut_stream_is_reset_both_ways_and_its_late_data_swallowed() {
    let mut http = greeted();
    feed(&mut http, &post(1), 1_000);
    assert!(http.cut(1));
    let down = frames(&said(&mut http));
    assert_eq!((down[0].0.kind, down[0].0.stream), (RST_STREAM, 1));
    let up = frames(&feed(&mut http, &frame(PING, 0, 0, &[0; 8]), 100).up);
    assert_eq!((up[0].0.kind, up[0].0.stream), (RST_STREAM, 1));
    let late = frame(DATA, 0, 1, &[0; 5_000]);
    assert_eq!(feed_down(&mut http, &late, 700), (Vec::new(), None));
    let mut out = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
    assert_eq!(frames(&out)[0].1, 5_000u32.to_be_bytes(), "the upstream's window is given back");
    assert!(frames(&feed(&mut http, &frame(DATA, END_STREAM, 1, b"late"), 100).up).is_empty());
}

#[test]
fn draining_says_goaway_refuses_new_streams_and_is_over_with_the_last_byte() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    http.drain();
    http.drain();
    let said_now = frames(&said(&mut http));
    assert_eq!((said_now.len(), said_now[0].0.kind, &said_now[0].1[..4]), (1, GOAWAY, &[0, 0, 0, 1][..]));
    assert!(feed(&mut http, &get(3, &[("authorization", "Bearer good")]), 1_000).up.is_empty());
    assert_eq!(frames(&said(&mut http))[0].1, REFUSED_STREAM.to_be_bytes());
    let last = [
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")])),
        frame(DATA, END_STREAM, 1, b"the end"),
    ]
    .concat();
    let (but_one, one) = last.split_at(last.len() - 1);
    feed_down(&mut http, but_one, 1_000);
    assert!(!http.is_over(), "a byte is still to come");
    feed_down(&mut http, one, 1_000);
    assert!(http.is_over());
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let mut http = Http2::new(Limits { streams: 2, ..Limits::default() });
    let bytes = [greeting(), post(1), post(3), post(5), frame(DATA, END_STREAM, 5, b"x")].concat();
    let run = feed(&mut http, &bytes, 1_000);
    assert_eq!((run.fault, http.in_flight()), (None, 2));
    let said = frames(&said(&mut http));
    assert!(
        said.iter().any(|(head, payload)| head.stream == 5 && payload[..] == REFUSED_STREAM.to_be_bytes())
    );
}

#[test]
fn the_emitted_head_is_at_most_twice_the_limit() {
    let value = "x".repeat(300);
    let many: Vec<(&str, &str)> =
        std::iter::once(("authorization", "Bearer good")).chain(vec![("a", &value[..]); 45]).collect();
    let run = feed(&mut greeted(), &get(1, &many), 100_000);
    assert_eq!(run.fault, None);
    assert!(run.up.len() <= 2 * Limits::default().head, "{} bytes", run.up.len());
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
