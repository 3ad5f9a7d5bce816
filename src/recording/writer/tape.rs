//! A tape: the handle of a recorded session.

use super::super::archive::RecordingFault;
#[cfg(doc)]
use super::super::settings::Mode;
use super::strict::StrictTape;
use crate::names::{SessionId, Side};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A session's recording. Dropped without [`super::Recorder::end`], it is shown as unfinished.
pub struct Tape {
    pub(super) session: SessionId,
    pub(super) class: usize,
    pub(super) how: How,
}

/// How a session is recorded.
pub(super) enum How {
    Strict(Arc<StrictTape>),
    Async(Losses),
}

/// What an `async` session could not put into the queue.
pub(super) struct Losses {
    /// Bytes and records of each plane that are not noted yet.
    pub(super) lost: [(u64, u64); 2],
    /// Audit lines that are not noted yet.
    pub(super) lost_facts: u64,
    /// False when the queue was too full for another session.
    pub(super) is_queued: bool,
}

impl Tape {
    pub(super) fn queued(session: SessionId, class: usize, is_queued: bool) -> Self {
        Tape { session, class, how: How::Async(Losses { lost: [(0, 0); 2], lost_facts: 0, is_queued }) }
    }

    /// Ready once all that was appended of a [`Mode::Strict`] session is recorded: only then may it go on. `Err`: some of it
    /// never will be. Two tasks may wait, one for what goes to each `side`.
    pub fn poll_recorded(&self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), RecordingFault>> {
        match &self.how {
            How::Strict(tape) => tape.poll_recorded(side, cx),
            How::Async(_) => Poll::Ready(Ok(())),
        }
    }
}
