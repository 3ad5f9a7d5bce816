//! Writers of recordings. A worker owns one [`Recorder`]; a session holds one [`Tape`]. What the caller owes:
//!
//! ```text
//!   tape = recorder.begin(session, class, mode)?      Err: refuse the session, in the client's protocol
//!   recorder.fact(&mut tape, audit line)?             any time, also before there are secrets
//!   recorder.carry(&mut tape, Down, secret, n)?       a plane of records as the client leg sends them, the next is number n
//!   recorder.seal(&mut tape, Up, suite)?              a plane that is sealed here
//!
//!   recorder.append(&mut tape, Down, slices)?         ciphertext, whole records; before they are written to the socket
//!   recorder.append_plaintext(&mut tape, Up, slices)? the client's view; before it is forwarded
//!   ready!(tape.poll_recorded(side, cx))?             before either
//!   recorder.rekey(&mut tape, Down)?                  after the append that ends with our KeyUpdate
//!
//!   recorder.end(tape)?                               totals; after the last FACT
//!   recorder.tick()                                   about once a second
//! ```
//!
//! With [`Mode::Strict`], `Ok` from `poll_recorded` means that write(2) has returned for all that was appended, and that the
//! durability of the settings holds: only then may the bytes go on. After an `Err`, of whatever call, nothing that was not
//! recorded before may go on, and the session ends. While the disk is quick and no sync is asked for, the worker itself
//! writes, and `poll_recorded` is always ready: see `strict`. With [`Mode::Async`] every call but `begin` succeeds, and what
//! waits to be written is bounded.
//!
//! An append of a plane without a secret, or of what is not whole records, is [`RecordingFault::NotRecords`]: nothing is
//! ever written that a reader could not open. Nothing is allocated for an append once buffers have their size.

mod appender;
mod event;
mod queue;
mod segment;
mod strict;
mod tape;
#[cfg(test)]
pub(super) mod tests;
mod track;

use super::archive::{Archive, RecordingFault, count};
use super::digest::count_records;
use super::format::frame::{Gap, Plane};
use super::format::traffic::TrafficSecret;
use super::settings::Durability;
pub use super::settings::Mode;
use crate::names::SessionId;
use crate::tls::record::Suite;
use appender::{Appender, MAX_PLAINTEXT, Payload};
use event::{Event, change};
use parking_lot::Mutex;
use queue::{Queue, Room};
use std::io::IoSlice;
use std::sync::Arc;
use strict::{SharedAppender, StrictTape, StrictThread};
pub use tape::Tape;
use tape::{How, Losses};

/// A worker's recordings.
pub struct Recorder {
    archive: Arc<Archive>,
    worker: u16,
    /// Writes for strict sessions while the disk makes writers wait; started when it first does. Dropped before the
    /// appenders are.
    thread: Option<StrictThread>,
    /// What comes next is the thread's to do.
    waits_elsewhere: bool,
    /// By retention class; made when a session first wants them.
    appenders: Vec<Option<SharedAppender>>,
    queue: Option<Queue>,
}

impl Recorder {
    /// The recordings of worker number `worker`; one alone may have a number.
    pub fn new(archive: Arc<Archive>, worker: u16) -> Self {
        let appenders = archive.settings.classes.iter().map(|_| None).collect();
        Recorder { archive, worker, thread: None, waits_elsewhere: false, appenders, queue: None }
    }

    /// Begins the recording of a session in a retention class, an index into the settings' list. Refused when there is no
    /// space in reserve.
    pub fn begin(&mut self, session: SessionId, class: usize, mode: Mode) -> Result<Tape, RecordingFault> {
        let begun = match mode {
            Mode::Strict => self.begin_strict(session, class),
            Mode::Async => self.start_queue().map(|queue| {
                let is_queued = queue.has_room(Room::Session, 0);
                Tape::queued(session, class, is_queued)
            }),
        };
        let tape = begun.inspect_err(|_| count(&self.archive.counters.no_space, 1))?;
        count(&self.archive.counters.sessions, 1);
        match &tape.how {
            How::Strict(_) => {}
            How::Async(losses) if losses.is_queued => self.tell(&tape, Event::Begin(class)),
            How::Async(_) => count(&self.archive.counters.unrecorded, 1),
        }
        Ok(tape)
    }

    /// Has a plane hold records as the client leg sends them, from number `number` on under `secret`.
    pub fn carry(
        &mut self,
        tape: &mut Tape,
        plane: Plane,
        secret: TrafficSecret,
        number: u64,
    ) -> Result<(), RecordingFault> {
        self.change(tape, Event::Carry(plane, secret, number))
    }

    /// Has a plane hold records that are sealed here under a random secret.
    pub fn seal(&mut self, tape: &mut Tape, plane: Plane, suite: Suite) -> Result<(), RecordingFault> {
        self.change(tape, Event::Seal(plane, suite))
    }

