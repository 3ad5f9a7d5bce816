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
//!   recorder.flush()?                                 once for all sessions of a turn, before their socket writes
//!   recorder.rekey(&mut tape, Down)?                  after the append that ends with our KeyUpdate
//!
//!   recorder.end(tape)?                               totals; after the last FACT
//!   recorder.tick()                                   about once a second
//! ```
//!
//! With [`Mode::Strict`], `Ok` from `append` means that write(2) has returned, and `Ok` from `flush` that the durability of
//! the settings holds: only then may the bytes go on. After an `Err` nothing of that append may go on, and the session ends.
//! With [`Mode::Async`] every call but `begin` succeeds, and what waits to be written is bounded.
//!
//! An append of a plane without a secret, or of what is not whole records, is [`RecordingFault::NotRecords`]: nothing is
//! ever written that a reader could not open. Nothing is allocated for an append once buffers have their size.

mod appender;
mod queue;
mod segment;
mod tape;
#[cfg(test)]
pub(super) mod tests;

use super::archive::{Archive, RecordingFault, count};
use super::digest::count_records;
use super::format::frame::{Gap, Plane, Totals};
use super::format::traffic::TrafficSecret;
use super::settings::Durability;
pub use super::settings::Mode;
use crate::names::SessionId;
use crate::tls::record::Suite;
use appender::{Appender, MAX_PLAINTEXT, Payload};
use queue::{Event, Queue, Room};
use std::io::IoSlice;
use std::sync::Arc;
pub use tape::Tape;

/// A worker's recordings.
pub struct Recorder {
    archive: Arc<Archive>,
    worker: u16,
    /// By retention class; made when a session first wants them.
    appenders: Vec<Option<Appender>>,
    queue: Option<Queue>,
}

impl Recorder {
    /// The recordings of worker number `worker`; one alone may have a number.
    pub fn new(archive: Arc<Archive>, worker: u16) -> Self {
        let appenders = archive.settings.classes.iter().map(|_| None).collect();
        Recorder { archive, worker, appenders, queue: None }
    }

