//! From the client: request heads are withheld and rewritten, everything else passes or is swallowed.

use super::frame::*;
use super::frame_rules::{BrokenFrame, check_frame};
use super::stream::{Masked, take_length};
use super::waiting::Discard;
use super::{Http2, MAX_UNREAD, MAX_UNREAD_PER_STREAM, Reading};
use crate::names::Direction;
use crate::protocol::sniff::HTTP2_PREFACE;
use crate::protocol::{Edit, Ended, Fault, Up};

/// CONTINUATION frames of one header block; a head of 32 KiB needs two (CVE-2024-27316).
const MAX_CONTINUATIONS: u32 = 16;
/// Bytes of a settings payload, of either side: a few dozen settings.
pub(super) const MAX_SETTINGS: usize = 600;

impl Http2 {
    pub(super) fn read_up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault> {
        loop {
            if self.dead {
                edit.skip(edit.rest().len());
                return Ok(Up::Done);
            }
            self.write_own_up(edit);
            let available = edit.rest().len();
            match self.client.reading {
                _ if available == 0 => return Ok(Up::Done),
                Reading::Preface(seen) => self.read_preface(seen, edit)?,
                Reading::Head => {
                    if self.read_up_head(edit)? {
                        return Ok(Up::Request);
                    }
                }
                Reading::Padding(head) => {
                    let padding = 1 + usize::from(edit.rest()[0]);
                    self.client.reading = Reading::Head;
                    let next = self.up_frame(head, padding)?;
                    self.write_own_up(edit);
                    if let Reading::Pass(_) = next {
                        edit.put_back(&self.client.head);
                    }
                    self.client.reading = next;
                    if let Reading::Masked(frame) = next {
                        edit.skip(1);
                        self.read_masked_up(frame, edit);
                    }
                }
                Reading::Pass(left) => {
                    let n = left.min(available);
                    edit.keep(n);
                    self.client.reading = after(left - n, Reading::Pass);
                    if left == n {
                        self.up_finished();
                    }
                }
                Reading::Masked(frame) => self.read_masked_up(frame, edit),
                Reading::Skip(left) => {
                    let n = left.min(available);
                    edit.skip(n);
                    self.client.reading = after(left - n, Reading::Skip);
                }
                // Only the upstream's bytes are held.
                Reading::Held => edit.skip(available),
                Reading::Gather(head) | Reading::Watch(head, _) => {
                    let n = (head.length - self.client.payload.len()).min(available);
                    self.client.payload.extend_from_slice(&edit.rest()[..n]);
                    edit.skip(n);
                    if self.client.payload.len() == head.length && self.up_gathered(head, edit)? {
                        return Ok(Up::Request);
                    }
                }
            }
        }
    }

    fn read_preface(&mut self, seen: usize, edit: &mut Edit<'_>) -> Result<(), Fault> {
        let n = (HTTP2_PREFACE.len() - seen).min(edit.rest().len());
        if edit.rest()[..n] != HTTP2_PREFACE[seen..seen + n] {
            return Err(self.client_fault(PROTOCOL_ERROR, "no HTTP/2 preface", "RFC 9113 3.4"));
        }
        edit.keep(n);
        self.client.reading =
            if seen + n == HTTP2_PREFACE.len() { Reading::Head } else { Reading::Preface(seen + n) };
        Ok(())
    }

    /// Reads a frame's head. It stays in place if it came whole and its frame passes. True: a request is withheld.
    fn read_up_head(&mut self, edit: &mut Edit<'_>) -> Result<bool, Fault> {
        let side = &mut self.client;
        let n = (HEAD - side.held).min(edit.rest().len());
        side.head[side.held..side.held + n].copy_from_slice(&edit.rest()[..n]);
        let at_once = side.held == 0 && n == HEAD;
        side.held += n;
        if side.held < HEAD {
            edit.skip(n);
            return Ok(false);
        }
        side.held = 0;
        // The reserved bit stays unset in what is sent (RFC 9113 section 4.1), so such a head is written anew.
        let whole = at_once && side.head[STREAM] & RESERVED == 0;
        side.head[STREAM] &= !RESERVED;
        let bytes = side.head;
        let head = Head::parse(&bytes);
        if head.kind == DATA && head.has(PADDED) && head.length > 0 {
            edit.skip(n);
            self.client.reading = Reading::Padding(head);
            return Ok(false);
        }
        let next = self.up_frame(head, 0)?;
        self.write_own_up(edit);
        match next {
            Reading::Pass(_) if whole => edit.keep(n),
            Reading::Pass(_) => {
                edit.skip(n);
                edit.put_back(&bytes);
            }
            _ => edit.skip(n),
        }
        // A frame without payload is complete with its head.
        self.client.reading = match next {
            Reading::Pass(0) | Reading::Skip(0) => Reading::Head,
            next => next,
        };
        if let Reading::Masked(frame) = next {
            self.read_masked_up(frame, edit);
        }
        if let Reading::Gather(head) = next
            && head.length == 0
        {
            // An empty CONTINUATION can be what completes a request's head.
            return self.up_gathered(head, edit);
        }
        Ok(false)
    }

