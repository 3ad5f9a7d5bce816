//! What is known of one permitted stream.

use super::frame::{END_STREAM, Head};
use crate::mask::{self, Rules};
use crate::protocol::Kind;
use std::sync::Arc;

/// A permitted stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// When it was permitted, in milliseconds since the connection's start.
    pub(super) begun: u64,
    /// The client has sent all.
    pub(super) up_done: bool,
    /// The upstream has sent all.
    pub(super) down_done: bool,
    /// The final response head went down.
    pub(super) answered: bool,
    pub(super) kind: Kind,
    /// The answer has no content, whatever its Content-Length says.
    pub(super) to_head: bool,
    pub(super) up: u64,
    pub(super) down: u64,
    /// Flow-control credit of the client's for this stream alone, less what padding has used of it.
    pub(super) granted: i64,
    /// The same of the upstream's.
    pub(super) granted_up: i64,
    /// Bytes that DATA still has to bring, where a Content-Length says so.
    pub(super) up_left: Option<u64>,
    pub(super) down_left: Option<u64>,
    /// The rules for its answer.
    pub(super) mask_answer: Option<Arc<Rules>>,
    /// The masking of the request's body and of the answer's.
    pub(super) mask_up: Option<Box<mask::Stream>>,
    pub(super) mask_down: Option<Box<mask::Stream>>,
}

/// A DATA frame that masks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) stream: u32,
    /// Bytes of data, and of padding behind it, that are to come.
    pub(super) data: u32,
    pub(super) pad: u16,
    /// All bytes of padding, its length's included.
    pub(super) padding: u16,
    pub(super) ends: bool,
}

impl Stream {
    /// The client's flow-control window for this stream, which began with `initial` (RFC 9113 section 6.9.2).
    pub(super) fn window(&self, initial: u32) -> i64 {
        i64::from(initial) + self.granted - self.down as i64
    }

    /// The upstream's for this stream.
    pub(super) fn window_up(&self, initial: u32) -> i64 {
        i64::from(initial) + self.granted_up - self.up as i64
    }
}

impl Masked {
    pub(super) fn new(head: Head, padding: usize) -> Self {
        // A frame's length has 24 bits, that of its padding 8.
        let (data, padding) = ((head.length - padding) as u32, padding as u16);
        let ends = head.has(END_STREAM);
        Masked { stream: head.stream, data, pad: padding.saturating_sub(1), padding, ends }
    }
}

/// Takes the bytes of a DATA frame from those that a Content-Length announced. False: too many, or with the last frame too few.
pub(super) fn take_length(left: &mut Option<u64>, data: u64, ends: bool) -> bool {
    let Some(left) = left else { return true };
    let Some(rest) = left.checked_sub(data) else { return false };
    *left = rest;
    rest == 0 || !ends
}
