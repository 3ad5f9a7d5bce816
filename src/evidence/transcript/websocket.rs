//! WebSocket messages (RFC 6455), with permessage-deflate (RFC 7692).

use super::body::{Body, value};
use super::{Decoder, Item, Limits, TranscriptFault};
use crate::recording::format::frame::Plane;
use flate2::{Decompress, FlushDecompress};

/// Both directions of a connection.
pub(super) struct WebSocket {
    limits: Limits,
    directions: [Direction; 2],
}

struct Direction {
    buffer: Vec<u8>,
    /// The message under way: its opcode, compressed, when it began.
    message: Option<(u8, bool, u64)>,
    body: Body,
    inflater: Option<Inflater>,
}

struct Inflater {
    state: Decompress,
    keeps_context: bool,
}

impl WebSocket {
    /// `extensions`: what the response's `Sec-WebSocket-Extensions` agrees on.
    pub(super) fn new(extensions: &str, limits: Limits) -> Self {
        let deflate = extensions.split(',').find(|one| one.trim().starts_with("permessage-deflate"));
        let direction = |forgets: &str| Direction {
            buffer: Vec::new(),
            message: None,
            body: Body::new(limits),
            inflater: deflate.map(|parameters| Inflater {
                state: Decompress::new(false),
                keeps_context: !parameters.contains(forgets),
            }),
        };
        // In the order of the planes: down, up.
        let directions = [direction("server_no_context_takeover"), direction("client_no_context_takeover")];
        WebSocket { limits, directions }
    }
}

impl Decoder for WebSocket {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let limits = self.limits;
        let direction = &mut self.directions[plane.index()];
        direction.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut direction.buffer);
        let mut at = 0;
        while let Some((frame, length)) = Frame::parse(&buffer[at..])? {
            at += length;
            direction.frame(time, plane, frame, limits, items)?;
        }
        direction.buffer = buffer[at..].to_vec();
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        for plane in Plane::ALL {
            let direction = &mut self.directions[plane.index()];
            if let Some((opcode, _, time)) = direction.message.take() {
                let body = std::mem::take(&mut direction.body);
                items.push(message(time, plane, opcode, &body).with("incomplete", true));
            }
        }
    }
}

struct Frame {
    is_last: bool,
    is_compressed: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// Bytes of a frame that is read whole.
const MAX_FRAME: u64 = 64 << 20;

impl Frame {
    fn parse(bytes: &[u8]) -> Result<Option<(Frame, usize)>, TranscriptFault> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let (length, mut at) = match second & 0x7f {
            126 => match bytes.get(2..4).and_then(|b| b.first_chunk()) {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|b| b.first_chunk()) {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if length > MAX_FRAME {
            return Err(TranscriptFault("a WebSocket frame of more than 64 MiB"));
        }
        let mask = match second & 0x80 {
            0 => [0; 4],
            _ => {
                let Some(mask) = bytes.get(at..).and_then(|b| b.first_chunk::<4>()) else { return Ok(None) };
                at += 4;
                *mask
            }
        };
        let Some(masked) = bytes.get(at..at + length as usize) else { return Ok(None) };
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let frame = Frame {
            is_last: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            opcode: first & 0x0f,
            payload,
        };
        Ok(Some((frame, at + length as usize)))
    }
}

impl Direction {
    fn frame(
        &mut self,
        time: u64,
        plane: Plane,
        frame: Frame,
        limits: Limits,
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        if frame.opcode >= 8 {
            items.push(control(time, plane, &frame, limits));
            return Ok(());
        }
        if frame.opcode != 0 {
            self.message = Some((frame.opcode, frame.is_compressed, time));
            self.body = Body::new(limits);
        }
        let Some((opcode, is_compressed, begun)) = self.message else {
            return Err(TranscriptFault("a WebSocket frame that continues nothing"));
        };
        match (is_compressed, &mut self.inflater) {
            (true, Some(inflater)) => inflater.inflate(&frame.payload, frame.is_last, &mut self.body)?,
            _ => self.body.push(&frame.payload),
        }
        if frame.is_last {
            self.message = None;
            let body = std::mem::take(&mut self.body);
            items.push(message(begun, plane, opcode, &body));
        }
        Ok(())
    }
}

impl Inflater {
    fn inflate(&mut self, bytes: &[u8], is_last: bool, body: &mut Body) -> Result<(), TranscriptFault> {
        const END: [u8; 4] = [0, 0, 0xff, 0xff];
        self.feed(bytes, body)?;
        if is_last {
            self.feed(&END, body)?;
            if !self.keeps_context {
                self.state.reset(false);
            }
        }
        Ok(())
    }

    fn feed(&mut self, mut bytes: &[u8], body: &mut Body) -> Result<(), TranscriptFault> {
        let mut out = Vec::with_capacity(16 * 1024);
        loop {
            out.clear();
            let before = self.state.total_in();
            let status = self.state.decompress_vec(bytes, &mut out, FlushDecompress::Sync);
            status.map_err(|_| TranscriptFault("a WebSocket message that does not decompress"))?;
            bytes = &bytes[(self.state.total_in() - before) as usize..];
            body.push(&out);
            // Room that was left means that nothing is held back.
            if out.len() < out.capacity() && (bytes.is_empty() || self.state.total_in() == before) {
                return Ok(());
            }
        }
    }
}

fn message(time: u64, plane: Plane, opcode: u8, body: &Body) -> Item {
    let item = body.describe(Item::new(time, Some(plane), "message"), "body");
    let text = (opcode == 1).then(|| String::from_utf8_lossy(body.kept()).into_owned());
    match text {
        Some(text) => item.with("text", text),
        None => item.with("body", value(body.kept())),
    }
}

fn control(time: u64, plane: Plane, frame: &Frame, limits: Limits) -> Item {
    let payload = &frame.payload[..frame.payload.len().min(limits.body)];
    let item = Item::new(time, Some(plane), "control");
    match (frame.opcode, payload.split_first_chunk::<2>()) {
        (8, Some((code, reason))) => {
            let item = item.with("name", "close").with("code", u16::from_be_bytes(*code));
            item.with("reason", String::from_utf8_lossy(reason))
        }
        (8, None) => item.with("name", "close"),
        (9, _) => item.with("name", "ping").with("body", value(payload)),
        (10, _) => item.with("name", "pong").with("body", value(payload)),
        (other, _) => item.with("name", format!("opcode {other}")),
    }
}
