//! Content-Length against DATA, and answers that break a rule: what each side sees.

use super::*;

fn good_post(length: &str) -> Vec<u8> {
    post_of(1, &[("content-length", length)])
}

fn answer(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(&[&[(":status", "200")], more].concat()))
}

/// (kind, stream, error code of a reset) of what the gateway says by itself, up and down.
fn resets(http: &mut Http2) -> [Vec<(u8, u32)>; 2] {
    let mut up = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut up)).unwrap();
    let down = said(http);
    [up, down].map(|bytes| {
        let resets = frames(&bytes).into_iter().filter(|(head, _)| head.kind == RST_STREAM);
        resets.map(|(head, code)| (code[3], head.stream)).collect()
    })
}

#[test]
fn a_request_whose_data_does_not_come_to_its_length_is_reset_and_the_others_go_on() {
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let table = [
        ("more", "0", data(END_STREAM, &[0; 40])),
        ("more, padded", "3", data(END_STREAM | PADDED, b"\x02abcd..")),
        ("less", "50", data(END_STREAM, &[0; 5])),
        ("none", "50", data(END_STREAM, &[])),
        ("less, in two", "9", [data(0, b"abc"), data(END_STREAM, b"def")].concat()),
        ("less, and trailers", "9", [data(0, b"abc"), frame(HEADERS, 5, 1, &block(&[("x", "y")]))].concat()),
    ];
    for (name, length, body) in table {
        for step in [1, 7, 1_000] {
            let mut http = greeted();
            let run = feed(&mut http, &[good_post(length), body.clone()].concat(), step);
            assert_eq!(run.fault, None, "{name}");
            assert!(
                frames(&run.up).iter().all(|(head, _)| head.flags & END_STREAM == 0),
                "{name}: looks whole"
            );
            let [up, down] = resets(&mut http);
            // Fed in pieces, what is said to the upstream came with the frames.
            let up_too = frames(&run.up).iter().any(|(head, _)| head.kind == RST_STREAM);
            assert!(up == [(CANCEL as u8, 1)] || up_too, "{name}: {up:?}");
            assert_eq!(down, [(PROTOCOL_ERROR as u8, 1)], "{name}");
            let next = feed(&mut http, &get(3, &[("authorization", "Bearer good")]), step);
            assert_eq!(frames(&next.up).last().unwrap().0.stream, 3, "{name}");
        }
    }
}

#[test]
fn a_request_whose_data_comes_to_its_length_passes_padding_not_counted() {
    let body = [frame(DATA, PADDED, 1, b"\x02abc.."), frame(DATA, END_STREAM, 1, b"de")].concat();
    for step in [1, 5, 1_000] {
        let run = feed(&mut greeted(), &[good_post("5"), body.clone()].concat(), step);
        assert!(run.fault.is_none() && run.up.ends_with(&body), "pieces of {step}");
    }
}

#[test]
fn an_answer_that_breaks_a_rule_is_a_502_before_it_began_and_a_reset_after() {
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let bare = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &block(fields));
    let table = [
        ("CRLF in a value", answer(&[("a", "b\r\nc: d")]), true),
        ("transfer-encoding", answer(&[("transfer-encoding", "chunked")]), true),
        ("connection", answer(&[("connection", "close")]), true),
        ("an upper-case name", answer(&[("A", "b")]), true),
        ("no status", bare(&[("a", "b")]), true),
        ("two statuses", bare(&[(":status", "200"), (":status", "200")]), true),
        ("status 999", bare(&[(":status", "999")]), true),
        ("status 101", bare(&[(":status", "101")]), true),
        ("a pseudo-header field of requests", bare(&[(":status", "200"), (":path", "/")]), true),
        ("two lengths", answer(&[("content-length", "1"), ("content-length", "2")]), true),
        ("DATA first", data(END_STREAM, b"x"), true),
        (
            "an end without a body",
            frame(HEADERS, 5, 1, &block(&[(":status", "200"), ("content-length", "3")])),
            true,
        ),
        ("two heads", answer(&[]).repeat(2), false),
        ("more than its length", [answer(&[("content-length", "3")]), data(0, b"abcd")].concat(), false),
        (
            "less than its length",
            [answer(&[("content-length", "3")]), data(END_STREAM, b"ab")].concat(),
            false,
        ),
        (
            "a bad trailer",
            [answer(&[]), frame(HEADERS, 5, 1, &block(&[("connection", "a")]))].concat(),
            false,
        ),
    ];
    for (name, bytes, unbegun) in table {
        for step in [1, 9, 1_000] {
            let mut http = greeted();
            let credit = frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]);
            feed(&mut http, &[credit, get(1, &[("authorization", "Bearer good")])].concat(), 1_000);
            let (mut down, fault) = feed_down(&mut http, &bytes, step);
            assert_eq!(fault, None, "{name}");
            down.extend(said(&mut http));
            let down = frames(&down);
            let (last, code) = down.last().unwrap();
            if unbegun {
                assert!(fields(&down[0].1).contains(&(":status".into(), "502".into())), "{name}");
                assert!(String::from_utf8_lossy(code).contains("bad_answer"), "{name}");
                assert_eq!((last.kind, down.len()), (DATA, 2), "{name}");
            } else {
                assert_eq!((last.kind, &code[..]), (RST_STREAM, &PROTOCOL_ERROR.to_be_bytes()[..]), "{name}");
            }
            assert!(down.iter().all(|(head, _)| head.kind != DATA || unbegun || head.flags == 0), "{name}");
            let ended = std::iter::from_fn(|| http.event()).last();
            assert!(matches!(ended, Some(Event::Ended { how: Ended::ByUpstream, .. })), "{name}: {ended:?}");
        }
    }
}

#[test]
fn heads_after_a_malformed_one_that_was_remembered_are_encoded_anew() {
    let mut http = greeted();
    let requests = [1, 3].map(|stream| get(stream, &[("authorization", "Bearer good")])).concat();
    feed(&mut http, &requests, 1_000);
    // `x: y` is remembered by a head that does not pass; the next one refers to it.
    let bad = [&block(&[(":status", "200"), ("connection", "close")])[..], b"\x40\x01x\x01y"].concat();
    let next = [&block(&[(":status", "200")])[..], &[0x80 | 62]].concat();
    let bytes = [frame(HEADERS, END_HEADERS, 1, &bad), frame(HEADERS, 5, 3, &next)].concat();
    let (down, fault) = feed_down(&mut http, &bytes, 1_000);
    assert_eq!(fault, None);
    let head = frames(&down).into_iter().find(|(head, _)| head.stream == 3).unwrap();
    assert_eq!(fields(&head.1), [(":status".into(), "200".into()), ("x".into(), "y".into())]);
}

#[test]
fn answers_without_content_may_announce_its_length() {
    for (method, status) in [("HEAD", "200"), ("GET", "304")] {
        let mut http = greeted();
        let head = [&[(":method", method)], &GET[1..], &[("authorization", "Bearer good")]].concat();
        feed(&mut http, &frame(HEADERS, 5, 1, &block(&head)), 1_000);
        let bytes = frame(HEADERS, 5, 1, &block(&[(":status", status), ("content-length", "3")]));
        assert_eq!(feed_down(&mut http, &bytes, 1_000), (bytes, None), "{method} {status}");
        assert_eq!(http.in_flight(), 0);
    }
}
