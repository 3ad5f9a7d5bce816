//! `record = "strict"` where the disk makes writers wait: a thread of the worker's writes and acknowledges. What a session
//! appended goes on once it is acknowledged; sessions that are not recorded go on meanwhile.
//!
//! ```text
//!   the disk is quick       worker ── append ──▶ file
//!   an append took long     worker ── job ──▶ thread ── append ──▶ file
//!                             ▲──── acknowledged ────┘
//! ```
//! One thread at a time touches an appender or a track: the worker only while no job is under way.

use super::super::archive::RecordingFault;
use super::super::settings::{Durability, Mode};
use super::appender::{Appender, Payload};
use super::event::{Event, change};
use super::track::Track;
use crate::names::{SessionId, Side};
use parking_lot::Mutex;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

/// Jobs that one sync may bring to the disk, with [`Durability::Commit`].
const JOBS_PER_SYNC: usize = 256;

/// A strict session's track, and what of it is under way.
pub(super) struct StrictTape {
    pub(super) track: Mutex<Track>,
    /// Jobs that are not acknowledged.
    pending: AtomicUsize,
    /// A job failed: nothing of the session is recorded any more.
    failed: AtomicBool,
    fault: Mutex<Option<RecordingFault>>,
    /// Who waits, by [`Side`].
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl StrictTape {
    pub(super) fn new(session: SessionId) -> Self {
        StrictTape {
            track: Mutex::new(Track::new(session, Mode::Strict)),
            pending: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            fault: Mutex::new(None),
            wakers: Mutex::default(),
        }
    }

    /// Ready once every job is acknowledged.
    pub(super) fn poll_recorded(&self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), RecordingFault>> {
        if self.pending.load(Ordering::Acquire) != 0 {
            let place = match side {
                Side::Client => 0,
                Side::Upstream => 1,
            };
            self.wakers.lock()[place] = Some(cx.waker().clone());
            // Acknowledged meanwhile, and nobody saw the waker.
            if self.pending.load(Ordering::Acquire) != 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.check())
    }

    /// The fault of a job that failed.
    pub(super) fn check(&self) -> Result<(), RecordingFault> {
        match self.failed.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(self.fault.lock().unwrap_or(RecordingFault::Damaged)),
        }
    }

    fn fail(&self, fault: RecordingFault) {
        self.fault.lock().get_or_insert(fault);
        self.failed.store(true, Ordering::Release);
    }

    fn acknowledge(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waiting = std::mem::take(&mut *self.wakers.lock());
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// An appender that the worker and its thread share.
pub(super) type SharedAppender = Arc<Mutex<Appender>>;

/// What the thread is to do.
struct Job {
    appender: SharedAppender,
    work: Work,
}

enum Work {
    Record(Arc<StrictTape>, Event),
    /// What time asks for.
    Tick,
}

/// The worker's end.
pub(super) struct StrictThread {
    to: Option<Sender<Job>>,
    under_way: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl StrictThread {
    pub(super) fn start(worker: u16, durability: Durability) -> std::io::Result<Self> {
        let (to, from) = channel();
        let under_way = Arc::new(AtomicUsize::new(0));
        let done = under_way.clone();
        let thread = std::thread::Builder::new().name(format!("strict-{worker}"));
        let thread = thread.spawn(move || run(&from, &done, durability == Durability::Commit))?;
        Ok(StrictThread { to: Some(to), under_way, thread: Some(thread) })
    }

    /// True while no job is under way: the thread touches nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Has an event of a session recorded behind those before. What waits is bounded by what sessions may send before they
    /// have to wait.
    pub(super) fn record(&self, appender: &SharedAppender, tape: &Arc<StrictTape>, event: Event) {
        tape.pending.fetch_add(1, Ordering::AcqRel);
        self.send(appender, Work::Record(tape.clone(), event));
    }

    pub(super) fn tick(&self, appender: &SharedAppender) {
        self.send(appender, Work::Tick);
    }

    fn send(&self, appender: &SharedAppender, work: Work) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let Some(to) = &self.to else { return };
        // The thread ends with the channel alone; if it did not, whoever waits for it waits and sends nothing.
        let _ = to.send(Job { appender: appender.clone(), work });
    }
}

impl Drop for StrictThread {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does jobs in order; with `commits` it acknowledges them once a sync has brought them to the disk.
fn run(from: &Receiver<Job>, under_way: &AtomicUsize, commits: bool) {
    let most = if commits { JOBS_PER_SYNC } else { 1 };
    while let Ok(first) = from.recv() {
        let mut done = vec![first.run()];
        while done.len() < most
            && let Ok(job) = from.try_recv()
        {
            done.push(job.run());
        }
        if commits {
            sync(&done);
        }
        for Done { appender, tape } in done {
            // Before the worker may take it that nothing is under way.
            drop(appender);
            under_way.fetch_sub(1, Ordering::AcqRel);
            tape.iter().for_each(|tape| tape.acknowledge());
        }
    }
}

/// A job that was done, and is not acknowledged.
struct Done {
    appender: SharedAppender,
    tape: Option<Arc<StrictTape>>,
}

impl Job {
    fn run(self) -> Done {
        let Job { appender, work } = self;
        let tape = match work {
            Work::Tick => {
                appender.lock().tick();
                None
            }
            Work::Record(tape, event) => {
                if tape.check().is_ok()
                    && let Err(fault) = record(&mut appender.lock(), &mut tape.track.lock(), event)
                {
                    tape.fail(fault);
                }
                Some(tape)
            }
        };
        Done { appender, tape }
    }
}

fn record(appender: &mut Appender, track: &mut Track, event: Event) -> Result<(), RecordingFault> {
    match &event {
        Event::Begin(_) => appender.admit(),
        Event::Carry(..) | Event::Seal(..) | Event::Rekey(_) => change(track, event),
        Event::Wire(plane, bytes) => appender.put(track, Payload::Wire(*plane, &[IoSlice::new(bytes)])),
        Event::Plaintext(plane, bytes) => appender.put(track, Payload::Plaintext(*plane, bytes)),
        Event::Fact(line) => appender.put(track, Payload::Fact(line)),
        Event::SealedFact(text) => appender.put(track, Payload::SealedFact(text)),
        Event::End => appender.put(track, Payload::End),
        // Of `async` sessions alone.
        Event::Gap(_) | Event::Forget => Ok(()),
    }
}

/// Brings to the disk what jobs wrote; what cannot be brought there is not recorded.
fn sync(done: &[Done]) {
    for (at, job) in done.iter().enumerate() {
        let is_same = |other: &&Done| Arc::ptr_eq(&other.appender, &job.appender);
        if done[..at].iter().any(|other| is_same(&other)) {
            continue;
        }
        let mut appender = job.appender.lock();
        let synced = appender.sync();
        for tape in done.iter().filter(is_same).filter_map(|job| job.tape.as_ref()) {
            if let Err(fault) = synced.and_then(|()| appender.check(&tape.track.lock())) {
                tape.fail(fault);
            }
        }
    }
}
