//! A segment file, frame by frame.

use super::super::directory::Directory;
use super::super::files::open_file;
use super::super::format::FormatFault;
use super::super::format::frame::{self, FIRST, FrameHead, KeyNotice, Kind};
use super::super::format::segment::{HEAD, SegmentHead};
use crate::names::SessionId;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A fault of a file, with its offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: at byte {offset}: {reason}", file.display())]
pub struct ReadFault {
    /// Which file.
    pub file: PathBuf,
    /// Bytes before it.
    pub offset: u64,
    /// What.
    pub reason: String,
}

/// A frame that was read. `payload` is empty when only heads are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins.
    pub offset: u64,
    /// Its head.
    pub head: FrameHead,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A segment that is read from its beginning.
pub struct SegmentFile {
    path: PathBuf,
    /// Its head.
    pub head: SegmentHead,
    /// Bytes of the file.
    pub length: u64,
    file: BufReader<File>,
    offset: u64,
    /// A head that was read ahead.
    peeked: Option<FrameHead>,
}

impl ReadFault {
    /// What is wrong with the file of a directory's identity, if anything.
    pub(super) fn of_identity(directory: &Directory) -> Option<Self> {
        let reason = directory.identity_fault()?.to_owned();
        Some(ReadFault { file: directory.identity_file(), offset: 0, reason })
    }
}

impl SegmentFile {
    /// Opens a segment and reads its head.
    pub fn open(path: &Path) -> Result<Self, ReadFault> {
        SegmentFile::open_buffered(path, 256 * 1024)
    }

    /// As [`SegmentFile::open`], for a reader that reads so many bytes at a time.
    fn open_buffered(path: &Path, buffer: usize) -> Result<Self, ReadFault> {
        let fault = |offset: u64, reason: String| ReadFault { file: path.to_owned(), offset, reason };
        let io = |error: std::io::Error| fault(0, error.to_string());
        let file = open_file(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut file = BufReader::with_capacity(buffer, file);
        let mut bytes = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut bytes).map_err(io)?;
        let whole = SegmentHead::length(&bytes).map_err(|why| fault(0, why.to_string()))?;
        file.by_ref().take((whole - HEAD) as u64).read_to_end(&mut bytes).map_err(io)?;
        let head = SegmentHead::parse(&bytes).map_err(|why| fault(0, why.to_string()))?;
        Ok(SegmentFile { path: path.to_owned(), head, length, file, offset: whole as u64, peeked: None })
    }

    /// Opens a segment of a directory; refuses one that another gateway wrote, or that has another number.
    pub fn open_own(directory: &Directory, number: u64) -> Result<Self, ReadFault> {
        let file = SegmentFile::open(&directory.segment(number, "seg"))?;
        match file.head.gateway == directory.gateway() && file.head.number == number {
            true => Ok(file),
            false => Err(file.fault(0, "another gateway's or another number's segment")),
        }
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A fault at a place of this file.
    pub fn fault(&self, offset: u64, reason: impl std::fmt::Display) -> ReadFault {
        ReadFault { file: self.path.clone(), offset, reason: reason.to_string() }
    }

    /// The next frame; `None` at the end of the file. After an error nothing more can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadFault> {
        let Some(head) = self.next_head()? else { return Ok(None) };
        let mut payload = vec![0; head.length as usize];
        self.file.read_exact(&mut payload).map_err(|error| self.fault(self.offset, error))?;
        Ok(Some(self.advance(head, payload)))
    }

    /// The next frame; the payload is read only where it is no records.
    pub fn next_without_records(&mut self) -> Result<Option<Frame>, ReadFault> {
        let Some(head) = self.next_head()? else { return Ok(None) };
        let mut payload = Vec::new();
        if matches!(head.kind, Kind::Down | Kind::Up) {
            self.file
                .seek_relative(i64::from(head.length))
                .map_err(|error| self.fault(self.offset, error))?;
        } else {
            payload.resize(head.length as usize, 0);
            self.file.read_exact(&mut payload).map_err(|error| self.fault(self.offset, error))?;
        }
        Ok(Some(self.advance(head, payload)))
    }

