//! The log sink: one ordered stream of lines, written by one thread. Logging never blocks.
//!
//! Lines wait in memory while the destination is slower than the load, or fails. How much may wait depends on whose line
//! it is ([`Priority`], [`Room`]):
//!
//! ```text
//!   0 ─────── unpermitted ─────────── full ─────────────── reserve ─────────────── last
//!   │ all lines                       │ no new work        │ when_full = "refuse": live sessions are ended,
//!   │         │ no lines of those who │ is permitted;      │   and leave their closing lines
//!   │         │ are not permitted     │ no diagnostics     │ when_full = "drop": evidence is counted and dropped
//! ```
//!
//! Whatever is dropped is counted, and a line says how many once there is room again. A destination that takes nothing
//! for `STALL_TIMEOUT`, or that fails, is reported by [`Sink::failing`], for `/readyz`. Lines reach the destination
//! within [`FLUSH`]: a writer that is woken for each costs a new connection a twentieth of all that it costs.

mod writer;

use crate::metrics::LogFacts;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What happens when the log is blocked and its reserve used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// The evidence: new work is refused, and in the end live sessions are closed.
    #[default]
    Refuse,
    /// The service: lines are counted and dropped.
    Drop,
}

/// Priority of a line: which mark limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Caused by somebody who is not permitted.
    Unpermitted,
    /// Of the program's own: warnings and the like.
    Diagnostic,
    /// Evidence of permitted work.
    Evidence,
    /// The end of a permitted session.
    Closing,
}

/// How many bytes may wait to be written, each mark counted from empty, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From here, lines of those who are not permitted are dropped.
    pub unpermitted: usize,
    /// From here, nothing new is permitted, and diagnostics are dropped.
    pub full: usize,
    /// From here, evidence or service ends ([`WhenFull`]).
    pub reserve: usize,
    /// From here, everything is dropped.
    pub last: usize,
    /// What wins.
    pub when_full: WhenFull,
}

/// Bytes that may wait while new work is permitted, where nothing else is said: some 20,000 requests.
pub const BUFFER: usize = 8 << 20;

impl Room {
    /// Marks around the one that ends new work. The reserve is for what was permitted before, the last for closing lines:
    /// 30,000 of them at the default.
    pub const fn new(full: usize, when_full: WhenFull) -> Self {
        Room { unpermitted: full / 4, full, reserve: 3 * full, last: Self::MAX_BUFFERS * full, when_full }
    }

    /// How many times the mark that ends new work may wait in all.
    pub const MAX_BUFFERS: usize = 7;
}

impl Default for Room {
    fn default() -> Self {
        Room::new(BUFFER, WhenFull::default())
    }
}

/// Lines that were dropped, by whose they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Of those who were not permitted.
    pub unpermitted: u64,
    /// Warnings and the like.
    pub diagnostics: u64,
    /// Evidence of permitted work.
    pub evidence: u64,
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// The writing thread waits here for lines.
    filled: Condvar,
    /// Those who flush wait here for emptiness.
    emptied: Condvar,
    room: Room,
    /// Bytes that are not written yet; changed under the queue's lock only.
    waiting: AtomicUsize,
    /// [`Priority`] → lines dropped.
    dropped: [AtomicU64; 4],
    stalls: AtomicU64,
    errors: AtomicU64,
    /// The last write failed.
    failed: AtomicBool,
    /// The present stall was counted.
    stalled: AtomicBool,
    /// When the destination last took something, in milliseconds since `started`; 0: nothing waits for it.
    progress: AtomicU64,
    started: Instant,
}

struct Queue {
    /// Whole lines; the youngest, and of ordinary times the only ones.
    chunk: Vec<u8>,
    /// Chunks before that, the oldest first.
    full: VecDeque<Vec<u8>>,
    /// Lines that were taken.
    lines: u64,
    /// Somebody wants them written now.
    urgent: bool,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Open,
    /// The guard was dropped: write what is there and end.
    Closing,
    /// The thread has ended: later lines are lost.
    Closed,
}

impl Sink {
    /// Starts the thread that writes to `destination`; it ends when the guard is dropped.
    pub fn start(destination: impl Write + Send + 'static) -> io::Result<(Sink, Guard)> {
        Self::start_with(destination, Room::default())
    }

