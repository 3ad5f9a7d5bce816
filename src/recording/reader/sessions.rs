//! Sessions, put together from the frames of all segments.

use super::super::directory::{Directory, DirectoryFault};
use super::super::format::FormatFault;
use super::super::format::envelope::Identities;
use super::super::format::frame::{Gap, KeyNotice, Kind, Plane, SEALED, Totals};
use super::log_view::LogView;
use super::player::{Player, SegmentKeys};
use super::segment::{Frame, ReadFault, SegmentFile, is_first, read_head, readable_sessions};
use crate::names::SessionId;
use std::collections::{BTreeMap, HashMap};

/// What is known of a session without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// Which.
    pub session: SessionId,
    /// Retention class.
    pub class: u32,
    /// Its first frame's time, ns since 1970.
    pub first: u64,
    /// Its last frame's.
    pub last: u64,
    /// Segments that hold frames of it.
    pub segments: Vec<u64>,
    /// True when its first frame of all is among them.
    pub has_beginning: bool,
    /// Bytes of records by plane.
    pub bytes: [u64; 2],
    /// Bytes that were not recorded.
    pub lost: u64,
    /// What its END frame says; `None` while it has none.
    pub totals: Option<Totals>,
}

/// The `Observer` trait: progress and facts of a reader of many segments.
pub trait Observer {
    /// Segment `place` of `count`, counted from 0, is read now.
    fn segment(&mut self, _place: usize, _count: usize) {}
    /// Of this segment, `offset` of `length` bytes are read.
    fn offset(&mut self, _offset: u64, _length: u64) {}
    /// A fact of a session that anybody may read, or that an identity opened, and its frame's time.
    fn fact(&mut self, _session: SessionId, _time: u64, _line: &[u8]) {}
}

/// An observer that ignores everything.
impl Observer for () {}

/// All sessions, the oldest first, and what could not be read. Needs no key; with identities the observer sees sealed
/// facts, too.
pub fn list(
    directory: &Directory,
    identities: Option<&Identities>,
    observer: &mut impl Observer,
) -> Result<(Vec<SessionSummary>, Vec<ReadFault>), DirectoryFault> {
    let numbers = directory.segments()?;
    Ok(list_segments(directory, &numbers, identities, observer))
}

/// As [`list`], of some segments in their order.
pub fn list_segments(
    directory: &Directory,
    numbers: &[u64],
    identities: Option<&Identities>,
    observer: &mut impl Observer,
) -> (Vec<SessionSummary>, Vec<ReadFault>) {
    let mut sessions = BTreeMap::<u64, SessionSummary>::new();
    let mut faults: Vec<_> = ReadFault::of_identity(directory).into_iter().collect();
    for (place, number) in numbers.iter().enumerate() {
        observer.segment(place, numbers.len());
        if let Err(fault) = list_segment(directory, *number, identities, &mut sessions, observer, &mut faults)
            && !is_torn_tail(directory, *number, &fault)
        {
            faults.push(fault);
        }
    }
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_by_key(|session| session.first);
    (sessions, faults)
}

/// The segments that hold the whole of each session with a frame at `from` or later, and those whose head cannot be read.
///
/// A writer's times grow, also when its gateway starts again, and it closes a segment before it opens the next: what the
/// next one's head says is an end.
pub fn segments_since(directory: &Directory, from: u64) -> Result<Vec<u64>, DirectoryFault> {
    let numbers = directory.segments()?;
    let (mut ends, mut last_of) = (HashMap::<u64, u64>::new(), HashMap::<(u16, u32), u64>::new());
    for number in &numbers {
        let Some(head) = read_head(&directory.segment(*number, "seg")) else { continue };
        if let Some(before) = last_of.insert((head.worker, head.class), *number) {
            ends.insert(before, head.opened);
        }
    }
    let (mut wanted, older): (Vec<u64>, Vec<u64>) =
        numbers.into_iter().partition(|number| ends.get(number).is_none_or(|end| *end >= from));
    let sessions = |number: u64| {
        SegmentFile::open_own(directory, number).map_or_else(|_| HashMap::new(), readable_sessions)
    };
    let mut begun_before = HashMap::<SessionId, bool>::new();
    for (session, begins) in wanted.iter().flat_map(|number| sessions(*number)) {
        *begun_before.entry(session).or_default() |= begins;
    }
    begun_before.retain(|_, begins| !*begins);
    for number in older.into_iter().rev() {
        if begun_before.is_empty() {
            break;
        }
        let found = sessions(number);
        if found.keys().any(|session| begun_before.contains_key(session)) {
            wanted.push(number);
        }
        begun_before.retain(|session, _| found.get(session) != Some(&true));
    }
    wanted.sort_unstable();
    Ok(wanted)
}

