//! What is known of one permitted stream.

use crate::protocol::Kind;

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
    /// Flow-control credit of the client's for this stream alone.
    pub(super) granted: u64,
    /// Bytes that DATA still has to bring, where a Content-Length says so.
    pub(super) up_left: Option<u64>,
    pub(super) down_left: Option<u64>,
}

/// Takes the bytes of a DATA frame from those that a Content-Length announced. False: too many, or with the last frame too few.
pub(super) fn take_length(left: &mut Option<u64>, data: u64, ends: bool) -> bool {
    let Some(left) = left else { return true };
    let Some(rest) = left.checked_sub(data) else { return false };
    *left = rest;
    rest == 0 || !ends
}
