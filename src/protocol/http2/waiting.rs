//! Permitted streams that wait until the upstream may have them, and refused streams whose bodies are thrown away.

use super::frame;
use super::stream::{Stream, take_length};
use std::collections::VecDeque;

/// Bytes of requests that wait for an upstream which allows few streams, of one connection.
const MAX_WAITING: usize = 64 * 1024;

/// A permitted stream that the upstream was not told of yet.
struct Waiting {
    id: u32,
    stream: Stream,
    /// Its frames so far, as they go up.
    frames: Vec<u8>,
}

/// Streams beyond what the upstream allows at once (RFC 9113 section 5.1.2), oldest in front.
#[derive(Default)]
pub(super) struct Queue {
    streams: VecDeque<Waiting>,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The stream that came last.
    pub(super) fn last(&self) -> Option<u32> {
        self.streams.back().map(|waiting| waiting.id)
    }

    pub(super) fn push(&mut self, id: u32, stream: Stream, head: Vec<u8>) {
        self.bytes += head.len();
        self.streams.push_back(Waiting { id, stream, frames: head });
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|waiting| waiting.id == id).map(|waiting| &mut waiting.stream)
    }

    /// True when a frame with this payload finds room.
    pub(super) fn has_room(&self, payload: usize) -> bool {
        self.bytes + frame::HEAD + payload <= MAX_WAITING
    }

    /// Keeps another frame of a stream. False: no such stream waits.
    pub(super) fn append(&mut self, id: u32, kind: u8, flags: u8, payload: &[u8]) -> bool {
        let Some(waiting) = self.streams.iter_mut().find(|waiting| waiting.id == id) else { return false };
        frame::write(&mut waiting.frames, kind, flags, id, payload);
        self.bytes += frame::HEAD + payload.len();
        true
    }

    /// Keeps whole frames of a stream.
    pub(super) fn append_frames(&mut self, id: u32, frames: &[u8]) {
        if let Some(waiting) = self.streams.iter_mut().find(|waiting| waiting.id == id) {
            waiting.frames.extend_from_slice(frames);
            self.bytes += frames.len();
        }
    }

    /// Takes the stream that waits longest.
    pub(super) fn pop(&mut self) -> Option<(u32, Stream, Vec<u8>)> {
        let Waiting { id, stream, frames } = self.streams.pop_front()?;
        self.bytes -= frames.len();
        Some((id, stream, frames))
    }

    /// Takes a stream out that is over before the upstream heard of it. Also returns how much of the client's window its DATA took.
    pub(super) fn remove(&mut self, id: u32) -> Option<(Stream, usize)> {
        let place = self.streams.iter().position(|waiting| waiting.id == id)?;
        let Waiting { stream, frames, .. } = self.streams.remove(place)?;
        self.bytes -= frames.len();
        Some((stream, frame::data_bytes(&frames)))
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.streams.iter().map(|waiting| waiting.id).collect()
    }
}

/// Bytes of one refused body that are thrown away. Clients that send all of a body before they read the answer never see one that
/// comes with a reset; 20 MB uploads are common, and more is work for nothing (CVE-2025-4366).
const MAX_DISCARDED: u64 = 32 * 1024 * 1024;
/// The same for all refused bodies of a connection together.
const MAX_DISCARDED_OF_CONNECTION: u64 = 64 * 1024 * 1024;
/// Bodies of a connection that are thrown away at once.
const MAX_BODIES: usize = 100;
/// Window that a stream is given back at once.
const CREDIT_STEP: u32 = 16 * 1024;

/// A refused stream whose client is still sending.
struct Refused {
    id: u32,
    left: u64,
    owed: u32,
    /// Bytes that are to come by its Content-Length.
    length: Option<u64>,
}

/// Bodies that are read and thrown away, so that their clients get to read the answer.
pub(super) struct Discarded {
    bodies: Vec<Refused>,
    left: u64,
}

impl Default for Discarded {
    fn default() -> Self {
        Discarded { bodies: Vec::new(), left: MAX_DISCARDED_OF_CONNECTION }
    }
}

impl Discarded {
    /// Begins with a stream. False: it is to be reset at once.
    pub(super) fn begin(&mut self, id: u32, length: Option<u64>) -> bool {
        let room = self.bodies.len() < MAX_BODIES && self.left > 0;
        if room {
            self.bodies.push(Refused { id, left: MAX_DISCARDED, owed: 0, length });
        }
        room
    }

    /// DATA came on a stream, `padding` included in its `bytes`. `None`: it is not one of these. Else what is to be said: window, or
    /// a reset.
    pub(super) fn take(&mut self, id: u32, bytes: usize, padding: usize, ends: bool) -> Option<Discard> {
        let place = self.bodies.iter().position(|body| body.id == id)?;
        if !take_length(&mut self.bodies[place].length, (bytes - padding) as u64, ends) {
            self.bodies.swap_remove(place);
            return Some(Discard::Malformed);
        }
        if ends {
            self.bodies.swap_remove(place);
            return Some(Discard::Over);
        }
        let bytes = bytes as u64;
        let body = &mut self.bodies[place];
        if bytes > body.left.min(self.left) {
            self.left = self.left.saturating_sub(bytes);
            self.bodies.swap_remove(place);
            return Some(Discard::Reset);
        }
        body.left -= bytes;
        self.left -= bytes;
        body.owed += bytes as u32;
        Some(Discard::Credit(if body.owed >= CREDIT_STEP { std::mem::take(&mut body.owed) } else { 0 }))
    }

    /// The client reset the stream, or ended it otherwise.
    pub(super) fn end(&mut self, id: u32) -> bool {
        let before = self.bodies.len();
        self.bodies.retain(|body| body.id != id);
        self.bodies.len() < before
    }
}

/// What a piece of a refused body leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discard {
    /// So much window for the stream, if any.
    Credit(u32),
    /// That was too much.
    Reset,
    /// It does not come to its Content-Length.
    Malformed,
    /// That was the last of it.
    Over,
}
