//! One direction of a relay: read records, open, let the traffic see them, seal, write.

use super::buffer::{self, Large, Scratch};
use super::{BATCH, ClientTap, Ended, LARGE_BATCH, MAX_HELD, Orders, Relay, Traffic};
use crate::close::Close;
use crate::names::{Direction, Side};
use crate::protocol::Edit;
use crate::tls::leg::{Leg, LegFault, Received};
use crate::tls::record::MAX_RECORD;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// One direction's state between two polls.
#[derive(Default)]
pub(super) struct Half {
    /// Opened plaintext that the traffic does not take yet.
    pub(super) waiting: Vec<u8>,
    /// The traffic waits for something: it is asked again before more is read, even if nothing is left waiting.
    pub(super) asked: bool,
    /// Since when the sink has taken nothing of what is unsent, and how much that was.
    stalled: Option<(Instant, usize)>,
    /// The last read was filled and went out whole: bulk.
    flowing: bool,
    /// Held while what is unsent is more than others may hold.
    large: Option<Large>,
    /// The source's end was passed on; what is unsent is the last.
    ending: bool,
    /// The source is gone without close_notify.
    pub(super) cut: bool,
    /// The sink is gone, while what it said before still waits for the source: what is for it is dropped.
    deaf: bool,
    /// The traffic asked to write in this poll and wrote nothing.
    pub(super) mute: bool,
    /// Everything was written, and close_notify was sent.
    pub(super) finished: bool,
    /// Up only, on a recorded route: sees what the client says before it goes on.
    pub(super) tap: Option<Box<dyn ClientTap>>,
    /// Application bytes from the source.
    pub(super) bytes: u64,
    /// Records from the source.
    pub(super) records: u64,
}

impl Half {
    /// Starts with plaintext that is not processed yet.
    pub(super) fn new(waiting: Vec<u8>) -> Self {
        Half { bytes: waiting.len() as u64, waiting, ..Half::default() }
    }

    /// True while the half is open and the traffic has bytes of its own to write.
    pub(super) fn may_write_own(&self) -> bool {
        !self.ending && !self.finished && !self.mute
    }

    /// Since when the sink has taken nothing although there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled.map(|(since, _)| since)
    }
}

/// Batches moved in one poll before other connections of the worker get their turn.
const BATCHES: usize = 8;

impl<T: Traffic, O: Orders> Relay<T, O> {
    /// Moves what can be moved in one direction. Registers `cx` for whatever it has to wait for.
    pub(super) fn pump(&mut self, direction: Direction, cx: &mut Context<'_>) -> Result<(), Ended> {
        let held = self.client.unsent() + self.upstream.unsent() + self.up.waiting.len();
        let (source, sink, half, sides) = match direction {
            Direction::Up => {
                (&mut self.client, &mut self.upstream, &mut self.up, (Side::Client, Side::Upstream))
            }
            Direction::Down => {
                (&mut self.upstream, &mut self.client, &mut self.down, (Side::Upstream, Side::Client))
            }
        };
        let room = MAX_HELD.saturating_sub(held).min(BATCH);
        let mut pump = Pump { source, sink, half, traffic: &mut self.traffic, direction, sides, room };
        buffer::with(|scratch| pump.run(cx, scratch))
    }
}

struct Pump<'a, T> {
    source: &'a mut Leg,
    sink: &'a mut Leg,
    half: &'a mut Half,
    traffic: &'a mut T,
    direction: Direction,
    /// (source, sink)
    sides: (Side, Side),
    /// How much may be read at once.
    room: usize,
}

/// Outcome of moving one batch.
enum Batch {
    /// The source is drained, or must be awaited.
    Dry,
    /// More may be readable.
    More,
}