    /// Begins the recording of a session in a retention class, an index into the settings' list. Refused when there is no
    /// space in reserve.
    pub fn begin(&mut self, session: SessionId, class: usize, mode: Mode) -> Result<Tape, RecordingFault> {
        let mut tape = Tape::new(session, class, mode);
        let admitted = match mode {
            Mode::Strict => self.appender(class).and_then(Appender::admit),
            Mode::Async => self.start_queue().map(|queue| {
                tape.is_queued = queue.has_room(Room::Session, 0);
            }),
        };
        admitted.inspect_err(|_| count(&self.archive.counters.no_space, 1))?;
        count(&self.archive.counters.sessions, 1);
        match (mode, tape.is_queued) {
            (Mode::Async, true) => self.tell(&tape, Event::Begin(class)),
            (Mode::Async, false) => count(&self.archive.counters.unrecorded, 1),
            (Mode::Strict, _) => {}
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
        match tape.mode {
            Mode::Strict => tape.carry(plane, secret, number),
            Mode::Async => self.tell(tape, Event::Carry(plane, secret, number)),
        }
        Ok(())
    }

    /// Has a plane hold records that are sealed here under a random secret.
    pub fn seal(&mut self, tape: &mut Tape, plane: Plane, suite: Suite) -> Result<(), RecordingFault> {
        match tape.mode {
            Mode::Strict => tape.seal(plane, suite)?,
            Mode::Async => self.tell(tape, Event::Seal(plane, suite)),
        }
        Ok(())
    }

    /// Follows a key update of the plane that it carries: the next record is number 0 under the next secret.
    pub fn rekey(&mut self, tape: &mut Tape, plane: Plane) -> Result<(), RecordingFault> {
        match tape.mode {
            Mode::Strict => tape.plane(plane)?.rekey()?,
            Mode::Async => {
                self.note_gap(tape, plane);
                self.tell(tape, Event::Rekey(plane));
            }
        }
        Ok(())
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
        match (count, tape.mode) {
            (0, _) => Ok(()),
            (_, Mode::Strict) => self.appender(tape.class)?.put(tape, Payload::Wire(plane, records)),
            (_, Mode::Async) => {
                self.queue(tape, plane, records, u64::from(count), Event::Wire);
                Ok(())
            }
        }
    }

    /// Records plaintext of a plane that is sealed here.
    pub fn append_plaintext(
        &mut self,
        tape: &mut Tape,
        plane: Plane,
        plaintext: &[IoSlice<'_>],
    ) -> Result<(), RecordingFault> {
        if tape.mode == Mode::Async {
            self.queue(tape, plane, plaintext, 0, Event::Plaintext);
            return Ok(());
        }
        let appender = self.appender(tape.class)?;
        plaintext
            .iter()
            .flat_map(|slice| slice.chunks(MAX_PLAINTEXT))
            .try_for_each(|chunk| appender.put(tape, Payload::Plaintext(plane, chunk)))
    }

    /// Records an audit line (JSON) that anybody with the file may read.
    pub fn fact(&mut self, tape: &mut Tape, line: &[u8]) -> Result<(), RecordingFault> {
        match tape.mode {
            Mode::Strict => self.appender(tape.class)?.put(tape, Payload::Fact(line)),
            Mode::Async => {
                self.queue_fact(tape, line, Event::Fact);
                Ok(())
            }
        }
    }

    /// Records a fact that auditors and indexers alone may read: texts of statements.
    pub fn sealed_fact(&mut self, tape: &mut Tape, text: &[u8]) -> Result<(), RecordingFault> {
        match tape.mode {
            Mode::Strict => self.appender(tape.class)?.put(tape, Payload::SealedFact(text)),
            Mode::Async => {
                self.queue_fact(tape, text, Event::SealedFact);
                Ok(())
            }
        }
    }

    /// Makes the durability of the settings hold for all that was appended; a sync with [`Durability::Commit`], else
    /// nothing. After an `Err`, nothing that was appended since the last flush may go on.
    pub fn flush(&mut self) -> Result<(), RecordingFault> {
        match self.archive.settings.durability {
            Durability::Commit => self.appenders.iter_mut().flatten().try_for_each(Appender::sync),
            Durability::Process | Durability::EverySecond => Ok(()),
        }
    }

    /// Ends the recording with its totals.
    pub fn end(&mut self, mut tape: Tape) -> Result<Totals, RecordingFault> {
        match tape.mode {
            Mode::Strict => self.appender(tape.class)?.put(&mut tape, Payload::End)?,
            Mode::Async => {
                Plane::ALL.iter().for_each(|plane| self.note_gap(&mut tape, *plane));
                self.note_lost_facts(&mut tape);
                self.tell(&tape, Event::End);
            }
        }
        Ok(tape.totals)
    }

    /// Drops a recording without an end: it is shown as unfinished.
    pub fn forget(&mut self, tape: Tape) {
        if tape.mode == Mode::Async {
            self.tell(&tape, Event::Forget);
        }
    }

    /// Closes segments that are old enough, and looks whether space has come back.
    pub fn tick(&mut self) {
        self.appenders.iter_mut().flatten().for_each(Appender::tick);
    }

    fn appender(&mut self, class: usize) -> Result<&mut Appender, RecordingFault> {
        let (archive, worker) = (&self.archive, self.worker);
        let place = self.appenders.get_mut(class).ok_or(RecordingFault::NotRecords)?;
        Ok(place.get_or_insert_with(|| Appender::new(archive.clone(), worker, class)))
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
        if let Some(queue) = &self.queue
            && tape.is_queued
        {
            queue.tell(tape.session, event);
        }
    }

    /// Puts an audit line into the queue if it fits, behind a line that says how many did not.
    fn queue_fact(&self, tape: &mut Tape, line: &[u8], event: fn(Vec<u8>) -> Event) {
        let fits = self.queue.as_ref().is_some_and(|queue| queue.has_room(Room::Fact, line.len()));
        if !fits || !tape.is_queued {
            count(&self.archive.counters.lost_bytes, line.len() as u64);
            tape.lost_facts += 1;
            return;
        }
        self.note_lost_facts(tape);
        self.tell(tape, event(line.to_vec()));
    }

    fn note_lost_facts(&self, tape: &mut Tape) {
        let lost = std::mem::take(&mut tape.lost_facts);
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
        let Some(queue) = &self.queue else { return };
        if !tape.is_queued || !queue.has_room(Room::Bytes, length) {
            count(&self.archive.counters.lost_bytes, length as u64);
            let lost = &mut tape.lost[plane.index()];
            (lost.0, lost.1) = (lost.0 + length as u64, lost.1 + records);
            return;
        }
        self.note_gap(tape, plane);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.tell(tape, event(plane, bytes));
    }

    fn note_gap(&self, tape: &mut Tape, plane: Plane) {
        let (bytes, records) = std::mem::take(&mut tape.lost[plane.index()]);
        if bytes > 0 {
            self.tell(tape, Event::Gap(Gap { plane, bytes, records }));
        }
    }
}

/// Marks the segments of a worker's `async` thread.
const ASYNC: u16 = 0x8000;
