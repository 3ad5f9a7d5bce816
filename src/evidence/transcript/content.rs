//! Bodies of HTTP messages: content codings undone, then shown by their type.

use super::body::{Body, text, value};
use super::coding::decode;
use super::{Item, Limits, grpc, sse};

/// Adds a body to a message.
pub(super) fn describe(item: Item, headers: &[(String, String)], body: &Body, limits: Limits) -> Item {
    if body.total() == 0 {
        return item;
    }
    let header = |name: &str| {
        headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    };
    let item = body.describe(item, "body");
    let kind = header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.starts_with("application/grpc") {
        return grpc::describe(item, body.kept(), header("grpc-encoding"), limits);
    }
    let coding = header("content-encoding").to_ascii_lowercase();
    let (item, bytes) = match decode(&coding, body.kept(), limits.body) {
        Some(decoded) => (item.with("coding", coding), decoded),
        None if coding.is_empty() || coding == "identity" => (item, body.kept().to_vec()),
        None => {
            let note = format!("the coding {coding} could not be undone");
            (item.with("coding_note", note), body.kept().to_vec())
        }
    };
    if kind == "text/event-stream" {
        return sse::describe(item, &bytes);
    }
    let json = kind.ends_with("json").then(|| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    match (json.flatten(), text(&bytes)) {
        (Some(json), _) => item.with("json", json),
        (None, Some(text)) => item.with("text", text),
        (None, None) => item.with("body", value(&bytes)),
    }
}