    /// The session of the next frame, which is not read yet; `None` at the end of the file.
    pub fn peek_session(&mut self) -> Result<Option<SessionId>, ReadFault> {
        if self.peeked.is_none() {
            self.peeked = self.next_head()?;
        }
        Ok(self.peeked.map(|head| head.session))
    }

    fn advance(&mut self, head: FrameHead, payload: Vec<u8>) -> Frame {
        let offset = self.offset;
        self.offset += frame::HEAD as u64 + u64::from(head.length);
        Frame { offset, head, payload }
    }

    fn next_head(&mut self) -> Result<Option<FrameHead>, ReadFault> {
        if let Some(head) = self.peeked.take() {
            return Ok(Some(head));
        }
        let left = self.length.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let cut = |have, need| FormatFault::Cut { what: "frame", have, need };
        if left < frame::HEAD as u64 {
            return Err(self.fault(self.offset, cut(left as usize, frame::HEAD)));
        }
        let mut bytes = [0; frame::HEAD];
        self.file.read_exact(&mut bytes).map_err(|error| self.fault(self.offset, error))?;
        let head = FrameHead::parse(&bytes).map_err(|why| self.fault(self.offset, why))?;
        let need = frame::HEAD + head.length as usize;
        if left < need as u64 {
            return Err(self.fault(self.offset, cut(left as usize, need)));
        }
        Ok(Some(head))
    }

    /// Bytes up to the end of the last whole frame.
    pub fn valid_length(mut self) -> u64 {
        while let Ok(Some(_)) = self.next_without_records() {}
        self.offset
    }

    /// All bytes of the head, as they stand.
    pub fn head_bytes(&mut self) -> Result<Vec<u8>, ReadFault> {
        let back = self.file.stream_position();
        let read = back.and_then(|back| {
            self.file.seek(SeekFrom::Start(0))?;
            let mut bytes = vec![0; self.head.encode().len()];
            self.file.read_exact(&mut bytes)?;
            self.file.seek(SeekFrom::Start(back))?;
            Ok(bytes)
        });
        read.map_err(|error| self.fault(0, error))
    }
}

/// The head of a segment file, if it can be read.
pub fn read_head(path: &Path) -> Option<SegmentHead> {
    // A head with two envelopes has about 1 KB.
    SegmentFile::open_buffered(path, 2048).ok().map(|file| file.head)
}

/// Where a session's secrets stand in a segment's key file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPlaces {
    /// True when the segment has a frame of the session.
    pub is_present: bool,
    /// Places in the key file.
    pub places: Vec<u32>,
}

/// The places of a session's secrets, as far as the segment can be read.
pub fn key_places(mut file: SegmentFile, session: SessionId) -> KeyPlaces {
    let mut found = KeyPlaces::default();
    while let Ok(Some(frame)) = file.next_without_records() {
        if frame.head.session != session {
            continue;
        }
        found.is_present = true;
        if frame.head.kind == Kind::Key
            && let Ok(notice) = KeyNotice::parse(&frame.payload)
        {
            found.places.push(notice.place);
        }
    }
    found
}

/// The sessions that have frames in a segment; true for those that begin in it.
pub fn sessions_of(mut file: SegmentFile) -> Result<HashMap<SessionId, bool>, ReadFault> {
    let mut found = HashMap::new();
    while let Some(frame) = file.next_without_records()? {
        *found.entry(frame.head.session).or_default() |= is_first(&frame.head);
    }
    Ok(found)
}

/// The same as far as the segment can be read.
pub(super) fn readable_sessions(mut file: SegmentFile) -> HashMap<SessionId, bool> {
    let mut found = HashMap::new();
    while let Ok(Some(frame)) = file.next_without_records() {
        *found.entry(frame.head.session).or_default() |= is_first(&frame.head);
    }
    found
}

/// True for a session's first frame of all.
pub(super) fn is_first(head: &FrameHead) -> bool {
    head.flags & FIRST != 0
}