impl<T: Traffic> Pump<'_, T> {
    fn run(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), Ended> {
        for _ in 0..BATCHES {
            if self.half.finished || !self.flush(cx, scratch)? {
                return Ok(());
            }
            if self.half.ending {
                self.half.finished = true;
                return Ok(());
            }
            if self.half.may_write_own() && self.traffic.wants(self.direction) {
                self.speak(cx, scratch)?;
            } else if self.half.asked || !self.half.waiting.is_empty() {
                if !self.retry_plaintext(cx, scratch)? {
                    return Ok(());
                }
            } else if self.source.rx.closed {
                self.traffic.ending(self.direction);
                if self.half.may_write_own() && self.traffic.wants(self.direction) {
                    continue;
                }
                if self.traffic.holds_back(self.direction) {
                    return Ok(());
                }
                self.traffic.ended(self.direction)?;
                self.sink.queue_close().map_err(|fault| self.sink_fault(fault))?;
                self.half.ending = true;
            } else if let Batch::Dry = self.batch(cx, scratch)? {
                return Ok(());
            }
        }
        // There is more, and others have waited long enough.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// True when nothing is left to write, and the sink was told so if nothing will follow.
    fn flush(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, Ended> {
        if self.half.deaf {
            return Ok(true);
        }
        let polled = if self.half.ending { self.sink.poll_finish(cx) } else { self.sink.poll_flush(cx) };
        match polled {
            Poll::Ready(written) => {
                if let Err(error) = written {
                    self.on_write_error(error)?;
                }
                self.half.stalled = None;
                self.half.large = None;
                scratch.take_back(self.sink.unsent_buffer());
                Ok(true)
            }
            Poll::Pending => {
                let unsent = self.sink.unsent();
                // A peer that reads slowly is not one that has stopped.
                if self.half.stalled.is_none_or(|(_, before)| unsent != before) {
                    self.half.stalled = Some((Instant::now(), unsent));
                }
                Ok(false)
            }
        }
    }

    /// Lets the traffic write without input.
    fn speak(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), Ended> {
        scratch.edited.clear();
        let mut view = self.begin_view(scratch);
        let mut edit = Edit::with_view(&mut [], &mut scratch.edited, view.as_mut());
        // An empty edit has nothing to wait for.
        if let Poll::Ready(dealt) = self.run_traffic(cx, &mut edit) {
            dealt?;
        }
        let said = std::mem::take(&mut scratch.edited);
        self.half.mute = said.is_empty();
        let queued = self.queue(scratch, &said);
        scratch.edited = said;
        self.show_view(scratch, view)?;
        queued
    }

    /// Offers waiting plaintext again; true when some of it was taken.
    fn retry_plaintext(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, Ended> {
        let mut waiting = std::mem::take(&mut self.half.waiting);
        scratch.edited.clear();
        let mut view = self.begin_view(scratch);
        let mut edit = Edit::with_view(&mut waiting, &mut scratch.edited, view.as_mut());
        let seen = self.run_traffic(cx, &mut edit);
        let (taken, diverged) = (edit.position(), edit.diverged());
        self.half.asked = seen.is_pending();
        let fault = match seen {
            Poll::Ready(Err(close)) => Some(close),
            _ => None,
        };
        if let (Some(close), Direction::Up) = (fault, self.direction) {
            return Err(close.into());
        }
        if diverged {
            let edited = std::mem::take(&mut scratch.edited);
            self.queue(scratch, &edited)?;
            scratch.edited = edited;
        } else {
            self.queue(scratch, &waiting[..taken])?;
            view.iter_mut().for_each(|view| view.extend_from_slice(&waiting[..taken]));
        }
        self.show_view(scratch, view)?;
        if let Some(close) = fault {
            return Err(close.into());
        }
        waiting.drain(..taken);
        self.half.waiting = waiting;
        if self.half.waiting.is_empty() {
            scratch.take_back(&mut self.half.waiting);
        }
        Ok(taken > 0 || diverged || !self.half.asked)
    }

    /// Reads once, and moves every whole record.
    fn batch(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<Batch, Ended> {
        let mut read = std::mem::take(&mut scratch.read);
        let moved = self.batch_in(cx, scratch, &mut read);
        scratch.read = read;
        moved
    }

    fn batch_in(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        read: &mut [u8],
    ) -> Result<Batch, Ended> {
        let kept = self.source.rx.partial.len();
        read[..kept].copy_from_slice(&self.source.rx.partial);
        self.source.rx.partial.clear();
        scratch.take_back(&mut self.source.rx.partial);
        let whole = match self.source.next_record(&read[..kept]) {
            Ok(length) => length.is_some_and(|length| length <= kept),
            Err(fault) => return Err(self.source_fault(fault.into())),
        };
        let mut filled = kept;
        let mut full = false;
        if !whole {
            let bulk = self.half.flowing && self.source.unsent() == 0 && Large::may();
            let room = if bulk { LARGE_BATCH } else { self.room.max(MAX_RECORD) };
            let end = read.len().min(kept + room);
            match self.source.poll_read(cx, &mut read[kept..end]) {
                Poll::Ready(Ok(0)) => return self.on_source_eof(),
                Poll::Ready(Ok(n)) => {
                    filled += n;
                    full = filled == end;
                }
                Poll::Ready(Err(error)) => {
                    if !self.traffic.holds_back(self.direction) {
                        return Err(self.source_fault(error.into()));
                    }
                    // To whoever reads on it looks like an end.
                    self.half.cut = true;
                    return self.on_source_eof();
                }
                Poll::Pending => {
                    self.keep(scratch, &read[..kept]);
                    return Ok(Batch::Dry);
                }
            }
        }
        let done = self.records(cx, scratch, &mut read[..filled])?;
        self.keep(scratch, &read[done..filled]);
        self.half.flowing = full && self.sink.unsent() == 0;
        if self.sink.unsent() > MAX_HELD && self.half.large.is_none() {
            self.half.large = Some(Large::hold());
        }
        // A read that did not fill the buffer emptied the socket: the next one would only say so.
        let waits = self.half.asked || !self.half.waiting.is_empty();
        let go_on = full || whole || self.sink.unsent() > 0 || self.source.rx.closed || waits;
        let speaks = self.half.may_write_own() && self.traffic.wants(self.direction);
        Ok(if go_on || speaks { Batch::More } else { self.rearm(cx) })
    }

    /// Registers for the next arrival. The socket is known to be empty, so this costs no system call.
    fn rearm(&mut self, cx: &mut Context<'_>) -> Batch {
        match self.source.tcp.poll_read_ready(cx) {
            Poll::Pending => Batch::Dry,
            Poll::Ready(_) => Batch::More,
        }
    }

    fn keep(&mut self, scratch: &mut Scratch, bytes: &[u8]) {
        if !bytes.is_empty() {
            scratch.lend(&mut self.source.rx.partial, MAX_RECORD);
            self.source.rx.partial.extend_from_slice(bytes);
        }
    }

    /// Moves the whole records at the front of `bytes`; returns how many bytes they were.
    ///
    /// ```text
    ///   bytes   | written or queued | sealed in place: the run | this record | not looked at |
    ///           0                   run.start             run.end = at
    /// ```
    fn records(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        bytes: &mut [u8],
    ) -> Result<usize, Ended> {
        // What is sealed in place cannot be shown any more.
        let in_place = self.half.tap.is_none() && self.sink.fits(self.source);
        let mut view = self.begin_view(scratch);
        let (mut at, mut run) = (0, 0..0);
        let ended = loop {
            let length = match self.source.next_record(&bytes[at..]) {
                Ok(Some(length)) if at + length <= bytes.len() => length,
                Ok(_) => break Ok(()),
                Err(fault) => break Err(self.source_fault(fault.into())),
            };
            let record = &mut bytes[at..at + length];
            let received = match self.source.receive(record) {
                Ok(received) => received,
                Err(fault) => break Err(self.source_fault(fault)),
            };
            at += length;
            let (start, end) = match received {
                Received::Control => continue,
                Received::Closed => break Ok(()),
                Received::Data(start, end) => (start, end),
            };
            self.half.records += 1;
            self.half.bytes += (end - start) as u64;
            scratch.edited.clear();
            let mut edit = Edit::with_view(&mut record[start..end], &mut scratch.edited, view.as_mut());
            let seen = self.run_traffic(cx, &mut edit);
            let (taken, diverged) = (edit.position(), edit.diverged());
            if let Poll::Ready(Err(close)) = seen {
                if self.direction == Direction::Up {
                    break Err(close.into());
                }
                // What the client was sent before has its end in here, and last words must not come in between.
                let passed = match diverged {
                    true => std::mem::take(&mut scratch.edited),
                    false => record[start..start + taken].to_vec(),
                };
                self.queue_run(scratch, &bytes[run]);
                run = at..at;
                self.queue(scratch, &passed)?;
                break Err(close.into());
            }
            let untouched = !diverged && taken == end - start;
            if untouched && in_place && self.sink.unsent() == 0 && !self.sink.needs_rekey() {
                self.sink.reseal(record).map_err(|fault| self.sink_fault(fault))?;
                if run.end != at - length {
                    self.queue_run(scratch, &bytes[run]);
                    run = at - length..at;
                    if self.sink.unsent() > 0 {
                        self.queue_run(scratch, &bytes[run]);
                        run = at..at;
                    }
                } else {
                    run.end = at;
                }
                continue;
            }
            self.queue_run(scratch, &bytes[run]);
            run = at..at;
            if diverged {
                let edited = std::mem::take(&mut scratch.edited);
                self.queue(scratch, &edited)?;
                scratch.edited = edited;
            } else {
                let passed = &bytes[at - length + start..at - length + start + taken];
                view.iter_mut().for_each(|view| view.extend_from_slice(passed));
                self.queue(scratch, passed)?;
            }
            if seen.is_pending() {
                self.half.asked = true;
                scratch.lend(&mut self.half.waiting, MAX_RECORD);
                self.half.waiting.extend_from_slice(&bytes[at - length + start + taken..at - length + end]);
                break Ok(());
            }
        };
        self.show_view(scratch, view)?;
        self.write_run(cx, scratch, &bytes[run])?;
        ended.map(|()| at)
    }

    /// Writes what was sealed in place; what the sink does not take is kept as it is.
    fn write_run(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, run: &[u8]) -> Result<(), Ended> {
        if run.is_empty() || self.half.deaf {
            return Ok(());
        }
        let mut written = 0;
        if self.sink.unsent() == 0 {
            match self.sink.poll_write_sealed(cx, run) {
                Poll::Ready(Ok(n)) => written = n,
                Poll::Ready(Err(error)) => {
                    self.on_write_error(error)?;
                    written = run.len();
                }
                Poll::Pending => {}
            }
        }
        self.queue_run(scratch, &run[written..]);
        Ok(())
    }

    fn queue_run(&mut self, scratch: &mut Scratch, sealed: &[u8]) {
        if !sealed.is_empty() && !self.half.deaf {
            scratch.lend(self.sink.unsent_buffer(), sealed.len().max(MAX_HELD));
            self.sink.queue_sealed(sealed);
        }
    }

    fn queue(&mut self, scratch: &mut Scratch, plaintext: &[u8]) -> Result<(), Ended> {
        if self.half.deaf {
            return Ok(());
        }
        scratch.lend(self.sink.unsent_buffer(), MAX_HELD);
        if let Err(fault) = self.sink.queue(plaintext) {
            if self.half.tap.is_some() {
                // What was queued before was not shown yet.
                self.sink.discard_unsent();
            }
            return Err(self.sink_fault(fault));
        }
        Ok(())
    }

    /// Where what the client says is put together, if it is recorded.
    fn begin_view(&self, scratch: &mut Scratch) -> Option<Vec<u8>> {
        self.half.tap.as_ref().map(|_| std::mem::take(&mut scratch.view))
    }

    /// Shows what the client said, before any of it is written.
    fn show_view(&mut self, scratch: &mut Scratch, view: Option<Vec<u8>>) -> Result<(), Ended> {
        let (Some(mut view), Some(tap)) = (view, &mut self.half.tap) else { return Ok(()) };
        let taken = if view.is_empty() { Ok(()) } else { tap.take(&view) };
        view.clear();
        scratch.view = view;
        taken.map_err(|_| {
            self.sink.discard_unsent();
            Ended::new(Close::Recording)
        })
    }

    fn run_traffic(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        match self.direction {
            Direction::Up => self.traffic.up(cx, edit),
            Direction::Down => Poll::Ready(self.traffic.down(edit)),
        }
    }

    /// The source ended without close_notify.
    fn on_source_eof(&mut self) -> Result<Batch, Ended> {
        if self.traffic.holds_back(self.direction) {
            return Ok(Batch::Dry);
        }
        if self.half.cut {
            return Err(self.source_fault(LegFault::Truncated));
        }
        if let Err(fault) = self.source.on_eof() {
            if !self.traffic.tolerates_eof(self.direction) {
                return Err(self.source_fault(fault));
            }
            self.source.rx.closed = true;
        }
        Ok(Batch::More)
    }

    /// The sink is gone. Unless what it said before still waits for the other side, this ends the session.
    fn on_write_error(&mut self, error: std::io::Error) -> Result<(), Ended> {
        if self.direction == Direction::Down || !self.traffic.holds_back(Direction::Down) {
            return Err(self.sink_fault(error.into()));
        }
        self.sink.discard_unsent();
        self.half.deaf = true;
        Ok(())
    }

    fn source_fault(&mut self, fault: LegFault) -> Ended {
        if let Some(alert) = fault.alert() {
            self.source.queue_alert(alert);
        }
        Ended::leg(self.sides.0, fault)
    }

    fn sink_fault(&self, fault: LegFault) -> Ended {
        Ended::leg(self.sides.1, fault)
    }
}
