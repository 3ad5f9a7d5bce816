//! The digest of live checkpoints: of each frame its head, and of each record in it head and tag. A tag vouches for the
//! record's bytes to whoever holds the key, so a thousandth of the bytes is hashed while data flows.

use super::format::frame::{self, FrameHead, Kind};
use crate::tls::record;
use ring::digest::{Context, SHA256};

/// Bytes of an AEAD tag.
const TAG: usize = 16;
/// A record's head and tag.
const HASHED: usize = record::HEADER + TAG;

/// A payload that is no sequence of whole records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sequence of whole TLS records")]
pub(super) struct NotRecords;

/// The digest of a range of frames.
#[derive(Clone)]
pub(super) struct ChunkDigest(Context);

impl ChunkDigest {
    pub(super) fn new() -> Self {
        ChunkDigest(Context::new(&SHA256))
    }

    /// Adds bytes that stand before the frames: a segment's head.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a frame; counts its records. Records may straddle the slices.
    pub(super) fn add_frame<'s>(
        &mut self,
        kind: Kind,
        head: &[u8; frame::HEAD],
        payload: impl Iterator<Item = &'s [u8]>,
    ) -> Result<u32, NotRecords> {
        self.0.update(head);
        if !matches!(kind, Kind::Down | Kind::Up) {
            payload.for_each(|slice| self.0.update(slice));
            return Ok(0);
        }
        let mut scan = RecordScan::default();
        for slice in payload {
            scan.feed(slice, |hashed| self.0.update(hashed))?;
        }
        scan.finish()
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Counts the records of a payload.
pub(super) fn count_records<'s>(payload: impl Iterator<Item = &'s [u8]>) -> Result<u32, NotRecords> {
    let mut scan = RecordScan::default();
    for slice in payload {
        scan.feed(slice, |_| {})?;
    }
    scan.finish()
}

/// Checks a frame that was read, and adds it.
pub(super) fn add_read(
    digest: &mut ChunkDigest,
    head: &FrameHead,
    payload: &[u8],
) -> Result<u32, NotRecords> {
    digest.add_frame(head.kind, &head.encode(), std::iter::once(payload))
}

/// Walks over records that come in pieces.
///
/// ```text
///   kept: head bytes until `have == 5`, then the last 16 bytes of the record as they come
///   left: bytes of the record that have not come, once its head is whole
/// ```
#[derive(Default)]
struct RecordScan {
    kept: [u8; HASHED],
    have: usize,
    left: usize,
    count: u32,
}

impl RecordScan {
    fn feed(&mut self, mut slice: &[u8], mut hash: impl FnMut(&[u8])) -> Result<(), NotRecords> {
        while !slice.is_empty() {
            if self.have < record::HEADER {
                let take = slice.len().min(record::HEADER - self.have);
                self.kept[self.have..self.have + take].copy_from_slice(&slice[..take]);
                self.have += take;
                slice = &slice[take..];
                if self.have == record::HEADER {
                    let whole = record::record_length(&self.kept[..record::HEADER]);
                    let whole = whole.ok().flatten().ok_or(NotRecords)?;
                    self.left = whole - record::HEADER;
                    if self.left < TAG {
                        return Err(NotRecords);
                    }
                }
                continue;
            }
            // Over the body, up to the tag.
            let skip = slice.len().min(self.left.saturating_sub(TAG));
            self.left -= skip;
            slice = &slice[skip..];
            let take = slice.len().min(self.left);
            self.kept[self.have..self.have + take].copy_from_slice(&slice[..take]);
            self.have += take;
            self.left -= take;
            slice = &slice[take..];
            if self.left == 0 {
                hash(&self.kept);
                self.count += 1;
                self.have = 0;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<u32, NotRecords> {
        match self.have {
            0 => Ok(self.count),
            _ => Err(NotRecords),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SessionId;

    fn records() -> Vec<u8> {
        let one = [&[23, 3, 3, 0, 18][..], &[1, 2], &[7; 16]].concat();
        let two = [&[23, 3, 3, 0, 16][..], &[8; 16]].concat();
        [one, two].concat()
    }

    fn head() -> [u8; frame::HEAD] {
        let head = FrameHead {
            length: 0,
            kind: Kind::Down,
            flags: 0,
            epoch: 0,
            session: SessionId(1),
            time: 1,
            number: 0,
        };
        head.encode()
    }

    #[test]
    fn heads_and_tags_are_hashed_wherever_the_slices_are_cut() {
        let bytes = records();
        let mut expected = ChunkDigest::new();
        expected.add_bytes(&head());
        expected.add_bytes(&[&[23, 3, 3, 0, 18][..], &[7; 16], &[23, 3, 3, 0, 16], &[8; 16]].concat());
        let expected = expected.finish();
        for a in 0..=bytes.len() {
            for b in a..=bytes.len() {
                let mut digest = ChunkDigest::new();
                let slices = [&bytes[..a], &bytes[a..b], &bytes[b..]];
                assert_eq!(digest.add_frame(Kind::Down, &head(), slices.into_iter()), Ok(2));
                assert_eq!(digest.finish(), expected, "{a} {b}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_records_is_refused() {
        let bytes = records();
        for end in (1..bytes.len()).filter(|end| *end != 23) {
            assert_eq!(count_records(std::iter::once(&bytes[..end])), Err(NotRecords), "{end}");
        }
        assert_eq!(count_records(std::iter::once(&[99, 3, 3, 0, 16][..])), Err(NotRecords));
        assert_eq!(count_records(std::iter::once(&[23, 3, 3, 0, 15, 0][..])), Err(NotRecords));
        assert_eq!(count_records(std::iter::empty()), Ok(0));
    }
}
