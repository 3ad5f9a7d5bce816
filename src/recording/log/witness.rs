//! A witness: remembers the newest checkpoint of a log and refuses one that is not a continuation (c2sp.org/tlog-witness).
//! Pure: who asks, and where the memory is kept, are the caller's.

use super::note::{Checkpoint, SignedCheckpoint, Verifier};
use super::tree::{Hash, is_consistent};

/// Why a checkpoint is not cosigned, with the status of the specification's HTTP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 403: not signed by the log's key, or another log's.
    #[error("not signed by the log")]
    NotSigned,
    /// 409: the witness has seen another size than the log thinks.
    #[error("the witness has seen {0} entries")]
    Conflict(u64),
    /// 422: the proof does not hold: the log was forked.
    #[error("the checkpoint does not continue what the witness has seen")]
    Forked,
    /// 400: smaller than what it claims to continue.
    #[error("the checkpoint is older than the one that it continues")]
    Older,
}

/// What a witness remembers of one log.
pub struct Witness {
    log: Verifier,
    seen: Option<Checkpoint>,
}

impl Witness {
    /// Knows a log by its key alone.
    pub fn new(log: Verifier, seen: Option<Checkpoint>) -> Self {
        Witness { log, seen }
    }

    /// The newest checkpoint that was accepted.
    pub fn seen(&self) -> Option<&Checkpoint> {
        self.seen.as_ref()
    }

    /// Accepts a checkpoint that continues the one of size `old`.
    pub fn add_checkpoint(
        &mut self,
        old: u64,
        proof: &[Hash],
        new: &SignedCheckpoint,
    ) -> Result<(), Refusal> {
        let checkpoint = &new.checkpoint;
        if !new.is_signed_by(&self.log) || self.seen.as_ref().is_some_and(|s| s.origin != checkpoint.origin) {
            return Err(Refusal::NotSigned);
        }
        let (size, root) = self.seen.as_ref().map_or((0, [0; 32]), |seen| (seen.size, seen.root));
        if old > checkpoint.size {
            return Err(Refusal::Older);
        }
        if old != size {
            return Err(Refusal::Conflict(size));
        }
        if !is_consistent((size, &root), (checkpoint.size, &checkpoint.root), proof) {
            return Err(Refusal::Forked);
        }
        self.seen = Some(checkpoint.clone());
        Ok(())
    }
}
