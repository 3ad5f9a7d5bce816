//! Transcripts: what was said in a session, put together from the plaintext of both planes.
//!
//! A [`TranscriptBuilder`] takes the events of a session in order and gives [`Item`]s: requests, responses, messages, statements with
//! their rows, commands. It judges nothing: where a protocol cannot be followed any more, an item says so, and bytes are
//! shown as they are from there on. What it holds of one body, message or result is limited; the rest is counted.

mod body;
mod coding;
mod content;
mod detect;
mod grpc;
mod http1;
mod http2;
mod mysql;
mod mysql_values;
mod postgres;
mod postgres_values;
mod raw;
mod redis;
mod render;
mod sse;
#[cfg(test)]
mod tests;
mod websocket;

pub use detect::{Protocol, detect_protocol};
pub use render::render;

use crate::recording::format::frame::Plane;
use crate::recording::reader::Event;
use serde_json::{Map, Value, json};

/// One thing that was said, or that is known of the session.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// When it began, ns since 1970.
    pub time: u64,
    /// Who said it; `None` for facts.
    pub plane: Option<Plane>,
    /// What it is, for example `request`.
    pub kind: &'static str,
    /// All else.
    pub fields: Map<String, Value>,
}

impl Item {
    /// An item with no fields yet.
    fn new(time: u64, plane: Option<Plane>, kind: &'static str) -> Self {
        Item { time, plane, kind, fields: Map::new() }
    }

    /// Adds a field.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The item as one object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("time".into(), super::table::time(self.time).into());
        object.insert("kind".into(), self.kind.into());
        if let Some(plane) = self.plane {
            object.insert("direction".into(), plane.to_string().into());
        }
        object.extend(self.fields.clone());
        Value::Object(object)
    }
}

/// Why a protocol cannot be followed any more.
#[derive(Debug, PartialEq, Eq)]
struct TranscriptFault(&'static str);

/// A protocol's reader. After an `Err` it is not called again.
trait Decoder {
    /// Takes bytes of a plane; puts out what they complete.
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault>;
    /// Puts out what was begun and is not complete.
    fn finish(&mut self, items: &mut Vec<Item>);
}

/// Limits on what is buffered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one body, message or value.
    pub body: usize,
    /// Rows of one result.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body: 1 << 20, rows: 1000 }
    }
}

/// Bytes that are held until the protocol is known.
const DETECT_BYTES: usize = 64;

/// A session's transcript while it is put together.
pub struct TranscriptBuilder {
    limits: Limits,
    decoder: Option<Box<dyn Decoder>>,
    /// Pieces that came before the protocol was known.
    held: Vec<(u64, Plane, Vec<u8>)>,
    /// Frames of a plane in a row that could not be opened: how many, since when.
    sealed: Option<(Plane, u64, u64)>,
}

impl TranscriptBuilder {
    /// A transcript of `protocol`, or in the one that its first bytes show.
    pub fn new(protocol: Option<Protocol>, limits: Limits) -> Self {
        let decoder = protocol.map(|protocol| protocol.decoder(limits));
        TranscriptBuilder { limits, decoder, held: Vec::new(), sealed: None }
    }

    /// Takes an event.
    pub fn take(&mut self, time: u64, event: &Event, items: &mut Vec<Item>) {
        if let Event::Data(plane, None) = event {
            return self.take_sealed(time, *plane, items);
        }
        self.put_sealed(items);
        match event {
            Event::Fact(line) => items.push(fact(time, line)),
            Event::SealedFact(Some(line)) => items.push(fact(time, line)),
            Event::SealedFact(None) => items.push(Item::new(time, None, "sealed").with("frames", 1)),
            Event::Data(_, None) => {}
            Event::Data(plane, Some(bytes)) => self.take_bytes(time, *plane, bytes, items),
            Event::Gap(gap) => {
                self.lose(items);
                let item = Item::new(time, Some(gap.plane), "gap").with("bytes", gap.bytes);
                items.push(item.with("note", "not recorded; what follows is shown as bytes"));
            }
            Event::Damaged(fault) => {
                self.lose(items);
                items.push(Item::new(time, None, "damaged").with("note", fault.to_string()));
            }
            Event::End(totals) => {
                self.finish(items);
                let [down, up] = totals.bytes;
                let item = Item::new(time, None, "end").with("down_bytes", down).with("up_bytes", up);
                items.push(item.with("lost_bytes", totals.lost_bytes));
            }
        }
    }

