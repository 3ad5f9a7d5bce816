//! HTTP/2 (RFC 9113): requests and responses by stream; gRPC and WebSocket within.

use super::http1::Message;
use super::{Decoder, Item, Limits, TranscriptFault, websocket};
use crate::protocol::Fields;
use crate::protocol::hpack;
use crate::recording::format::frame::Plane;
use serde_json::Value;
use std::collections::BTreeMap;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITISED: u8 = 0x20;

/// Bytes and fields of one header block.
const MAX_BLOCK: usize = 1 << 20;
const MAX_FIELDS: usize = 4096;

/// One connection.
pub(super) struct Http2 {
    limits: Limits,
    directions: [Direction; 2],
    streams: BTreeMap<u32, Stream>,
}

#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    is_begun: bool,
    decoder: hpack::Decoder,
    /// A header block under way: stream, ends the stream, bytes.
    block: Option<(u32, bool, Vec<u8>)>,
}

/// A stream: the message under way on each plane.
#[derive(Default)]
struct Stream {
    messages: [Option<Message>; 2],
    has_ended: [bool; 2],
    websocket: Option<websocket::WebSocket>,
    asks_for_websocket: bool,
}

impl Http2 {
    pub(super) fn new(limits: Limits) -> Self {
        Http2 { limits, directions: Default::default(), streams: BTreeMap::new() }
    }

    fn frame(
        &mut self,
        time: u64,
        plane: Plane,
        [kind, flags]: [u8; 2],
        stream: u32,
        payload: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let direction = &mut self.directions[plane.index()];
        let ends = flags & END_STREAM != 0;
        match kind {
            DATA => {
                self.data(time, plane, stream, content(flags & PADDED, payload)?, items)?;
                if ends {
                    self.end(plane, stream, items);
                }
            }
            HEADERS => {
                let block = content(flags & (PADDED | PRIORITISED), payload)?.to_vec();
                direction.block = Some((stream, ends, block));
                return self.block_if_whole(time, plane, flags, items);
            }
            CONTINUATION => {
                let Some((_, _, block)) = &mut direction.block else {
                    return Err(TranscriptFault("a CONTINUATION frame that continues nothing"));
                };
                block.extend_from_slice(payload);
                return self.block_if_whole(time, plane, flags, items);
            }
            RST_STREAM => {
                self.cut(stream, items);
                let code = payload.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
                items.push(Item::new(time, Some(plane), "reset").with("stream", stream).with("code", code));
            }
            GOAWAY => {
                let code =
                    payload.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |c| u32::from_be_bytes(*c));
                let debug = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                items.push(Item::new(time, Some(plane), "goaway").with("code", code).with("debug", debug));
            }
            PUSH_PROMISE => return Err(TranscriptFault("a PUSH_PROMISE frame, which nobody asked for")),
            _ => {}
        }
        Ok(())
    }

    fn block_if_whole(
        &mut self,
        time: u64,
        plane: Plane,
        flags: u8,
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let direction = &mut self.directions[plane.index()];
        if flags & END_HEADERS == 0 {
            let is_large = direction.block.as_ref().is_some_and(|(_, _, block)| block.len() > MAX_BLOCK);
            return if is_large { Err(TranscriptFault("a header block of more than 1 MiB")) } else { Ok(()) };
        }
        let Some((stream, ends, block)) = direction.block.take() else { return Ok(()) };
        let mut fields = Fields::default();
        let decoded = direction.decoder.decode(&block, MAX_BLOCK, MAX_FIELDS, &mut fields);
        decoded.map_err(|_| TranscriptFault("a header block that does not decode"))?;
        self.fields(time, plane, stream, &fields, items);
        if ends {
            self.end(plane, stream, items);
        }
        Ok(())
    }

    fn fields(&mut self, time: u64, plane: Plane, number: u32, fields: &Fields, items: &mut Vec<Item>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stream = self.streams.entry(number).or_default();
        let pseudo = |name: &str| fields.get(name).map(text);
        let plain = fields.iter().filter(|(name, _)| !name.starts_with(b":"));
        let headers: Vec<(String, String)> = plain.map(|(name, value)| (text(name), text(value))).collect();
        // Trailers.
        if let Some(message) = &mut stream.messages[plane.index()]
            && pseudo(":status").is_none()
            && pseudo(":method").is_none()
        {
            let trailers = headers.iter().map(|(name, value)| [name.as_str(), value].into());
            let trailers: Vec<Value> = trailers.collect();
            message.add("trailers", trailers);
            return;
        }
        let mut item = Item::new(time, Some(plane), if plane == Plane::Up { "request" } else { "response" })
            .with("stream", number)
            .with("version", "HTTP/2");
        let names = [":method", ":scheme", ":authority", ":path", ":protocol", ":status"];
        for (name, value) in names.iter().filter_map(|name| Some((&name[1..], pseudo(name)?))) {
            let name = if name == "path" { "target" } else { name };
            item = match value.parse::<u16>() {
                Ok(status) if name == "status" => item.with(name, status),
                _ => item.with(name, value),
            };
        }
        stream.asks_for_websocket |= pseudo(":protocol").as_deref() == Some("websocket");
        let status = pseudo(":status").and_then(|status| status.parse::<u16>().ok());
        let message = Message::new(item, headers, self.limits);
        if status.is_some_and(|status| status < 200) {
            items.push(message.finish(self.limits));
            return;
        }
        if plane == Plane::Down && status == Some(200) && stream.asks_for_websocket {
            let extensions = message.header("sec-websocket-extensions");
            stream.websocket = Some(websocket::WebSocket::new(extensions, self.limits));
            for plane in [Plane::Up, Plane::Down] {
                items
                    .extend(stream.messages[plane.index()].take().map(|message| message.finish(self.limits)));
            }
            items.push(message.finish(self.limits));
            return;
        }
        // A head behind a whole message of its stream: shown by itself.
        let before = stream.messages[plane.index()].replace(message);
        items.extend(before.map(|message| message.finish(self.limits)));
    }

    fn data(
        &mut self,
        time: u64,
        plane: Plane,
        number: u32,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let Some(stream) = self.streams.get_mut(&number) else { return Ok(()) };
        match (&mut stream.websocket, &mut stream.messages[plane.index()]) {
            (Some(websocket), _) => {
                let first = items.len();
                websocket.take(time, plane, bytes, items)?;
                items[first..].iter_mut().for_each(|item| {
                    item.fields.insert("stream".into(), number.into());
                });
            }
            (None, Some(message)) => message.body.push(bytes),
            (None, None) => {}
        }
        Ok(())
    }

    fn end(&mut self, plane: Plane, number: u32, items: &mut Vec<Item>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        items.extend(stream.messages[plane.index()].take().map(|message| message.finish(self.limits)));
        stream.has_ended[plane.index()] = true;
        if stream.has_ended == [true, true] {
            self.streams.remove(&number);
        }
    }

    /// Puts out what a stream has begun.
    fn cut(&mut self, number: u32, items: &mut Vec<Item>) {
        let Some(mut stream) = self.streams.remove(&number) else { return };
        if let Some(websocket) = &mut stream.websocket {
            websocket.finish(items);
        }
        for plane in [Plane::Up, Plane::Down] {
            let cut = stream.messages[plane.index()].take();
            items.extend(cut.map(|message| message.finish(self.limits).with("incomplete", true)));
        }
    }
}

