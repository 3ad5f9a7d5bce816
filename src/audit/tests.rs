use super::*;
use crate::close::Close;
use crate::names::{IssuerName, Reached, Remote, RequestId, RouteName, SessionId, Side};
use crate::policy::{Identity, Proof};
use crate::protocol::statement::{self, Copying, Outcome, Shown, Statement, Text};
use crate::protocol::{Ended, Kind, RefusalReason};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `say` leaves in the log.
fn log(format: Format, filter: &str, say: impl FnOnce()) -> Vec<String> {
    let memory = Memory::default();
    let (sink, guard) = Sink::start(memory.clone()).unwrap();
    let subscriber = Pipeline::new(format, sink).subscriber(filter).unwrap();
    tracing::subscriber::with_default(subscriber, say);
    drop(guard);
    let text = String::from_utf8(memory.0.lock().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn json_lines(say: impl FnOnce()) -> Vec<Value> {
    log(Format::Json, "info", say).iter().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn ann() -> Identity {
    Identity {
        issuer: IssuerName("corp".into()),
        subject: "ann".into(),
        groups: vec!["ml".into(), "ops, \"x\"".into()],
        claims: Default::default(),
        proof: Proof::Token,
        expires: SystemTime::UNIX_EPOCH,
    }
}

fn a_request<'a>(route: &'a RouteName, path: &'a [u8]) -> RequestLine<'a> {
    RequestLine {
        id: RequestId { session: SessionId(0xab), number: 3 },
        remote: Remote("192.0.2.7:40000".parse().unwrap()),
        route,
        http: "2",
        method: b"POST",
        path,
        authority: b"api.example.com",
        kind: Kind::Grpc,
        status: Some(200),
        up: 10,
        down: 20,
        first_byte: Some(Duration::from_micros(1_500)),
        duration: Duration::from_millis(2_500),
        identity: None,
        verdict: Verdict::Permitted { rule: 1 },
        ended: Ended::Whole,
        masked: None,
    }
}

fn a_leg<'a>() -> LegFacts<'a> {
    LegFacts {
        peer: Reached::Tcp("192.0.2.7:40000".parse().unwrap()),
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        group: Some("X25519MLKEM768"),
        resumed: true,
        alpn: Some(b"h2"),
        certificate_sha256: None,
        verified: Verified::NotAsked,
    }
}

#[test]
fn a_database_session_tells_who_connects_to_what() {
    let facts = DatabaseFacts {
        user: Some("svc_ro"),
        database: b"sa\"les\xff",
        client_user: b"ann",
        application: b"psql",
        statements: None,
    };
    let lines = json_lines(|| {
        for database in [facts, DatabaseFacts { user: None, client_user: b"", application: b"", ..facts }] {
            opened(&Opened {
                session: SessionId(1),
                remote: Remote("192.0.2.7:40000".parse().unwrap()),
                listener: "[::1]:443".parse().unwrap(),
                sni: None,
                route: None,
                worker: 0,
                plaintext_upstream: false,
                tunnel: false,
                database: Some(database),
            });
        }
    });
    assert_eq!(lines[0]["database_user"], "svc_ro");
    assert_eq!(lines[0]["database"], "sa\"les\\xff");
    assert_eq!((&lines[0]["client_user"], &lines[0]["application"]), (&json!("ann"), &json!("psql")));
    assert_eq!((&lines[1]["database_user"], &lines[1]["application"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_plaintext_upstream_is_told_of_when_the_session_opens_and_when_it_closes() {
    let remote = Remote("192.0.2.7:40000".parse().unwrap());
    let lines = json_lines(|| {
        opened(&Opened {
            session: SessionId(1),
            remote,
            listener: "[::1]:443".parse().unwrap(),
            sni: None,
            route: None,
            worker: 0,
            plaintext_upstream: true,
            tunnel: false,
            database: None,
        });
        closed(&Closed {
            session: SessionId(1),
            remote,
            reason: Close::Done,
            detail: None,
            identity: None,
            identities: 0,
            route: None,
            tunnel: false,
            client: Some(a_leg()),
            upstream: Some(LegFacts {
                peer: Reached::Unix(std::path::Path::new("/run/a \"b\".sock").into()),
                version: NO_TLS,
                cipher: "none",
                group: None,
                resumed: false,
                alpn: None,
                certificate_sha256: None,
                verified: Verified::NotAtAll,
            }),
            up: 1,
            down: 2,
            requests: 0,
            masked: 0,
            dialled_ahead: false,
            database: None,
            spent: StageTimes::default(),
        });
    });
    for line in &lines {
        assert_eq!(line["upstream_version"], "none (unsafe_plaintext_upstream)");
    }
    assert_eq!(lines[1]["upstream_peer"], "unix:/run/a \"b\".sock");
    assert_eq!(
        (&lines[1]["upstream_cipher"], &lines[1]["upstream_verified"]),
        (&"none".into(), &"not_at_all".into())
    );
    assert_eq!(lines[1]["client_version"], "TLSv1.3");
}

#[test]
fn a_session_in_json_has_exactly_the_fields_of_the_table() {
    let (route, ann) = (RouteName("openai".into()), ann());
    let remote = Remote("192.0.2.7:40000".parse().unwrap());
    let mut lines = json_lines(|| {
        opened(&Opened {
            session: SessionId(0xab),
            remote,
            listener: "[::1]:443".parse().unwrap(),
            sni: Some("a.example"),
            route: Some(&route),
            worker: 2,
            plaintext_upstream: false,
            tunnel: true,
            database: None,
        });
        request(&RequestLine { identity: Some(&ann), ..a_request(&route, b"/v1/chat") });
        closed(&Closed {
            session: SessionId(0xab),
            remote,
            reason: Close::Truncated(Side::Upstream),
            detail: Some("no close_notify"),
            identity: Some(&ann),
            identities: 1,
            route: Some(&route),
            tunnel: true,
            client: Some(a_leg()),
            upstream: Some(LegFacts {
                peer: Reached::Tcp("[2001:db8::1]:443".parse().unwrap()),
                version: "TLSv1.2",
                group: None,
                resumed: false,
                alpn: None,
                certificate_sha256: Some([0xa5; 32]),
                verified: Verified::ChainAndPin,
                ..a_leg()
            }),
            up: 1,
            down: 2,
            requests: 1,
            masked: 0,
            database: None,
            dialled_ahead: true,
            spent: StageTimes {
                handshake: Some(Duration::from_millis(1)),
                identify: None,
                dial: Some(Duration::from_millis(3)),
                total: Duration::from_secs(1),
            },
        });
    });
    for line in &mut lines {
        let time = line.as_object_mut().unwrap().remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
    let expected = [
        json!({"level": "INFO", "event": "session opened", "session": "00000000000000ab",
            "remote": "192.0.2.7:40000", "listener": "[::1]:443", "sni": "a.example", "route": "openai", "worker": 2,
            "tunnel": true}),
        json!({"level": "INFO", "event": "request", "session": "00000000000000ab",
            "request": "00000000000000ab-3", "route": "openai", "http": "2", "method": "POST", "path": "/v1/chat",
            "authority": "api.example.com", "kind": "grpc", "status": 200, "up_bytes": 10, "down_bytes": 20,
            "first_byte_us": 1500, "duration_us": 2_500_000, "verdict": "permitted", "rule": 1, "ended": "whole",
            "issuer": "corp", "subject": "ann", "proof": "token"}),
        json!({"level": "INFO", "event": "session closed", "session": "00000000000000ab",
            "remote": "192.0.2.7:40000", "route": "openai", "tunnel": true, "reason": "truncated", "culprit": "upstream",
            "detail": "no close_notify", "requests": 1, "up_bytes": 1, "down_bytes": 2, "duration_us": 1_000_000,
            "handshake_us": 1000, "dial_us": 3000, "dialled_ahead": true, "issuer": "corp", "subject": "ann", "proof": "token",
            "groups": ["ml", "ops, \"x\""], "identities": 1,
            "client_peer": "192.0.2.7:40000", "client_version": "TLSv1.3",
            "client_cipher": "TLS13_AES_128_GCM_SHA256", "client_group": "X25519MLKEM768", "client_resumed": true,
            "client_alpn": "h2", "client_verified": "not_asked",
            "upstream_peer": "[2001:db8::1]:443", "upstream_version": "TLSv1.2",
            "upstream_cipher": "TLS13_AES_128_GCM_SHA256", "upstream_resumed": false,
            "upstream_certificate": "a5".repeat(32), "upstream_verified": "chain_and_pin"}),
    ];
    assert_eq!(lines, expected);
}

fn a_text(sent: &str, limit: usize) -> Text {
    let mut text = Text::new(limit);
    text.push(sent.as_bytes());
    text.end();
    text.mask_passwords();
    text
}

#[test]
fn a_statement_in_json_has_exactly_the_fields_of_the_table() {
    let (route, ann) = (RouteName("warehouse".into()), ann());
    let long = a_text(&"x".repeat(5000), 4096);
    let masked = a_text("alter role a password 'canary'", 4096);
    let nothing = Statement::new(statement::Kind::Query, Outcome::Done);
    let statements = [
        Statement {
            name: b"s1",
            portal: b"c",
            text: Shown::Text(&masked),
            tag: b"COPY 3",
            results: Some(2),
            rows: Some(3),
            copy: Some(Copying::In),
            took: Some(Duration::from_micros(1_500)),
            ..Statement::new(statement::Kind::Execute, Outcome::Done)
        },
        Statement { text: Shown::Text(&long), sqlstate: b"42601", outcome: Outcome::Error, ..nothing },
        Statement { text: Shown::NotHeld, ..nothing },
        Statement { function: Some(1598), kind: statement::Kind::FunctionCall, ..nothing },
    ];
    let mut lines = json_lines(|| {
        for (n, one) in statements.iter().enumerate() {
            super::statement(&StatementLine {
                session: SessionId(0xab),
                number: n as u64 + 1,
                route: &route,
                identity: &ann,
                statement: one,
            });
        }
    });
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("time")));
    let common = json!({"level": "INFO", "event": "statement", "session": "00000000000000ab", "route": "warehouse",
        "issuer": "corp", "subject": "ann", "proof": "token"});
    let expected = [
        json!({"statement": 1, "kind": "execute", "name": "s1", "portal": "c", "text": "alter role a password ***",
            "copy": "in", "result": "done", "tag": "COPY 3", "results": 2, "rows": 3, "duration_us": 1500}),
        json!({"statement": 2, "kind": "query", "text": "x".repeat(4096), "cut": true, "text_bytes": 5000,
            "result": "error", "sqlstate": "42601"}),
        json!({"statement": 3, "kind": "query", "text_held": false, "result": "done"}),
        json!({"statement": 4, "kind": "function_call", "function": 1598, "result": "done"}),
    ];
    for (line, mut own) in lines.into_iter().zip(expected) {
        own.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        assert_eq!(line, own);
    }
}

#[test]
fn a_statement_cannot_forge_a_line_and_a_token_in_it_is_cut() {
    let (route, ann) = (RouteName("r".into()), ann());
    let evil = a_text(
        "select 1 -- \n{\"event\":\"session closed\"}\r\x1b[1A\u{202e} eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.Q0FOQVJZ",
        4096,
    );
    for format in [Format::Json, Format::Human] {
        let lines = log(format, "off", || {
            let one = Statement {
                name: b"a\nb",
                text: Shown::Text(&evil),
                ..Statement::new(statement::Kind::Parse, Outcome::Done)
            };
            super::statement(&StatementLine {
                session: SessionId(1),
                number: 1,
                route: &route,
                identity: &ann,
                statement: &one,
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let odd = |c: char| {
            c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') && c != '…'
        };
        assert!(!lines[0].contains(odd) && !lines[0].contains("Q0FOQVJZ"), "{}", lines[0]);
    }
}

#[test]
fn a_refused_request_names_the_code_and_the_offence() {
    let route = RouteName("r".into());
    let verdict =
        Verdict::Refused { why: RefusalReason::InvalidToken, detail: Some("audience is \"other\"") };
    let lines = json_lines(|| request(&RequestLine { verdict, status: None, ..a_request(&route, b"/") }));
    assert_eq!(lines[0]["verdict"], "refused");
    assert_eq!(lines[0]["refusal"], "invalid_token");
    assert_eq!(lines[0]["detail"], "audience is \"other\"");
    assert_eq!(lines[0].get("status"), None);
    assert_eq!(lines[0].get("rule"), None);
}

#[test]
fn a_path_cannot_forge_a_line_or_a_field_in_either_format() {
    let route = RouteName("r".into());
    let evil =
        "/a\n{\"event\":\"session closed\"}\r\x1b[1A\u{202e}\u{2066}\u{200f}\u{85}\" status=200 ".as_bytes();
    let evil = [evil, b"\xff"].concat();
    for format in [Format::Json, Format::Human] {
        let lines = log(format, "info", || {
            request(&a_request(&route, &evil));
            tracing::warn!(peer = %String::from_utf8_lossy(&evil), "offence: {}", String::from_utf8_lossy(&evil));
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            assert!(
                !line.contains(|c: char| c.is_control() || matches!(c, '\u{200e}'..='\u{2069}')),
                "{line}"
            );
        }
    }
    let lines = json_lines(|| request(&a_request(&route, &evil)));
    assert_eq!(lines[0]["event"], "request");
    assert!(lines[0]["path"].as_str().unwrap().ends_with("\" status=200 \\xff"));
}

#[test]
fn the_filter_holds_for_diagnostics_and_never_for_the_evidence() {
    let route = RouteName("r".into());
    for filter in
        ["off", "error", "staunch::evidence=off", "warn,staunch::evidence=error", "warn,staunch=off"]
    {
        let lines = log(Format::Json, filter, || {
            request(&a_request(&route, b"/"));
            tracing::info!("chatter");
        });
        assert_eq!(lines.len(), 1, "{filter}: {lines:?}");
        assert!(lines[0].contains("\"event\":\"request\""));
    }
    let lines = log(Format::Json, "warn,here=debug", || {
        tracing::debug!(target: "here", n = 7, yes = true, "said");
        tracing::info!(target: "there", "unsaid");
    });
    assert_eq!(lines.len(), 1);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["target"], &line["message"]), (&json!("here"), &json!("said")));
    assert_eq!((&line["n"], &line["yes"], &line["event"]), (&json!(7), &json!(true), &json!("log")));
    assert!(matches!(
        init(Format::Json, "x=y=z", Room::default(), io::sink()),
        Err(SetupError::Filter { .. })
    ));
}

#[test]
fn a_token_neither_in_a_path_nor_in_an_error_text_reaches_the_log() {
    let route = RouteName("r".into());
    let canary = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.Q0FOQVJZ";
    let path = format!("/callback/{canary}");
    for format in [Format::Json, Format::Human] {
        let text = log(format, "info", || {
            request(&a_request(&route, path.as_bytes()));
            tracing::warn!(error = %format!("cannot read '{canary}'"), "token {canary}");
        })
        .concat();
        assert!(!text.contains("CANARY") && !text.contains("Q0FOQVJZ") && !text.contains("eyJh"), "{text}");
    }
}

#[test]
fn what_is_logged_of_the_unpermitted_is_short_whatever_they_send() {
    let route = RouteName("r".into());
    let verdict = Verdict::Refused { why: RefusalReason::NoToken, detail: Some("no token in any slot") };
    // The worst that a byte can become, in each field that a client fills.
    for evil in ["\u{1}", "\u{e0001}", "\"", "x"].map(|piece| piece.repeat(5_000)) {
        let evil = evil.as_bytes();
        let line = RequestLine { verdict, method: evil, authority: evil, ..a_request(&route, evil) };
        let lines = log(Format::Json, "info", || request(&line));
        assert!(lines[0].len() < 3 * (128 + 3) + 600, "{}", lines[0].len());
        serde_json::from_str::<Value>(&lines[0]).unwrap();
    }
}

#[test]
fn refusals_beyond_a_burst_are_left_out_and_permitted_requests_never() {
    let route = RouteName("r".into());
    let remote = Remote("198.51.100.77:1".parse().unwrap());
    let verdict = Verdict::Refused { why: RefusalReason::NoToken, detail: None };
    let lines = json_lines(|| {
        for _ in 0..1_000 {
            request(&RequestLine { verdict, remote, ..a_request(&route, b"/refused") });
            request(&RequestLine { remote, ..a_request(&route, b"/permitted") });
        }
    });
    let count = |path: &str| lines.iter().filter(|line| line["path"] == path).count();
    assert_eq!((count("/refused"), count("/permitted")), (100, 1_000));
    let of_it = |left: &OmittedLines| left.remote == Some(remote.0.ip());
    let left_out = Unpermitted::of_process().report(std::time::Instant::now() + Duration::from_secs(60));
    assert_eq!(left_out.iter().find(|left| of_it(left)).unwrap().lines, 900);
}

#[test]
fn what_is_too_long_is_cut_between_characters() {
    let route = RouteName("r".into());
    let path = format!("/{}", "ü".repeat(4_000));
    let lines = json_lines(|| request(&a_request(&route, path.as_bytes())));
    let cut = lines[0]["path"].as_str().unwrap();
    assert!(cut.len() < 2_060 && cut.ends_with("ü…"), "{cut}");
}

#[test]
fn a_person_reads_one_line_per_event() {
    let route = RouteName("openai".into());
    let lines = log(Format::Human, "info", || request(&a_request(&route, b"/v1/a b")));
    let (time, rest) = lines[0].split_at("13:00:07.042".len());
    assert!(time.chars().all(|c| c.is_ascii_digit() || ":.".contains(c)), "{time}");
    assert_eq!(
        rest,
        " INFO  request        request=00000000000000ab-3 route=openai http=2 method=POST path=\"/v1/a b\" \
         authority=api.example.com kind=grpc status=200 up_bytes=10 down_bytes=20 first_byte=1.5ms duration=2.50s \
         verdict=permitted rule=1 ended=whole"
    );
}

#[test]
fn a_thread_that_is_ending_still_leaves_its_lines() {
    struct Last(std::cell::Cell<Option<std::sync::mpsc::Sender<String>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(told) = self.0.take() {
                told.send(a_request(&RouteName("chat".into()), b"/last").to_string()).unwrap();
            }
        }
    }
    thread_local! {
        static BEFORE: Last = const { Last(std::cell::Cell::new(None)) };
        static AFTER: Last = const { Last(std::cell::Cell::new(None)) };
    }
    let (told, lines) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // Whichever goes first, one of them is dropped after what lines are kept in.
        BEFORE.with(|last| last.0.set(Some(told.clone())));
        a_request(&RouteName("chat".into()), b"/").to_string();
        AFTER.with(|last| last.0.set(Some(told)));
    });
    thread.join().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("/last")).count(), 2);
}
