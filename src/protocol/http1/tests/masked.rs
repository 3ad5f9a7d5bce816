//! Bodies under masks: values are overwritten whatever cuts them, and framing stays as it was.

use super::*;
use crate::mask::{Detector, HoldAction, HoldLimit, Mode, Rule, Rules};
use crate::protocol::masked::{MaskReport, UNMASKABLE};
use std::sync::Arc;
use std::time::Duration;

fn masking(mode: Mode) -> Masking {
    masking_until(mode, HoldAction::Mask)
}

fn masking_until(mode: Mode, action: HoldAction) -> Masking {
    let hold = HoldLimit { events: 64, time: Duration::from_secs(5), action };
    let rules = Detector::all().map(Rule::Known).collect();
    let rules = Some(Arc::new(Rules::new(rules, mode, hold).unwrap()));
    Masking { up: rules.clone(), down: rules, keep_spans: false }
}

fn exchange(
    client: &[&[u8]],
    service: &[&[u8]],
    mode: Mode,
) -> (String, String, Vec<(Direction, u32)>, Http1) {
    let mut http = Http1::new(Limits::default());
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for piece in client {
        http.mask(masking(mode));
        let (bytes, end) = up(&mut http, piece);
        end.unwrap();
        sent.extend(bytes);
    }
    for piece in service {
        let (bytes, end) = down(&mut http, piece);
        end.unwrap();
        got.extend(bytes);
    }
    let found = std::iter::from_fn(|| http.mask_report());
    let found = found.map(|report| (report.direction, report.counts.iter().sum())).collect();
    (text(&sent), text(&got), found, http)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn an_answer_of_a_known_length_and_one_in_chunks_are_overwritten_in_place() {
    let answers = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\ncard 4111 1111 1111 1111 and so",
            "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\ncard 4111 11** **** 1111 and so",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n4111 1111\r\na\r\n 1111 1111\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n4111 11**\r\na\r\n **** 1111\r\n0\r\n\r\n",
        ),
    ];
    for (answer, expected) in answers {
        let mut all = cuts(answer.as_bytes());
        all.push(vec![answer.as_bytes()]);
        for cut in all {
            let (_, got, found, http) = exchange(&[GET.as_bytes()], &cut, Mode::Mask);
            assert_eq!(got, expected, "cut into {cut:?}");
            assert_eq!(found, [(Direction::Down, 1)]);
            assert_eq!(http.in_flight(), 0);
        }
    }
    let (_, got, found, _) = exchange(&[GET.as_bytes()], &[answers[0].0.as_bytes()], Mode::Observe);
    assert_eq!((got.as_str(), found), (answers[0].0, vec![(Direction::Down, 1)]));
}

#[test]
fn a_request_is_overwritten_on_its_way_up_and_the_next_follows_it() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n\
                   {\"m\":\"ssn 536-90-4399 is it\"}";
    let request = request
        .replace("Length: 28", &format!("Length: {}", request.split("\r\n\r\n").nth(1).unwrap().len()));
    let both = request.clone() + GET;
    for cut in cuts(both.as_bytes()) {
        let (sent, _, found, _) = exchange(&cut, &[], Mode::Mask);
        assert!(sent.contains("{\"m\":\"ssn 536-**-**** is it\"}GET / HTTP/1.1\r\n"), "{sent}");
        assert_eq!(found, [(Direction::Up, 1)]);
    }
}

#[test]
fn what_is_held_at_the_end_of_an_answer_that_ends_with_the_connection_goes_down_first() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\ncard 4111 1111 1111 1111";
    let (_, got, _, mut http) = exchange(&[GET.as_bytes()], &[answer.as_bytes()], Mode::Mask);
    assert!(got.ends_with("card 4111 11"), "{got}");
    assert!(!http.wants_down());
    http.finish_masks(Direction::Down);
    assert!(http.wants_down());
    assert_eq!(text(&down(&mut http, b"").0), "** **** 1111");
    assert_eq!(http.down_ended(), Ok(()));
    assert!(http.is_over());
}

#[test]
fn what_is_held_goes_masked_when_its_time_is_up_and_what_follows_behind_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\ncard 4111 1111";
    let (_, got, _, mut http) = exchange(&[GET.as_bytes()], &[answer.as_bytes()], Mode::Mask);
    assert!(got.ends_with("card 4111 11"));
    assert_eq!(http.event(), Some(Event::Response { key: 1, status: 200 }));
    assert_eq!(http.event(), Some(Event::Held));
    assert_eq!(http.mask_due(), Some((5_000, 0)));
    http.tick(4_999);
    http.expire_masks().unwrap();
    assert!(!http.wants_down());
    http.tick(1);
    http.expire_masks().unwrap();
    assert!(http.wants_down());
    assert_eq!(http.mask_due(), None);
    assert_eq!(text(&down(&mut http, b" 11x and so on  ").0), "** 11x and so on  ");
    assert_eq!(http.mask_report().map(|report| report.forced), Some(1));
}

