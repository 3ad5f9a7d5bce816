//! Flow control of what the upstream sends down, and its own windows (RFC 9113 section 6.9).
//!
//! Windows are the two peers' business, with two exceptions. An upstream that breaks their rules is at fault, and must not make the
//! client say that the gateway is. And bodies of refusals before the first permit took window that the upstream does
//! not know to be gone: at most so many of its bytes are held back until the client gives credit.

use super::frame::{
    DATA, END_STREAM, FLOW_CONTROL_ERROR, HEAD, Head, PADDED, PROTOCOL_ERROR, write, write_head,
};
use super::stream::Stream;
use super::{Http2, MAX_UNREAD, Reading};
use crate::protocol::{Edit, Fault, RefusalReason};

/// The largest flow-control window (section 6.9.1).
pub(super) const MAX_WINDOW: i64 = 0x7fff_ffff;

/// What a DATA frame of the upstream finds of the client's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Fits,
    /// The connection's has room only when the client gives credit.
    Short,
    /// The upstream sends more than it was allowed on this stream.
    StreamExceeded,
    /// The same for the connection.
    Exceeded,
}

/// The client's windows, as far as they are not a stream's own.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    connection: i64,
    reserve: i64,
    initial: u32,
    is_settled: bool,
}

impl Windows {
    /// Looks whether a frame with this payload on an open stream fits.
    #[inline]
    pub(super) fn check(self, stream: &Stream, length: usize) -> Window {
        let (length, window) = (length as i64, stream.window(self.initial));
        if length <= (self.connection - self.reserve).min(self.connection).min(window) {
            return Window::Fits;
        }
        self.check_closely(window, length)
    }

    #[cold]
    fn check_closely(self, window: i64, length: i64) -> Window {
        match length {
            // An empty frame needs no window.
            0 => Window::Fits,
            _ if length > self.connection - self.reserve => Window::Exceeded,
            // A smaller initial window counts from the upstream's acknowledgement on.
            _ if length > window && self.is_settled => Window::StreamExceeded,
            _ if length > self.connection => Window::Short,
            _ => Window::Fits,
        }
    }
}

impl Http2 {
    pub(super) fn windows(&self) -> Windows {
        Windows {
            connection: self.client_connection_window,
            reserve: self.reserve,
            initial: self.client_window,
            is_settled: self.client_table.is_settled(),
        }
    }

    /// Takes a WINDOW_UPDATE of the upstream's. False: it does not go down.
    pub(super) fn take_upstream_credit(&mut self, head: Head, payload: &[u8]) -> Result<bool, Fault> {
        let increment = payload.try_into().map_or(0, u32::from_be_bytes) & 0x7fff_ffff;
        if head.stream == 0 {
            self.upstream_connection_window += i64::from(increment);
            return match increment {
                0 => Err(self.upstream_fault("WINDOW_UPDATE of nothing", "RFC 9113 6.9")),
                _ if self.upstream_connection_window > MAX_WINDOW => {
                    Err(self.upstream_fault("connection window too large", "RFC 9113 6.9.1"))
                }
                _ => Ok(true),
            };
        }
        // Its stream may have ended while this came.
        let Some(stream) = self.streams.get_mut(&head.stream) else { return Ok(false) };
        stream.granted_up += i64::from(increment);
        let code = match increment {
            0 => PROTOCOL_ERROR,
            _ if stream.window_up(self.upstream_window) > MAX_WINDOW => FLOW_CONTROL_ERROR,
            _ => return Ok(true),
        };
        self.refuse_answer_with(head.stream, RefusalReason::BadAnswer, code);
        Ok(false)
    }

    /// Ends a stream on which the upstream sent more than the client's window.
    pub(super) fn refuse_exceeding(&mut self, head: Head) -> Result<Reading, Fault> {
        self.refuse_answer_with(head.stream, RefusalReason::BadAnswer, FLOW_CONTROL_ERROR);
        self.skip_late_data(head.length, head.has(END_STREAM))
    }

    /// Keeps what the upstream sends from a DATA frame on that waits for the client's credit.
    pub(super) fn hold_down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        let n = edit.rest().len();
        if self.held_down.len() + n > MAX_UNREAD {
            return Err(self.upstream_fault("frames behind DATA that waits for window", "limit"));
        }
        self.held_down.extend_from_slice(edit.rest());
        edit.skip(n);
        if self.has_released() { self.read_held(edit) } else { Ok(()) }
    }

    /// True when some of what was held may go on: the client has given credit, or the stream is over.
    pub(super) fn has_released(&self) -> bool {
        let Some(head) = self.held_down.first_chunk::<HEAD>().map(Head::parse) else { return false };
        head.length as i64 <= self.client_connection_window
            || self.part_released(&head) > 0
            || !self.streams.contains_key(&head.stream)
    }

    /// Bytes of a held frame's payload that fit the window though the whole does not.
    fn part_released(&self, head: &Head) -> usize {
        let window = usize::try_from(self.client_connection_window).unwrap_or(0);
        match head.length > window && !head.has(PADDED) {
            true => window.min(self.held_down.len() - HEAD),
            false => 0,
        }
    }

    /// Reads what was held as though it came just now.
    pub(super) fn read_held(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        let head = self.held_down.first_chunk().map(Head::parse);
        let part = head.map_or(0, |head| self.part_released(&head));
        let (mut held, mut out) = (std::mem::take(&mut self.held_down), Vec::new());
        if let (Some(head), 1..) = (head, part) {
            // A client may give credit only when it has had all that it allowed.
            let mut frames = Vec::with_capacity(held.len() + HEAD);
            write(&mut frames, DATA, head.flags & !END_STREAM, head.stream, &held[HEAD..HEAD + part]);
            write_head(&mut frames, Head { length: head.length - part, ..head });
            frames.extend_from_slice(&held[HEAD + part..]);
            held = frames;
        }
        self.upstream.reading = Reading::Head;
        let mut inner = Edit::new(&mut held, &mut out);
        let read = self.read_down(&mut inner);
        let (position, diverged) = (inner.position(), inner.diverged());
        edit.insert(if diverged { &out } else { &held[..position] });
        read
    }
}
