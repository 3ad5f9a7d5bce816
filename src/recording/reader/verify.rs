//! Verifies a directory: integrity, completeness and erasure, each with a verdict of its own.
//!
//! Without an identity it proves order, structure and counters at once, and every byte of segments that are complete; with
//! one, every byte that the identity opens. What it cannot prove is in [`Report::limits`].

use super::super::digest::{ChunkDigest, add_read};
use super::super::directory::{Directory, DirectoryFault};
use super::super::format::envelope::Identities;
use super::super::format::frame::{Gap, KeyNotice, Kind, Plane, SEALED, Totals};
use super::super::format::keys::ENTRY;
use super::super::format::segment::GatewayId;
use super::super::keeper::hasher::hash_file;
use super::super::log::entry::Entry;
use super::super::log::verify::{VerifiedLog, verify as verify_log};
use super::player::{Player, SegmentKeys};
use super::segment::{Frame, ReadFault, SegmentFile, is_first};
use crate::names::SessionId;
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

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

/// Something to tell. A fault makes the area's verdict bad; a note does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// About what.
    pub area: Area,
    /// True for faults.
    pub is_fault: bool,
    /// Where and what.
    pub place: ReadFault,
}

/// What verifying found.
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
    /// What this does not prove.
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

    fn add(&mut self, area: Area, is_fault: bool, place: ReadFault) {
        self.findings.push(Finding { area, is_fault, place });
    }
}

/// What the log says of one segment.
#[derive(Default)]
struct Told {
    /// Ranges and their digests.
    chunks: Vec<(u64, u64, [u8; 32])>,
    /// Size, valid bytes and SHA-256 of the complete file.
    complete: Option<(u64, u64, [u8; 32])>,
    damaged: bool,
    retired: bool,
}

#[derive(Default)]
struct LogView {
    segments: BTreeMap<u64, Told>,
    /// Erased sessions: entry, segments.
    erased: HashMap<SessionId, (u64, BTreeSet<u64>)>,
    /// Sums of each run: recorded sessions, and the segments of it.
    runs: Vec<(u64, BTreeSet<u64>, bool)>,
}

/// Sequence of a plane: key epoch and number of the next record.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    epoch: u16,
    number: u64,
}

#[derive(Default)]
struct Seen {
    planes: [Option<Position>; 2],
    /// The segment of the plane's last KEY frame.
    keyed: [u64; 2],
    totals: Totals,
    last_segment: u64,
    has_first: bool,
    end: Option<(ReadFault, Totals)>,
}

/// Verifies a directory. `expected`: the gateway's identity as it was noted elsewhere.
pub fn verify(
    directory: &Directory,
    identities: Option<&Identities>,
    expected: Option<GatewayId>,
) -> Result<Report, DirectoryFault> {
    let mut report = Report::default();
    if expected.is_some_and(|expected| expected != directory.gateway()) {
        let file = directory.root().join("gateway");
        let reason = "another gateway's recordings: its identity is not the one that was noted".into();
        report.add(Area::Integrity, true, ReadFault { file, offset: 0, reason });
    }
    let log = verify_log(directory);
    report.entries = log.entries.len() as u64;
    for fault in &log.faults {
        report.add(Area::Integrity, true, of_log(fault));
    }
    let view = view(&log);
    let (mut sessions, mut first_in) = (BTreeMap::<u64, Seen>::new(), BTreeMap::<u64, u64>::new());
    let numbers = directory.segments()?;
    let mut chains = HashMap::<(u16, u32), u64>::new();
    for number in &numbers {
        report.segments += 1;
        let untold = Told::default();
        let told = view.segments.get(number).unwrap_or(&untold);
        let mut walk =
            Walk { directory, identities, view: &view, told, report: &mut report, sessions: &mut sessions };
        let before = walk.sessions.values().filter(|seen| seen.has_first).count();
        if let Err(fault) = walk.segment(*number, &mut chains) {
            report.add(Area::Integrity, true, fault);
        }
        let after = sessions.values().filter(|seen| seen.has_first).count();
        first_in.insert(*number, (after - before) as u64);
    }
    missing(directory, &numbers, &view, &mut report);
    totals(&mut report, &sessions, &view);
    runs(directory, &mut report, &view, &first_in);
    report.sessions = sessions.len() as u64;
    report.findings.sort_by(|a, b| (a.area, &a.place.file).cmp(&(b.area, &b.place.file)));
    limits(&mut report, identities.is_some(), expected.is_some(), &log);
    Ok(report)
}

fn of_log(fault: &DirectoryFault) -> ReadFault {
    let (file, reason) = match fault {
        DirectoryFault::Io { path, error } => (path.clone(), error.to_string()),
        DirectoryFault::Unsafe { path, why } | DirectoryFault::Broken { path, why } => {
            (path.clone(), why.clone())
        }
        DirectoryFault::InUse(path) => (path.clone(), fault.to_string()),
    };
    ReadFault { file, offset: 0, reason }
}

