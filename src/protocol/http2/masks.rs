//! DATA of masked streams: payloads are unwrapped, masked, and framed again as far as they may pass.
//!
//! The bytes stay as many, so flow control goes on as if nobody stood between; padding, which counts there, goes on in a frame of
//! its own. What a mask holds when its stream ends otherwise is dropped, and its window given back.

use super::frame::{CANCEL, DATA, END_STREAM, Head, MAX_FRAME, PADDED, write, write_reset};
use super::stream::{Masked, Stream};
use super::{Http2, Reading};
use crate::mask::Kind;
use crate::mask::Stream as Mask;
use crate::names::{Direction, RequestId};
use crate::protocol::masked;
use crate::protocol::{Edit, Ended, Event, Refusal, RefusalReason};

impl Http2 {
    fn mask_of(&mut self, id: u32, direction: Direction) -> Option<&mut Box<Mask>> {
        let stream = match self.streams.get_mut(&id) {
            Some(stream) => stream,
            None => self.queue.get_mut(id)?,
        };
        match direction {
            Direction::Up => stream.mask_up.as_mut(),
            Direction::Down => stream.mask_down.as_mut(),
        }
    }

    /// Takes what is at hand of a masked frame. What passes is appended to `edit` in frames; the state is the reading that follows.
    pub(super) fn read_masked(
        &mut self,
        mut frame: Masked,
        direction: Direction,
        edit: &mut Edit<'_>,
    ) -> Reading {
        let n = (frame.data as usize).min(edit.rest().len());
        let Some(mask) = self.mask_of(frame.stream, direction) else {
            // The stream was ended while its frame came.
            let left = frame.data as usize + usize::from(frame.pad);
            self.return_window(direction, left + usize::from(frame.padding > 0), frame.ends);
            return if left == 0 { Reading::Head } else { Reading::Skip(left) };
        };
        let mut out = Vec::new();
        if n > 0 {
            match mask.take(&mut edit.rest_mut()[..n], Kind::Payload) {
                Ok(passed) => {
                    mask.release(passed.held, |bytes| out.extend_from_slice(bytes));
                    out.extend_from_slice(&edit.rest()[..passed.at_hand]);
                    let (changed, report) =
                        (mask.hold_changed(), masked::report_spans(frame.stream, direction, mask));
                    if changed {
                        self.events.push_back(Event::Held);
                    }
                    if let Some(report) = report {
                        self.mask_reports.push_back(report);
                        self.events.push_back(Event::Masked);
                    }
                }
                Err(rule) => {
                    self.cut_unmaskable(frame.stream, direction, rule);
                    return self.read_masked(frame, direction, edit);
                }
            }
            frame.data -= n as u32;
            edit.skip(n);
        }
        if frame.data == 0 {
            let pad = usize::from(frame.pad).min(edit.rest().len());
            edit.skip(pad);
            frame.pad -= pad as u16;
        }
        let over = frame.data == 0 && frame.pad == 0;
        let ends = over && frame.ends;
        if ends && let Some(mask) = self.mask_of(frame.stream, direction) {
            let held = mask.finish();
            mask.release(held, |bytes| out.extend_from_slice(bytes));
        }
        let mut frames = Vec::new();
        if over && frame.padding > 0 {
            write_data(&mut frames, frame.stream, &out, false);
            let mut padding = vec![0; frame.padding.into()];
            padding[0] = (frame.padding - 1) as u8;
            let flags = PADDED | if ends { END_STREAM } else { 0 };
            write(&mut frames, DATA, flags, frame.stream, &padding);
        } else if !out.is_empty() || ends {
            write_data(&mut frames, frame.stream, &out, ends);
        }
        // A recording has what was sent, overwritten.
        edit.put_back(&frames);
        if ends {
            self.report_mask(frame.stream, direction);
        }
        if over { Reading::Head } else { Reading::Masked(frame) }
    }

    /// A request that waits for its turn: what passes of its DATA, as frames.
    pub(super) fn mask_waiting(&mut self, head: Head, payload: &mut [u8]) -> Option<Vec<u8>> {
        self.mask_of(head.stream, Direction::Up)?;
        let padding = if head.has(PADDED) { 1 + usize::from(*payload.first()?) } else { 0 };
        let data = payload.get_mut(usize::from(padding > 0)..head.length - padding.saturating_sub(1))?;
        let (mut out, mut frames) = (Vec::new(), Vec::new());
        let mask = self.mask_of(head.stream, Direction::Up)?;
        match mask.take(data, Kind::Payload) {
            Ok(passed) => {
                mask.release(passed.held, |bytes| out.extend_from_slice(bytes));
                out.extend_from_slice(&data[..passed.at_hand]);
            }
            Err(rule) => {
                self.cut_unmaskable(head.stream, Direction::Up, rule);
                self.return_client_window(head.length, true);
                return Some(frames);
            }
        }
        let ends = head.has(END_STREAM);
        if ends {
            let held = mask.finish();
            mask.release(held, |bytes| out.extend_from_slice(bytes));
            self.report_mask(head.stream, Direction::Up);
        }
        // Padding of a frame that was kept is not sent on: its window is given back.
        self.return_window(Direction::Up, padding, false);
        if !out.is_empty() || ends {
            write_data(&mut frames, head.stream, &out, ends);
        }
        Some(frames)
    }

