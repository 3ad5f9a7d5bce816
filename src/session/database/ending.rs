//! Ending a database session: an error message in its protocol, between two messages.

use crate::close::Close;
use std::time::Duration;
use tokio::time::Instant;

/// Progress of a session's end. `W`: the final message.
pub(super) enum End<W> {
    /// Not ending.
    Open,
    /// The client is to be told as soon as no message of the upstream's is under way, and then it is over.
    Leaving { close: Close, words: W, until: Instant },
    /// The client was told, or the upstream has ended.
    Left { close: Close, until: Instant },
}

/// How long the rest of a message may take that stands before the last words, and the last words themselves.
const LAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

impl<W> End<W> {
    /// Begins the end, unless it has begun.
    pub(super) fn leave(&mut self, close: Close, words: W) {
        if self.is_open() {
            *self = End::Leaving { close, words, until: Instant::now() + LAST_MESSAGE_TIMEOUT };
        }
    }

    /// The upstream has ended its direction.
    pub(super) fn upstream_ended(&mut self) {
        if self.is_open() {
            *self = End::Left { close: Close::Done, until: Instant::now() + LAST_MESSAGE_TIMEOUT };
        }
    }

    /// What the client is to be told, at a place where it can be. Nothing is said twice.
    pub(super) fn say(&mut self) -> Option<W> {
        if !self.is_ending() {
            return None;
        }
        match std::mem::replace(self, End::Open) {
            End::Leaving { close, words, until } => {
                *self = End::Left { close, until };
                Some(words)
            }
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, End::Open)
    }

    /// True while there is something to tell the client.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self, End::Leaving { .. })
    }

    /// Why the session ended, where it ended here.
    pub(super) fn left(&self) -> Option<Close> {
        match self {
            End::Left { close, .. } => Some(*close),
            End::Open | End::Leaving { .. } => None,
        }
    }

    /// When something is due: the end of the permit, or that of our patience.
    pub(super) fn due(&self, permit: Option<Instant>) -> Option<Instant> {
        match self {
            End::Open => permit,
            End::Leaving { until, .. } | End::Left { until, .. } => Some(*until),
        }
    }

    /// The deadline was reached. `Err`: the peer reads too slowly.
    pub(super) fn check_patience(&self) -> Result<(), Close> {
        match self {
            End::Open => Ok(()),
            End::Leaving { close, .. } | End::Left { close, .. } => Err(*close),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_counts_and_is_said_once() {
        let (now, mut end) = (Instant::now(), End::Open);
        let permit = Some(now + Duration::from_secs(60));
        assert_eq!((end.due(permit), end.check_patience(), end.say()), (permit, Ok(()), None));
        end.leave(Close::Expired, "first");
        end.leave(Close::Drained, "second");
        end.upstream_ended();
        assert!(end.is_ending() && end.left().is_none());
        assert_eq!(end.due(permit), Some(now + LAST_MESSAGE_TIMEOUT));
        assert_eq!((end.say(), end.say()), (Some("first"), None));
        assert_eq!((end.left(), end.check_patience()), (Some(Close::Expired), Err(Close::Expired)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_ends_leaves_nothing_to_say() {
        let mut end = End::<&str>::Open;
        end.upstream_ended();
        end.leave(Close::Expired, "too late");
        assert_eq!((end.say(), end.left()), (None, Some(Close::Done)));
    }
}
