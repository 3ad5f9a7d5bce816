//! State shared by all writers of a process: the directory, segment numbers, counters, and pending log entries.

use super::clock::WallClock;
use super::digest::ChunkDigest;
use super::directory::Directory;
use super::settings::Settings;
use super::slowness::Slowness;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Why a session cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingFault {
    /// No space is left: new recorded sessions are refused, live ones go on in what is reserved and end when it is full.
    #[error("no space is left for recordings")]
    NoSpace,
    /// Writing or syncing the session's segment failed. The segment is never written again.
    #[error("a segment of the recording is damaged")]
    Damaged,
    /// More bytes in one append than a frame holds.
    #[error("an append is longer than a frame")]
    TooLong,
    /// The payload is not whole records, or the plane has no secret.
    #[error("an append that is not whole records of a plane")]
    NotRecords,
    /// Sequence numbers or key epochs are used up.
    #[error("sequence numbers of the recording are used up")]
    Exhausted,
}

/// Sums over the life of the process, for metrics and for the log's `chunk` entries.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions that the gateway opened, recorded or not.
    pub sessions: AtomicU64,
    /// Sessions whose recording began.
    pub recorded: AtomicU64,
    /// Sessions on routes that are not recorded.
    pub unrecorded: AtomicU64,
    /// Sessions refused or cut for want of space.
    pub no_space: AtomicU64,
    /// Segments damaged by a failed write or sync.
    pub damaged: AtomicU64,
    /// Bytes that `record = "async"` forwarded and did not record.
    pub lost_bytes: AtomicU64,
    /// Bytes written to segments.
    pub written: AtomicU64,
    /// Segments closed.
    pub closed: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Progress of an open segment, shared by its writer and the signer.
pub(super) struct Progress {
    pub(super) number: u64,
    /// The next chunk entry's range, and its digest.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) digest: ChunkDigest,
    pub(super) bytes: Arc<File>,
    pub(super) keys: Arc<File>,
    /// Bytes whose writing to the disk was begun.
    pub(super) written_back: u64,
    /// A sync failed: the writer must not go on.
    pub(super) damaged: bool,
}

/// A segment that is complete: to be hashed, signed and entered in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) number: u64,
    pub(super) state: Closing,
}

/// How a segment was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Clean,
    /// After a failed write or sync.
    Damaged,
    /// By a process that died; found at the start of the next.
    Recovered,
}

/// A line for the log, and the sum that is published once it is signed.
pub(super) struct Pending {
    pub(super) line: String,
    pub(super) sum: Option<(u64, [u8; 32])>,
}

/// The recordings of a gateway, shared by its workers.
pub struct Archive {
    pub(super) directory: Directory,
    pub(super) settings: Settings,
    pub(super) wall: WallClock,
    /// Stamps begin after this.
    pub(super) floor: u64,
    /// Sums for metrics.
    pub counters: Counters,
    numbers: AtomicU64,
    pub(super) open: Mutex<Vec<Arc<Mutex<Progress>>>>,
    /// Lines that wait for the signer.
    pub(super) entries: Mutex<Vec<Pending>>,
    pub(super) closed: Mutex<VecDeque<Closed>>,
    pub(super) wake_hasher: Condvar,
    /// Writers that could not reserve their next segment.
    pub(super) without_spare: AtomicU64,
    /// Has every reservation fail.
    #[cfg(test)]
    pub(super) is_full: std::sync::atomic::AtomicBool,
    /// Bytes that sessions hold before their permits.
    pub held: Arc<AtomicUsize>,
    /// 1 while the log cannot be written.
    pub(super) log_failing: AtomicU64,
    /// Whether the disk makes writers wait.
    pub(super) slowness: Slowness,
}

impl Archive {
    /// Where the recordings are.
    pub fn root(&self) -> &std::path::Path {
        self.directory.root()
    }

    /// Shares an open directory whose highest segment is `last`, with stamps later than `floor`.
    pub(super) fn new(
        directory: Directory,
        settings: Settings,
        wall: WallClock,
        last: u64,
        floor: u64,
    ) -> Arc<Self> {
        Arc::new(Archive {
            directory,
            settings,
            wall,
            floor,
            counters: Counters::default(),
            numbers: AtomicU64::new(last + 1),
            open: Mutex::default(),
            entries: Mutex::default(),
            closed: Mutex::default(),
            wake_hasher: Condvar::new(),
            without_spare: AtomicU64::new(0),
            #[cfg(test)]
            is_full: Default::default(),
            held: Arc::default(),
            log_failing: AtomicU64::new(0),
            slowness: Slowness::default(),
        })
    }

    /// The number of a new segment.
    pub(super) fn take_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a session of a route that is not recorded: completeness is shown by the sums.
    pub fn count_unrecorded(&self) {
        count(&self.counters.sessions, 1);
        count(&self.counters.unrecorded, 1);
    }

    /// False while a writer has no space in reserve: new recorded sessions are refused. For readiness.
    pub fn has_space(&self) -> bool {
        self.without_spare.load(Ordering::Relaxed) == 0
    }

    /// Times that the disk began to make writers wait.
    pub fn disk_stalls(&self) -> u64 {
        self.slowness.episodes.load(Ordering::Relaxed)
    }

    /// False while the log cannot be written or signed. For readiness.
    pub fn has_log(&self) -> bool {
        self.log_failing.load(Ordering::Relaxed) == 0
    }

    /// Settings of recordings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has an operator's order entered into the log within a second: the line without its time.
    pub fn enter_order(&self, line: String) {
        self.enter(line);
    }

    /// Gives an entry to the signer.
    pub(super) fn enter(&self, line: String) {
        self.entries.lock().push(Pending { line, sum: None });
    }

    /// The cumulative sums, as `chunk` entries carry them.
    pub(super) fn sums(&self) -> String {
        let sum = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        format!(
            "sessions={} recorded={} unrecorded={} lost={}",
            sum(&c.sessions),
            sum(&c.recorded),
            sum(&c.unrecorded),
            sum(&c.lost_bytes)
        )
    }

    /// Takes what an open segment has gained since the last time, as a `chunk` entry.
    pub(super) fn take_chunk(&self, progress: &mut Progress) -> Option<String> {
        if progress.from == progress.to {
            return None;
        }
        let digest = std::mem::replace(&mut progress.digest, ChunkDigest::new()).finish();
        let line = format!(
            "chunk segment={} from={} to={} sha256={} {}",
            progress.number,
            progress.from,
            progress.to,
            super::hex(&digest),
            self.sums()
        );
        progress.from = progress.to;
        Some(line)
    }

    /// Gives a complete segment to the hasher.
    pub(super) fn hand_over(&self, closed: Closed) {
        self.closed.lock().push_back(closed);
        count(&self.counters.closed, 1);
        self.wake_hasher.notify_one();
    }

    /// Waits up to `limit` for a complete segment.
    pub(super) fn wait_closed(&self, limit: Duration) -> Option<Closed> {
        let mut closed = self.closed.lock();
        if closed.is_empty() {
            self.wake_hasher.wait_for(&mut closed, limit);
        }
        closed.pop_front()
    }
}
