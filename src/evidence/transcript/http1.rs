//! HTTP/1.1: requests, responses, and what they upgrade to.

use super::body::Body;
use super::{Decoder, Item, Limits, TranscriptFault, content, raw, websocket};
use crate::recording::format::frame::Plane;
use serde_json::Value;
use std::collections::VecDeque;

/// Bytes of a head; the gateway lets fewer pass.
const MAX_HEAD: usize = 1 << 20;
/// Fields of a head.
const MAX_FIELDS: usize = 512;

/// One connection.
pub(super) struct Http1 {
    limits: Limits,
    directions: [Direction; 2],
    /// Requests whose response has not come: method, number.
    awaited: VecDeque<(String, u64)>,
    requests: u64,
    /// The protocol after an upgrade.
    upgraded: Option<Box<dyn Decoder>>,
}

#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    /// Bytes of it that are done with.
    at: usize,
    /// Bytes behind them that hold no end of a head.
    searched: usize,
    message: Option<Message>,
    framing: Framing,
    incomplete_chunk: u64,
}

/// Where in a message the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    Chunk,
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// A message under way.
pub(super) struct Message {
    item: Item,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

impl Message {
    pub(super) fn new(item: Item, headers: Vec<(String, String)>, limits: Limits) -> Self {
        Message { item, headers, body: Body::new(limits) }
    }

    /// The first header of a name, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Adds a field to what is shown.
    pub(super) fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.item.fields.insert(name.to_owned(), value.into());
    }

    pub(super) fn finish(self, limits: Limits) -> Item {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| [name.as_str(), value].into()).collect();
        content::describe(self.item.with("headers", headers), &self.headers, &self.body, limits)
    }
}

impl Http1 {
    pub(super) fn new(limits: Limits) -> Self {
        Http1 {
            limits,
            directions: Default::default(),
            awaited: VecDeque::new(),
            requests: 0,
            upgraded: None,
        }
    }

    fn step(&mut self, time: u64, plane: Plane, items: &mut Vec<Item>) -> Result<bool, TranscriptFault> {
        let direction = &mut self.directions[plane.index()];
        match direction.framing {
            Framing::Head => {
                // Empty lines before a message (RFC 9112 section 2.2).
                let blank = direction.left().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                direction.discard(blank);
                let Some(end) = direction.find_end(b"\r\n\r\n")? else { return Ok(false) };
                let head: Vec<u8> = direction.left()[..end].to_vec();
                direction.discard(end);
                match plane {
                    Plane::Up => self.request(time, &head)?,
                    Plane::Down => self.response(time, &head, items)?,
                }
                self.end_if_empty(plane, items);
            }
            Framing::Length(_) | Framing::UntilClose | Framing::Chunk => {
                if direction.left().is_empty() {
                    return Ok(false);
                }
                let left = match direction.framing {
                    Framing::Length(left) => left,
                    Framing::Chunk => direction.incomplete_chunk,
                    _ => u64::MAX,
                };
                let taken = direction.left().len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if let Some(message) = &mut direction.message {
                    message.body.push(&direction.buffer[direction.at..direction.at + taken]);
                }
                direction.discard(taken);
                let left = left - taken as u64;
                match direction.framing {
                    Framing::Length(_) => direction.framing = Framing::Length(left),
                    Framing::Chunk => {
                        direction.incomplete_chunk = left;
                        if left == 0 {
                            direction.framing = Framing::ChunkEnd;
                        }
                    }
                    _ => {}
                }
                self.end_if_empty(plane, items);
            }
            Framing::ChunkSize => {
                let Some(end) = direction.find_end(b"\n")? else { return Ok(false) };
                let line = String::from_utf8_lossy(&direction.left()[..end]).into_owned();
                direction.discard(end);
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size =
                    u64::from_str_radix(digits, 16).map_err(|_| TranscriptFault("a chunk without a size"))?;
                direction.incomplete_chunk = size;
                direction.framing = if size == 0 { Framing::Trailers } else { Framing::Chunk };
            }
            Framing::ChunkEnd => {
                if direction.left().len() < 2 {
                    return Ok(false);
                }
                if !direction.left().starts_with(b"\r\n") {
                    return Err(TranscriptFault("a chunk that does not end where it says"));
                }
                direction.discard(2);
                direction.framing = Framing::ChunkSize;
            }
            Framing::Trailers => {
                let Some(end) = direction.find_end(b"\r\n")? else { return Ok(false) };
                let line = String::from_utf8_lossy(&direction.left()[..end - 2]).into_owned();
                direction.discard(end);
                match line.split_once(':') {
                    Some((name, value)) => {
                        if let Some(message) = &mut direction.message {
                            message.headers.push((name.to_owned(), value.trim().to_owned()));
                        }
                    }
                    None => self.end(plane, items),
                }
            }
        }
        Ok(true)
    }

