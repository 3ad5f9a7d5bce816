//! A witness: remembers the newest checkpoint of a log and refuses one that is not a continuation (c2sp.org/tlog-witness).
//! Pure: who asks, and where the memory is kept, are the caller's.
//!
//! ```text
//!   old <size>\n  <base64 hash>\n…  \n  <signed note>       add-checkpoint: the size that the proof begins at, the proof, the checkpoint
//! ```

use super::note::{Checkpoint, SignedCheckpoint, Verifier, parse_decimal};
use super::tree::{Hash, is_consistent, root};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Hashes of the longest proof of a tree with 2^64 entries (c2sp.org/tlog-witness).
const MAX_PROOF: usize = 63;

/// Why a checkpoint is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a request of the protocol.
    #[error("not a request of c2sp.org/tlog-witness")]
    Malformed,
    /// A log that the witness does not know.
    #[error("this log is not known here")]
    Unknown,
    /// Not signed by the log's key.
    #[error("not signed by the log")]
    NotSigned,
    /// The witness has seen another size than the log thinks.
    #[error("the witness has seen {0} entries")]
    Conflict(u64),
    /// The proof does not hold: the log was forked.
    #[error("the checkpoint does not continue what the witness has seen")]
    Forked,
    /// Smaller than what it claims to continue.
    #[error("the checkpoint is older than the one that it continues")]
    Older,
}

impl Refusal {
    /// The status of the HTTP answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed | Refusal::Older => 400,
            Refusal::NotSigned => 403,
            Refusal::Unknown => 404,
            Refusal::Conflict(_) => 409,
            Refusal::Forked => 422,
        }
    }
}

/// A request for a cosignature.
#[derive(Clone, Debug)]
pub struct AddCheckpoint {
    /// Entries of the checkpoint that the proof begins at.
    pub old: u64,
    /// That the new one continues it.
    pub proof: Vec<Hash>,
    /// The new one.
    pub note: SignedCheckpoint,
}

impl AddCheckpoint {
    /// Reads the body of a request.
    pub fn parse(body: &str) -> Option<Self> {
        let (head, note) = body.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = parse_decimal(lines.next()?.strip_prefix("old ")?)?;
        let hash = |line: &str| STANDARD.decode(line).ok()?.try_into().ok();
        let proof: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
        let note = SignedCheckpoint::parse(note)?;
        (proof.len() <= MAX_PROOF).then_some(AddCheckpoint { old, proof, note })
    }

    /// The body of a request with the text of a signed note.
    pub fn body(old: u64, proof: &[Hash], note: &str) -> String {
        let lines: String = proof.iter().map(|hash| format!("{}\n", STANDARD.encode(hash))).collect();
        format!("old {old}\n{lines}\n{note}")
    }
}

/// A witness's state of one log.
#[derive(Clone, Debug)]
pub struct Witness {
    log: Verifier,
    seen: Option<Checkpoint>,
}

impl Witness {
    /// Knows a log by its key, whose name is the log's origin.
    pub fn new(log: Verifier, seen: Option<Checkpoint>) -> Self {
        Witness { log, seen }
    }

    /// The log's key.
    pub fn log(&self) -> &Verifier {
        &self.log
    }

    /// The newest checkpoint that was accepted.
    pub fn seen(&self) -> Option<&Checkpoint> {
        self.seen.as_ref()
    }

    /// Checks that a checkpoint continues what was seen; [`Witness::remember`] it before it is cosigned.
    pub fn check(&self, request: &AddCheckpoint) -> Result<(), Refusal> {
        let AddCheckpoint { old, proof, note } = request;
        let new = &note.checkpoint;
        if new.origin != self.log.name() {
            return Err(Refusal::Unknown);
        }
        if !note.is_signed_by(&self.log) {
            return Err(Refusal::NotSigned);
        }
        if *old > new.size {
            return Err(Refusal::Older);
        }
        let (size, seen) = self.seen.as_ref().map_or((0, root(&[])), |seen| (seen.size, seen.root));
        if *old != size {
            return Err(Refusal::Conflict(size));
        }
        let is_empty_fork = new.size == 0 && new.root != root(&[]);
        match !is_empty_fork && is_consistent((size, &seen), (new.size, &new.root), proof) {
            true => Ok(()),
            false => Err(Refusal::Forked),
        }
    }

    /// Remembers a checkpoint as the newest.
    pub fn remember(&mut self, checkpoint: Checkpoint) {
        self.seen = Some(checkpoint);
    }
}