    /// Puts out what is not complete; for sessions without an end.
    pub fn finish(&mut self, items: &mut Vec<Item>) {
        self.put_sealed(items);
        self.decide(items);
        if let Some(decoder) = &mut self.decoder {
            decoder.finish(items);
        }
    }

    fn take_bytes(&mut self, time: u64, plane: Plane, bytes: &[u8], items: &mut Vec<Item>) {
        if bytes.is_empty() {
            return;
        }
        if self.decoder.is_none() {
            self.held.push((time, plane, bytes.to_vec()));
            let [down, up] = Plane::ALL.map(|plane| self.held_bytes(plane));
            let known = detect::detect(&up, &down);
            if known.is_some() || up.len() + down.len() >= DETECT_BYTES {
                self.decide(items);
            }
            return;
        }
        let Some(decoder) = &mut self.decoder else { return };
        if let Err(TranscriptFault(why)) = decoder.take(time, plane, bytes, items) {
            items.push(Item::new(time, Some(plane), "lost").with("note", why));
            self.lose(items);
            // What the decoder had taken of this piece cannot be told apart: all of it is shown.
            self.take_bytes(time, plane, bytes, items);
        }
    }

    fn held_bytes(&self, wanted: Plane) -> Vec<u8> {
        let of_plane = self.held.iter().filter(|(_, plane, _)| *plane == wanted);
        of_plane.flat_map(|(_, _, bytes)| bytes.iter().copied()).collect()
    }

    /// Chooses a protocol and gives it what was held.
    fn decide(&mut self, items: &mut Vec<Item>) {
        if self.decoder.is_some() || self.held.is_empty() {
            return;
        }
        let [down, up] = Plane::ALL.map(|plane| self.held_bytes(plane));
        let protocol = detect::detect(&up, &down).unwrap_or(Protocol::Raw);
        self.decoder = Some(protocol.decoder(self.limits));
        for (time, plane, bytes) in std::mem::take(&mut self.held) {
            self.take_bytes(time, plane, &bytes, items);
        }
    }

    /// Continues with raw bytes.
    fn lose(&mut self, items: &mut Vec<Item>) {
        self.decide(items);
        if let Some(mut decoder) = self.decoder.replace(Protocol::Raw.decoder(self.limits)) {
            decoder.finish(items);
        }
    }

    fn take_sealed(&mut self, time: u64, plane: Plane, items: &mut Vec<Item>) {
        match &mut self.sealed {
            Some((of, _, frames)) if *of == plane => *frames += 1,
            _ => {
                self.put_sealed(items);
                self.sealed = Some((plane, time, 1));
            }
        }
    }

    fn put_sealed(&mut self, items: &mut Vec<Item>) {
        if let Some((plane, time, frames)) = self.sealed.take() {
            let item = Item::new(time, Some(plane), "sealed").with("frames", frames);
            items.push(item.with("note", "no identity opens it, or it is erased"));
        }
    }
}

/// Where masks overwrote what is shown.
fn masked(time: u64, line: &Value) -> Item {
    let plane = if line["direction"] == "up" { Plane::Up } else { Plane::Down };
    let span = |span: &Value| json!({ "rule": span[0], "offset": span[1], "length": span[2] });
    let spans: Vec<Value> = line["spans"].as_array().into_iter().flatten().map(span).collect();
    let item = Item::new(time, Some(plane), "masked").with("mode", line["mode"].clone()).with("spans", spans);
    match line.get("request") {
        Some(request) => item.with("request", request.clone()),
        None => item,
    }
}

/// An audit line.
fn fact(time: u64, line: &[u8]) -> Item {
    let item = Item::new(time, None, "fact");
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if value["event"] == "masked" => masked(time, &value),
        Ok(value @ Value::Object(_)) => item.with("line", value),
        _ => item.with("line", json!({ "text": String::from_utf8_lossy(line) })),
    }
}
