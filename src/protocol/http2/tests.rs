mod error_codes;
mod faults;
mod heads;
mod lengths;
mod masked;
mod own_data;
mod refusals;
mod streams;
mod waiting;

use super::frame::*;
use super::*;
use crate::names::{RequestId, SessionId};
use crate::protocol::hpack::{Decoder, encode};
use crate::protocol::sniff::HTTP2_PREFACE;
use crate::protocol::{Kind, RefusalReason};

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
    post_of(stream, &[])
}

fn post_of(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/p"),
        (":authority", "client.example"),
        ("authorization", "Bearer good"),
    ];
    let head = [&head[..], more].concat();
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
                        http.refuse(&Refusal { id, why: barred.unwrap_or(RefusalReason::InvalidToken) });
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
    // No ACK of our settings, no priority, no refused stream, no extension; the second request waits for the upstream's settings.
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE, HEADERS, DATA, PING, DATA]);
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
    let told = frames(&down).into_iter().find(|(head, _)| head.flags & ACK == 0).unwrap();
    assert_eq!(settings(&told.1).collect::<Vec<_>>(), [(3, 50)]);
}

#[test]
fn only_our_own_settings_acknowledgement_is_swallowed() {
    let mut http = greeted();
    let acks = frame(SETTINGS, ACK, 0, &[]).repeat(3);
    assert_eq!(frames(&feed(&mut http, &acks, 1_000).up).len(), 2);
    feed(
        &mut http,
        &[&get(1, &[("authorization", "Bearer good")])[..], &frame(SETTINGS, 0, 0, &[])].concat(),
        1_000,
    );
    let (down, _) = feed_down(&mut http, &frame(SETTINGS, ACK, 0, &[]), 1_000);
    assert_eq!(frames(&down).len(), 1, "the upstream's goes down");
}

#[test]
fn the_first_frame_that_a_client_hears_is_settings_whatever_it_said_before() {
    for before in [greeting(), [greeting(), frame(PING, 0, 0, &[7; 8]), get(1, &[])].concat()] {
        let mut http = Http2::new(Limits::default());
        assert_eq!(feed(&mut http, &before, 100_000).fault, None);
        let heard = frames(&said(&mut http));
        let kinds: Vec<_> = heard.iter().map(|(head, _)| (head.kind, head.has(ACK))).collect();
        assert_eq!(kinds[..2], [(SETTINGS, false), (SETTINGS, true)], "RFC 9113 3.4: {heard:?}");
    }
}

#[test]
fn a_ping_is_answered_by_us_until_there_is_an_upstream() {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    let run = feed(&mut http, &[greeting(), frame(PING, 0, 0, b"12345678")].concat(), 7);
    assert!(frames(&run.up[HTTP2_PREFACE.len()..]).iter().all(|(head, _)| head.kind != PING));
    let both = [frame(SETTINGS, ACK, 0, &[]), frame(PING, ACK, 0, b"12345678")].concat();
    assert_eq!(said(&mut http), both, "the settings are acknowledged by us, too");
    feed(&mut http, &get(1, &[("authorization", "Bearer good")]), 1_000);
    let run = feed(&mut http, &frame(PING, 0, 0, b"abcdefgh"), 1_000);
    assert_eq!(run.up, frame(PING, 0, 0, b"abcdefgh"));
    assert!(said(&mut http).is_empty());
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
    let streams: Vec<u32> = frames(&down).iter().map(|(head, _)| head.stream).collect();
    assert_eq!(streams, [1, 3], "the refusal comes right behind the block");
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