fn view(log: &VerifiedLog) -> LogView {
    let mut view = LogView::default();
    for (number, line) in log.entries.iter().enumerate() {
        let Some(entry) = Entry::parse(line) else { continue };
        take_entry(&mut view, number as u64, &entry);
    }
    view
}

fn take_entry(view: &mut LogView, number: u64, entry: &Entry<'_>) -> Option<()> {
    match entry.verb {
        "start" => view.runs.push((0, BTreeSet::new(), false)),
        "chunk" => {
            let segment = entry.number("segment")?;
            let chunk = (entry.number("from")?, entry.number("to")?, entry.hash("sha256")?);
            view.segments.entry(segment).or_default().chunks.push(chunk);
            let run = view.runs.last_mut()?;
            run.0 = entry.number("recorded")?;
            run.1.insert(segment);
        }
        "stop" => {
            let run = view.runs.last_mut()?;
            (run.0, run.2) = (entry.number("recorded")?, true);
        }
        "segment" | "recovered" => {
            let told = view.segments.entry(entry.number("number")?).or_default();
            let size = entry.number("size")?;
            told.complete = Some((size, entry.number("valid").unwrap_or(size), entry.hash("sha256")?));
            told.damaged |= entry.get("damaged").is_some();
            // Found at the start of a run: of the one before.
            if entry.verb == "recovered"
                && let Some(run) = view.runs.len().checked_sub(2).and_then(|place| view.runs.get_mut(place))
            {
                run.1.insert(entry.number("number")?);
            }
        }
        "damaged" => view.segments.entry(entry.number("number")?).or_default().damaged = true,
        "retire" => view.segments.entry(entry.number("segment")?).or_default().retired = true,
        "erase" => {
            let segments = entry.get("segments")?.split(',').filter_map(|n| n.parse::<u64>().ok());
            let erased = view.erased.entry(entry.session()?).or_insert((number, BTreeSet::new()));
            erased.1.extend(segments);
        }
        _ => {}
    }
    Some(())
}

/// One segment being read.
struct Walk<'a> {
    directory: &'a Directory,
    identities: Option<&'a Identities>,
    view: &'a LogView,
    told: &'a Told,
    report: &'a mut Report,
    sessions: &'a mut BTreeMap<u64, Seen>,
}