    /// Decides what becomes of a frame by its head and, for DATA, the bytes of its padding.
    fn up_frame(&mut self, head: Head, padding: usize) -> Result<Reading, Fault> {
        if self.to_client.len() > MAX_UNREAD + MAX_UNREAD_PER_STREAM * self.limits.streams as usize {
            // Nobody honest has more answers outstanding than streams.
            return Err(self.client_fault(ENHANCE_YOUR_CALM, "answers that are not read", "limit"));
        }
        if head.length > self.client.max_frame {
            return Err(self.client_fault(FRAME_SIZE_ERROR, "frame larger than announced", "RFC 9113 4.2"));
        }
        if self
            .client
            .block_head
            .is_some_and(|block| head.kind != CONTINUATION || head.stream != block.stream)
        {
            return Err(self.client_fault(PROTOCOL_ERROR, "frame inside a header block", "RFC 9113 6.10"));
        }
        if !self.client.greeted && head.kind != SETTINGS {
            return Err(self.client_fault(PROTOCOL_ERROR, "no SETTINGS after the preface", "RFC 9113 3.4"));
        }
        let on_stream = head.stream != 0;
        let known = head.stream <= self.ids.last() && !head.stream.is_multiple_of(2);
        match head.kind {
            DATA if on_stream && known => self.up_data(head, padding),
            // The upstream may take frames of 16 MiB; what is gathered stays below what a head may be.
            HEADERS if on_stream && head.length > self.limits.head + MAX_FRAME => {
                Err(self.client_fault(ENHANCE_YOUR_CALM, "header block too large", "limit"))
            }
            HEADERS if on_stream => Ok(Reading::Gather(head)),
            CONTINUATION if self.client.block_head.is_some() => {
                self.client.continuations += 1;
                let gathered = self.client.block.len() + head.length;
                if self.client.continuations > MAX_CONTINUATIONS || gathered > self.limits.head + MAX_FRAME {
                    return Err(self.client_fault(
                        ENHANCE_YOUR_CALM,
                        "header block too large",
                        "CVE-2024-27316",
                    ));
                }
                Ok(Reading::Gather(head))
            }
            PRIORITY if on_stream && head.length == 5 => self.up_idle(Reading::Gather(head)),
            RST_STREAM if on_stream && known && head.length == 4 => Ok(Reading::Gather(head)),
            SETTINGS if head.length <= MAX_SETTINGS && check_frame(&head, false).is_ok() => {
                self.client.greeted = true;
                let next = Reading::Gather(head);
                if head.has(ACK) && self.take_owed_ack() { Ok(next) } else { self.up_idle(next) }
            }
            // Nobody is there yet who could answer.
            PING if !on_stream && head.length == 8 && self.last_forwarded == 0 => {
                self.up_idle(Reading::Gather(head))
            }
            PING if !on_stream && head.length == 8 => {
                let next = Reading::Pass(8);
                if head.has(ACK) && self.take_owed_ack() { Ok(next) } else { self.up_idle(next) }
            }
            GOAWAY if !on_stream && head.length >= 8 => self.up_idle(Reading::Pass(head.length)),
            WINDOW_UPDATE if head.length == 4 && known | !on_stream => self.up_idle(Reading::Gather(head)),
            DATA..=CONTINUATION => self.up_broken(head, !known),
            // Extensions are for the next hop, and we do not speak them (section 5.5).
            _ => self.up_idle(Reading::Skip(head.length)),
        }
    }

