//! One direction's reader: where in a frame it stands, and what it has gathered.

use super::frame::{HEAD, Head, MAX_FRAME};
use super::stream::Masked;
use crate::protocol::hpack::Decoder;

/// One direction's reader.
pub(super) struct Side {
    pub(super) decoder: Decoder,
    pub(super) reading: Reading,
    /// Bytes of a frame head that is not whole.
    pub(super) head: [u8; HEAD],
    pub(super) held: usize,
    /// Payload of a frame that is looked at.
    pub(super) payload: Vec<u8>,
    /// A header block, gathered over HEADERS and CONTINUATION.
    pub(super) block: Vec<u8>,
    /// The HEADERS frame that the block began with.
    pub(super) block_head: Option<Head>,
    pub(super) continuations: u32,
    /// The stream that ends with the payload that passes just now.
    pub(super) finishing: Option<u32>,
    /// The largest frame that this side may send.
    pub(super) max_frame: usize,
    pub(super) greeted: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The connection preface, of which this much was seen.
    Preface(usize),
    /// A frame's head.
    Head,
    /// The padding's length, the first byte of a padded DATA frame, on which depends what becomes of the frame.
    Padding(Head),
    /// Payload that passes.
    Pass(usize),
    /// Payload that is taken out.
    Skip(usize),
    /// A DATA frame that masks look at.
    Masked(Masked),
    /// Payload that is gathered, and taken out.
    Gather(Head),
    /// Payload that is gathered, and passes.
    Watch(Head, usize),
    /// All that comes is kept until the client gives credit.
    Held,
}

impl Side {
    pub(super) fn new(reading: Reading) -> Self {
        Side {
            decoder: Decoder::default(),
            reading,
            head: [0; HEAD],
            held: 0,
            payload: Vec::new(),
            block: Vec::new(),
            block_head: None,
            continuations: 0,
            finishing: None,
            max_frame: MAX_FRAME,
            greeted: false,
        }
    }

    /// Forgets a frame or a header block that is not whole and of which nothing has passed.
    pub(super) fn abandon_gathered(&mut self) {
        self.block_head = None;
        self.held = 0;
        if matches!(self.reading, Reading::Gather(_) | Reading::Padding(_)) {
            self.reading = Reading::Head;
        }
    }

    /// True where a frame may be put in: between frames, and not inside a header block that passes.
    pub(super) fn at_boundary(&self) -> bool {
        // What passes of a masked frame goes on in frames of its own.
        let between = matches!(self.reading, Reading::Head | Reading::Masked(_) | Reading::Held);
        between && self.held == 0 && self.block_head.is_none()
    }
}
