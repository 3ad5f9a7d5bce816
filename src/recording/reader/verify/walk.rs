//! One segment: its head, its place among its writer's, its frames, its key file.

use super::super::super::directory::Directory;
use super::super::super::files::{open_file, read_text};
use super::super::super::format::envelope::Identities;
use super::super::super::format::frame::{Gap, KeyNotice, Kind, Plane, SEALED, Totals};
use super::super::super::format::keys::ENTRY;
use super::super::super::hex;
use super::super::super::keeper::hasher::hash_file;
use super::super::log_view::{LogView, LoggedSegment};
use super::super::player::{Player, SegmentKeys};
use super::super::segment::{Frame, ReadFault, SegmentFile, is_first};
use super::super::sessions::Observer;
use super::chunks::Chunks;
use super::report::{Area, Report};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Sequence of a plane: key epoch and number of the next record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    epoch: u16,
    number: u64,
}

/// What was read of a session so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) planes: [Option<Position>; 2],
    /// The segment of the plane's last KEY frame.
    pub(super) keyed: [u64; 2],
    pub(super) totals: Totals,
    pub(super) first_segment: u64,
    pub(super) last_segment: u64,
    pub(super) has_first: bool,
    pub(super) end: Option<(ReadFault, Totals)>,
}

/// One segment being read.
pub(super) struct Walk<'a> {
    pub(super) directory: &'a Directory,
    pub(super) identities: Option<&'a Identities>,
    pub(super) view: &'a LogView,
    pub(super) logged: &'a LoggedSegment,
    pub(super) report: &'a mut Report,
    pub(super) sessions: &'a mut BTreeMap<u64, Seen>,
    pub(super) observer: &'a mut dyn Observer,
}