    /// Finds out which rule a frame breaks that can stand nowhere.
    fn up_broken(&mut self, head: Head, is_idle: bool) -> Result<Reading, Fault> {
        let Err(BrokenFrame { code, rule, section }) = check_frame(&head, is_idle) else {
            return Err(match head.kind {
                SETTINGS => self.client_fault(ENHANCE_YOUR_CALM, "more settings than the limit", "limit"),
                _ => self.client_fault(PROTOCOL_ERROR, "frame that cannot stand here", "RFC 9113 6"),
            });
        };
        // The one length that is its stream's affair alone (section 6.3).
        if head.kind == PRIORITY && self.is_open(head.stream) {
            self.reset_request(head.stream, code)?;
            return Ok(Reading::Skip(head.length));
        }
        Err(self.client_fault(code, rule, section))
    }

    /// True for an acknowledgement that the upstream asked for: it is not the client who floods.
    fn take_owed_ack(&mut self) -> bool {
        let left = self.asked_of_client.checked_sub(1);
        self.asked_of_client = left.unwrap_or_default();
        left.is_some()
    }

    pub(super) fn up_idle(&mut self, next: Reading) -> Result<Reading, Fault> {
        match self.budget.idle() {
            true => Ok(next),
            false => Err(self.client_fault(ENHANCE_YOUR_CALM, "too many frames that carry nothing", "limit")),
        }
    }

