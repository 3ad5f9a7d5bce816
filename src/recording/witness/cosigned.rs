//! Checkpoints of the own log that witnesses have cosigned: the newest of each, beside the log.

use super::super::directory::DirectoryFault;
use super::super::files::{make_folders, read_text, replace};
use super::super::log::note::{SignedCheckpoint, Verifier};
use std::path::{Path, PathBuf};

/// A checkpoint as a witness has seen it.
#[derive(Clone, Debug)]
pub struct Cosigned {
    /// With the log's own signatures.
    pub note: SignedCheckpoint,
    /// When, seconds since 1970.
    pub time: u64,
}

/// The file of a witness's newest cosignature.
pub fn path(log: &Path, witness: &Verifier) -> PathBuf {
    log.join("witnesses").join(super::super::hex(&witness.id()))
}

/// Reads the newest cosignature of a witness; `None` where there is none. Refuses what it did not sign.
pub fn read(log: &Path, witness: &Verifier) -> Result<Option<Cosigned>, DirectoryFault> {
    let path = path(log, witness);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryFault::Io { path, error }),
    };
    let note = SignedCheckpoint::parse(&text).and_then(|note| Some((note.signed_at(witness)?, note)));
    match note {
        Some((time, note)) => Ok(Some(Cosigned { note, time })),
        None => Err(DirectoryFault::broken(&path, format!("not cosigned by {}", witness.name()))),
    }
}

/// Keeps the newest cosignature of a witness: the signed note with its line.
pub(super) fn write(log: &Path, witness: &Verifier, note: &str) -> Result<(), DirectoryFault> {
    make_folders(&log.join("witnesses"))?;
    replace(&path(log, witness), note.as_bytes())
}