impl Walk<'_> {
    fn segment(&mut self, number: u64, chains: &mut HashMap<(u16, u32), u64>) -> Result<(), ReadFault> {
        let path = self.directory.segment(number, "seg");
        self.whole(number, &path);
        let mut file = SegmentFile::open(&path)?;
        if file.head.gateway != self.directory.gateway() || file.head.number != number {
            return Err(file.fault(0, "another gateway's or another number's segment"));
        }
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
        self.view.segments.get(&number).is_some_and(|told| told.retired)
    }

    /// Holds a complete file against its SHA-256 in the log.
    fn whole(&mut self, number: u64, path: &std::path::Path) {
        let fault = |reason: String| ReadFault { file: path.to_owned(), offset: 0, reason };
        match (self.told.complete, hash_file(path)) {
            (_, Err(error)) => self.report.add(Area::Integrity, true, fault(error.to_string())),
            (Some((size, _, hash)), Ok(found)) if found != (hash, size) => {
                let why = format!("not the {size} bytes whose SHA-256 the log holds");
                self.report.add(Area::Integrity, true, fault(why));
            }
            (None, Ok(_)) if self.directory.segment(number, "sum").exists() => {
                let why = "complete, and not in the log: an older log was put in its place";
                self.report.add(Area::Completeness, true, fault(why.into()));
            }
            (None, Ok(_)) => {
                let why = "not complete yet: its bytes are proved by an identity alone, its order at once";
                self.report.add(Area::Integrity, false, fault(why.into()));
            }
            _ => {}
        }
    }

    fn frames(
        &mut self,
        number: u64,
        file: &mut SegmentFile,
        keys: Option<&SegmentKeys>,
    ) -> Result<(), ReadFault> {
        let mut chunks = Chunks::new(self.told, file.head_bytes()?, file.offset());
        let (mut player, mut last_time, mut places) = (Player::default(), 0, HashSet::new());
        loop {
            chunks.check(file, self.report);
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
        let known = match self.told.complete {
            Some((_, valid, _)) => valid == fault.offset,
            None => self.told.chunks.last().is_none_or(|(_, to, _)| *to <= fault.offset),
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
        if notice.previous != before && !self.view.segments.get(&notice.previous).is_some_and(|t| t.retired) {
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
            let is_fault = self.told.complete.is_some_and(|(size, valid, _)| size == valid);
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

/// Digests of a segment's ranges, held against the log's.
struct Chunks<'t> {
    told: &'t [(u64, u64, [u8; 32])],
    next: usize,
    digest: ChunkDigest,
    /// End of what is digested.
    at: u64,
    from: u64,
}

impl<'t> Chunks<'t> {
    fn new(told: &'t Told, head: Vec<u8>, at: u64) -> Self {
        let mut digest = ChunkDigest::new();
        digest.add_bytes(&head);
        Chunks { told: &told.chunks, next: 0, digest, at, from: 0 }
    }

    fn add(&mut self, frame: &Frame) -> Result<u32, super::super::digest::NotRecords> {
        self.at = frame.offset + super::super::format::frame::HEAD as u64 + u64::from(frame.head.length);
        add_read(&mut self.digest, &frame.head, &frame.payload)
    }

    /// Compares at the end of a range.
    fn check(&mut self, file: &SegmentFile, report: &mut Report) {
        let Some((from, to, expected)) = self.told.get(self.next) else { return };
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

    fn finish(mut self, file: &SegmentFile, report: &mut Report) {
        self.check(file, report);
        if let Some((from, to, _)) = self.told.get(self.next) {
            let why = format!("cut: the log holds bytes {from} to {to}");
            report.add(Area::Completeness, true, file.fault(self.at, why));
        }
    }
}

fn missing(directory: &Directory, numbers: &[u64], view: &LogView, report: &mut Report) {
    for (number, told) in &view.segments {
        let is_there = numbers.binary_search(number).is_ok();
        let place = |reason: &str| ReadFault {
            file: directory.segment(*number, "seg"),
            offset: 0,
            reason: reason.into(),
        };
        match (is_there, told.retired) {
            (false, false) => {
                report.add(Area::Completeness, true, place("the log knows this segment; it is missing"))
            }
            (true, false) if told.damaged => {
                report.add(
                    Area::Integrity,
                    false,
                    place("damaged when it was written; its sessions were ended"),
                );
            }
            _ => {}
        }
    }
}

/// Holds each session's frames against its END frame.
fn totals(report: &mut Report, sessions: &BTreeMap<u64, Seen>, view: &LogView) {
    let any_retired = view.segments.values().any(|told| told.retired);
    for (session, seen) in sessions {
        let session = SessionId(*session);
        match &seen.end {
            Some((place, totals)) if *totals != seen.totals && !any_retired => {
                let reason =
                    format!("session {session}: its end tells of {totals:?}, found is {:?}", seen.totals);
                report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
            }
            Some((place, _)) if !seen.has_first && !any_retired => {
                let reason = format!("session {session}: its beginning is missing");
                report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
            }
            Some(_) => {}
            None => {
                let file = PathBuf::from(format!("{}.seg", seen.last_segment));
                let reason = format!("session {session} has no end: it is live, or its gateway was stopped");
                report.add(Area::Completeness, false, ReadFault { file, offset: 0, reason });
            }
        }
    }
}

/// Holds the number of sessions that each run of the gateway recorded against those that begin in its segments.
fn runs(directory: &Directory, report: &mut Report, view: &LogView, first_in: &BTreeMap<u64, u64>) {
    for (recorded, segments, _) in &view.runs {
        let told = |number: &u64| view.segments.get(number);
        if segments.iter().any(|number| told(number).is_some_and(|told| told.retired)) {
            continue;
        }
        let found: u64 = segments.iter().filter_map(|number| first_in.get(number)).sum();
        if found < *recorded {
            let file = directory.root().join("segments");
            let reason = format!(
                "the log counts {recorded} recorded sessions in a run, {found} begin in its segments"
            );
            report.add(Area::Completeness, true, ReadFault { file, offset: 0, reason });
        }
    }
}

fn limits(report: &mut Report, has_identity: bool, has_pin: bool, log: &VerifiedLog) {
    let last = log.entries.last().and_then(|line| Entry::parse(line)?.number("time")).unwrap_or(0);
    let age = super::super::clock::system().saturating_sub(last) / 1_000_000_000;
    report.limits.push(format!(
        "What happened after the newest signed checkpoint ({age} s ago) can be cut off without a trace here; a checkpoint \
         that was noted elsewhere later than that shows it."
    ));
    if !has_pin {
        report.limits.push(
            "The gateway's identity was taken from the directory itself; give the one that you noted to find recordings \
             that were made anew as a whole."
                .into(),
        );
    }
    if !has_identity {
        report.limits.push(
            "Without an identity, bytes of segments that are not complete yet are not checked, only their order.".into(),
        );
    }
    report.limits.push(
        "Entries of the newest epoch (up to 15 minutes) can be forged by whoever controls the gateway's host now.".into(),
    );
}
