//! Refusals as HTTP/1.1 responses.

use std::io::Write;

use crate::names::RequestId;
use crate::protocol::{Refusal, Why};

/// Appends the whole response. A head that broke a rule never became a request and has no `id`.
pub(super) fn write(out: &mut Vec<u8>, why: Why, id: Option<RequestId>, close: bool, to_head: bool) {
    let body = match id {
        Some(id) => Refusal { id, why }.body(),
        None => format!(r#"{{"error":{{"code":"{}","message":"{}"}}}}"#, why.code(), why.message()),
    };
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a `Vec` cannot fail.
        let _ = out.write_fmt(text);
    };
    line(format_args!("HTTP/1.1 {} {}\r\n", why.status(), reason(why.status())));
    line(format_args!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    line(format_args!("cache-control: no-store\r\n"));
    if let Some(challenge) = why.challenge() {
        line(format_args!("www-authenticate: {challenge}\r\n"));
    }
    if let Some(id) = id {
        line(format_args!("x-request-id: {id}\r\n"));
    }
    match why.status() {
        503 => line(format_args!("retry-after: 1\r\n")),
        405 => line(format_args!("allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n")),
        _ => {}
    }
    if close {
        line(format_args!("connection: close\r\n"));
    }
    line(format_args!("\r\n"));
    if !to_head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    }
}
