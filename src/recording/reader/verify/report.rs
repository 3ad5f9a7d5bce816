//! Findings of a verification.

use super::super::super::directory::DirectoryFault;
use super::super::segment::ReadFault;
use std::collections::BTreeMap;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Bytes are not what was written.
    Integrity,
    /// Something that was written is not there.
    Completeness,
    /// A secret is gone.
    Erasure,
}

/// All areas with their names.
pub const AREAS: [(Area, &str); 3] =
    [(Area::Integrity, "integrity"), (Area::Completeness, "completeness"), (Area::Erasure, "erasure")];

/// A finding. A fault fails its area; a note does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// About what.
    pub area: Area,
    /// True for faults.
    pub is_fault: bool,
    /// Where and what.
    pub place: ReadFault,
}

/// Findings of a verification.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of files.
    pub findings: Vec<Finding>,
    /// Segments that were read.
    pub segments: u64,
    /// Sessions in them.
    pub sessions: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Records that an identity opened.
    pub opened: u64,
    /// Sessions whose secrets are erased, and the log's entry that says so.
    pub erased: BTreeMap<u64, u64>,
    /// Time of the log's last entry, ns since 1970.
    pub last_entry: u64,
    /// Time-stamps that the log tells of: entries that each covers, and the SHA-256 of the answer.
    pub timestamps: BTreeMap<u64, [u8; 32]>,
    /// Limits of this verification.
    pub limits: Vec<String>,
}

impl Report {
    /// True when the area has no fault.
    pub fn is_good(&self, area: Area) -> bool {
        !self.findings.iter().any(|finding| finding.is_fault && finding.area == area)
    }

    /// Faults alone.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_fault)
    }

    pub(super) fn add(&mut self, area: Area, is_fault: bool, place: ReadFault) {
        self.findings.push(Finding { area, is_fault, place });
    }
}

/// A fault of the log as one of a file.
pub(super) fn of_log(fault: &DirectoryFault) -> ReadFault {
    let (file, reason) = match fault {
        DirectoryFault::Io { path, error } => (path.clone(), error.to_string()),
        DirectoryFault::Unsafe { path, why } | DirectoryFault::Broken { path, why } => {
            (path.clone(), why.clone())
        }
        DirectoryFault::InUse(path) => (path.clone(), fault.to_string()),
    };
    ReadFault { file, offset: 0, reason }
}
