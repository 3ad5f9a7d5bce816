//! One worker's writer of one retention class: finds room for each frame, and has a session's secrets on the disk before
//! its first record.

use super::super::archive::{Archive, RecordingFault, count};
use super::super::clock::Clock;
use super::super::format::frame::{
    FIRST, FrameHead, Gap, HEAD, KeyNotice, Kind, LAST, MAX_PAYLOAD, Plane, SEALED,
};
use super::super::format::keys::{self, FactPlace, Owner};
use super::super::format::traffic::suite_code;
use super::super::settings::{Durability, Mode};
use super::segment::{MAX_SLICES, Opening, Segment, WriteFault, reserve};
use super::track::Track;
use ring::digest::{SHA256, digest};
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Between two tries to reserve space on a full disk.
const RESERVE_INTERVAL_NS: u64 = 1_000_000_000;
/// Bytes that sealing adds to a record.
const EXPANSION: usize = crate::tls::record::HEADER + 1 + 16;

/// Content of a frame.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Whole records as they went over the wire.
    Wire(Plane, &'a [IoSlice<'a>]),
    /// Plaintext that we seal; at most [`MAX_PLAINTEXT`] bytes.
    Plaintext(Plane, &'a [u8]),
    /// An audit line.
    Fact(&'a [u8]),
    /// Sealed under K_facts.
    SealedFact(&'a [u8]),
    /// What was not recorded.
    Gap(Gap),
    /// The session's totals.
    End,
}

/// Plaintext of one frame.
pub(super) const MAX_PLAINTEXT: usize = 512 * 1024;

enum Fault {
    /// The segment is full, or the disk: try again in the next.
    Full,
    Final(RecordingFault),
}

impl From<RecordingFault> for Fault {
    fn from(fault: RecordingFault) -> Self {
        Fault::Final(fault)
    }
}

/// The writer of one class.
pub(super) struct Appender {
    archive: Arc<Archive>,
    worker: u16,
    class: usize,
    clock: Clock,
    current: Option<Segment>,
    previous: u64,
    spare: Option<File>,
    /// Before this stamp no other try to reserve.
    reserve_after: u64,
    /// Segments that were damaged: their sessions end.
    damaged: Vec<u64>,
    scratch: Vec<u8>,
}

impl Appender {
    pub(super) fn new(archive: Arc<Archive>, worker: u16, class: usize) -> Self {
        let clock = Clock::new(archive.wall, archive.floor);
        Appender {
            archive,
            worker,
            class,
            clock,
            current: None,
            previous: 0,
            spare: None,
            reserve_after: 0,
            damaged: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Makes sure that a new session has a segment, and live ones another after it.
    pub(super) fn admit(&mut self) -> Result<(), RecordingFault> {
        let began = Instant::now();
        let admitted = self.open_and_reserve();
        self.archive.slowness.note(began.elapsed());
        admitted
    }

    fn open_and_reserve(&mut self) -> Result<(), RecordingFault> {
        self.roll_if_old();
        if self.current.is_none() {
            self.open()?;
        }
        match self.spare.is_some() || self.reserve() {
            true => Ok(()),
            false => Err(RecordingFault::NoSpace),
        }
    }

    /// Does what time asks for: closes an old segment, and looks whether space has come back. Nobody may come to ask for it:
    /// a gateway that is not ready gets no new sessions.
    pub(super) fn tick(&mut self) {
        let began = Instant::now();
        self.roll_if_old();
        if self.reserve_after != 0 {
            self.reserve();
        }
        self.archive.slowness.note(began.elapsed());
    }

    /// Closes a segment that is older than allowed and has frames.
    pub(super) fn roll_if_old(&mut self) {
        let now = self.clock.stamp();
        let age = u64::try_from(self.archive.settings.segment_age.as_nanos()).unwrap_or(u64::MAX);
        if self.current.as_ref().is_some_and(|s| s.has_frames() && now.saturating_sub(s.opened) >= age) {
            self.close(false);
        }
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&mut self) -> Result<(), RecordingFault> {
        let Some(segment) = &mut self.current else { return Ok(()) };
        segment.sync().map_err(|_| {
            self.close(true);
            RecordingFault::Damaged
        })
    }

    /// Closes the current segment.
    pub(super) fn close(&mut self, damaged: bool) {
        let Some(mut segment) = self.current.take() else { return };
        self.previous = segment.number;
        // Nobody syncs it later.
        let commits = self.archive.settings.durability == Durability::Commit;
        let damaged = damaged || (commits && segment.sync().is_err());
        if damaged {
            self.damaged.push(segment.number);
        }
        segment.close(&self.archive, damaged);
    }

    /// Writes one frame.
    pub(super) fn put(&mut self, track: &mut Track, payload: Payload<'_>) -> Result<(), RecordingFault> {
        let began = Instant::now();
        let put = self.put_in_fresh_if_full(track, payload);
        self.archive.slowness.note(began.elapsed());
        put
    }

    fn put_in_fresh_if_full(
        &mut self,
        track: &mut Track,
        payload: Payload<'_>,
    ) -> Result<(), RecordingFault> {
        self.check(track)?;
        // The first try may find the segment full; the second begins in a fresh one.
        for _ in 0..2 {
            match self.try_put(track, payload) {
                Ok(()) => return Ok(()),
                Err(Fault::Full) => self.close_full(track)?,
                Err(Fault::Final(fault)) => return Err(fault),
            }
        }
        Err(RecordingFault::NoSpace)
    }

    /// A session that must not lose anything cannot go on behind bytes that may be lost.
    pub(super) fn check(&self, track: &Track) -> Result<(), RecordingFault> {
        match track.mode == Mode::Strict && self.damaged.contains(&track.segment) {
            true => Err(RecordingFault::Damaged),
            false => Ok(()),
        }
    }

    fn close_full(&mut self, track: &Track) -> Result<(), RecordingFault> {
        self.close(false);
        self.check(track)
    }

    fn try_put(&mut self, track: &mut Track, payload: Payload<'_>) -> Result<(), Fault> {
        let (kind, plane, length) = measure(payload)?;
        // With the KEY frame that may come before it.
        let room = |segment: &Segment| segment.has_room(length + KeyNotice::LENGTH, 2);
        if self.current.as_ref().is_some_and(|segment| segment.has_frames() && !room(segment)) {
            self.close_full(track)?;
        }
        if self.current.is_none() {
            self.open()?;
        }
        if !self.current.as_ref().is_some_and(room) {
            return Err(RecordingFault::TooLong.into());
        }
        if let Some(plane) = plane {
            self.enter_plane(track, plane)?;
        }
        let time = self.clock.stamp();
        let Some(segment) = &mut self.current else { return Err(Fault::Full) };
        let mut head = FrameHead {
            length: length as u32,
            kind,
            flags: 0,
            epoch: 0,
            session: track.session,
            time,
            number: 0,
        };
        if track.segment == 0 {
            head.flags |= FIRST;
        }
        if let Some(plane) = plane.or(gap_plane(payload)) {
            let state = track.plane(plane)?;
            if state.needs_rekey() {
                state.rekey()?;
            }
            if matches!(payload, Payload::Wire(..)) && state.is_sealed_here() {
                return Err(RecordingFault::NotRecords.into());
            }
            (head.epoch, head.number) = (state.epoch, state.frame_number()?);
        }
        self.scratch.clear();
        let written = match payload {
            Payload::Wire(_, slices) if slices.len() <= MAX_SLICES => segment.write(&head, slices),
            Payload::Wire(_, slices) => {
                slices.iter().for_each(|slice| self.scratch.extend_from_slice(slice));
                segment.write(&head, &[IoSlice::new(&self.scratch)])
            }
            Payload::Plaintext(plane, plaintext) => {
                track.plane(plane)?.seal(plaintext, &mut self.scratch)?;
                segment.write(&head, &[IoSlice::new(&self.scratch)])
            }
            Payload::Fact(line) => segment.write(&head, &[IoSlice::new(line)]),
            Payload::SealedFact(text) => {
                head.flags |= SEALED;
                self.scratch.extend_from_slice(text);
                let place = FactPlace {
                    gateway: self.archive.directory.gateway(),
                    number: segment.number,
                    offset: segment.offset,
                    head: &head.encode(),
                };
                segment.facts.seal_fact(&place, &mut self.scratch);
                segment.write(&head, &[IoSlice::new(&self.scratch)])
            }
            Payload::Gap(gap) => segment.write(&head, &[IoSlice::new(&gap.encode())]),
            Payload::End => {
                head.flags |= LAST;
                let mut totals = track.totals;
                totals.segments += u32::from(track.segment != segment.number);
                segment.write(&head, &[IoSlice::new(&totals.encode())])
            }
        };
        let number = segment.number;
        let records = written.map_err(|fault| self.failed(fault))?;
        self.account(track, payload, number, length as u64, records)
    }

    /// Counts what was written.
    fn account(
        &self,
        track: &mut Track,
        payload: Payload<'_>,
        segment: u64,
        length: u64,
        records: u32,
    ) -> Result<(), Fault> {
        count(&self.archive.counters.written, HEAD as u64 + length);
        self.stood_in(track, segment);
        match payload {
            Payload::Wire(plane, _) | Payload::Plaintext(plane, _) => {
                track.plane(plane)?.number += u64::from(records);
                track.totals.bytes[plane.index()] += length;
                track.totals.records[plane.index()] += u64::from(records);
            }
            Payload::Fact(_) | Payload::SealedFact(_) => track.totals.facts += 1,
            Payload::Gap(gap) => {
                let state = track.plane(gap.plane)?;
                if !state.is_sealed_here() {
                    state.number += gap.records;
                }
                track.totals.lost_bytes += gap.bytes;
                track.totals.lost_records += gap.records;
            }
            Payload::End => {}
        }
        Ok(())
    }

    fn stood_in(&self, track: &mut Track, segment: u64) {
        if track.segment == 0 {
            count(&self.archive.counters.recorded, 1);
        }
        if track.segment != segment {
            track.segment = segment;
            track.totals.segments += 1;
        }
    }

    /// Has a plane's secret in the segment's key file and a KEY frame behind it, before the first record.
    fn enter_plane(&mut self, track: &mut Track, plane: Plane) -> Result<(), Fault> {
        let Some(segment) = &mut self.current else { return Err(Fault::Full) };
        let (session, first) = (track.session, track.segment == 0);
        let state = track.plane(plane)?;
        if state.entered == segment.number {
            return Ok(());
        }
        state.renew_for_segment()?;
        let gateway = self.archive.directory.gateway();
        let owner = Owner { gateway, number: segment.number, session, plane };
        let entry = keys::seal(&segment.key, &owner, &state.secret, super::super::random());
        let notice = |place| KeyNotice {
            place,
            plane,
            suite: suite_code(state.secret.suite()),
            previous: state.entered,
            digest: digest(&SHA256, &entry).as_ref().try_into().unwrap_or_default(),
        };
        let head = FrameHead {
            length: KeyNotice::LENGTH as u32,
            kind: Kind::Key,
            flags: if first { FIRST } else { 0 },
            epoch: state.epoch,
            session,
            time: self.clock.stamp(),
            number: state.frame_number()?,
        };
        let written = segment
            .write_key(&entry)
            .and_then(|place| segment.write(&head, &[IoSlice::new(&notice(place).encode())]));
        let number = segment.number;
        written.map_err(|fault| self.failed(fault))?;
        state.entered = number;
        self.stood_in(track, number);
        Ok(())
    }

    fn failed(&mut self, fault: WriteFault) -> Fault {
        match fault {
            WriteFault::Full => Fault::Full,
            WriteFault::Damaged => {
                self.close(true);
                Fault::Final(RecordingFault::Damaged)
            }
        }
    }

    fn open(&mut self) -> Result<(), RecordingFault> {
        if self.spare.is_none() {
            self.reserve();
        }
        let spare = self.spare.take().ok_or(RecordingFault::NoSpace)?;
        let opening = Opening { worker: self.worker, class: self.class, previous: self.previous };
        let opened = Segment::open(&self.archive, &opening, &mut self.clock, spare);
        self.current = Some(opened.map_err(|fault| match fault {
            WriteFault::Full => RecordingFault::NoSpace,
            WriteFault::Damaged => RecordingFault::Damaged,
        })?);
        self.reserve_after = 0;
        self.reserve();
        Ok(())
    }

    /// Reserves the next segment; false when there is no space for it.
    fn reserve(&mut self) -> bool {
        let now = self.clock.stamp();
        if now < self.reserve_after {
            return false;
        }
        let failed_before = self.reserve_after != 0;
        let path = self.archive.directory.spare(self.worker, self.class);
        self.spare = reserve(&path, self.archive.settings.segment_size).ok();
        #[cfg(test)]
        if self.archive.is_full.load(Ordering::Relaxed) {
            self.spare = None;
        }
        let failed = self.spare.is_none();
        self.reserve_after = if failed { now.saturating_add(RESERVE_INTERVAL_NS) } else { 0 };
        match (failed_before, failed) {
            (false, true) => self.archive.without_spare.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.archive.without_spare.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        !failed
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.close(false);
        if self.spare.take().is_some() {
            let _ = std::fs::remove_file(self.archive.directory.spare(self.worker, self.class));
        }
        if self.reserve_after != 0 {
            self.archive.without_spare.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn gap_plane(payload: Payload<'_>) -> Option<Plane> {
    match payload {
        Payload::Gap(gap) => Some(gap.plane),
        _ => None,
    }
}

/// Kind, plane whose secret it needs, and bytes of the payload.
fn measure(payload: Payload<'_>) -> Result<(Kind, Option<Plane>, usize), RecordingFault> {
    let (kind, plane, length) = match payload {
        Payload::Wire(plane, slices) => {
            (plane.kind(), Some(plane), slices.iter().map(|slice| slice.len()).sum())
        }
        Payload::Plaintext(plane, plaintext) => {
            let records = plaintext.len().div_ceil(crate::tls::record::MAX_PLAINTEXT);
            (plane.kind(), Some(plane), plaintext.len() + records * EXPANSION)
        }
        Payload::Fact(line) => (Kind::Fact, None, line.len()),
        Payload::SealedFact(text) => (Kind::Fact, None, text.len() + 16),
        Payload::Gap(_) => (Kind::Gap, None, Gap::LENGTH),
        Payload::End => (Kind::End, None, super::super::format::frame::Totals::LENGTH),
    };
    match length <= MAX_PAYLOAD {
        true => Ok((kind, plane, length)),
        false => Err(RecordingFault::TooLong),
    }
}
