//! Spans as OTLP has them in JSON (opentelemetry-proto, `ExportTraceServiceRequest`), with the names of OpenTelemetry's semantic
//! conventions where these have one.

use super::context::SpanContext;
use super::span::{Span, SpanKind};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// `SPAN_KIND_SERVER`: the work of somebody who was asked.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// Fields of a line that a span has elsewhere, or that say nothing in one.
const LEFT_OUT: [&str; 4] = ["time", "level", "event", "duration_us"];

/// Methods that are a span's name; others could be anything (semantic conventions: `_OTHER`).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A field's name among the attributes of a span; `None`: `staunch.` and its name in the log.
fn attribute_name(kind: SpanKind, field: &str) -> Option<&'static str> {
    Some(match (kind, field) {
        (_, "subject") => "enduser.id",
        (SpanKind::Request, "http") => "network.protocol.version",
        (SpanKind::Request, "method") => "http.request.method",
        (SpanKind::Request, "path") => "url.path",
        (SpanKind::Request, "authority") => "server.address",
        (SpanKind::Request, "status") => "http.response.status_code",
        (SpanKind::Request, "up_bytes") => "http.request.body.size",
        (SpanKind::Request, "down_bytes") => "http.response.body.size",
        (SpanKind::Session, "remote") => "network.peer.address",
        (SpanKind::Statement, "text") => "db.query.text",
        (SpanKind::Statement, "kind") => "db.operation.name",
        (SpanKind::Statement, "sqlstate") => "db.response.status_code",
        _ => return None,
    })
}

/// The body of a request to a collector.
pub(super) fn request(spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().map(one).collect();
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "staunch" } },
                { "key": "service.version", "value": { "stringValue": env!("CARGO_PKG_VERSION") } },
            ] },
            "scopeSpans": [{ "scope": { "name": "staunch", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
        }],
    })
}

fn one(span: &Span) -> Value {
    let line: Map<String, Value> = serde_json::from_str(&span.line).unwrap_or_default();
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let attributes: Vec<Value> = line
        .iter()
        .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
        .map(|(name, value)| {
            let key =
                attribute_name(span.kind, name).map_or_else(|| format!("staunch.{name}"), str::to_owned);
            json!({ "key": key, "value": any_value(value) })
        })
        .collect();
    let began = span.ended.checked_sub(span.took).unwrap_or(UNIX_EPOCH);
    let mut out = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": name(span.kind, text("route"), text("method"), text("kind")),
        "kind": SERVER,
        "startTimeUnixNano": nanos(began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes,
        "flags": u8::from(span.context.is_sampled),
    });
    if let Some(parent) = span.context.parent {
        out["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(SpanContext { trace, span, .. }) = span.session {
        out["links"] = json!([{ "traceId": format!("{trace:032x}"), "spanId": format!("{span:016x}") }]);
    }
    if let Some(fault) = fault(span.kind, &line) {
        out["status"] = json!({ "code": ERROR, "message": fault });
    }
    out
}

/// A name of which there are few: what is asked of which route.
fn name(kind: SpanKind, route: Option<&str>, method: Option<&str>, statement: Option<&str>) -> String {
    let what = match kind {
        SpanKind::Session => "session",
        SpanKind::Request => method.filter(|method| METHODS.contains(method)).unwrap_or("HTTP"),
        SpanKind::Statement => statement.unwrap_or("statement"),
    };
    match route {
        Some(route) => format!("{what} {route}"),
        None => what.to_owned(),
    }
}

/// Why a span is an error: what went wrong at the gateway or behind it. What a client does wrong is none, as the conventions
/// have it of servers.
fn fault(kind: SpanKind, line: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    match kind {
        SpanKind::Request => {
            let status = line.get("status").and_then(Value::as_u64).unwrap_or(0);
            let is_cut =
                matches!(text("ended"), "by_upstream" | "by_gateway") && text("verdict") == "permitted";
            match (status >= 500, is_cut) {
                (true, _) => Some(format!("status {status}")),
                (false, true) => Some(format!("ended {}", text("ended"))),
                (false, false) => None,
            }
        }
        SpanKind::Statement => (text("result") == "error").then(|| text("sqlstate").to_owned()),
        SpanKind::Session => {
            matches!(text("culprit"), "upstream" | "gateway").then(|| text("reason").to_owned())
        }
    }
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        // 64-bit integers are strings in protobuf's JSON.
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(all) => {
            json!({ "arrayValue": { "values": all.iter().map(any_value).collect::<Vec<_>>() } })
        }
        other => json!({ "stringValue": other.to_string() }),
    }
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}
