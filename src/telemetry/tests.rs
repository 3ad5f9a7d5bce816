//! Spans as collectors get them, and where they stand.

use super::*;
use crate::net::https::HttpsClient;
use serde_json::Value;
use std::time::SystemTime;

pub(super) fn span(line: &str) -> Span {
    let context = SpanContext { trace: 0xabc, span: 0xdef, parent: Some(0x12), is_sampled: true };
    let ended = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
    let took = Duration::from_millis(500);
    Span { kind: SpanKind::Request, context, session: None, line: line.into(), ended, took }
}

fn tracer(share: f64) -> Tracer {
    let client = HttpsClient::with_system_authorities(super::export::LIMITS);
    Tracer::new(
        Destination { url: "https://collector.test/v1/traces".parse().unwrap(), client, key: None },
        share,
    )
}

fn exported(span: Span) -> Value {
    super::otlp::request(&[span])["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone()
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"])
}

#[test]
fn a_line_becomes_a_span_with_the_conventions_names() {
    let line = r#"{"time":"t","level":"INFO","event":"request","session":"00ff","request":"00ff-1","route":"app","http":"2",
        "method":"GET","path":"/look","authority":"a.test","status":200,"up_bytes":0,"down_bytes":12,"duration_us":5,
        "verdict":"permitted","rule":0,"ended":"whole","subject":"ann","groups":["a","b"]}"#;
    let span = exported(span(line));
    assert_eq!(span["traceId"], "00000000000000000000000000000abc");
    assert_eq!(
        (&span["spanId"], &span["parentSpanId"]),
        (&"0000000000000def".into(), &"0000000000000012".into())
    );
    assert_eq!(
        (&span["startTimeUnixNano"], &span["endTimeUnixNano"]),
        (&"1500000000".into(), &"2000000000".into())
    );
    assert_eq!((&span["name"], &span["kind"]), (&"GET app".into(), &2.into()));
    for (key, value) in [
        ("http.request.method", r#"{"stringValue":"GET"}"#),
        ("http.response.status_code", r#"{"intValue":"200"}"#),
        ("http.response.body.size", r#"{"intValue":"12"}"#),
        ("url.path", r#"{"stringValue":"/look"}"#),
        ("network.protocol.version", r#"{"stringValue":"2"}"#),
        ("enduser.id", r#"{"stringValue":"ann"}"#),
        ("staunch.session", r#"{"stringValue":"00ff"}"#),
        ("staunch.groups", r#"{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}}"#),
    ] {
        assert_eq!(attribute(&span, key).to_string(), value, "{key}");
    }
    for left_out in ["staunch.time", "staunch.duration_us", "staunch.event", "staunch.level"] {
        assert!(attribute(&span, left_out).is_null(), "{left_out}");
    }
    assert!(span.get("status").is_none() && span.get("links").is_none());
}

#[test]
fn faults_of_the_gateway_and_behind_it_are_errors_and_those_of_clients_are_not() {
    for (kind, line, is_error) in [
        (SpanKind::Request, r#"{"status":502,"verdict":"refused","ended":"by_gateway"}"#, true),
        (SpanKind::Request, r#"{"status":200,"verdict":"permitted","ended":"by_upstream"}"#, true),
        (SpanKind::Request, r#"{"status":401,"verdict":"refused","ended":"by_gateway"}"#, false),
        (SpanKind::Request, r#"{"status":200,"verdict":"permitted","ended":"by_client"}"#, false),
        (SpanKind::Statement, r#"{"result":"error","sqlstate":"42601"}"#, true),
        (SpanKind::Statement, r#"{"result":"complete"}"#, false),
        (SpanKind::Session, r#"{"culprit":"upstream","reason":"dial"}"#, true),
        (SpanKind::Session, r#"{"culprit":"client","reason":"done"}"#, false),
        (SpanKind::Session, "not a line", false),
    ] {
        let span = exported(Span { kind, ..span(line) });
        assert_eq!(span.get("status").is_some(), is_error, "{kind:?} {line}");
    }
}

#[test]
fn a_clients_method_is_no_name() {
    assert_eq!(exported(span(r#"{"method":"BREW","route":"app"}"#))["name"], "HTTP app");
}

#[test]
fn a_clients_trace_goes_on_and_others_begin() {
    let tracer = tracer(1.0);
    let theirs: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let (one, goes_on) = tracer.request([theirs].into_iter());
    assert!(goes_on && !one.is_sampled);
    assert_eq!((one.trace, one.parent), (0x4bf92f3577b34da6a3ce929d0e0e4736, Some(0x00f067aa0ba902b7)));
    // Two say nothing, nor does nonsense.
    for parents in [vec![theirs, theirs], vec![&b"nonsense"[..]], vec![]] {
        let (one, goes_on) = tracer.request(parents.into_iter());
        assert!(!goes_on && one.is_sampled && one.parent.is_none());
    }
    let session = tracer.session();
    let statement = tracer.statement(&session);
    assert_eq!((statement.trace, statement.parent), (session.trace, Some(session.span)));
    assert_ne!(statement.span, session.span);
}

#[test]
fn a_share_of_traces_is_kept() {
    let kept = |share: f64| {
        let tracer = tracer(share);
        (0..2_000).filter(|_| tracer.session().is_sampled).count()
    };
    assert_eq!((kept(0.0), kept(1.0)), (0, 2_000));
    assert!((300..700).contains(&kept(0.25)), "{}", kept(0.25));
}

#[test]
fn a_queue_that_is_full_holds_nobody_up() {
    let tracer = tracer(1.0);
    let began = std::time::Instant::now();
    let context = tracer.session();
    (0..QUEUE + 10).for_each(|_| tracer.finish(&context, || span("{}")));
    assert_eq!(tracer.sender.capacity(), 0);
    tracer.flush(Duration::from_secs(60));
    assert!(began.elapsed() < Duration::from_secs(20));
    let silent = SpanContext { is_sampled: false, ..context };
    tracer.finish(&silent, || unreachable!("nobody wants this trace"));
}
