//! An open segment: frames go to its end, in one system call each.

use super::super::archive::{Archive, Closed, Closing, Progress, count};
use super::super::clock::Clock;
use super::super::digest::ChunkDigest;
use super::super::directory::Directory;
use super::super::files::private_options;
use super::super::format::frame::{self, FrameHead};
use super::super::format::keys::{ENTRY, EnvelopeKey};
use super::super::format::segment::SegmentHead;
use super::super::format::{FormatFault, envelope};
use super::super::settings::{RetentionClass, Settings};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::{Errno, pwritev};
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Slices of an append that are written from where they lie; more are copied together first.
pub(super) const MAX_SLICES: usize = 16;

/// Why a frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteFault {
    /// The disk is full. What was written of the frame was cut off again.
    Full,
    /// Anything else: the file must not be touched again.
    Damaged,
}

impl From<Errno> for WriteFault {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOSPC | Errno::DQUOT => WriteFault::Full,
            _ => WriteFault::Damaged,
        }
    }
}

impl From<std::io::Error> for WriteFault {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(WriteFault::Damaged, WriteFault::from)
    }
}

impl From<FormatFault> for WriteFault {
    fn from(_: FormatFault) -> Self {
        WriteFault::Damaged
    }
}

/// Reserves the space of a segment in a file of its own.
pub(super) fn reserve(path: &Path, size: u64) -> Result<File, WriteFault> {
    let file = private_options().create(true).truncate(true).open(path)?;
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
        // A file system that cannot reserve: a full disk meets the sessions, and is handled there.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(file),
        Err(error) => {
            let _ = std::fs::remove_file(path);
            Err(error.into())
        }
    }
}

/// Which segment is opened.
pub(super) struct Opening {
    pub(super) worker: u16,
    pub(super) class: usize,
    pub(super) previous: u64,
}

/// A segment that takes frames.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) opened: u64,
    pub(super) key: EnvelopeKey,
    pub(super) facts: EnvelopeKey,
    /// Where the next frame goes.
    pub(super) offset: u64,
    size: u64,
    has_frames: bool,
    entries: u32,
    bytes: Arc<File>,
    keys: Arc<File>,
    progress: Arc<Mutex<Progress>>,
    unsynced: bool,
}

impl Segment {
    /// Opens a segment in reserved space. It has its name only once its head is whole.
    pub(super) fn open(
        archive: &Archive,
        opening: &Opening,
        clock: &mut Clock,
        spare: File,
    ) -> Result<Self, WriteFault> {
        let Archive { directory, settings, .. } = archive;
        let (number, opened) = (archive.take_number(), clock.stamp());
        let (key, facts) = (EnvelopeKey::random(), EnvelopeKey::random());
        let head = segment_head(directory, settings, opening, number, opened, [&key, &facts])?.encode();
        spare.write_all_at(&head, 0)?;
        let keys = private_options().create_new(true).open(directory.segment(number, "keys"))?;
        std::fs::rename(directory.spare(opening.worker, opening.class), directory.segment(number, "seg"))?;
        let (bytes, keys, offset) = (Arc::new(spare), Arc::new(keys), head.len() as u64);
        let mut digest = ChunkDigest::new();
        digest.add_bytes(&head);
        let progress = Arc::new(Mutex::new(Progress {
            number,
            from: 0,
            to: offset,
            digest,
            bytes: bytes.clone(),
            keys: keys.clone(),
            written_back: 0,
            damaged: false,
        }));
        archive.open.lock().push(progress.clone());
        let (size, has_frames, entries, unsynced) = (settings.segment_size, false, 0, true);
        Ok(Segment {
            number,
            opened,
            key,
            facts,
            offset,
            size,
            has_frames,
            entries,
            bytes,
            keys,
            progress,
            unsynced,
        })
    }

    /// True when a payload of `length` bytes goes in, and `frames` frames in all.
    pub(super) fn has_room(&self, length: usize, frames: usize) -> bool {
        self.offset + (length + frames * frame::HEAD) as u64 <= self.size
    }

    pub(super) fn has_frames(&self) -> bool {
        self.has_frames
    }