fn list_segment(
    directory: &Directory,
    number: u64,
    identities: Option<&Identities>,
    sessions: &mut BTreeMap<u64, SessionSummary>,
    observer: &mut impl Observer,
    faults: &mut Vec<ReadFault>,
) -> Result<(), ReadFault> {
    let mut file = SegmentFile::open_own(directory, number)?;
    let keys = identities.map(|identities| SegmentKeys::open(&file, Some(identities))).transpose();
    // Without its keys a segment can still be listed.
    let keys = keys.unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    while let Some(frame) = file.next_without_records()? {
        observer.offset(frame.offset, file.length);
        if frame.head.kind == Kind::Fact {
            match (frame.head.flags & SEALED, &keys) {
                (0, _) => observer.fact(frame.head.session, frame.head.time, &frame.payload),
                (_, None) => {}
                (_, Some(keys)) => match keys.open_fact(&frame) {
                    None => {}
                    Some(Ok(line)) => observer.fact(frame.head.session, frame.head.time, &line),
                    Some(Err(why)) => faults.push(file.fault(frame.offset, why)),
                },
            }
        }
        let new = || SessionSummary::new(&frame, file.head.class);
        sessions.entry(frame.head.session.0).or_insert_with(new).add(number, &frame);
    }
    Ok(())
}

impl SessionSummary {
    fn new(frame: &Frame, class: u32) -> Self {
        SessionSummary {
            session: frame.head.session,
            class,
            first: frame.head.time,
            last: 0,
            segments: Vec::new(),
            has_beginning: false,
            bytes: [0; 2],
            lost: 0,
            totals: None,
        }
    }

    fn add(&mut self, number: u64, frame: &Frame) {
        let head = &frame.head;
        if self.segments.last() != Some(&number) {
            self.segments.push(number);
        }
        self.first = self.first.min(head.time);
        self.last = self.last.max(head.time);
        self.has_beginning |= is_first(head);
        match head.kind {
            Kind::Down => self.bytes[Plane::Down.index()] += u64::from(head.length),
            Kind::Up => self.bytes[Plane::Up.index()] += u64::from(head.length),
            Kind::Gap => self.lost += Gap::parse(&frame.payload).map_or(0, |gap| gap.bytes),
            Kind::End => self.totals = Totals::parse(&frame.payload).ok(),
            Kind::Key | Kind::Fact => {}
        }
    }
}

/// An event of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An audit line.
    Fact(Vec<u8>),
    /// A sealed fact; `None` where no identity fits.
    SealedFact(Option<Vec<u8>>),
    /// Plaintext of a plane; `None` where no identity fits or the secret was erased.
    Data(Plane, Option<Vec<u8>>),
    /// What was not recorded.
    Gap(Gap),
    /// A frame that cannot be read, with file, offset and reason.
    Damaged(ReadFault),
    /// The end.
    End(Totals),
}

/// Gives the events of a session with their times, and what could not be read.
pub fn play(
    directory: &Directory,
    session: SessionId,
    identities: Option<&Identities>,
    take: impl FnMut(u64, Event),
) -> Result<Vec<ReadFault>, DirectoryFault> {
    play_observed(directory, session, identities, &mut (), take)
}

/// As [`play`], and shows how far it is.
pub fn play_observed(
    directory: &Directory,
    session: SessionId,
    identities: Option<&Identities>,
    observer: &mut impl Observer,
    mut take: impl FnMut(u64, Event),
) -> Result<Vec<ReadFault>, DirectoryFault> {
    let segments = directory.segments()?;
    let take = |frame: &Frame, _: &Player, event| take(frame.head.time, event);
    Ok(play_frames(directory, &segments, session, identities, observer, take))
}