#[test]
fn an_answer_that_cannot_be_masked_is_a_502_and_nothing_of_it_passes() {
    for field in [
        "Content-Encoding: gzip",
        "Content-Encoding: br",
        "Content-Encoding: zstd",
        "content-encoding: deflate",
        "Content-Encoding: identity, x-unknown",
        "Content-Digest: sha-256=:x:",
        "Repr-Digest: sha-256=:x:",
        "Digest: SHA-256=x",
        "Content-MD5: x",
        "x-amz-checksum-crc32: x",
        "X-Goog-Hash: md5=x",
        "Trailer: x, Content-Digest",
        "Content-Type: application/grpc-web-text",
        "Content-Type: application/vnd.amazon.eventstream",
        "Content-Type: text/plain; charset=utf-16",
        "Content-Type: application/json; charset=\"UTF-32\"",
        "Content-Type: application/zip",
        "Content-Type: application/gzip",
        "Content-Type: multipart/byteranges; boundary=x",
        "Content-Range: bytes 0-9/10",
    ] {
        let mut http = Http1::new(Limits::default());
        http.mask(masking(Mode::Mask));
        up(&mut http, GET.as_bytes()).1.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 4\r\n\r\nbody");
        let fault = down(&mut http, answer.as_bytes()).1.unwrap_err();
        assert_eq!((fault.culprit, fault.section), (Culprit::Gateway, UNMASKABLE));
        let said = text(&down(&mut http, b"").0);
        assert!(said.starts_with("HTTP/1.1 502") && said.contains("unmaskable_answer"), "{said}");
        assert!(!said.contains("body"));
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbody";
    let (_, got, ..) = exchange(&[GET.as_bytes()], &[answer.as_bytes()], Mode::Observe);
    assert_eq!(got, answer);
}

#[test]
fn a_body_that_cannot_be_followed_any_more_ends_the_connection() {
    let deep = "[".repeat(200);
    let mut http = Http1::new(Limits::default());
    http.mask(masking(Mode::Mask));
    up(&mut http, GET.as_bytes()).1.unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n";
    down(&mut http, head.as_bytes()).1.unwrap();
    let (_, end) = down(&mut http, deep.as_bytes());
    assert_eq!(end.unwrap_err().section, UNMASKABLE);
    assert!(http.is_over());
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_is_masked_both_ways_and_what_is_held_goes_at_its_end() {
    let mut http = Http1::new(Limits::default());
    http.mask(masking(Mode::Mask));
    up(&mut http, UPGRADE.as_bytes()).1.unwrap();
    let (got, end) = down(&mut http, &[AGREED.as_bytes(), b"\x81\x0fssn 536-90-4399"].concat());
    end.unwrap();
    assert!(got.ends_with(b"\r\n\r\n\x81\x0fssn 536-"), "{got:?}");
    let (sent, end) = up(&mut http, b"\x81\x92\0\0\0\0jane@example.com, ");
    end.unwrap();
    assert_eq!(sent, b"\x81\x92\0\0\0\0jane************, ");
    http.finish_masks(Direction::Down);
    assert_eq!(down(&mut http, b"").0, b"**-****");
    assert_eq!(http.down_ended(), Ok(()));
    // What still goes up is masked, and told with all else once both sides have ended.
    let (sent, end) = up(&mut http, b"\x81\x92\0\0\0\0john@example.com, ");
    end.unwrap();
    assert_eq!(sent, b"\x81\x92\0\0\0\0john************, ");
    assert!(http.mask_report().is_none() && http.up_ended().is_ok());
    let found: Vec<_> = std::iter::from_fn(|| http.mask_report()).map(|report| report.direction).collect();
    assert_eq!(found, [Direction::Up, Direction::Down]);
}

#[test]
fn an_extension_that_was_not_offered_is_a_502() {
    let mut http = Http1::new(Limits::default());
    http.mask(masking(Mode::Mask));
    up(&mut http, UPGRADE.as_bytes()).1.unwrap();
    let agreed = AGREED.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    assert_eq!(down(&mut http, agreed.as_bytes()).1.unwrap_err().section, UNMASKABLE);
    assert!(text(&down(&mut http, b"").0).starts_with("HTTP/1.1 502"));
}

#[test]
fn a_body_that_is_not_what_its_head_says_and_a_trailer_with_a_digest_end_the_connection_and_are_told() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, passes) in [
        (&b"4\r\n\x1f\x8b\x08\x00\r\n"[..], ""),
        (b"4\r\n\xff\xfe4\x00\r\n", ""),
        (b"5\r\nfine \r\n0\r\nContent-Digest: sha-256=:x:\r\n\r\n", "5\r\nfine \r\n0\r\n"),
        (b"5\r\nfine \r\n0\r\nx-end: 1\r\ndigest: x\r\n\r\n", "5\r\nfine \r\n0\r\n"),
    ] {
        let mut http = Http1::new(Limits::default());
        http.mask(masking(Mode::Mask));
        up(&mut http, GET.as_bytes()).1.unwrap();
        down(&mut http, head.as_bytes()).1.unwrap();
        let (got, end) = down(&mut http, body);
        assert_eq!(end.unwrap_err().section, UNMASKABLE, "{body:?}");
        assert!(text(&got).len() <= passes.len() + 3, "{got:?}");
        assert!(http.is_over());
        let faults: Vec<_> =
            std::iter::from_fn(|| http.mask_report()).filter_map(|report| report.fault).collect();
        assert_eq!(faults.len(), 1, "{body:?}");
    }
}