    /// Follows a key update of the plane that it carries: the next record is number 0 under the next secret.
    pub fn rekey(&mut self, tape: &mut Tape, plane: Plane) -> Result<(), RecordingFault> {
        self.note_gap(tape, plane);
        self.change(tape, Event::Rekey(plane))
    }

    /// Records whole TLS records of a plane as they go over the wire; all under one key. At most 1 MiB.
    pub fn append(
        &mut self,
        tape: &mut Tape,
        plane: Plane,
        records: &[IoSlice<'_>],
    ) -> Result<(), RecordingFault> {
        let count = count_records(records.iter().map(|slice| &**slice));
        let count = count.map_err(|_| RecordingFault::NotRecords)?;
        match &tape.how {
            _ if count == 0 => {}
            How::Strict(strict) => self.put(tape.class, strict, Payload::Wire(plane, records))?,
            How::Async(_) => self.queue(tape, plane, records, u64::from(count), Event::Wire),
        }
        Ok(())
    }

    /// Records plaintext of a plane that is sealed here.
    pub fn append_plaintext(
        &mut self,
        tape: &mut Tape,
        plane: Plane,
        plaintext: &[IoSlice<'_>],
    ) -> Result<(), RecordingFault> {
        match &tape.how {
            How::Strict(strict) => plaintext
                .iter()
                .flat_map(|slice| slice.chunks(MAX_PLAINTEXT))
                .try_for_each(|chunk| self.put(tape.class, strict, Payload::Plaintext(plane, chunk))),
            How::Async(_) => {
                self.queue(tape, plane, plaintext, 0, Event::Plaintext);
                Ok(())
            }
        }
    }

    /// Records an audit line (JSON) that anybody with the file may read.
    pub fn fact(&mut self, tape: &mut Tape, line: &[u8]) -> Result<(), RecordingFault> {
        match &tape.how {
            How::Strict(strict) => self.put(tape.class, strict, Payload::Fact(line))?,
            How::Async(_) => self.queue_fact(tape, line, Event::Fact),
        }
        Ok(())
    }

    /// Records a fact that auditors and indexers alone may read: texts of statements.
    pub fn sealed_fact(&mut self, tape: &mut Tape, text: &[u8]) -> Result<(), RecordingFault> {
        match &tape.how {
            How::Strict(strict) => self.put(tape.class, strict, Payload::SealedFact(text))?,
            How::Async(_) => self.queue_fact(tape, text, Event::SealedFact),
        }
        Ok(())
    }

    /// Ends the recording with its totals.
    pub fn end(&mut self, mut tape: Tape) -> Result<(), RecordingFault> {
        if let How::Strict(strict) = &tape.how {
            return self.put(tape.class, strict, Payload::End);
        }
        Plane::ALL.iter().for_each(|plane| self.note_gap(&mut tape, *plane));
        self.note_lost_facts(&mut tape);
        self.tell(&tape, Event::End);
        Ok(())
    }

    /// Drops a recording without an end: it is shown as unfinished.
    pub fn forget(&mut self, tape: Tape) {
        self.tell(&tape, Event::Forget);
    }

    /// Closes segments that are old enough, and looks whether space has come back.
    pub fn tick(&mut self) {
        self.archive.slowness.look();
        self.wait_elsewhere(false);
        let (thread, appenders) = (self.thread.as_ref(), self.appenders.iter().flatten());
        appenders.for_each(|appender| match thread {
            Some(thread) if self.waits_elsewhere => thread.tick(appender),
            _ => appender.lock().tick(),
        });
    }

    fn begin_strict(&mut self, session: SessionId, class: usize) -> Result<Tape, RecordingFault> {
        let strict = Arc::new(StrictTape::new(session));
        let has_space = self.archive.has_space();
        let (appender, thread) = self.writers(class, false)?;
        match thread {
            // How it stood when the thread looked last: what it finds now ends the session.
            Some(_) if !has_space => return Err(RecordingFault::NoSpace),
            Some(thread) => thread.record(appender, &strict, Event::Begin(class)),
            None => appender.lock().admit()?,
        }
        Ok(Tape { session, class, how: How::Strict(strict) })
    }

    fn change(&mut self, tape: &mut Tape, event: Event) -> Result<(), RecordingFault> {
        let How::Strict(strict) = &tape.how else {
            self.tell(tape, event);
            return Ok(());
        };
        match self.writers(tape.class, false)? {
            (appender, Some(thread)) => thread.record(appender, strict, event),
            (_, None) => change(&mut strict.track.lock(), event)?,
        }
        Ok(())
    }

    /// Writes one frame of a strict session, or has it written.
    fn put(
        &mut self,
        class: usize,
        strict: &Arc<StrictTape>,
        payload: Payload<'_>,
    ) -> Result<(), RecordingFault> {
        strict.check()?;
        let commits = self.archive.settings.durability == Durability::Commit;
        match self.writers(class, commits)? {
            (appender, Some(thread)) => thread.record(appender, strict, payload.into()),
            (appender, None) => {
                let mut appender = appender.lock();
                appender.put(&mut strict.track.lock(), payload)?;
                if commits {
                    appender.sync()?;
                }
            }
        }
        Ok(())
    }

    /// A class's appender, and the thread if it is to do what comes next; else the worker does it.
    fn writers(
        &mut self,
        class: usize,
        waits: bool,
    ) -> Result<(&SharedAppender, Option<&StrictThread>), RecordingFault> {
        self.wait_elsewhere(waits);
        let (archive, worker) = (&self.archive, self.worker);
        let place = self.appenders.get_mut(class).ok_or(RecordingFault::NotRecords)?;
        let made = || Arc::new(Mutex::new(Appender::new(archive.clone(), worker, class)));
        Ok((place.get_or_insert_with(made), self.thread.as_ref().filter(|_| self.waits_elsewhere)))
    }

    /// Decides who does what comes next: the thread what `waits` in any case, while the disk is slow, and behind what is
    /// under way.
    fn wait_elsewhere(&mut self, waits: bool) {
        let is_busy = || self.thread.as_ref().is_some_and(|thread| !thread.is_idle());
        self.waits_elsewhere = waits || self.archive.slowness.is_slow() || is_busy();
        if self.waits_elsewhere && self.thread.is_none() {
            // Without one the worker waits by itself.
            self.thread = StrictThread::start(self.worker, self.archive.settings.durability).ok();
        }
    }

    fn start_queue(&mut self) -> Result<&Queue, RecordingFault> {
        if self.queue.is_none() {
            // The thread's segments are its own: a worker number that no worker has.
            let queue = Queue::start(self.archive.clone(), self.worker | ASYNC);
            self.queue = Some(queue.map_err(|_| RecordingFault::NoSpace)?);
        }
        self.queue.as_ref().ok_or(RecordingFault::NoSpace)
    }

    fn tell(&self, tape: &Tape, event: Event) {
        if let (Some(queue), How::Async(Losses { is_queued: true, .. })) = (&self.queue, &tape.how) {
            queue.tell(tape.session, event);
        }
    }

    /// Puts an audit line into the queue if it fits, behind a line that says how many did not.
    fn queue_fact(&self, tape: &mut Tape, line: &[u8], event: fn(Vec<u8>) -> Event) {
        let fits = self.queue.as_ref().is_some_and(|queue| queue.has_room(Room::Fact, line.len()));
        if let How::Async(losses) = &mut tape.how
            && !(fits && losses.is_queued)
        {
            count(&self.archive.counters.lost_bytes, line.len() as u64);
            losses.lost_facts += 1;
            return;
        }
        self.note_lost_facts(tape);
        self.tell(tape, event(line.to_vec()));
    }

    fn note_lost_facts(&self, tape: &mut Tape) {
        let How::Async(losses) = &mut tape.how else { return };
        let lost = std::mem::take(&mut losses.lost_facts);
        if lost > 0 {
            let session = tape.session;
            let line = format!("{{\"event\":\"facts lost\",\"session\":\"{session}\",\"facts\":{lost}}}");
            self.tell(tape, Event::Fact(line.into_bytes()));
        }
    }

    /// Puts a copy into the queue if it fits, behind the gap that is owed; else it is lost.
    fn queue(
        &mut self,
        tape: &mut Tape,
        plane: Plane,
        slices: &[IoSlice<'_>],
        records: u64,
        event: fn(Plane, Vec<u8>) -> Event,
    ) {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let (Some(queue), How::Async(losses)) = (&self.queue, &mut tape.how) else { return };
        if !losses.is_queued || !queue.has_room(Room::Bytes, length) {
            count(&self.archive.counters.lost_bytes, length as u64);
            let lost = &mut losses.lost[plane.index()];
            (lost.0, lost.1) = (lost.0 + length as u64, lost.1 + records);
            return;
        }
        self.note_gap(tape, plane);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.tell(tape, event(plane, bytes));
    }

    fn note_gap(&self, tape: &mut Tape, plane: Plane) {
        let How::Async(losses) = &mut tape.how else { return };
        let (bytes, records) = std::mem::take(&mut losses.lost[plane.index()]);
        if bytes > 0 {
            self.tell(tape, Event::Gap(Gap { plane, bytes, records }));
        }
    }
}

/// Marks the segments of a worker's `async` thread.
const ASYNC: u16 = 0x8000;
