//! The log's statements about segments, sessions and runs of the gateway.

use super::super::directory::{Directory, DirectoryFault};
use super::super::log::entry::Entry;
use super::super::log::verify::read;
use crate::names::SessionId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What the log says of one segment.
#[derive(Clone, Debug, Default)]
pub struct LoggedSegment {
    /// Ranges and their digests.
    pub chunks: Vec<(u64, u64, [u8; 32])>,
    /// Size, valid bytes and SHA-256 of the complete file.
    pub complete: Option<(u64, u64, [u8; 32])>,
    /// A write failed, or it could not be hashed.
    pub damaged: bool,
    /// Deleted by retention.
    pub retired: bool,
    /// Sessions that began in it, as its `retire` entry counts them.
    pub retired_sessions: Option<u64>,
}

/// What the log says, put together from its entries.
#[derive(Clone, Debug, Default)]
pub struct LogView {
    /// By number.
    pub segments: BTreeMap<u64, LoggedSegment>,
    /// Erased sessions: entry, segments.
    pub erased: HashMap<SessionId, (u64, BTreeSet<u64>)>,
    /// Each from a `start` entry to the next.
    pub runs: Vec<Run>,
    /// Time-stamps: entries that each covers, and the SHA-256 of the authority's answer.
    pub timestamps: BTreeMap<u64, [u8; 32]>,
    /// Sessions that are held.
    pub held: HashSet<SessionId>,
    /// Holds, releases, erasures, keys that were sealed to others, and orders of operators: entry, time, line.
    pub orders: Vec<(u64, u64, String)>,
    /// Times between two entries that are too far from each other, while the gateway ran.
    pub silences: Vec<(u64, u64)>,
    /// Time of the last entry.
    pub last_time: u64,
}

/// There is an entry each minute at least.
const MAX_ENTRY_GAP: u64 = 150_000_000_000;

/// One run of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Number of its `start` entry.
    pub entry: u64,
    /// When it began and when its last sums were entered, ns since 1970.
    pub times: (u64, u64),
    /// Sums: sessions, recorded ones, unrecorded ones, lost bytes.
    pub sums: Sums,
    /// Sums at points in time.
    pub history: Vec<(u64, Sums)>,
    /// Its segments.
    pub segments: BTreeSet<u64>,
    /// True when it ended with a `stop` entry.
    pub is_stopped: bool,
    /// SHA-256 of binary and configuration, and the version.
    pub origin: [String; 3],
}

/// Sums that the gateway enters into the log, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Sessions of any route.
    pub sessions: u64,
    /// Those that are recorded.
    pub recorded: u64,
    /// Those that are not.
    pub unrecorded: u64,
    /// Bytes that were forwarded and not recorded.
    pub lost: u64,
}

impl LogView {
    /// Reads the log of a directory, and verifies nothing.
    pub fn read(directory: &Directory) -> Result<Self, DirectoryFault> {
        let mut view = LogView::default();
        read(directory, |number, line| view.take(number, line))?;
        Ok(view)
    }

    /// Takes an entry, in order.
    pub fn take(&mut self, number: u64, line: &str) {
        let Some(entry) = Entry::parse(line) else { return };
        let time = entry.number("time").unwrap_or(self.last_time);
        let is_running = self.runs.last().is_some_and(|run| !run.is_stopped) && entry.verb != "start";
        if is_running && time.saturating_sub(self.last_time) > MAX_ENTRY_GAP {
            self.silences.push((self.last_time, time));
        }
        self.last_time = time;
        if matches!(entry.verb, "hold" | "release" | "erase" | "rewrap" | "order") {
            self.orders.push((number, time, line.to_owned()));
        }
        take_entry(self, number, &entry);
    }
}

fn sums(run: &mut Run, entry: &Entry<'_>) -> Option<()> {
    let number = |name: &str| entry.number(name);
    run.sums = Sums {
        sessions: number("sessions")?,
        recorded: number("recorded")?,
        unrecorded: number("unrecorded")?,
        lost: number("lost").unwrap_or(0),
    };
    run.times.1 = number("time")?;
    // Of sums that do not change the first and the last say enough.
    if let [.., (_, before), (time, last)] = &mut run.history[..]
        && *before == *last
        && *last == run.sums
    {
        *time = run.times.1;
    } else {
        run.history.push((run.times.1, run.sums));
    }
    Some(())
}

/// Takes what an entry says; `None` where a field is missing.
fn take_entry(view: &mut LogView, number: u64, entry: &Entry<'_>) -> Option<()> {
    match entry.verb {
        "start" => {
            let text = |name: &str| entry.get(name).unwrap_or_default().to_owned();
            let time = entry.number("time").unwrap_or(0);
            let origin = [text("version"), text("binary"), text("configuration")];
            view.runs.push(Run { entry: number, times: (time, time), origin, ..Run::default() });
        }
        "heartbeat" => sums(view.runs.last_mut()?, entry)?,
        "chunk" => {
            let segment = entry.number("segment")?;
            let chunk = (entry.number("from")?, entry.number("to")?, entry.hash("sha256")?);
            view.segments.entry(segment).or_default().chunks.push(chunk);
            let run = view.runs.last_mut()?;
            run.segments.insert(segment);
            sums(run, entry)?;
        }
        "stop" => {
            let run = view.runs.last_mut()?;
            run.is_stopped = true;
            sums(run, entry)?;
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
                run.segments.insert(entry.number("number")?);
            }
        }
        "damaged" => view.segments.entry(entry.number("number")?).or_default().damaged = true,
        "retire" => {
            let segment = view.segments.entry(entry.number("segment")?).or_default();
            (segment.retired, segment.retired_sessions) = (true, entry.number("sessions"));
        }
        "timestamp" => drop(view.timestamps.insert(entry.number("size")?, entry.hash("sha256")?)),
        "hold" => drop(view.held.insert(entry.session()?)),
        "release" => drop(view.held.remove(&entry.session()?)),
        "erase" => {
            let segments = entry.get("segments")?.split(',').filter_map(|n| n.parse::<u64>().ok());
            let erased = view.erased.entry(entry.session()?).or_insert((number, BTreeSet::new()));
            erased.1.extend(segments);
        }
        _ => {}
    }
    Some(())
}
