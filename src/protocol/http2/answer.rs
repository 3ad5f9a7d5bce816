//! Refusals as HTTP/2 and gRPC responses.

use super::frame::{self, DATA, END_STREAM, NO_ERROR};
use crate::protocol::{HttpDate, Kind, Refusal, hpack};

/// Appends the answer to a refused request. A body of at most `room` bytes goes with it; returns how many did. `table` is
/// the size of the dynamic table, where the client waits to be told.
#[expect(clippy::too_many_arguments, reason = "one call, and each is of another kind")]
pub(super) fn write(
    out: &mut Vec<u8>,
    stream: u32,
    refusal: &Refusal,
    kind: Kind,
    to_head: bool,
    request_ended: bool,
    room: usize,
    table: Option<u32>,
    now: HttpDate,
) -> usize {
    let mut block = Vec::with_capacity(256);
    if let Some(bytes) = table {
        hpack::encode_table_size(bytes, &mut block);
    }
    let mut field =
        |name: &str, value: &str| hpack::encode(name.as_bytes(), value.as_bytes(), false, &mut block);
    let id = refusal.id.to_string();
    let body = refusal.body();
    let mut sent = 0;
    if kind == Kind::Grpc {
        // Trailers-only (gRPC over HTTP/2, "Responses").
        field(":status", "200");
        field("content-type", "application/grpc");
        field("grpc-status", &refusal.why.grpc_status().to_string());
        field("grpc-message", &percent_encode(refusal.why.message()));
    } else {
        field(":status", &refusal.why.status().to_string());
        field("content-type", "application/json");
        field("cache-control", "no-store");
        if to_head || body.len() <= room {
            field("content-length", &body.len().to_string());
        }
        if let Some(challenge) = refusal.why.challenge() {
            field("www-authenticate", challenge);
        }
        match refusal.why.status() {
            503 => field("retry-after", "1"),
            405 => field("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            _ => {}
        }
        if !to_head && body.len() <= room {
            sent = body.len();
        }
    }
    field("date", &now.to_string());
    field("x-request-id", &id);
    frame::write_block(out, stream, sent == 0, &block);
    if sent > 0 {
        frame::write(out, DATA, END_STREAM, stream, body.as_bytes());
    }
    if !request_ended {
        // The answer is complete and the rest of the request is not wanted (RFC 9113 section 8.1).
        frame::write_reset(out, stream, NO_ERROR);
    }
    sent
}

/// Percent-encoding of `grpc-message`: printable ASCII without `%` stays.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