    /// Writes an entry to the key file; says at which place.
    pub(super) fn write_key(&mut self, entry: &[u8; ENTRY]) -> Result<u32, WriteFault> {
        let place = self.entries;
        self.unsynced = true;
        self.keys.write_all_at(entry, u64::from(place) * ENTRY as u64)?;
        self.entries += 1;
        Ok(place)
    }

    /// Writes a frame; says how many records it holds.
    pub(super) fn write(&mut self, head: &FrameHead, payload: &[IoSlice<'_>]) -> Result<u32, WriteFault> {
        let bytes = head.encode();
        let mut progress = self.progress.lock();
        if progress.damaged {
            return Err(WriteFault::Damaged);
        }
        let mut digest = progress.digest.clone();
        let records = digest
            .add_frame(head.kind, &bytes, payload.iter().map(|slice| &**slice))
            .map_err(|_| WriteFault::Damaged)?;
        let length = (frame::HEAD as u64) + u64::from(head.length);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES + 1];
        slices[0] = IoSlice::new(&bytes);
        let places = slices.get_mut(1..=payload.len()).ok_or(WriteFault::Damaged)?;
        places.copy_from_slice(payload);
        self.unsynced = true;
        if let Err(fault) = write_all(&self.bytes, &mut slices[..=payload.len()], self.offset) {
            // What stands behind the last whole frame is torn: readers stop there. Space that others may need.
            if fault == WriteFault::Full && self.bytes.set_len(self.offset).is_ok() {
                return Err(WriteFault::Full);
            }
            progress.damaged = true;
            return Err(WriteFault::Damaged);
        }
        self.offset += length;
        self.has_frames = true;
        progress.digest = digest;
        progress.to = self.offset;
        Ok(records)
    }

    /// Brings everything to the disk: secrets first, since frames without them are unreadable.
    pub(super) fn sync(&mut self) -> Result<(), WriteFault> {
        if !self.unsynced {
            return Ok(());
        }
        if fdatasync(&*self.keys).and_then(|()| fdatasync(&*self.bytes)).is_err() {
            // Never tried again: after a failed fsync the kernel has forgotten which pages were not written.
            self.progress.lock().damaged = true;
            return Err(WriteFault::Damaged);
        }
        self.unsynced = false;
        Ok(())
    }

    /// Completes the segment: gives unused space back, and hands it to the log and the hasher.
    pub(super) fn close(self, archive: &Archive, damaged: bool) {
        let mut progress = self.progress.lock();
        progress.damaged |= damaged;
        let damaged = progress.damaged;
        if let Some(line) = archive.take_chunk(&mut progress) {
            archive.enter(line);
        }
        drop(progress);
        if damaged {
            count(&archive.counters.damaged, 1);
        } else {
            // Gives the space behind the end back. A file system that cannot keeps it until the segment is deleted.
            let rest = self.size.saturating_sub(self.offset).max(1);
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&*self.bytes, punch, self.offset, rest);
            let _ = self.bytes.set_len(self.offset);
        }
        archive.open.lock().retain(|open| !Arc::ptr_eq(open, &self.progress));
        let state = if damaged { Closing::Damaged } else { Closing::Clean };
        archive.hand_over(Closed { number: self.number, state });
    }
}

fn segment_head(
    directory: &Directory,
    settings: &Settings,
    opening: &Opening,
    number: u64,
    opened: u64,
    [key, facts]: [&EnvelopeKey; 2],
) -> Result<SegmentHead, FormatFault> {
    let both: Vec<_> = settings.auditors.iter().chain(&settings.indexers).cloned().collect();
    Ok(SegmentHead {
        worker: opening.worker,
        class: settings.classes.get(opening.class).map_or(0, RetentionClass::code),
        gateway: directory.gateway(),
        number,
        opened,
        previous: opening.previous,
        bytes_envelope: envelope::seal(key, &settings.auditors)?,
        facts_envelope: envelope::seal(facts, &both)?,
    })
}

/// Writes all slices from `offset` on. A short write goes on where it stopped.
fn write_all(file: &File, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> Result<(), WriteFault> {
    // Empty ones would look like a write that makes no progress.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match pwritev(file, slices, offset) {
            Ok(0) => return Err(WriteFault::Damaged),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