#[test]
fn a_request_that_cannot_be_followed_is_answered_415_and_ends_the_connection() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let deep =
        format!("Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{}secret", "[".repeat(200));
    for rest in [
        &b"Content-Length: 90\r\n\r\n\x1f\x8b\x08\0secret"[..],
        b"Content-Length: 90\r\n\r\n\x28\xb5\x2f\xfdsecret",
        b"Content-Length: 90\r\n\r\n\xff\xfes\0e\0c\0r\0e\0t\0",
        b"Content-Length: 90\r\nContent-Type: application/json\r\n\r\n\0{\0}secret",
        deep.as_bytes(),
        &[chunked.as_bytes(), b"4\r\nfine\r\n0\r\nContent-Digest: secret\r\n\r\n"].concat(),
        &[chunked.as_bytes(), b"4\r\nfine\r\n0\r\nx-amz-checksum-crc32: secret\r\n\r\n"].concat(),
        &[chunked.as_bytes(), b"4\r\nfine\r\n0\r\nContent-MD5: secret\r\n\r\n"].concat(),
    ] {
        let request = [b"POST / HTTP/1.1\r\nHost: a\r\n", rest].concat();
        for cut in cuts(&request) {
            let mut http = Http1::new(Limits::default());
            let (mut sent, mut fault) = (Vec::new(), None);
            // Each direction has rules of its own, as routes have.
            let rules = Masking { up: masking(Mode::Mask).up, ..masking(Mode::Mask) };
            for piece in cut {
                http.mask(rules.clone());
                let (bytes, end) = up(&mut http, piece);
                sent.extend(bytes);
                fault = end.err();
                if fault.is_some() {
                    break;
                }
            }
            assert_eq!(fault.map(|fault| fault.section), Some(UNMASKABLE), "{}", text(&request));
            let sent = String::from_utf8_lossy(&sent).into_owned();
            assert!(!sent.contains("secret") && !sent.contains("s\0e"), "{sent:?}");
            let got = text(&down(&mut http, b"").0);
            assert!(got.starts_with("HTTP/1.1 415") && got.contains("unmaskable"), "{got}");
            let found: Vec<_> = std::iter::from_fn(|| http.mask_report()).collect();
            let ours = |report: &MaskReport| {
                report.direction == Direction::Up && Arc::ptr_eq(&report.rules, rules.up.as_ref().unwrap())
            };
            assert!(found.iter().any(|report| report.fault.is_some() && ours(report)));
        }
    }
}

#[test]
fn a_websocket_that_cannot_be_followed_is_told_with_the_rules_of_its_direction() {
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for direction in [Direction::Up, Direction::Down] {
        let mut http = Http1::new(Limits::default());
        let rules = Masking { up: masking(Mode::Mask).up, ..masking(Mode::Mask) };
        http.mask(rules.clone());
        up(&mut http, asked.as_bytes()).1.unwrap();
        down(&mut http, agreed.as_bytes()).1.unwrap();
        let (end, expected) = match direction {
            Direction::Up => (up(&mut http, b"\xc1\x86\0\0\0\0secret").1.map(|_| ()), rules.up),
            Direction::Down => (down(&mut http, b"\xc1\x06secret").1, rules.down),
        };
        assert_eq!(end.unwrap_err().section, UNMASKABLE);
        let faults = std::iter::from_fn(|| http.mask_report()).filter(|report| report.fault.is_some());
        let faults: Vec<MaskReport> = faults.collect();
        let [report] = &faults[..] else { panic!("{faults:?}") };
        assert!(report.direction == direction && Arc::ptr_eq(&report.rules, &expected.unwrap()));
    }
}

#[test]
fn what_is_held_for_too_long_ends_the_connection_where_that_is_wanted() {
    let mut http = Http1::new(Limits::default());
    http.mask(masking_until(Mode::Mask, HoldAction::Cut));
    up(&mut http, GET.as_bytes()).1.unwrap();
    let (got, end) = down(&mut http, b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\ncard 4111 1111");
    end.unwrap();
    assert!(text(&got).ends_with("card 4111 11"));
    assert_eq!(http.mask_due(), Some((5_000, 0)));
    http.tick(5_000);
    assert_eq!(http.expire_masks().unwrap_err().section, UNMASKABLE);
    assert_eq!(text(&down(&mut http, b"").0), "", "what was held does not pass");
    assert!(http.is_over());
    assert!(http.mask_report().is_some_and(|report| report.fault.is_some()));
}
