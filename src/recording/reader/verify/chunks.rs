//! Digests of a segment's ranges, held against the log's.

use super::super::super::digest::{ChunkDigest, NotRecords, add_read};
use super::super::super::format::frame::HEAD;
use super::super::log_view::LoggedSegment;
use super::super::segment::{Frame, SegmentFile};
use super::report::{Area, Report};

/// Digests of a segment's ranges, held against the log's.
pub(super) struct Chunks<'t> {
    logged: &'t [(u64, u64, [u8; 32])],
    next: usize,
    digest: ChunkDigest,
    /// End of what is digested.
    at: u64,
    from: u64,
}

impl<'t> Chunks<'t> {
    pub(super) fn new(logged: &'t LoggedSegment, head: Vec<u8>, at: u64) -> Self {
        let mut digest = ChunkDigest::new();
        digest.add_bytes(&head);
        Chunks { logged: &logged.chunks, next: 0, digest, at, from: 0 }
    }

    pub(super) fn add(&mut self, frame: &Frame) -> Result<u32, NotRecords> {
        self.at = frame.offset + HEAD as u64 + u64::from(frame.head.length);
        add_read(&mut self.digest, &frame.head, &frame.payload)
    }

    /// Compares at the end of a range.
    pub(super) fn check(&mut self, file: &SegmentFile, report: &mut Report) {
        let Some((from, to, expected)) = self.logged.get(self.next) else { return };
        if self.at < *to {
            return;
        }
        let digest = std::mem::replace(&mut self.digest, ChunkDigest::new()).finish();
        if (*from, *to) != (self.from, self.at) || digest != *expected {
            let why = format!("bytes {from} to {to} are not those that the log holds");
            report.add(Area::Integrity, true, file.fault(*from, why));
        }
        (self.from, self.next) = (self.at, self.next + 1);
    }

    pub(super) fn finish(mut self, file: &SegmentFile, report: &mut Report) {
        self.check(file, report);
        if let Some((from, to, _)) = self.logged.get(self.next) {
            let why = format!("cut: the log holds bytes {from} to {to}");
            report.add(Area::Completeness, true, file.fault(self.at, why));
        }
    }
}