    fn up_data(&mut self, head: Head, padding: usize) -> Result<Reading, Fault> {
        let ends = head.has(END_STREAM);
        if head.has(PADDED) && head.length == 0 {
            return Err(self.client_fault(FRAME_SIZE_ERROR, "padding without its length", "RFC 9113 4.2"));
        }
        if padding > head.length {
            return Err(self.client_fault(PROTOCOL_ERROR, "padding longer than its frame", "RFC 9113 6.1"));
        }
        if head.length == padding && !ends {
            self.up_idle(Reading::Pass(0))?;
        } else {
            self.budget.data();
        }
        let data = (head.length - padding) as u64;
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            if let Some(stream) = self.queue.get_mut(head.stream) {
                let fits = !stream.up_done && take_length(&mut stream.up_left, data, ends);
                return self.up_waiting_data(head, data, fits);
            }
            self.return_client_window(head.length, ends);
            if self.discard(head, padding, ends)? {
                return Ok(Reading::Skip(head.length));
            }
            if !self.ids.is_reset(head.stream, ends) {
                self.reset_client(head.stream, STREAM_CLOSED)?;
            }
            return Ok(Reading::Skip(head.length));
        };
        if stream.up_done {
            return Err(self.client_fault(STREAM_CLOSED, "DATA after END_STREAM", "RFC 9113 5.1"));
        }
        if !take_length(&mut stream.up_left, data, ends) {
            self.return_client_window(head.length, ends);
            self.reset_request(head.stream, PROTOCOL_ERROR)?;
            return Ok(Reading::Skip(head.length));
        }
        stream.up += data;
        stream.granted_up -= padding as i64;
        self.upstream_connection_window -= head.length as i64;
        let masked = stream.mask_up.is_some();
        if ends {
            self.client.finishing = Some(head.stream);
            if head.length == 0 && !masked {
                self.up_finished();
            }
        }
        if masked {
            return Ok(Reading::Masked(Masked::new(head, padding)));
        }
        Ok(Reading::Pass(head.length))
    }

    /// DATA on a stream that waits is kept, as long as there is room; what finds none may be sent again elsewhere.
    fn up_waiting_data(&mut self, head: Head, data: u64, fits: bool) -> Result<Reading, Fault> {
        let ends = head.has(END_STREAM);
        if fits && self.queue.has_room(head.length) {
            if let Some(stream) = self.queue.get_mut(head.stream) {
                stream.up += data;
                stream.granted_up -= (head.length as u64 - data) as i64;
                stream.up_done = ends;
            }
            self.upstream_connection_window -= head.length as i64;
            if head.length == 0 {
                match self.mask_waiting(head, &mut []) {
                    Some(frames) => self.queue.append_frames(head.stream, &frames),
                    None => _ = self.queue.append(head.stream, DATA, head.flags, &[]),
                }
                return Ok(Reading::Skip(0));
            }
            return Ok(Reading::Gather(head));
        }
        self.return_client_window(head.length, ends);
        let how = if fits { Ended::ByGateway } else { Ended::ByClient };
        self.end_waiting(head.stream, how);
        match fits {
            true => write_reset(&mut self.to_client, head.stream, REFUSED_STREAM),
            false => self.reset_client(head.stream, PROTOCOL_ERROR)?,
        }
        Ok(Reading::Skip(head.length))
    }

    /// A refused body is thrown away. False: the stream is none of those.
    fn discard(&mut self, head: Head, padding: usize, ends: bool) -> Result<bool, Fault> {
        match self.discarded.take(head.stream, head.length, padding, ends) {
            None => return Ok(false),
            Some(Discard::Credit(0) | Discard::Over) => {}
            Some(Discard::Credit(bytes)) => {
                write(&mut self.to_client, WINDOW_UPDATE, 0, head.stream, &bytes.to_be_bytes());
            }
            Some(Discard::Reset) => {
                // The answer was complete, and the rest of the request is not wanted (section 8.1).
                self.ids.reset(head.stream);
                self.own_data.remove(head.stream);
                write_reset(&mut self.to_client, head.stream, NO_ERROR);
            }
            Some(Discard::Malformed) => _ = self.reset_malformed(head.stream, ends)?,
        }
        Ok(true)
    }

    fn read_masked_up(&mut self, frame: Masked, edit: &mut Edit<'_>) {
        self.client.reading = self.read_masked(frame, Direction::Up, edit);
        if self.client.reading == Reading::Head {
            self.up_finished();
        }
    }

    /// A frame's payload has passed; if it was its stream's last, the client has sent all of it.
    fn up_finished(&mut self) {
        let Some(id) = self.client.finishing.take() else { return };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up_done = true;
            self.settle(id);
        }
    }

    /// A gathered frame is whole. True: a request is withheld.
    fn up_gathered(&mut self, frame: Head, edit: &mut Edit<'_>) -> Result<bool, Fault> {
        self.client.reading = Reading::Head;
        // Streams that were released while this came stand before it.
        self.write_own_up(edit);
        let mut payload = std::mem::take(&mut self.client.payload);
        let masked = if frame.kind == DATA { self.mask_waiting(frame, &mut payload) } else { None };
        // Heads are shown decoded and without their secrets; credits and pings say nothing.
        if let (DATA | SETTINGS | RST_STREAM, Some(view)) = (frame.kind, edit.view()) {
            match &masked {
                Some(frames) => view.extend_from_slice(frames),
                None => write(view, frame.kind, frame.flags, frame.stream, &payload),
            }
        }
        let done = match frame.kind {
            DATA if let Some(frames) = &masked => {
                match self.streams.contains_key(&frame.stream) {
                    true => edit.insert(frames),
                    false => self.queue.append_frames(frame.stream, frames),
                }
                Ok(false)
            }
            DATA => {
                // Its stream may have been cut while this came.
                if !self.queue.append(frame.stream, DATA, frame.flags, &payload) {
                    match self.streams.contains_key(&frame.stream) {
                        true => write(edit.insert_with(), DATA, frame.flags, frame.stream, &payload),
                        false => self.return_client_window(payload.len(), frame.has(END_STREAM)),
                    }
                }
                Ok(false)
            }
            HEADERS | CONTINUATION => self.up_block(frame, &payload, edit),
            SETTINGS => self.up_settings(frame, &payload, edit).map(|()| false),
            RST_STREAM => self.up_reset(frame, &payload, edit).map(|()| false),
            PING => {
                if !frame.has(ACK) {
                    write(&mut self.to_client, PING, ACK, 0, &payload);
                }
                Ok(false)
            }
            // Priorities are nobody's business any more; this one shows a client that is lost.
            PRIORITY if depends_on_itself(&frame, &payload) => {
                Err(self.client_fault(PROTOCOL_ERROR, "stream that depends on itself", "RFC 7540 5.3.1"))
            }
            PRIORITY => Ok(false),
            _ => self.up_window(frame, &payload, edit).map(|()| false),
        };
        self.client.payload = payload;
        self.client.payload.clear();
        done
    }
}

/// What comes after some payload: more of it, or the next frame.
pub(super) fn after(left: usize, more: impl FnOnce(usize) -> Reading) -> Reading {
    if left == 0 { Reading::Head } else { more(left) }
}
