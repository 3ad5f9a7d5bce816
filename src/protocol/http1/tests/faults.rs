//! Answers that are missing or break a rule, requests that break off: what the client is told, and what it keeps.

use super::*;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What the client gets, in pieces of every size, and the events.
fn answers(client: &str, service: &str, ends: bool) -> (String, Vec<Event>) {
    let outcome = |step: usize| {
        let mut http = Http1::new(Limits::default()).of_session(SessionId(1));
        let _ = up(&mut http, client.as_bytes());
        let mut got = Vec::new();
        for piece in service.as_bytes().chunks(step) {
            let (bytes, end) = down(&mut http, piece);
            got.extend(bytes);
            if end.is_err() {
                break;
            }
        }
        if ends {
            let _ = http.down_ended();
        }
        got.extend(down(&mut http, b"").0);
        (text(&got), std::iter::from_fn(|| http.event()).collect::<Vec<_>>())
    };
    let whole = outcome(1_000_000);
    for step in [1, 2, 7, 30] {
        assert_eq!(outcome(step), whole, "{service:?} in pieces of {step}");
    }
    whole
}

#[test]
fn an_invalid_or_missing_answer_is_a_502_with_body_and_id() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(141));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    let table = [
        ("CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("status 5x", "HTTP/1.1 5x OK\r\n\r\n"),
        ("status 999", "HTTP/1.1 999 OK\r\n\r\n"),
        ("status 99", "HTTP/1.1 099 OK\r\n\r\n"),
        ("no HTTP at all", "220 mail.example ESMTP\r\n\r\n"),
        ("no HTTP and no empty line", "SSH-2.0-OpenSSH_9.2\r\n"),
        ("an alert in clear", "\x15\x03\x03\x00\x02\x02\x28"),
        ("another major version", "HTTP/2.0 200 OK\r\n\r\n"),
        ("a 101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: w\r\n\r\n"),
        ("a control byte", "HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n"),
        ("a bare line feed", "HTTP/1.1 200 OK\nX: y\n\n"),
        ("too many fields", &many),
        ("a head too large", &long),
        ("half a head, then the end", "HTTP/1.1 200 OK\r\nContent-"),
        ("nothing, then the end", ""),
        ("an interim answer, then the end", "HTTP/1.1 103 Early Hints\r\n\r\n"),
    ];
    for (name, service) in table {
        let (down, events) = answers(GET, service, true);
        let down = down.strip_prefix("HTTP/1.1 103 Early Hints\r\n\r\n").unwrap_or(&down);
        assert!(down.starts_with("HTTP/1.1 502 Bad Gateway\r\ndate: Thu, 01 Jan 1970"), "{name}: {down:?}");
        let request = id(1).to_string();
        assert!(down.contains("bad_answer") && down.matches(&request).count() == 2, "{name}: {down}");
        assert!(down.contains("connection: close\r\n"), "{name}");
        assert_eq!(
            events,
            [
                Event::Response { key: 1, status: 502 },
                Event::Ended { key: 1, up: 0, down: 0, how: Ended::ByUpstream }
            ],
            "{name}"
        );
    }
}

#[test]
fn what_had_begun_is_cut_and_does_not_look_whole() {
    for (service, got) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", 2),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\nx", 2),
    ] {
        let mut http = Http1::new(Limits::default());
        let _ = up(&mut http, GET.as_bytes());
        let _ = down(&mut http, service.as_bytes());
        let _ = http.down_ended();
        assert!(!http.upstream_lost(RefusalReason::BadAnswer), "{service}: cut");
        assert!(down(&mut http, b"").0.is_empty(), "{service}: nothing is put behind it");
        let ended = std::iter::from_fn(|| http.event()).last();
        assert_eq!(ended, Some(Event::Ended { key: 1, up: 0, down: got, how: Ended::ByUpstream }));
    }
}