    fn request(&mut self, time: u64, head: &[u8]) -> Result<(), TranscriptFault> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return Err(TranscriptFault("not the head of an HTTP/1.1 request")),
        }
        self.requests += 1;
        let method = parsed.method.unwrap_or_default().to_owned();
        let item = Item::new(time, Some(Plane::Up), "request")
            .with("number", self.requests)
            .with("method", method.clone())
            .with("target", parsed.path.unwrap_or_default())
            .with("version", format!("HTTP/1.{}", parsed.version.unwrap_or(1)));
        let headers = owned(parsed.headers);
        self.awaited.push_back((method, self.requests));
        let message = Message::new(item, headers, self.limits);
        let direction = &mut self.directions[Plane::Up.index()];
        direction.framing = match framing(&message) {
            Framing::UntilClose => Framing::Length(0),
            other => other,
        };
        direction.message = Some(message);
        Ok(())
    }

    fn response(&mut self, time: u64, head: &[u8], items: &mut Vec<Item>) -> Result<(), TranscriptFault> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return Err(TranscriptFault("not the head of an HTTP/1.1 response")),
        }
        let status = parsed.code.unwrap_or(0);
        let is_interim = (100..200).contains(&status) && status != 101;
        let asked = if is_interim { self.awaited.front().cloned() } else { self.awaited.pop_front() };
        let (method, number) = asked.unwrap_or_default();
        let item = Item::new(time, Some(Plane::Down), "response")
            .with("number", number)
            .with("status", status)
            .with("reason", parsed.reason.unwrap_or_default())
            .with("version", format!("HTTP/1.{}", parsed.version.unwrap_or(1)));
        let message = Message::new(item, owned(parsed.headers), self.limits);
        let has_no_body = is_interim || matches!(status, 101 | 204 | 304) || method == "HEAD";
        let is_tunnel = status == 101 || method == "CONNECT" && (200..300).contains(&status);
        if is_tunnel {
            let extensions = message.header("sec-websocket-extensions").to_owned();
            let is_websocket = message.header("upgrade").eq_ignore_ascii_case("websocket");
            items.push(message.finish(self.limits));
            self.upgraded = Some(match is_websocket {
                true => Box::new(websocket::WebSocket::new(&extensions, self.limits)),
                false => Box::new(raw::Raw(self.limits)),
            });
            return Ok(());
        }
        let direction = &mut self.directions[Plane::Down.index()];
        direction.framing = if has_no_body { Framing::Length(0) } else { framing(&message) };
        direction.message = Some(message);
        Ok(())
    }

    fn end_if_empty(&mut self, plane: Plane, items: &mut Vec<Item>) {
        if self.directions[plane.index()].framing == Framing::Length(0) {
            self.end(plane, items);
        }
    }

    fn end(&mut self, plane: Plane, items: &mut Vec<Item>) {
        let direction = &mut self.directions[plane.index()];
        direction.framing = Framing::Head;
        if let Some(message) = direction.message.take() {
            items.push(message.finish(self.limits));
        }
    }
}

impl Decoder for Http1 {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        if let Some(upgraded) = &mut self.upgraded {
            return upgraded.take(time, plane, bytes, items);
        }
        self.directions[plane.index()].buffer.extend_from_slice(bytes);
        while self.step(time, plane, items)? {
            if let Some(upgraded) = &mut self.upgraded {
                for plane in Plane::ALL {
                    let left = std::mem::take(&mut self.directions[plane.index()]).left().to_vec();
                    if !left.is_empty() {
                        upgraded.take(time, plane, &left, items)?;
                    }
                }
                return Ok(());
            }
        }
        let direction = &mut self.directions[plane.index()];
        direction.buffer.drain(..std::mem::take(&mut direction.at));
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        if let Some(upgraded) = &mut self.upgraded {
            return upgraded.finish(items);
        }
        for plane in [Plane::Up, Plane::Down] {
            let direction = &mut self.directions[plane.index()];
            let is_whole = direction.framing == Framing::UntilClose;
            if let Some(message) = direction.message.take() {
                let item = message.finish(self.limits);
                items.push(if is_whole { item } else { item.with("incomplete", true) });
            }
        }
    }
}

impl Direction {
    fn left(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn discard(&mut self, bytes: usize) {
        self.at += bytes;
        self.searched = 0;
    }

    /// Bytes up to and with `end`. Looks at each byte once while it waits for more.
    fn find_end(&mut self, end: &[u8]) -> Result<Option<usize>, TranscriptFault> {
        let from = self.searched.saturating_sub(end.len());
        match memchr::memmem::find(&self.left()[from..], end) {
            Some(at) => Ok(Some(from + at + end.len())),
            None if self.left().len() > MAX_HEAD => Err(TranscriptFault("a head or line of more than 1 MiB")),
            None => {
                self.searched = self.left().len();
                Ok(None)
            }
        }
    }
}

/// How the body of a message ends (RFC 9112 section 6.3).
fn framing(message: &Message) -> Framing {
    let coding = message.header("transfer-encoding").to_ascii_lowercase();
    if coding.split(',').next_back().is_some_and(|last| last.trim() == "chunked") {
        return Framing::ChunkSize;
    }
    let length = message.header("content-length").trim().parse();
    length.map_or(Framing::UntilClose, Framing::Length)
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}
