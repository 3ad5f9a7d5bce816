//! `record = "async"`: sessions go on, a thread of the worker's writes. What does not fit into the queue is lost, and a GAP
//! frame says how much; of audit lines, a line of its own.
//!
//! ```text
//!   0 ──────── bytes of sessions ──────── limit ─ audit lines ─ 5/4 limit ─ ends of sessions that began ─ 2 limit
//!   Above twice the limit no other session begins to be recorded: it counts as unrecorded.
//! ```

use super::super::archive::{Archive, RecordingFault, count};
use super::super::format::frame::{Gap, Plane};
use super::super::settings::Mode;
use super::appender::{Appender, Payload};
use super::event::{Event, change};
use super::track::Track;
use crate::names::SessionId;
use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks whether a segment is old enough to be closed.
const SEGMENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What is put into the queue.
#[derive(Clone, Copy)]
pub(super) enum Room {
    /// Bytes of a session.
    Bytes,
    /// An audit line.
    Fact,
    /// The beginning of a session's recording.
    Session,
}

/// The worker's end.
pub(super) struct Queue {
    to: Option<Sender<(SessionId, Event)>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    pub(super) fn start(archive: Arc<Archive>, worker: u16) -> std::io::Result<Self> {
        let (to, from) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (limit, taken) = (archive.settings.queue, waiting.clone());
        let mut drain = Drain { archive, worker, appenders: HashMap::new(), tracks: HashMap::new() };
        let thread = std::thread::Builder::new().name(format!("recording-{worker}"));
        let thread = thread.spawn(move || drain.run(&from, &taken))?;
        Ok(Queue { to: Some(to), waiting, limit, thread: Some(thread) })
    }

    /// Takes an event, whatever waits: one of those that a session has few of, or one that has its room.
    pub(super) fn tell(&self, session: SessionId, event: Event) {
        if let Some(to) = &self.to {
            self.waiting.fetch_add(event.cost(), Ordering::Relaxed);
            // A thread that has ended takes nothing more; it ends with the queue alone.
            let _ = to.send((session, event));
        }
    }

    /// True when an event with `length` more bytes fits. One thread puts in.
    pub(super) fn has_room(&self, room: Room, length: usize) -> bool {
        let limit = match room {
            Room::Bytes => self.limit,
            Room::Fact => self.limit + self.limit / 4,
            Room::Session => self.limit * 2,
        };
        self.waiting.load(Ordering::Relaxed).saturating_add(length) <= limit
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's end.
struct Drain {
    archive: Arc<Archive>,
    worker: u16,
    appenders: HashMap<usize, Appender>,
    /// With their retention classes.
    tracks: HashMap<SessionId, (usize, Track)>,
}

impl Drain {
    fn run(&mut self, from: &Receiver<(SessionId, Event)>, waiting: &AtomicUsize) {
        let mut ticked = Instant::now();
        loop {
            match from.recv_timeout(SEGMENT_CHECK_INTERVAL) {
                Ok((session, event)) => {
                    let cost = event.cost();
                    self.take(session, event);
                    waiting.fetch_sub(cost, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also where somebody always speaks.
            if ticked.elapsed() >= SEGMENT_CHECK_INTERVAL {
                ticked = Instant::now();
                self.appenders.values_mut().for_each(Appender::tick);
            }
        }
    }

    fn take(&mut self, session: SessionId, event: Event) {
        if let Event::Begin(class) = event {
            self.tracks.insert(session, (class, Track::new(session, Mode::Async)));
            return;
        }
        let Some((class, track)) = self.tracks.get_mut(&session) else { return };
        let appender = self
            .appenders
            .entry(*class)
            .or_insert_with(|| Appender::new(self.archive.clone(), self.worker, *class));
        let _ = match &event {
            Event::Begin(_) => Ok(()),
            Event::Carry(..) | Event::Seal(..) => change(track, event),
            Event::Rekey(plane) => {
                // A gap stands in one key epoch: what is owed is noted before the next, or counted alone.
                if noting_gap(appender, track, *plane).is_err() {
                    track.totals.lost_records += std::mem::take(&mut track.lost[plane.index()].1);
                }
                change(track, event)
            }
            Event::Wire(plane, bytes) => {
                let records = super::super::digest::count_records(std::iter::once(&**bytes)).unwrap_or(0);
                let slices = [IoSlice::new(bytes)];
                let written = noting_gap(appender, track, *plane)
                    .and_then(|()| appender.put(track, Payload::Wire(*plane, &slices)));
                note_loss(&self.archive, track, *plane, written, bytes.len() as u64, records.into())
            }
            Event::Plaintext(plane, bytes) => {
                let written = noting_gap(appender, track, *plane)
                    .and_then(|()| appender.put(track, Payload::Plaintext(*plane, bytes)));
                note_loss(&self.archive, track, *plane, written, bytes.len() as u64, 0)
            }
            Event::Fact(line) => appender.put(track, Payload::Fact(line)),
            Event::SealedFact(text) => appender.put(track, Payload::SealedFact(text)),
            Event::Gap(gap) => {
                track.lost[gap.plane.index()].0 += gap.bytes;
                track.lost[gap.plane.index()].1 += gap.records;
                Ok(())
            }
            Event::End => {
                let gaps = Plane::ALL.iter().try_for_each(|plane| noting_gap(appender, track, *plane));
                gaps.and_then(|()| appender.put(track, Payload::End)).map(|()| {
                    self.tracks.remove(&session);
                })
            }
            Event::Forget => {
                self.tracks.remove(&session);
                Ok(())
            }
        };
    }
}

/// Writes the GAP frame that a plane owes, if it owes one.
fn noting_gap(appender: &mut Appender, track: &mut Track, plane: Plane) -> Result<(), RecordingFault> {
    let (bytes, records) = track.lost[plane.index()];
    if bytes == 0 {
        return Ok(());
    }
    appender.put(track, Payload::Gap(Gap { plane, bytes, records }))?;
    track.lost[plane.index()] = (0, 0);
    Ok(())
}

/// Counts what could not be written: a disk that is full or broken holds no session up here.
fn note_loss(
    archive: &Archive,
    track: &mut Track,
    plane: Plane,
    written: Result<(), RecordingFault>,
    bytes: u64,
    records: u64,
) -> Result<(), RecordingFault> {
    if written.is_err() {
        count(&archive.counters.lost_bytes, bytes);
        let lost = &mut track.lost[plane.index()];
        (lost.0, lost.1) = (lost.0 + bytes, lost.1 + records);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::event::EVENT_COST;
    use super::*;

    #[test]
    fn what_waits_is_bounded_whatever_it_is() {
        let (to, from) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue { to: Some(to), waiting: waiting.clone(), limit: 10_000, thread: None };
        let mut told = 0;
        while queue.has_room(Room::Session, 0) {
            queue.tell(SessionId(1), Event::Begin(0));
            told += 1;
        }
        assert_eq!(told, 20_000 / EVENT_COST + 1);
        assert!(!queue.has_room(Room::Fact, 1) && !queue.has_room(Room::Bytes, 1));
        waiting.store(11_000, Ordering::Relaxed);
        assert!(queue.has_room(Room::Fact, 1_000) && !queue.has_room(Room::Bytes, 1));
        assert_eq!(from.try_iter().count(), told);
    }
}