/// Gives the events of a session in some segments, in their order.
pub fn play_segments(
    directory: &Directory,
    segments: &[u64],
    session: SessionId,
    identities: Option<&Identities>,
    mut take: impl FnMut(u64, Event),
) -> Vec<ReadFault> {
    let take = |frame: &Frame, _: &Player, event| take(frame.head.time, event);
    play_frames(directory, segments, session, identities, &mut (), take)
}

/// As [`play_segments`], with the frame of each event and the keys at its place.
pub fn play_frames(
    directory: &Directory,
    segments: &[u64],
    session: SessionId,
    identities: Option<&Identities>,
    observer: &mut impl Observer,
    mut take: impl FnMut(&Frame, &Player, Event),
) -> Vec<ReadFault> {
    let place = PlayedSession { directory, session, identities };
    let mut faults: Vec<_> = ReadFault::of_identity(directory).into_iter().collect();
    for (count, number) in segments.iter().enumerate() {
        observer.segment(count, segments.len());
        if let Err(fault) = place.play(*number, observer, &mut take, &mut faults)
            && !is_torn_tail(directory, *number, &fault)
        {
            faults.push(fault);
        }
    }
    faults
}

/// True for the bytes behind the last whole frame of a gateway that was killed: its next start entered them into the log.
fn is_torn_tail(directory: &Directory, number: u64, fault: &ReadFault) -> bool {
    let complete = |log: LogView| log.segments.get(&number)?.complete;
    let known = LogView::read(directory).ok().and_then(complete);
    known.is_some_and(|(size, valid, _)| valid < size && valid == fault.offset)
}

/// A session that is played from one segment after another.
struct PlayedSession<'a> {
    directory: &'a Directory,
    session: SessionId,
    identities: Option<&'a Identities>,
}

impl PlayedSession<'_> {
    fn play(
        &self,
        number: u64,
        observer: &mut impl Observer,
        take: &mut impl FnMut(&Frame, &Player, Event),
        faults: &mut Vec<ReadFault>,
    ) -> Result<(), ReadFault> {
        let mut file = SegmentFile::open_own(self.directory, number)?;
        // Only when the session is there: a broken key file of another's segment is none of its faults.
        let mut opened = None;
        let mut player = Player::default();
        while let Some(head) = file.peek_session()? {
            observer.offset(file.offset(), file.length);
            if head != self.session {
                file.next_without_records()?;
                continue;
            }
            let Some(frame) = file.next_frame()? else { break };
            let keys = match &opened {
                Some(keys) => keys,
                // Without its keys, what anybody may read is read all the same.
                None => opened.insert(SegmentKeys::open(&file, self.identities).unwrap_or_else(|fault| {
                    faults.push(fault);
                    SegmentKeys::none(&file)
                })),
            };
            match read_event(&mut player, keys, &frame) {
                Ok(None) => {}
                Ok(Some(event)) => take(&frame, &player, event),
                // What follows can still be read.
                Err(why) => {
                    let fault = file.fault(frame.offset, why);
                    take(&frame, &player, Event::Damaged(fault.clone()));
                    faults.push(fault);
                }
            }
        }
        Ok(())
    }
}

fn read_event(player: &mut Player, keys: &SegmentKeys, frame: &Frame) -> Result<Option<Event>, FormatFault> {
    Ok(Some(match frame.head.kind {
        Kind::Key => {
            player.key(keys, &frame.head, &KeyNotice::parse(&frame.payload)?)?;
            return Ok(None);
        }
        Kind::Fact if frame.head.flags & SEALED != 0 => Event::SealedFact(keys.open_fact(frame).transpose()?),
        Kind::Fact => Event::Fact(frame.payload.clone()),
        Kind::Down | Kind::Up => {
            let plane = if frame.head.kind == Kind::Down { Plane::Down } else { Plane::Up };
            Event::Data(plane, player.records(plane, &frame.head, &frame.payload).transpose()?)
        }
        Kind::End => Event::End(Totals::parse(&frame.payload)?),
        Kind::Gap => Event::Gap(Gap::parse(&frame.payload)?),
    }))
}
