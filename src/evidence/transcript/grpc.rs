//! gRPC: messages of a body, read as Protocol Buffers without their descriptors.

use super::body::{text, value};
use super::{Item, Limits, coding};
use serde_json::{Value, json};

/// Adds the messages of a body: each a flag, a length and its bytes.
pub(super) fn describe(item: Item, mut bytes: &[u8], encoding: &str, limits: Limits) -> Item {
    let mut messages = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let [flag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let (message, rest) = rest.split_at(length.min(rest.len()));
        let plain = match flag & 1 {
            0 => Some(message.to_vec()),
            _ => coding::decode(encoding, message, limits.body),
        };
        let mut shown = json!({ "bytes": length });
        match plain {
            Some(plain) => shown["fields"] = fields(&plain, 0).unwrap_or_else(|| value(&plain)),
            None => shown["note"] = format!("compressed with {encoding}, not undone").into(),
        }
        // gRPC-Web sends its trailers as a message.
        if flag & 0x80 != 0 {
            shown = json!({ "trailers": String::from_utf8_lossy(message) });
        }
        messages.push(shown);
        bytes = rest;
    }
    item.with("messages", messages)
}

/// Depth of messages within messages.
const DEPTH: u32 = 16;

/// The fields of a message by number; `None` if the bytes are none. Without descriptors a field of bytes is text where it
/// reads as text, else a message where it reads as one, else base64.
fn fields(mut bytes: &[u8], depth: u32) -> Option<Value> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (number, wire) = (key >> 3, key & 7);
        if number == 0 {
            return None;
        }
        let shown = match wire {
            0 => varint(&mut bytes)?.into(),
            1 => {
                let (fixed, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                json!({ "fixed64": u64::from_le_bytes(*fixed), "double": f64::from_le_bytes(*fixed) })
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match text(inner).filter(|text| text.len() == inner.len()) {
                    Some(text) => text.into(),
                    None if depth < DEPTH => fields_or_bytes(inner, depth),
                    None => value(inner),
                }
            }
            5 => {
                let (fixed, rest) = bytes.split_first_chunk::<4>()?;
                bytes = rest;
                json!({ "fixed32": u32::from_le_bytes(*fixed), "float": f32::from_le_bytes(*fixed) })
            }
            _ => return None,
        };
        fields.push(json!({ "field": number, "value": shown }));
    }
    Some(fields.into())
}

fn fields_or_bytes(bytes: &[u8], depth: u32) -> Value {
    fields(bytes, depth + 1).unwrap_or_else(|| value(bytes))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