#[test]
fn an_upstream_that_stops_because_the_client_has_left_is_not_to_blame() {
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, GET.as_bytes());
    let _ = down(&mut http, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    assert_eq!(http.up_ended(), Ok(()), "it may go on reading");
    assert_eq!(http.down_ended().unwrap_err().culprit, Culprit::Client);
    let ended = std::iter::from_fn(|| http.event()).last();
    assert_eq!(ended, Some(Event::Ended { key: 1, up: 0, down: 2, how: Ended::ByClient }));
}

#[test]
fn an_upstream_that_is_gone_without_a_word_is_a_502_and_what_was_behind_is_over() {
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, GET.repeat(2).as_bytes());
    assert!(http.upstream_lost(RefusalReason::UpstreamTimeout));
    let answer = text(&down(&mut http, b"").0);
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    assert!(http.is_over() && http.in_flight() == 0);
    assert_eq!(std::iter::from_fn(|| http.event()).count(), 3);
}

#[test]
fn a_permitted_request_keeps_its_answer_when_bad_bytes_follow_it() {
    let posted = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut http = Http1::new(Limits::default());
    let (sent, end) = up(&mut http, format!("{posted}, world").as_bytes());
    assert_eq!(end, Ok(Up::Done), "it could still become a method");
    assert!(text(&sent).ends_with("\r\n\r\nhello"));
    assert!(up(&mut http, b"\r\n\r\n").1.is_err());
    assert_eq!((http.in_flight(), http.is_over()), (1, false));
    let got = text(&down(&mut http, OK.as_bytes()).0);
    let rest = got.strip_prefix(OK).unwrap();
    assert!(rest.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{rest}");
    assert!(http.is_over());
    assert_eq!(std::iter::from_fn(|| http.event()).last(), Some(whole(1, 5, 2)));
}

#[test]
fn a_chunk_that_breaks_a_rule_is_a_400_while_no_answer_has_begun() {
    for chunk in ["-1\r\n", "+1\r\n", "0x1\r\n", "1\n", "ffffffffffffffffff\r\n", "1\r\nab\r\n", "g\r\n"] {
        let mut http = Http1::new(Limits::default()).of_session(SessionId(1));
        let (sent, end) = up(&mut http, format!("{POST}3\r\nabc\r\n{chunk}").as_bytes());
        assert!(end.is_err() && !text(&sent).ends_with("0\r\n\r\n"), "{chunk:?}");
        let got = text(&down(&mut http, b"").0);
        assert!(got.starts_with("HTTP/1.1 400 ") && got.contains(&id(1).to_string()), "{chunk:?}: {got}");
        let ended = std::iter::from_fn(|| http.event()).last();
        assert!(matches!(ended, Some(Event::Ended { key: 1, how: Ended::ByClient, .. })), "{ended:?}");
        assert!(http.is_over());
    }
    // Behind another request it waits for that one's answer.
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, format!("{GET}{POST}-1\r\n").as_bytes());
    assert_eq!((http.in_flight(), http.is_over()), (1, false));
    let got = text(&down(&mut http, OK.as_bytes()).0);
    assert!(got.strip_prefix(OK).is_some_and(|rest| rest.starts_with("HTTP/1.1 400 ")), "{got}");
    // Once its answer has begun, it is cut.
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, POST.as_bytes());
    let _ = down(&mut http, &OK.as_bytes()[..OK.len() - 1]);
    assert!(up(&mut http, b"-1\r\n").1.is_err());
    assert!(down(&mut http, b"").0.is_empty() && http.is_over());
}

#[test]
fn answers_of_http_1_0_go_down_as_1_1() {
    for (service, expected) in [
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nhi", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi"),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        ),
        ("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi", OK),
    ] {
        let (down, _) = answers(GET, service, true);
        assert_eq!(down, expected);
    }
    assert_eq!(
        seen("GET / HTTP/1.2\r\nHost: a\r\n\r\n", OK).up,
        "GET / HTTP/1.1\r\nHost: a\r\nx-user: ada\r\n\r\n"
    );
}

