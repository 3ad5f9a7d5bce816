//! Redis: commands and their replies (RESP2 and RESP3).

use super::body::value;
use super::{Decoder, Item, Limits, TranscriptFault};
use crate::recording::format::frame::Plane;
use serde_json::{Value, json};

/// Bytes of a command or reply that is read whole, and depth of values within values.
const MAX_VALUE: usize = 256 << 20;
const DEPTH: u32 = 32;
/// Bytes that are looked at again with every piece.
const SMALL: usize = 64 << 10;

/// One connection.
pub(super) struct Redis {
    limits: Limits,
    buffers: [Buffer; 2],
    commands: u64,
    replies: u64,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Bytes below which looking again is of no use.
    need: usize,
    /// Bytes that were looked at.
    tried: usize,
}

impl Redis {
    pub(super) fn new(limits: Limits) -> Self {
        Redis { limits, buffers: Default::default(), commands: 0, replies: 0 }
    }

    fn command(&mut self, time: u64, words: Value) -> Item {
        self.commands += 1;
        Item::new(time, Some(Plane::Up), "command").with("number", self.commands).with("words", words)
    }

    fn reply(&mut self, time: u64, is_push: bool, reply: Value) -> Item {
        let item = Item::new(time, Some(Plane::Down), if is_push { "push" } else { "reply" });
        if is_push {
            return item.with("value", reply);
        }
        self.replies += 1;
        item.with("number", self.replies).with("value", reply)
    }

    /// Reads what is whole.
    fn drain(&mut self, time: u64, plane: Plane, items: &mut Vec<Item>) -> Result<(), TranscriptFault> {
        let bytes = std::mem::take(&mut self.buffers[plane.index()].bytes);
        let mut reader = Reader { bytes: &bytes, at: 0, limit: self.limits.body, need: 0 };
        let mut done = 0;
        while done < bytes.len() {
            let first = bytes[done];
            let parsed = match (plane, first) {
                (Plane::Up, b'*') | (Plane::Down, _) => reader.value(0)?,
                (Plane::Up, _) => reader.inline_words(),
            };
            let Some(parsed) = parsed else { break };
            done = reader.at;
            let is_empty = parsed.as_array().is_some_and(Vec::is_empty);
            match plane {
                Plane::Up if is_empty => {}
                Plane::Up => items.push(self.command(time, parsed)),
                Plane::Down => items.push(self.reply(time, first == b'>', parsed)),
            }
        }
        let left = bytes[done..].to_vec();
        // A long value is read from its front each time: less often, the longer it is.
        let need = reader.need.saturating_sub(done).max(left.len() + left.len() / 2);
        if left.len().max(reader.need.saturating_sub(done)) > MAX_VALUE {
            return Err(TranscriptFault("a value of more than 256 MiB"));
        }
        self.buffers[plane.index()] = Buffer { tried: left.len(), bytes: left, need };
        Ok(())
    }
}

impl Decoder for Redis {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        // Who speaks now has heard the other.
        let other = if plane == Plane::Up { Plane::Down } else { Plane::Up };
        if self.buffers[other.index()].bytes.len() > self.buffers[other.index()].tried {
            self.drain(time, other, items)?;
        }
        let buffer = &mut self.buffers[plane.index()];
        buffer.bytes.extend_from_slice(bytes);
        if buffer.bytes.len() < buffer.need && buffer.need > SMALL {
            return Ok(());
        }
        self.drain(time, plane, items)
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        for plane in [Plane::Up, Plane::Down] {
            let time = items.last().map_or(0, |item| item.time);
            let _ = self.drain(time, plane, items);
            let bytes = std::mem::take(&mut self.buffers[plane.index()].bytes);
            if !bytes.is_empty() {
                let kind = if plane == Plane::Up { "command" } else { "reply" };
                let shown = value(&bytes[..bytes.len().min(self.limits.body)]);
                items.push(Item::new(time, Some(plane), kind).with("value", shown).with("incomplete", true));
            }
        }
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    limit: usize,
    /// Length of the buffer with which it can go on.
    need: usize,
}

impl<'b> Reader<'b> {
    fn line(&mut self) -> Option<&'b [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
            self.need = self.bytes.len() + 1;
            return None;
        };
        self.at += end + 2;
        Some(&rest[..end])
    }

    fn inline_words(&mut self) -> Option<Value> {
        let rest = self.bytes.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        let words = rest[..end].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Some(words.map(value).collect())
    }

    fn blob(&mut self, length: usize) -> Option<&'b [u8]> {
        let Some(blob) = self.bytes.get(self.at..self.at.checked_add(length)?) else {
            self.need = self.at.saturating_add(length) + 2;
            return None;
        };
        if self.bytes.len() < self.at + length + 2 {
            self.need = self.at + length + 2;
            return None;
        }
        self.at += length + 2;
        Some(blob)
    }

    /// A value; `None` while more of it is needed.
    fn value(&mut self, depth: u32) -> Result<Option<Value>, TranscriptFault> {
        if depth > DEPTH {
            return Err(TranscriptFault("values within values, deeper than any server sends"));
        }
        let Some(line) = self.line() else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else {
            return Err(TranscriptFault("an empty line for a reply"));
        };
        let number = || {
            let digits = std::str::from_utf8(rest).ok();
            digits
                .and_then(|digits| digits.parse::<i64>().ok())
                .ok_or(TranscriptFault("a length that is no number"))
        };
        let shown = match kind {
            b'+' => value(rest),
            b'-' => json!({ "error": String::from_utf8_lossy(rest) }),
            b':' => number()?.into(),
            b',' | b'(' => String::from_utf8_lossy(rest).into(),
            b'#' => (rest == b"t").into(),
            b'_' => Value::Null,
            b'$' | b'=' | b'!' => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(Some(Value::Null)) };
                let Some(blob) = self.blob(length) else { return Ok(None) };
                let shown = match blob.len() <= self.limit {
                    true => value(blob),
                    false => json!({ "bytes": blob.len(), "cut": value(&blob[..self.limit]) }),
                };
                if *kind == b'!' { json!({ "error": shown }) } else { shown }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Ok(count) = u64::try_from(number()?) else { return Ok(Some(Value::Null)) };
                let count = if matches!(kind, b'%' | b'|') { count.saturating_mul(2) } else { count };
                let mut values = Vec::new();
                for _ in 0..count {
                    let Some(value) = self.value(depth + 1)? else { return Ok(None) };
                    values.push(value);
                }
                // Attributes stand before the reply that they belong to.
                if *kind == b'|' {
                    return self.value(depth);
                }
                values.into()
            }
            _ => return Err(TranscriptFault("not a reply of Redis")),
        };
        Ok(Some(shown))
    }
}
