//! Transcripts. Each is fed whole, cut at every offset, and byte by byte, and must come out the same.

mod exchanges;
mod faults;
mod grammar;
mod masked;

use proptest::prelude::*;

use super::*;
use crate::names::SessionId;

const STRIP: &[&str] = &["x-api-key"];
const SET: &[(&str, &[u8])] = &[("x-user", b"ada")];

fn id(number: u32) -> RequestId {
    RequestId { session: SessionId(1), number }
}

/// Feeds one piece from the client; requests whose path starts with `/no` are refused.
fn up(http: &mut Http1, piece: &[u8]) -> (Vec<u8>, Result<Up, Fault>) {
    let (mut data, mut out) = (piece.to_vec(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    let end = loop {
        match http.up(&mut edit) {
            Ok(Up::Request) if http.request().path().starts_with(b"/no") => {
                let id = id(http.request().key);
                http.refuse(&Refusal { id, why: RefusalReason::NoToken });
            }
            Ok(Up::Request) => http.permit(&mut edit, &Rewrite { strip: STRIP, set: SET, authority: None }),
            end => break end,
        }
    };
    let (at, diverged) = (edit.position(), edit.diverged());
    (if diverged { out } else { data[..at].to_vec() }, end)
}

fn down(http: &mut Http1, piece: &[u8]) -> (Vec<u8>, Result<(), Fault>) {
    let (mut data, mut out) = (piece.to_vec(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    let end = http.down(&mut edit);
    let (at, diverged) = (edit.position(), edit.diverged());
    (if diverged { out } else { data[..at].to_vec() }, end)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every way to cut: whole, at each offset, into single bytes.
fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all: Vec<Vec<&[u8]>> = (0..input.len()).map(|i| vec![&input[..i], &input[i..]]).collect();
    all.push(input.chunks(1).collect());
    all
}

#[derive(Debug, PartialEq)]
struct Seen {
    up: String,
    down: String,
    events: Vec<Event>,
    fault: Option<Fault>,
    over: bool,
    tunnel: bool,
}

fn run(client: &[&[u8]], service: &[&[u8]], prepare: fn(&mut Http1)) -> Seen {
    let mut http = Http1::new(Limits::default());
    let (mut sent, mut got, mut fault) = (Vec::new(), Vec::new(), None);
    for piece in client {
        let (bytes, end) = up(&mut http, piece);
        match end {
            Ok(_) => sent.extend(bytes),
            Err(f) => fault = fault.or(Some(f)),
        }
    }
    prepare(&mut http);
    for piece in service {
        let (bytes, end) = down(&mut http, piece);
        match end {
            Ok(()) => got.extend(bytes),
            Err(f) => fault = fault.or(Some(f)),
        }
    }
    got.extend(down(&mut http, b"").0);
    let events = std::iter::from_fn(|| http.event()).collect();
    let (over, tunnel) = (http.is_over(), http.is_tunnel());
    Seen { up: text(&sent), down: text(&got), events, fault, over, tunnel }
}

fn all_ways(client: &str, service: &str, prepare: fn(&mut Http1)) -> Seen {
    let (client, service) = (client.as_bytes(), service.as_bytes());
    let whole = run(&[client], &[service], prepare);
    for cut in cuts(client) {
        assert_eq!(run(&cut, &[service], prepare), whole, "client cut into {cut:?}");
    }
    for cut in cuts(service) {
        let cut = run(&[client], &cut, prepare);
        match whole.fault {
            // What was passed before the fault depends on the cut; that it was found does not.
            Some(_) => assert_eq!(cut.fault, whole.fault),
            None => assert_eq!(cut, whole),
        }
    }
    whole
}

fn seen(client: &str, service: &str) -> Seen {
    all_ways(client, service, |_| {})
}

fn whole(key: Key, up: u64, down: u64) -> Event {
    Event::Ended { key, up, down, how: Ended::Whole }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_permitted_head_loses_tokens_twins_and_hop_by_hop_fields_and_keeps_the_rest() {
    let client = "\r\nPOST http://A/v1?q HTTP/1.1\r\nHost: a\r\nX-API-Key: k\r\nx_api_key: k\r\nX_User: eve\r\n\
        X-Forwarded-For: 1\r\nForwarded: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
        TE: trailers, gzip\r\nAcCept: b\r\nContent-Length: 3\r\n\r\nabc";
    let s = seen(client, OK);
    let head = "POST /v1?q HTTP/1.1\r\nHost: a\r\nAcCept: b\r\nContent-Length: 3\r\nx-user: ada\r\nTE: trailers\r\n\
        Connection: TE\r\n\r\nabc";
    assert_eq!((s.up.as_str(), s.down.as_str(), s.over), (head, OK, false));
    assert_eq!(s.events, [Event::Response { key: 1, status: 200 }, whole(1, 3, 2)]);
}

#[test]
fn every_smuggling_attempt_sends_nothing_up_and_is_answered() {
    let table: &[(&str, u16)] = &[
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Content_Length\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Authorization\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: a\r\n\r\n", 400),
    ];
    for (client, status) in table {
        let s = seen(client, "");
        assert_eq!(s.up, "", "{client:?}");
        assert!(s.down.starts_with(&format!("HTTP/1.1 {status} ")), "{client:?} {}", s.down);
        assert!(s.over && s.fault.is_some_and(|f| f.culprit == Culprit::Client), "{client:?}");
    }
}

#[test]
fn trace_is_barred_whatever_its_name_and_the_connection_goes_on() {
    for (method, field) in [("TRACE", ""), ("track", ""), ("POST", "X-HTTP-Method-Override: TRACE\r\n")] {
        let mut http = Http1::new(Limits::default());
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        let (mut data, mut out) = (head.into_bytes(), Vec::new());
        assert_eq!(http.up(&mut Edit::new(&mut data, &mut out)), Ok(Up::Request));
        assert_eq!(http.request().barred, Some(RefusalReason::MethodNotAllowed), "{method}");
        http.refuse(&Refusal { id: id(1), why: RefusalReason::MethodNotAllowed });
        let (answer, _) = down(&mut http, b"");
        assert!(text(&answer).starts_with("HTTP/1.1 405 ") && !text(&answer).contains("TRACE"));
        assert!(!http.is_over());
    }
}

#[test]
fn heads_beyond_the_limits_are_answered_431() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(33 << 10));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    for client in [long, many] {
        let s = run(&[client.as_bytes()], &[], |_| {});
        assert!(s.up.is_empty() && s.down.starts_with("HTTP/1.1 431 ") && s.over);
    }
}

#[test]
fn chunks_and_trailers_pass_and_bad_ones_are_faults() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let s = seen(&format!("{head}3;e=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"), OK);
    assert!(s.up.ends_with("\r\n\r\n3;e=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"));
    assert_eq!(s.events[1], whole(1, 13, 2));
    let long = format!("1;{}\r\n", "e".repeat(256));
    let bad = [
        "0x1\r\n",
        "-1\r\n",
        "\r\n",
        " 1\r\n",
        "1\n",
        "00000000000000001\r\n",
        "1\r\nab",
        "1\r\na\n",
        &long,
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nx_user: eve\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
    ];
    for body in bad {
        let s = seen_fault(&format!("{head}{body}"));
        assert!(s, "{body:?}");
    }
}

fn seen_fault(client: &str) -> bool {
    cuts(client.as_bytes()).iter().all(|cut| run(cut, &[], |_| {}).fault.is_some())
}

#[test]
fn answers_of_the_gateway_keep_their_place_among_pipelined_responses() {
    let client = format!("{GET}GET /no HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
    let s = seen(&client, &format!("{OK}{OK}"));
    let second = s.down.strip_prefix(OK).unwrap_or_default();
    assert!(second.starts_with("HTTP/1.1 401 Unauthorized\r\n") && s.down.ends_with(OK));
    assert!(!s.over && !s.down.contains("connection: close"));
    let s = seen("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ", "");
    assert!(s.up.is_empty() && s.over && s.down.contains("connection: close\r\n"));
    let s = seen("HEAD /no HTTP/1.1\r\nHost: a\r\n\r\n", "");
    assert!(s.down.ends_with("\r\n\r\n") && !s.over);
}

#[test]
fn responses_are_framed_by_method_status_and_fields() {
    let get = |service: &str| seen(GET, service);
    let s = seen(
        &format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
        &format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{OK}"),
    );
    assert_eq!(s.events.len(), 4);
    assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n").events[1], whole(1, 0, 0));
    let s = get(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    assert_eq!(s.events, [Event::Response { key: 1, status: 200 }, whole(1, 0, 2)]);
    assert!(get("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").over);
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, GET.as_bytes());
    let _ = down(&mut http, b"HTTP/1.1 200 OK\r\n\r\nendless");
    assert!(!http.is_over() && http.down_ended().is_ok() && http.is_over());
    assert_eq!(std::iter::from_fn(|| http.event()).last(), Some(whole(1, 0, 7)));
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: w\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
    ] {
        assert!(get(bad).fault.is_some_and(|f| f.culprit == Culprit::Upstream), "{bad:?}");
    }
}

#[test]
fn a_tunnel_opens_after_the_101_and_not_before() {
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nEARLY";
    for (answer, tunnel) in [("HTTP/1.1 101 Switching Protocols\r\n\r\nFRAME", true), (OK, false)] {
        let mut http = Http1::new(Limits::default());
        let (sent, end) = up(&mut http, ask);
        assert_eq!(end, Ok(Up::Wait));
        assert!(text(&sent).ends_with("Upgrade: websocket\r\nx-user: ada\r\nConnection: upgrade\r\n\r\n"));
        assert_eq!(down(&mut http, answer.as_bytes()).0, answer.as_bytes());
        assert_eq!(http.is_tunnel(), tunnel);
        assert_eq!(up(&mut http, b"EARLY").0, if tunnel { &b"EARLY"[..] } else { b"" });
    }
    let s = seen("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", OK);
    assert_eq!(s.up, "GET / HTTP/1.1\r\nHost: a\r\nx-user: ada\r\n\r\n");
}

#[test]
fn draining_closes_with_the_last_response() {
    let service = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    let s = all_ways(GET, service, |http| http.drain());
    assert_eq!(s.down, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    assert!(s.over);
    let mut http = Http1::new(Limits::default());
    http.drain();
    assert!(http.is_over());
}

#[test]
fn a_clean_end_is_a_fault_only_in_the_middle_of_a_message() {
    for (client, fine) in [
        ("", true),
        ("GET", false),
        (GET, true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na", false),
    ] {
        let mut http = Http1::new(Limits::default());
        let _ = up(&mut http, client.as_bytes());
        assert_eq!(http.up_ended().is_ok(), fine, "{client:?}");
    }
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, GET.as_bytes());
    assert!(http.down_ended().is_err() && http.in_flight() == 0);
}

#[test]
fn a_large_body_of_known_length_is_not_copied() {
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let (mut data, mut out) = (vec![7; 1_000_000], Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    assert_eq!(http.up(&mut edit), Ok(Up::Done));
    assert!(edit.is_done() && !edit.diverged());
    assert_eq!(out.capacity(), 0);
}

proptest! {
    #[test]
    fn chunked_bodies_come_out_the_same_however_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), size in 1usize..50,
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
        }
        body.extend(b"0\r\n\r\n");
        let mut http = Http1::new(Limits::default());
        let _ = up(&mut http, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let sent: Vec<u8> = body.chunks(size).flat_map(|piece| up(&mut http, piece).0).collect();
        prop_assert_eq!(sent, body);
        let _ = down(&mut http, OK.as_bytes());
        let payload = chunks.iter().map(|c| c.len() as u64).sum();
        prop_assert_eq!(std::iter::from_fn(|| http.event()).last(), Some(whole(1, payload, 2)));
    }
}

#[test]
fn a_bad_head_is_answered_after_the_response_under_way() {
    let s = run(&[GET.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"], &[OK.as_bytes()], |_| {});
    assert_eq!(s.up, "GET / HTTP/1.1\r\nHost: a\r\nx-user: ada\r\n\r\n");
    assert!(s.down.strip_prefix(OK).is_some_and(|rest| rest.starts_with("HTTP/1.1 400 ")), "{}", s.down);
    assert!(s.over && s.events.len() == 2);
}

#[test]
fn requests_beyond_the_limit_wait_and_http_1_0_closes() {
    let mut http = Http1::new(Limits { pipelined: 2, ..Limits::default() });
    assert_eq!(up(&mut http, GET.repeat(3).as_bytes()).1, Ok(Up::Wait));
    assert_eq!((http.in_flight(), down(&mut http, OK.as_bytes()).1), (2, Ok(())));
    assert_eq!(up(&mut http, GET.as_bytes()).1, Ok(Up::Done));
    let s = seen("GET / HTTP/1.0\r\n\r\n", OK);
    assert_eq!(s.up, "GET / HTTP/1.0\r\nx-user: ada\r\nConnection: close\r\n\r\n");
    assert!(s.over);
}
