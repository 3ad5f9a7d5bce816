//! Commands that read recordings: an auditor's key, and the sessions of a directory.
//!
//! They print tables for people, JSON lines and CSV for programs. A file that cannot be read is told on standard error and
//! hides no other; the exit code is 1 then.

pub mod arguments;
pub mod export;
mod interrupt;
pub mod keygen;
pub mod list;
mod output;
mod progress;
pub mod replay;
pub mod report;
pub mod rewrap;
pub mod sessions;
pub mod show;
mod table;
#[cfg(test)]
mod tests;
pub mod transcript;
pub mod when;

use crate::recording::directory::DirectoryFault;
use crate::recording::format::envelope::Identities;
use std::path::{Path, PathBuf};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceFault {
    /// A usage error.
    #[error("{0}")]
    Usage(String),
    /// A file or folder.
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
    /// A file that is not part of a directory of recordings.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Refused by the gateway or its rules.
    #[error("{0}")]
    Refused(String),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl EvidenceFault {
    /// 2 for usage, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            EvidenceFault::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Reads an identity file as age's.
fn identities(path: &Path) -> Result<Identities, EvidenceFault> {
    let told = |why: String| EvidenceFault::File { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| told(error.to_string()))?;
    if text.starts_with("-----BEGIN AGE") || text.starts_with("age-encryption.org") {
        return Err(told("is encrypted with a passphrase; decrypt it first: age -d".into()));
    }
    Identities::parse(&text).map_err(told)
}