    /// The body is over before its last frame: trailers follow. What was held goes first.
    pub(super) fn finish_mask(&mut self, id: u32, direction: Direction, out: &mut Vec<u8>) {
        let Some(mask) = self.mask_of(id, direction) else { return };
        let held = mask.finish();
        mask.release(held, |bytes| write_data(out, id, bytes, false));
        self.report_mask(id, direction);
    }

    /// Tells what a mask found in a body that is over.
    fn report_mask(&mut self, id: u32, direction: Direction) {
        let Some(mask) = self.mask_of(id, direction) else { return };
        let report = masked::report(id, direction, mask);
        self.mask_reports.extend(report);
    }

    /// A stream is over: what its masks found is told, and what they hold is dropped.
    pub(super) fn end_masks(&mut self, id: u32, up: Option<Box<Mask>>, down: Option<Box<Mask>>) {
        for (direction, mask) in [(Direction::Up, up), (Direction::Down, down)] {
            let Some(mut mask) = mask else { continue };
            self.mask_reports.extend(masked::report(id, direction, &mut mask));
            let held = mask.finish();
            if held > 0 {
                self.return_window(direction, held, true);
            }
        }
    }

    /// Gives the window of what was swallowed back to its sender.
    fn return_window(&mut self, direction: Direction, bytes: usize, ends: bool) {
        match direction {
            Direction::Up => self.return_client_window(bytes, ends),
            Direction::Down => {
                // It was counted as on its way to the client.
                self.client_connection_window += bytes as i64;
                self.return_upstream_window(bytes, ends);
            }
        }
    }

    /// Tells that a body cannot be masked any more.
    pub(super) fn report_fault(&mut self, id: u32, direction: Direction, rule: &'static str) {
        if let Some(mask) = self.mask_of(id, direction) {
            let rules = mask.rules().clone();
            self.mask_reports.push_back(masked::fault(id, direction, rules, rule));
        }
    }

    /// Ends one stream whose body cannot be masked any more; others go on. A request whose answer has not begun is answered.
    pub(super) fn cut_unmaskable(&mut self, id: u32, direction: Direction, rule: &'static str) {
        self.report_fault(id, direction, rule);
        let forwarded = self.streams.contains_key(&id);
        if forwarded {
            write_reset(&mut self.to_upstream, id, CANCEL);
        }
        let stream =
            if forwarded { self.streams.get(&id) } else { self.queue.get_mut(id).map(|stream| &*stream) };
        match stream {
            Some(&Stream { kind, to_head, up_done, granted, answered: false, .. })
                if direction == Direction::Up =>
            {
                let why = RefusalReason::Unmaskable;
                let refusal = Refusal { id: RequestId { session: self.session, number: id }, why };
                self.write_refusal(id, &refusal, kind, to_head, up_done, granted);
                self.events.push_back(Event::Response { key: id, status: why.status() });
            }
            _ => write_reset(&mut self.to_client, id, CANCEL),
        }
        if forwarded {
            self.end(id, Ended::ByGateway);
        } else {
            self.end_waiting(id, Ended::ByGateway);
        }
    }

    /// The earliest moment at which a mask's time is up.
    pub(super) fn next_mask_due(&mut self) -> Option<u64> {
        let clock = self.clock;
        let masks = |stream: &mut Stream| {
            let up = stream.mask_up.as_mut().and_then(|mask| mask.due(clock));
            up.into_iter().chain(stream.mask_down.as_mut().and_then(|mask| mask.due(clock))).min()
        };
        self.streams.values_mut().filter_map(masks).min()
    }

    /// Deals with what is held whose time is up.
    pub(super) fn expire_all_masks(&mut self) {
        let clock = self.clock;
        let mut faults = Vec::new();
        for (id, stream) in &mut self.streams {
            let sides = [
                (Direction::Up, &mut stream.mask_up, &mut self.released_up),
                (Direction::Down, &mut stream.mask_down, &mut self.to_client),
            ];
            for (direction, mask, out) in sides {
                let Some(mask) = mask else { continue };
                match mask.expire(clock) {
                    Ok(held) => mask.release(held, |bytes| write_data(out, *id, bytes, false)),
                    Err(rule) => faults.push((*id, direction, rule)),
                }
            }
        }
        for (id, direction, rule) in faults {
            self.cut_unmaskable(id, direction, rule);
        }
    }
}

/// Appends data in frames that every peer takes.
fn write_data(out: &mut Vec<u8>, stream: u32, data: &[u8], ends: bool) {
    if data.is_empty() && !ends {
        return;
    }
    let mut rest = data;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_FRAME));
        let flags = if ends && later.is_empty() { END_STREAM } else { 0 };
        write(out, DATA, flags, stream, now);
        if later.is_empty() {
            return;
        }
        rest = later;
    }
}
