//! What a frame's head alone can be wrong in: its stream and its length (RFC 9113 section 6).
//!
//! Each rule has the error code that the section names for it. A wrong length counts before a wrong stream only where the frame has no
//! stream at all, as peers do.

use super::frame::*;

/// A rule that a frame's head breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokenFrame {
    /// The error code to answer with.
    pub(super) code: u32,
    /// In a few words, for the log.
    pub(super) rule: &'static str,
    /// Where the rule stands.
    pub(super) section: &'static str,
}

/// Checks stream and length of a frame of a known kind. `is_idle`: its stream was never opened.
pub(super) fn check_frame(head: &Head, is_idle: bool) -> Result<(), BrokenFrame> {
    let broken = |code, rule, section| Err(BrokenFrame { code, rule, section });
    let section = section_of(head.kind);
    match head.kind {
        SETTINGS | PING | GOAWAY if head.stream != 0 => {
            return broken(PROTOCOL_ERROR, "frame of the connection on a stream", section);
        }
        DATA | HEADERS | PRIORITY | RST_STREAM | PUSH_PROMISE | CONTINUATION if head.stream == 0 => {
            return broken(PROTOCOL_ERROR, "frame of a stream on stream 0", section);
        }
        _ => {}
    }
    let fits = match head.kind {
        PRIORITY => head.length == 5,
        RST_STREAM | WINDOW_UPDATE => head.length == 4,
        PING => head.length == 8,
        GOAWAY => head.length >= 8,
        SETTINGS if head.has(ACK) => head.length == 0,
        SETTINGS => head.length.is_multiple_of(6),
        _ => true,
    };
    if !fits {
        return broken(FRAME_SIZE_ERROR, "frame of a wrong length", section);
    }
    if is_idle && matches!(head.kind, DATA | RST_STREAM | WINDOW_UPDATE) {
        return broken(PROTOCOL_ERROR, "frame on a stream that was never opened", "RFC 9113 5.1");
    }
    Ok(())
}

fn section_of(kind: u8) -> &'static str {
    match kind {
        DATA => "RFC 9113 6.1",
        HEADERS => "RFC 9113 6.2",
        PRIORITY => "RFC 9113 6.3",
        RST_STREAM => "RFC 9113 6.4",
        SETTINGS => "RFC 9113 6.5",
        PUSH_PROMISE => "RFC 9113 6.6",
        PING => "RFC 9113 6.7",
        GOAWAY => "RFC 9113 6.8",
        WINDOW_UPDATE => "RFC 9113 6.9",
        _ => "RFC 9113 6.10",
    }
}
