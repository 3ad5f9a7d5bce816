//! Sessions, put together from the frames of all segments.

use super::super::directory::{Directory, DirectoryFault};
use super::super::format::envelope::Identities;
use super::super::format::frame::{Gap, KeyNotice, Kind, Plane, SEALED, Totals};
use super::player::{Player, SegmentKeys};
use super::segment::{Frame, ReadFault, SegmentFile, is_first};
use crate::names::SessionId;
use std::collections::BTreeMap;

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
    /// Its first audit line that anybody may read.
    pub opened: String,
    /// Its last.
    pub closed: String,
}

/// All sessions, the oldest first, and what could not be read. Needs no key.
pub fn list(directory: &Directory) -> Result<(Vec<SessionSummary>, Vec<ReadFault>), DirectoryFault> {
    let (mut sessions, mut faults) = (BTreeMap::<u64, SessionSummary>::new(), Vec::new());
    for number in directory.segments()? {
        let mut file = match SegmentFile::open(&directory.segment(number, "seg")) {
            Ok(file) => file,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        loop {
            match file.next_without_records() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let new = || SessionSummary::new(&frame, file.head.class);
                    sessions.entry(frame.head.session.0).or_insert_with(new).add(number, &frame);
                }
                Err(fault) => {
                    faults.push(fault);
                    break;
                }
            }
        }
    }
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_by_key(|session| session.first);
    Ok((sessions, faults))
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
            opened: String::new(),
            closed: String::new(),
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
            Kind::Fact if head.flags & SEALED == 0 => {
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                if self.opened.is_empty() {
                    self.opened.clone_from(&text);
                }
                self.closed = text;
            }
            Kind::Gap => self.lost += Gap::parse(&frame.payload).map_or(0, |gap| gap.bytes),
            Kind::End => self.totals = Totals::parse(&frame.payload).ok(),
            Kind::Key | Kind::Fact => {}
        }
    }
}

/// What happened in a session, in order.
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
    /// The end.
    End(Totals),
}

/// Gives the events of a session with their times, and what could not be read.
pub fn play(
    directory: &Directory,
    session: SessionId,
    identities: Option<&Identities>,
    mut take: impl FnMut(u64, Event),
) -> Result<Vec<ReadFault>, DirectoryFault> {
    let mut faults = Vec::new();
    for number in directory.segments()? {
        if let Err(fault) = play_segment(directory, number, session, identities, &mut take) {
            faults.push(fault);
        }
    }
    Ok(faults)
}

fn play_segment(
    directory: &Directory,
    number: u64,
    session: SessionId,
    identities: Option<&Identities>,
    take: &mut impl FnMut(u64, Event),
) -> Result<(), ReadFault> {
    let mut file = SegmentFile::open(&directory.segment(number, "seg"))?;
    let keys = SegmentKeys::open(&file, identities)?;
    let mut player = Player::default();
    while let Some(frame) = file.next_frame()? {
        if frame.head.session != session {
            continue;
        }
        let fault = |why| file.fault(frame.offset, why);
        let event = match frame.head.kind {
            Kind::Key => {
                let notice = KeyNotice::parse(&frame.payload).map_err(fault)?;
                player.key(&keys, &frame.head, &notice).map_err(fault)?;
                continue;
            }
            Kind::Fact if frame.head.flags & SEALED != 0 => {
                Event::SealedFact(keys.open_fact(&frame).transpose().map_err(fault)?)
            }
            Kind::Fact => Event::Fact(frame.payload),
            Kind::Down | Kind::Up => {
                let plane = if frame.head.kind == Kind::Down { Plane::Down } else { Plane::Up };
                let data = player.records(plane, &frame.head, &frame.payload);
                Event::Data(plane, data.transpose().map_err(fault)?)
            }
            Kind::End => Event::End(Totals::parse(&frame.payload).map_err(fault)?),
            Kind::Gap => Event::Gap(Gap::parse(&frame.payload).map_err(fault)?),
        };
        take(frame.head.time, event);
    }
    Ok(())
}
