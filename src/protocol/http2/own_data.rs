//! DATA of the gateway's own: bodies of refusals, sent as far as the client's flow-control windows reach (RFC 9113 section 6.9).
//!
//! A stream's window begins with the client's `SETTINGS_INITIAL_WINDOW_SIZE`, which may change while a body waits and may leave the
//! window negative. What a window does not let go waits for WINDOW_UPDATE or SETTINGS; how many may wait is bounded by the number of
//! streams that a client may have open, how long by the session's own deadlines.

use super::frame::{DATA, END_STREAM, MAX_FRAME, NO_ERROR, write, write_reset};

/// The rest of one answer's body.
struct Body {
    id: u32,
    rest: Vec<u8>,
    /// The client's credit for this stream alone, less what was sent.
    granted: i64,
    /// The rest of the request is not wanted: the stream is reset behind the body.
    resets: bool,
}

/// Bodies that wait for window, oldest in front.
#[derive(Default)]
pub(super) struct OwnData {
    bodies: Vec<Body>,
}

impl OwnData {
    pub(super) fn len(&self) -> usize {
        self.bodies.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Bytes that are still to be sent.
    pub(super) fn bytes(&self) -> usize {
        self.bodies.iter().map(|body| body.rest.len()).sum()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.bodies.iter().any(|body| body.id == id)
    }

    /// Adds a body. `granted`: the client's credit for its stream so far; `resets`: the stream is reset behind the body.
    pub(super) fn push(&mut self, id: u32, rest: Vec<u8>, granted: i64, resets: bool) {
        self.bodies.push(Body { id, rest, granted, resets });
    }

    /// Takes a stream's WINDOW_UPDATE; returns the window that results. `None`: no body of that stream waits.
    pub(super) fn grant(&mut self, id: u32, increment: u32, initial: u32) -> Option<i64> {
        let body = self.bodies.iter_mut().find(|body| body.id == id)?;
        body.granted += i64::from(increment);
        Some(i64::from(initial) + body.granted)
    }

    /// The largest window of a stream whose body waits, with this initial size.
    pub(super) fn largest_window(&self, initial: u32) -> Option<i64> {
        self.bodies.iter().map(|body| i64::from(initial) + body.granted).max()
    }

    /// Drops the body of a stream that is over. False: there is none.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let before = self.bodies.len();
        self.bodies.retain(|body| body.id != id);
        self.bodies.len() < before
    }

    /// Appends what the windows let go: the streams' begin with `initial`, the connection's share is `room`. Returns the bytes of it.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, initial: u32, room: i64) -> i64 {
        let mut left = room;
        self.bodies.retain_mut(|body| {
            let window = (i64::from(initial) + body.granted).min(left).max(0);
            let n = body.rest.len().min(MAX_FRAME).min(usize::try_from(window).unwrap_or(usize::MAX));
            if n == 0 {
                return true;
            }
            let ends = n == body.rest.len();
            write(out, DATA, if ends { END_STREAM } else { 0 }, body.id, &body.rest[..n]);
            body.rest.drain(..n);
            body.granted -= n as i64;
            left -= n as i64;
            if ends && body.resets {
                // The answer is complete and the rest of the request is not wanted (RFC 9113 section 8.1).
                write_reset(out, body.id, NO_ERROR);
            }
            !ends
        });
        room - left
    }
}