impl Walk<'_> {
    /// Reads a segment.
    pub(super) fn segment(
        &mut self,
        number: u64,
        chains: &mut HashMap<(u16, u32), u64>,
    ) -> Result<(), ReadFault> {
        let path = self.directory.segment(number, "seg");
        self.whole(number, &path);
        let mut file = SegmentFile::open_own(self.directory, number)?;
        let chain = chains.insert((file.head.worker, file.head.class), number);
        let previous = file.head.previous;
        if previous != 0 && chain != Some(previous) && !self.is_retired(previous) {
            let fault =
                file.fault(48, format!("segment {previous}, which its writer filled before, is missing"));
            self.report.add(Area::Completeness, true, fault);
        }
        let keys = match SegmentKeys::open(&file, self.identities) {
            Ok(keys) => Some(keys),
            Err(fault) => {
                self.report.add(Area::Integrity, true, fault);
                None
            }
        };
        if self.identities.is_some() && keys.as_ref().is_some_and(|keys| !keys.can_open()) {
            let note = file.fault(96, "no identity opens this segment's envelope");
            self.report.add(Area::Integrity, false, note);
        }
        self.frames(number, &mut file, keys.as_ref())
    }

    fn is_retired(&self, number: u64) -> bool {
        self.view.segments.get(&number).is_some_and(|logged| logged.retired)
    }

    /// Holds a complete file against its SHA-256 in the log.
    fn whole(&mut self, number: u64, path: &std::path::Path) {
        let fault = |reason: String| ReadFault { file: path.to_owned(), offset: 0, reason };
        let length = match open_file(path).and_then(|file| file.metadata()) {
            Ok(found) => found.len(),
            Err(error) => return self.report.add(Area::Integrity, true, fault(error.to_string())),
        };
        // Of another length there is nothing to hash, and somebody may have made it endless.
        let hash = match self.logged.complete {
            Some((size, _, _)) if size == length => hash_file(path).map(Some),
            _ => Ok(None),
        };
        match (self.logged.complete, hash) {
            (_, Err(error)) => self.report.add(Area::Integrity, true, fault(error.to_string())),
            (Some((size, _, hash)), Ok(found)) if found != Some((hash, size)) => {
                let why = format!("not the {size} bytes whose SHA-256 the log holds");
                self.report.add(Area::Integrity, true, fault(why));
            }
            (Some((_, _, hash)), Ok(_)) => self.sum(number, &hash),
            (None, Ok(_)) if self.directory.segment(number, "sum").exists() => {
                let why = "complete, and not in the log: an older log was put in its place";
                self.report.add(Area::Completeness, true, fault(why.into()));
            }
            (None, Ok(_)) => {
                let why = "not complete yet: its bytes are proved by an identity alone, its order at once";
                self.report.add(Area::Integrity, false, fault(why.into()));
            }
        }
    }

    /// Holds what other tools are given of a complete segment against the log. It may not be there yet.
    fn sum(&mut self, number: u64, hash: &[u8; 32]) {
        let file = self.directory.segment(number, "sum");
        let reason = match read_text(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Ok(text) if text == format!("{}  {number}.seg\n", hex(hash)) => return,
            Err(error) => error.to_string(),
            Ok(_) => "not the SHA-256 that the log holds of this segment".into(),
        };
        self.report.add(Area::Integrity, true, ReadFault { file, offset: 0, reason });
    }

    fn frames(
        &mut self,
        number: u64,
        file: &mut SegmentFile,
        keys: Option<&SegmentKeys>,
    ) -> Result<(), ReadFault> {
        let mut chunks = Chunks::new(self.logged, file.head_bytes()?, file.offset());
        let (mut player, mut last_time, mut places) = (Player::default(), 0, HashSet::new());
        loop {
            chunks.check(file, self.report);
            self.observer.offset(file.offset(), file.length);
            let frame = match file.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(fault) => {
                    self.tail(fault);
                    break;
                }
            };
            if frame.head.time <= last_time {
                let fault = file.fault(frame.offset, "frames are out of order: its time is not later");
                self.report.add(Area::Integrity, true, fault);
            }
            last_time = frame.head.time;
            match chunks.add(&frame) {
                Ok(records) => self.frame(number, file, keys, &mut player, &mut places, &frame, records),
                Err(why) => self.report.add(Area::Integrity, true, file.fault(frame.offset, why)),
            }
        }
        chunks.finish(file, self.report);
        if let Some(keys) = keys {
            self.unused_entries(keys, &places);
        }
        Ok(())
    }

    /// Bytes behind the last whole frame: a torn tail is what a killed process leaves, and was noted at the next start.
    fn tail(&mut self, fault: ReadFault) {
        let known = match self.logged.complete {
            Some((_, valid, _)) => valid == fault.offset,
            None => self.logged.chunks.last().is_none_or(|(_, to, _)| *to <= fault.offset),
        };
        let reason = match known {
            true => format!("{}; the last frame was being written when the gateway stopped", fault.reason),
            false => fault.reason.clone(),
        };
        self.report.add(Area::Integrity, !known, ReadFault { reason, ..fault });
    }

    #[expect(clippy::too_many_arguments, reason = "one frame of one walk; the parts are borrowed apart")]
    fn frame(
        &mut self,
        number: u64,
        file: &SegmentFile,
        keys: Option<&SegmentKeys>,
        player: &mut Player,
        places: &mut HashSet<u32>,
        frame: &Frame,
        records: u32,
    ) {
        let head = &frame.head;
        let seen = self.sessions.entry(head.session.0).or_default();
        if is_first(head) && seen.last_segment != 0 {
            let fault = file.fault(frame.offset, format!("session {} begins twice", head.session));
            self.report.add(Area::Integrity, true, fault);
        }
        if seen.end.is_some() {
            let fault = file.fault(frame.offset, format!("session {} goes on behind its end", head.session));
            self.report.add(Area::Integrity, true, fault);
        }
        seen.has_first |= is_first(head);
        if seen.last_segment != number {
            if seen.last_segment == 0 {
                seen.first_segment = number;
            }
            seen.last_segment = number;
            seen.totals.segments += 1;
        }
        let told = match head.kind {
            Kind::Key => KeyNotice::parse(&frame.payload).map_err(|why| why.to_string()).map(|notice| {
                places.insert(notice.place);
                self.key(number, file, keys, player, frame, &notice);
            }),
            Kind::Fact => {
                seen.totals.facts += 1;
                let opened = (head.flags & SEALED != 0).then(|| keys?.open_fact(frame)).flatten();
                opened.transpose().map(|_| ()).map_err(|why| why.to_string())
            }
            Kind::Down | Kind::Up => {
                let plane = if head.kind == Kind::Down { Plane::Down } else { Plane::Up };
                seen.totals.bytes[plane.index()] += u64::from(head.length);
                seen.totals.records[plane.index()] += u64::from(records);
                let order = advance(seen, plane, frame, u64::from(records));
                let opened = player.records(plane, head, &frame.payload);
                self.report.opened += if matches!(opened, Some(Ok(_))) { u64::from(records) } else { 0 };
                opened.transpose().map_err(|why| why.to_string()).and(order)
            }
            Kind::Gap => Gap::parse(&frame.payload).map_err(|why| why.to_string()).and_then(|gap| {
                seen.totals.lost_bytes += gap.bytes;
                seen.totals.lost_records += gap.records;
                let why = format!(
                    "{} bytes of session {} ({}) were not recorded",
                    gap.bytes, head.session, gap.plane
                );
                self.report.add(Area::Completeness, false, file.fault(frame.offset, why));
                advance(seen, gap.plane, frame, gap.records)
            }),
            Kind::End => Totals::parse(&frame.payload).map_err(|why| why.to_string()).map(|totals| {
                seen.end = Some((file.fault(frame.offset, String::new()), totals));
            }),
        };
        if let Err(why) = told {
            self.report.add(Area::Integrity, true, file.fault(frame.offset, why));
        }
    }

    fn key(
        &mut self,
        number: u64,
        file: &SegmentFile,
        keys: Option<&SegmentKeys>,
        player: &mut Player,
        frame: &Frame,
        notice: &KeyNotice,
    ) {
        let (head, plane) = (&frame.head, notice.plane);
        let Some(seen) = self.sessions.get_mut(&head.session.0) else { return };
        let before = std::mem::replace(&mut seen.keyed[plane.index()], number);
        if notice.previous != before
            && !self.view.segments.get(&notice.previous).is_some_and(|logged| logged.retired)
        {
            let why = format!(
                "session {} stood in segment {} before: it is missing",
                head.session, notice.previous
            );
            self.report.add(Area::Completeness, true, file.fault(frame.offset, why));
        }
        if seen.planes[plane.index()].is_none() {
            let position = Position { epoch: head.epoch, number: head.number.into() };
            seen.planes[plane.index()] = Some(position);
        }
        let Some(keys) = keys else { return };
        let offset = u64::from(notice.place) * ENTRY as u64;
        let entry_fault = |reason: String| ReadFault { file: keys.path().to_owned(), offset, reason };
        let Some(entry) = keys.entry(notice.place) else {
            let why = format!("the secret of session {} ({plane}) is cut off", head.session);
            return self.report.add(Area::Integrity, true, entry_fault(why));
        };
        let erased = self.view.erased.get(&head.session).filter(|(_, segments)| segments.contains(&number));
        if *entry == [0; ENTRY] {
            match erased {
                Some((at, _)) => {
                    self.report.erased.insert(head.session.0, *at);
                    let why = format!("session {} ({plane}): erased by entry {at}", head.session);
                    self.report.add(Area::Erasure, false, entry_fault(why));
                }
                None => {
                    let why = format!(
                        "session {} ({plane}): erased, and no entry of the log says so",
                        head.session
                    );
                    self.report.add(Area::Erasure, true, entry_fault(why));
                }
            }
            return;
        }
        if digest(&SHA256, entry).as_ref() != notice.digest {
            let why = format!("the secret of session {} ({plane}) was changed", head.session);
            return self.report.add(Area::Integrity, true, entry_fault(why));
        }
        if let Some((at, _)) = erased {
            let why = format!(
                "entry {at} erases session {} ({plane}), and its secret is still there",
                head.session
            );
            self.report.add(Area::Erasure, true, entry_fault(why));
        }
        if let Err(why) = player.key(keys, head, notice) {
            self.report.add(Area::Integrity, true, entry_fault(why.to_string()));
        }
    }

    /// Entries without a KEY frame are what a killed process leaves at the end of the file, one per plane at most.
    fn unused_entries(&mut self, keys: &SegmentKeys, places: &HashSet<u32>) {
        let fault = |offset: usize, reason: &str| ReadFault {
            file: keys.path().to_owned(),
            offset: offset as u64,
            reason: reason.into(),
        };
        let whole = keys.length() / ENTRY;
        if !keys.length().is_multiple_of(ENTRY) {
            let is_fault = self.logged.complete.is_some_and(|(size, valid, _)| size == valid);
            let why = "bytes behind the last whole entry";
            self.report.add(Area::Integrity, is_fault, fault(whole * ENTRY, why));
        }
        for place in (0..whole).filter(|place| !places.contains(&(*place as u32))) {
            let why = "an entry that no frame of the segment names";
            let is_last = place + 1 == whole;
            self.report.add(Area::Integrity, !is_last, fault(place * ENTRY, why));
        }
    }
}

/// Follows a plane's sequence.
fn advance(seen: &mut Seen, plane: Plane, frame: &Frame, records: u64) -> Result<(), String> {
    let here = Position { epoch: frame.head.epoch, number: frame.head.number.into() };
    let expected = seen.planes[plane.index()].replace(Position { number: here.number + records, ..here });
    let fits = match expected {
        None => false,
        Some(expected) if expected == here => true,
        Some(expected) => here.epoch > expected.epoch && here.number == 0,
    };
    match fits {
        true => Ok(()),
        false => {
            Err(format!("records of session {} ({plane}) before this frame are missing", frame.head.session))
        }
    }
}
