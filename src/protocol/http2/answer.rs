//! Refusals as HTTP/2 and gRPC responses.

use super::frame;
use crate::protocol::{HttpDate, Kind, Refusal, hpack};

/// Appends the head of the answer to a refused request. Returns the body that is to follow, of at most `room` bytes; with none, the
/// head ends the stream. `table` is the size of the dynamic table, where the client waits to be told.
#[expect(clippy::too_many_arguments, reason = "one call, and each is of another kind")]
pub(super) fn write_head(
    out: &mut Vec<u8>,
    stream: u32,
    refusal: &Refusal,
    kind: Kind,
    to_head: bool,
    room: usize,
    table: Option<u32>,
    now: HttpDate,
) -> Option<String> {
    let mut block = Vec::with_capacity(256);
    if let Some(bytes) = table {
        hpack::encode_table_size(bytes, &mut block);
    }
    let mut field =
        |name: &str, value: &str| hpack::encode(name.as_bytes(), value.as_bytes(), false, &mut block);
    let id = refusal.id.to_string();
    let mut body = None;
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
        let text = refusal.body();
        if to_head || text.len() <= room {
            field("content-length", &text.len().to_string());
        }
        body = Some(text).filter(|text| !to_head && text.len() <= room);
        if let Some(challenge) = refusal.why.challenge() {
            field("www-authenticate", challenge);
        }
        match refusal.why.status() {
            503 => field("retry-after", "1"),
            405 => field("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            _ => {}
        }
    }
    field("date", &now.to_string());
    field("x-request-id", &id);
    frame::write_block(out, stream, body.is_none(), &block);
    body
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