impl Decoder for Http2 {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let direction = &mut self.directions[plane.index()];
        direction.buffer.extend_from_slice(bytes);
        let mut at = 0;
        if plane == Plane::Up && !direction.is_begun {
            if direction.buffer.len() < PREFACE.len() {
                return Ok(());
            }
            // A recording may leave it out.
            at = if direction.buffer.starts_with(PREFACE) { PREFACE.len() } else { 0 };
            direction.is_begun = true;
        }
        let buffer = std::mem::take(&mut direction.buffer);
        while let Some(([l0, l1, l2, kind, flags, id @ ..], rest)) = buffer[at..].split_first_chunk::<HEAD>()
        {
            let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            let stream = u32::from_be_bytes(*id) & 0x7fff_ffff;
            self.frame(time, plane, [*kind, *flags], stream, payload, items)?;
            at += HEAD + length;
        }
        self.directions[plane.index()].buffer = buffer[at..].to_vec();
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        let numbers: Vec<u32> = self.streams.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.cut(number, items));
    }
}

/// The payload of a frame without padding and priority.
fn content(flags: u8, payload: &[u8]) -> Result<&[u8], TranscriptFault> {
    let cut = TranscriptFault("a frame that is shorter than its padding");
    let (padding, mut rest) = match (flags & PADDED, payload.split_first()) {
        (0, _) => (0, payload),
        (_, Some((padding, rest))) => (usize::from(*padding), rest),
        (_, None) => return Err(cut),
    };
    if flags & PRIORITISED != 0 {
        rest = rest.get(5..).ok_or(TranscriptFault("a HEADERS frame that is shorter than its priority"))?;
    }
    rest.len().checked_sub(padding).map(|length| &rest[..length]).ok_or(cut)
}