    /// The same with other marks.
    pub fn start_with(destination: impl Write + Send + 'static, room: Room) -> io::Result<(Sink, Guard)> {
        let queue =
            Queue { chunk: Vec::new(), full: VecDeque::new(), lines: 0, urgent: false, stage: Stage::Open };
        let sink = Sink(Arc::new(Shared {
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            room,
            waiting: AtomicUsize::new(0),
            dropped: Default::default(),
            stalls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            started: Instant::now(),
        }));
        let shared = sink.0.clone();
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || shared.run(destination))?;
        Ok((sink.clone(), Guard { sink, thread: Some(thread) }))
    }

    /// Adds one line, its end included, or counts it where there is no room.
    pub(super) fn line(&self, line: &[u8], priority: Priority, urgent: bool) {
        let shared = &*self.0;
        let mut queue = shared.queue.lock();
        let waiting = shared.waiting.load(Relaxed) + line.len();
        if waiting > shared.limit(priority) || queue.stage == Stage::Closed {
            drop(queue);
            shared.dropped[priority as usize].fetch_add(1, Relaxed);
            return;
        }
        shared.waiting.store(waiting, Relaxed);
        queue.lines += 1;
        if queue.chunk.len() >= CHUNK {
            let chunk = std::mem::take(&mut queue.chunk);
            queue.full.push_back(chunk);
        }
        let first = queue.chunk.is_empty();
        queue.chunk.extend_from_slice(line);
        let urgent = (urgent || queue.chunk.len() >= BATCH) && !queue.urgent;
        queue.urgent |= urgent;
        drop(queue);
        if first || urgent {
            shared.filled.notify_one();
        }
    }

    /// Waits until everything said so far is written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut queue = self.0.queue.lock();
        while queue.stage != Stage::Closed && self.0.waiting.load(Relaxed) > 0 {
            queue.urgent = true;
            self.0.filled.notify_one();
            if self.0.emptied.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }

    /// True while there is room for evidence of new work, or while service goes before evidence.
    pub fn takes_new_work(&self) -> bool {
        self.0.waiting.load(Relaxed) < self.0.room.full || self.0.room.when_full == WhenFull::Drop
    }

    /// True where the reserve is used up and evidence goes before service: live sessions have to end.
    pub fn exhausted(&self) -> bool {
        self.0.waiting.load(Relaxed) >= self.0.room.reserve && self.0.room.when_full == WhenFull::Refuse
    }

    /// True while even those who are not permitted have room.
    pub fn has_room(&self) -> bool {
        self.0.waiting.load(Relaxed) < self.0.room.unpermitted
    }

    /// Bytes that are not written yet.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    /// How many lines were taken.
    pub fn lines(&self) -> u64 {
        self.0.queue.lock().lines
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> Dropped {
        let [unpermitted, diagnostics, evidence, closing] =
            [0, 1, 2, 3].map(|priority: usize| self.0.dropped[priority].load(Relaxed));
        Dropped { unpermitted, diagnostics, evidence: evidence + closing }
    }

    /// How often the destination took nothing for `STALL_TIMEOUT`.
    pub fn stalls(&self) -> u64 {
        self.0.stalls.load(Relaxed)
    }

    /// How often writing failed.
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Relaxed)
    }

    /// All that there is to say about it in numbers.
    pub fn facts(&self) -> LogFacts {
        let dropped = self.dropped();
        LogFacts {
            lines: self.lines(),
            dropped: [dropped.unpermitted, dropped.diagnostics, dropped.evidence],
            waiting_bytes: self.waiting() as u64,
            failing: self.failing(),
            stalls: self.stalls(),
            errors: self.errors(),
        }
    }

    /// True while the destination takes nothing: it fails, or nothing moved for `STALL_TIMEOUT`.
    pub fn failing(&self) -> bool {
        let shared = &*self.0;
        let progress = shared.progress.load(Relaxed);
        // Both are rounded down: only beyond the limit it has certainly passed.
        let stuck = progress != 0 && shared.now() > progress + STALL_TIMEOUT.as_millis() as u64;
        if stuck && !shared.stalled.swap(true, Relaxed) {
            shared.stalls.fetch_add(1, Relaxed);
        }
        stuck || shared.failed.load(Relaxed)
    }
}

impl Shared {
    fn limit(&self, priority: Priority) -> usize {
        match priority {
            Priority::Unpermitted => self.room.unpermitted,
            Priority::Diagnostic => self.room.full,
            Priority::Evidence if self.room.when_full == WhenFull::Drop => self.room.reserve,
            Priority::Evidence | Priority::Closing => self.room.last,
        }
    }

    /// Milliseconds since the sink was started, never 0.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }
}

/// Keeps the log open; writes what is left when dropped, for a few seconds at most.
pub struct Guard {
    sink: Sink,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Guard {
    /// The sink, for its counters.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shared = &*self.sink.0;
        let begin = Instant::now();
        let mut queue = shared.queue.lock();
        queue.stage = Stage::Closing;
        shared.filled.notify_all();
        // A reader that neither reads nor closes its pipe must not keep the program from ending.
        let mut moved = (shared.progress.load(Relaxed), begin);
        while queue.stage != Stage::Closed {
            let progress = shared.progress.load(Relaxed);
            if progress != moved.0 {
                moved = (progress, Instant::now());
            }
            if moved.1.elapsed() > FLUSH_STALL_TIMEOUT || begin.elapsed() > FLUSH_TIMEOUT {
                drop(queue);
                super::print_to_stderr(&format!(
                    "the log takes nothing: its last {} bytes are lost",
                    self.sink.waiting()
                ));
                return;
            }
            shared.emptied.wait_for(&mut queue, FLUSH_STALL_TIMEOUT / 10);
        }
        drop(queue);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes of lines that are written together at most.
const CHUNK: usize = 256 << 10;

/// Bytes at which the thread is woken before its time: large writes, and few of them.
const BATCH: usize = 128 << 10;

/// How long a line may wait for others.
const FLUSH: Duration = Duration::from_millis(50);

/// How long a destination may take nothing before that counts as a failure.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the program waits for its last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The same while nothing moves.
const FLUSH_STALL_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