#[test]
fn an_upgrade_may_have_a_body_and_opens_when_all_of_it_was_sent() {
    let ask =
        "POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n";
    let switched = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let mut http = Http1::new(Limits::default());
    assert_eq!(up(&mut http, format!("{ask}{{}}EARLY").as_bytes()).1, Ok(Up::Wait));
    assert_eq!(down(&mut http, switched).1, Ok(()));
    assert!(http.is_tunnel());
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, format!("{ask}{{").as_bytes());
    assert!(down(&mut http, switched).1.is_err() && !http.is_tunnel(), "CVE-2026-2833");
}

#[test]
fn interim_answers_are_bounded_by_bytes_and_time() {
    let progress = "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: 100000\r\n\r\n";
    let (down_all, _) = answers(GET, &format!("{}{OK}", progress.repeat(104)), false);
    assert!(down_all.ends_with(OK), "a hundred at once are fine");
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, GET.as_bytes());
    for _ in 0..10_000 {
        http.tick(1_000);
        assert_eq!(down(&mut http, progress.as_bytes()).1, Ok(()), "one a second may come for ever");
    }
    let flood = (0..10_000).find(|_| down(&mut http, progress.as_bytes()).1.is_err());
    assert!(flood.is_some_and(|n| n > 500), "{flood:?}");
}

#[test]
fn a_line_that_no_head_can_hold_is_answered_before_the_head_is_whole() {
    for (head, is_refused) in [
        ("GET /\r\n", true),
        ("GET / HTTP/0.9\r\n", true),
        ("GET / HTTP/2.0\r\n", true),
        ("HELO there\r\n", true),
        ("\r\nGET /\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n", true),
        ("GET / HTTP/1.1\r\nHost : a\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n", true),
        ("GET /", false),
        ("GET / HTTP/1.1\r\n", false),
        ("GET / HTTP/1.1\r", false),
        ("\r\nGET / HTTP/1.0\r\nHost: a\r\nempty:\r\nb", false),
    ] {
        for step in [1, 3, 100] {
            let mut http = Http1::new(Limits::default());
            let fault = head.as_bytes().chunks(step).find_map(|piece| up(&mut http, piece).1.err());
            assert_eq!(fault.is_some(), is_refused, "{head:?} in pieces of {step}");
            let answer = text(&down(&mut http, b"").0);
            assert_eq!(answer.starts_with("HTTP/1.1 400 "), is_refused, "{head:?}: {answer:?}");
        }
        // A second request's head is held to the same.
        let mut http = Http1::new(Limits::default());
        let first = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = [first, head].concat();
        let fault = both.as_bytes().chunks(5).find_map(|piece| up(&mut http, piece).1.err());
        assert_eq!(fault.is_some(), is_refused, "{head:?} behind another request");
    }
}

#[test]
fn a_line_that_no_head_can_hold_counts_before_what_is_too_large_however_it_is_cut() {
    let limits = Limits { head_bytes: 60, fields: 2, ..Limits::default() };
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    let (much, many) = ("b".repeat(100), "a: b\r\n".repeat(3));
    for (head, status) in [
        (format!("{start}no colon\r\na: {much}\r\n\r\n"), "400"),
        (format!("{start}{many}no colon\r\n\r\n"), "400"),
        (format!("{start}a: {much}\r\nno colon\r\n\r\n"), "431"),
        (format!("{start}{many}\r\n"), "431"),
    ] {
        for step in 1..=head.len() {
            let mut http = Http1::new(limits.clone());
            let fault = head.as_bytes().chunks(step).find_map(|piece| up(&mut http, piece).1.err());
            let answer = text(&down(&mut http, b"").0);
            assert!(
                fault.is_some() && answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{step}: {head}: {answer}"
            );
        }
    }
}

/// Work for a head that comes in single bytes is linear: each line is looked at once.
#[test]
fn a_head_in_single_bytes_is_checked_line_by_line() {
    let mut lines = CheckedLines::default();
    let head = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(50));
    for n in 1..=head.len() {
        let before = lines.start;
        assert!(lines.check(&head.as_bytes()[..n]).is_ok());
        assert!(lines.start == before || lines.start == n);
        assert_eq!(lines.seen, n, "no byte is looked for twice");
    }
    assert_eq!(lines.start, head.len());
}
