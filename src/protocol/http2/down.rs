//! From the upstream: everything passes where it lies; heads are watched to learn how requests fare.

use super::down_heads::Verdict;
use super::frame::*;
use super::frame_rules::{BrokenFrame, check_frame};
use super::stream::{Masked, take_length};
use super::up::{MAX_SETTINGS, after};
use super::window::{MAX_WINDOW, Window};
use super::{Http2, MAX_RESPONSE_HEAD, Reading};
use crate::names::Direction;
use crate::protocol::hpack::TABLE;
use crate::protocol::{Edit, Ended, Fault, RefusalReason};

/// CONTINUATION frames of one header block, some of which may be small.
const MAX_CONTINUATIONS: u32 = 1_024;

impl Http2 {
    pub(super) fn read_down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        if self.has_released() {
            self.read_held(edit)?;
        }
        loop {
            self.write_own_down(edit);
            let available = edit.rest().len();
            match self.upstream.reading {
                _ if available == 0 => return Ok(()),
                Reading::Head | Reading::Preface(_) => self.read_down_head(edit)?,
                Reading::Padding(head) => {
                    let padding = 1 + usize::from(edit.rest()[0]);
                    self.upstream.reading = Reading::Head;
                    let next = self.down_frame(head, padding)?;
                    match next {
                        Reading::Pass(_) => edit.insert(&self.upstream.head),
                        Reading::Held => self.held_down.extend_from_slice(&self.upstream.head),
                        _ => {}
                    }
                    self.upstream.reading = next;
                    if let Reading::Masked(frame) = next {
                        edit.skip(1);
                        self.read_masked_down(frame, edit);
                    }
                }
                Reading::Pass(left) => {
                    let n = left.min(available);
                    edit.keep(n);
                    self.upstream.reading = after(left - n, Reading::Pass);
                    if left == n {
                        self.down_finished();
                    }
                }
                Reading::Masked(frame) => self.read_masked_down(frame, edit),
                Reading::Skip(left) => {
                    let n = left.min(available);
                    edit.skip(n);
                    self.upstream.reading = after(left - n, Reading::Skip);
                }
                Reading::Held => self.hold_down(edit)?,
                Reading::Gather(head) => {
                    let n = (head.length - self.upstream.payload.len()).min(available);
                    self.upstream.payload.extend_from_slice(&edit.rest()[..n]);
                    edit.skip(n);
                    if self.upstream.payload.len() == head.length {
                        self.down_gathered(head, edit)?;
                    }
                }
                Reading::Watch(head, seen) => {
                    let n = (head.length - seen).min(available);
                    self.upstream.payload.extend_from_slice(&edit.rest()[..n]);
                    edit.keep(n);
                    self.upstream.reading = Reading::Watch(head, seen + n);
                    if seen + n == head.length {
                        self.down_gathered(head, edit)?;
                    }
                }
            }
        }
    }

    fn read_down_head(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        let side = &mut self.upstream;
        let n = (HEAD - side.held).min(edit.rest().len());
        side.head[side.held..side.held + n].copy_from_slice(&edit.rest()[..n]);
        let at_once = side.held == 0 && n == HEAD;
        side.held += n;
        if side.held < HEAD {
            edit.skip(n);
            return Ok(());
        }
        side.held = 0;
        // The reserved bit stays unset in what is sent (RFC 9113 section 4.1), so such a head is written anew.
        let whole = at_once && side.head[STREAM] & RESERVED == 0;
        side.head[STREAM] &= !RESERVED;
        let bytes = side.head;
        let head = Head::parse(&bytes);
        if head.kind == DATA && head.has(PADDED) && head.length > 0 {
            edit.skip(n);
            self.upstream.reading = Reading::Padding(head);
            return Ok(());
        }
        let next = self.down_frame(head, 0)?;
        // With padding, or flags that mean nothing, it is written anew, as when it comes in pieces.
        let is_plain = whole && head.flags & !END_STREAM == END_HEADERS;
        if let (true, Reading::Gather(_), HEADERS) = (is_plain, next, head.kind)
            && let Some(payload) = edit.rest().get(HEAD..HEAD + head.length)
        {
            // The whole of it is here: looked at where it lies.
            self.upstream.block_head = None;
            let Some(block) = fragment(&head, payload) else {
                return Err(self.upstream_fault("padding longer than its frame", "RFC 9113 6.2"));
            };
            match self.decide_block(head, block)? {
                Verdict::Passes if !self.is_masked_down(head.stream) => edit.keep(HEAD + head.length),
                verdict => {
                    let block = block.to_vec();
                    edit.skip(HEAD + head.length);
                    self.write_block_down(edit, head, &block, verdict);
                }
            }
            self.finish_block(head);
            return Ok(());
        }
        if let (true, Reading::Gather(_), WINDOW_UPDATE) = (whole, next, head.kind)
            && let Some(payload) = edit.rest().get(HEAD..HEAD + head.length)
        {
            match self.take_upstream_credit(head, payload)? {
                true => edit.keep(HEAD + head.length),
                false => edit.skip(HEAD + head.length),
            }
            return Ok(());
        }
        match next {
            Reading::Pass(_) | Reading::Watch(..) if whole => edit.keep(n),
            Reading::Pass(_) | Reading::Watch(..) => {
                edit.skip(n);
                edit.insert(&bytes);
            }
            Reading::Held => {
                edit.skip(n);
                self.held_down.extend_from_slice(&bytes);
            }
            _ => edit.skip(n),
        }
        self.upstream.reading = match next {
            Reading::Pass(0) | Reading::Skip(0) => Reading::Head,
            next => next,
        };
        if let Reading::Masked(frame) = next {
            self.read_masked_down(frame, edit);
        }
        if let Reading::Gather(head) | Reading::Watch(head, _) = next
            && head.length == 0
        {
            self.down_gathered(head, edit)?;
        }
        Ok(())
    }

    fn down_frame(&mut self, head: Head, padding: usize) -> Result<Reading, Fault> {
        if head.length > self.upstream.max_frame {
            return Err(self.upstream_fault("frame larger than announced", "RFC 9113 4.2"));
        }
        if self
            .upstream
            .block_head
            .is_some_and(|block| head.kind != CONTINUATION || head.stream != block.stream)
        {
            return Err(self.upstream_fault("frame inside a header block", "RFC 9113 6.10"));
        }
        if !self.upstream.greeted && head.kind != SETTINGS {
            return Err(self.upstream_fault("no SETTINGS at the start", "RFC 9113 3.4"));
        }
        let open = self.streams.contains_key(&head.stream);
        let never_opened =
            head.stream > self.last_forwarded || (head.stream != 0 && head.stream.is_multiple_of(2));
        if never_opened && matches!(head.kind, DATA | HEADERS) {
            return Err(self.upstream_fault("frame on a stream that was never opened", "RFC 9113 5.1"));
        }
        if !matches!(head.kind, DATA | HEADERS)
            && let Err(BrokenFrame { code, rule, section }) = check_frame(&head, never_opened)
        {
            if head.kind == PRIORITY && open {
                self.refuse_answer_with(head.stream, RefusalReason::BadAnswer, code);
                return Ok(Reading::Skip(head.length));
            }
            // It would be the client who is told of it, and who would say that the gateway broke the rule.
            return Err(self.upstream_fault(rule, section));
        }
        match head.kind {
            DATA if head.stream != 0 => self.down_data(head, padding),
            // The client may take frames of 16 MiB; what is gathered stays bounded.
            HEADERS | GOAWAY if head.length > MAX_RESPONSE_HEAD => {
                Err(self.upstream_fault("frame larger than the limit", "limit"))
            }
            HEADERS if head.stream != 0 => {
                self.upstream.block.clear();
                self.upstream.block_head = Some(head);
                self.upstream.continuations = 0;
                Ok(Reading::Gather(head))
            }
            CONTINUATION if self.upstream.block_head.is_some() => {
                self.upstream.continuations += 1;
                let gathered = self.upstream.block.len() + head.length;
                if self.upstream.continuations > MAX_CONTINUATIONS || gathered > MAX_RESPONSE_HEAD {
                    return Err(self.upstream_fault("response head too large", "limit"));
                }
                Ok(Reading::Gather(head))
            }
            SETTINGS if head.length <= MAX_SETTINGS => {
                self.upstream.greeted = true;
                Ok(Reading::Gather(head))
            }
            RST_STREAM => match open {
                true => Ok(Reading::Watch(head, 0)),
                false => {
                    self.return_upstream_window(0, true);
                    Ok(Reading::Skip(4))
                }
            },
            GOAWAY => Ok(Reading::Watch(head, 0)),
            PUSH_PROMISE => Err(self.upstream_fault("PUSH_PROMISE although push is off", "RFC 9113 8.4")),
            WINDOW_UPDATE if head.stream != 0 && !open => Ok(Reading::Skip(head.length)),
            DATA | HEADERS => Err(self.upstream_fault("frame of a stream on stream 0", "RFC 9113 6")),
            CONTINUATION => Err(self.upstream_fault("CONTINUATION of nothing", "RFC 9113 6.10")),
            SETTINGS => Err(self.upstream_fault("more settings than the limit", "limit")),
            WINDOW_UPDATE => Ok(Reading::Gather(head)),
            PING if !head.has(ACK) => {
                self.asked_of_client += 1;
                Ok(Reading::Pass(head.length))
            }
            PRIORITY | PING => Ok(Reading::Pass(head.length)),
            // Extensions are between neighbours (section 5.5). ORIGIN (RFC 8336) would make a browser take this connection for
            // other names, ALTSVC (RFC 7838) would send it past the gateway.
            _ => Ok(Reading::Skip(head.length)),
        }
    }

    fn down_data(&mut self, head: Head, padding: usize) -> Result<Reading, Fault> {
        self.budget.data();
        if padding > head.length || head.has(PADDED) && head.length == 0 {
            return Err(self.upstream_fault("padding longer than its frame", "RFC 9113 6.1"));
        }
        let ends = head.has(END_STREAM);
        let data = (head.length - padding) as u64;
        let windows = self.windows();
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            return self.skip_late_data(head.length, ends);
        };
        if stream.down_done {
            return Err(self.upstream_fault("DATA behind the end of its stream", "RFC 9113 5.1"));
        }
        match windows.check(stream, head.length) {
            Window::Fits => {}
            Window::Short => return Ok(Reading::Held),
            Window::StreamExceeded => return self.refuse_exceeding(head),
            Window::Exceeded => {
                return Err(self.upstream_fault("DATA beyond the connection's window", "RFC 9113 6.9.1"));
            }
        }
        if !stream.answered || !take_length(&mut stream.down_left, data, ends) {
            self.refuse_answer(head.stream, RefusalReason::BadAnswer);
            return self.skip_late_data(head.length, ends);
        }
        stream.down += data;
        stream.granted -= padding as i64;
        let masked = stream.mask_down.is_some();
        self.client_connection_window -= head.length as i64;
        if ends {
            self.upstream.finishing = Some(head.stream);
            if head.length == 0 && !masked {
                self.down_finished();
            }
        }
        if masked {
            return Ok(Reading::Masked(Masked::new(head, padding)));
        }
        Ok(Reading::Pass(head.length))
    }

    /// Throws away DATA of a stream that is over, and gives its window back to the others.
    pub(super) fn skip_late_data(&mut self, length: usize, ends: bool) -> Result<Reading, Fault> {
        if !self.late_data.take(length) {
            return Err(self.upstream_fault("DATA on streams that are over", "RFC 9113 5.1"));
        }
        self.return_upstream_window(length, ends);
        Ok(Reading::Skip(length))
    }

    fn read_masked_down(&mut self, frame: Masked, edit: &mut Edit<'_>) {
        self.upstream.reading = self.read_masked(frame, Direction::Down, edit);
        if self.upstream.reading == Reading::Head {
            self.down_finished();
        }
    }

    /// A frame's payload has passed; if it was its stream's last, the upstream has sent all of it.
    fn down_finished(&mut self) {
        let Some(id) = self.upstream.finishing.take() else { return };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.down_done = true;
            self.settle(id);
        }
    }

    fn down_gathered(&mut self, frame: Head, edit: &mut Edit<'_>) -> Result<(), Fault> {
        self.upstream.reading = Reading::Head;
        let payload = std::mem::take(&mut self.upstream.payload);
        let done = match frame.kind {
            SETTINGS => self.down_settings(frame, &payload, edit),
            WINDOW_UPDATE => self.take_upstream_credit(frame, &payload).map(|passes| {
                if passes {
                    write(edit.insert_with(), WINDOW_UPDATE, 0, frame.stream, &payload);
                }
            }),
            RST_STREAM => self.down_reset(frame, &payload),
            GOAWAY => {
                self.down_goaway(&payload);
                Ok(())
            }
            _ => self.down_block(frame, &payload, edit),
        };
        self.upstream.payload = payload;
        self.upstream.payload.clear();
        done
    }

    fn down_settings(&mut self, frame: Head, payload: &[u8], edit: &mut Edit<'_>) -> Result<(), Fault> {
        if frame.has(ACK) {
            if self.acknowledged_here > 0 {
                self.acknowledged_here -= 1;
                return Ok(());
            }
            if self.client_table.is_settled() {
                return Err(self.upstream_fault("an acknowledgement of no settings", "RFC 9113 6.5.3"));
            }
            self.client_table.settings_acknowledged();
            write(edit.insert_with(), SETTINGS, ACK, 0, &[]);
            return Ok(());
        }
        let mut changed = Vec::with_capacity(payload.len() + 6);
        let mut streams_named = false;
        for (id, value) in settings(payload) {
            let value = match id {
                HEADER_TABLE_SIZE => {
                    self.table_shrunk |= value < TABLE as u32;
                    value.min(TABLE as u32)
                }
                MAX_CONCURRENT_STREAMS => {
                    self.upstream_streams = value;
                    value.min(self.limits.streams)
                }
                MAX_HEADER_LIST_SIZE => value.min(self.limits.head as u32),
                ENABLE_PUSH if value != 0 => {
                    return Err(self.upstream_fault("a server that would be pushed to", "RFC 9113 6.5.2"));
                }
                INITIAL_WINDOW_SIZE if value > 0x7fff_ffff => {
                    return Err(self.upstream_fault("window too large", "RFC 9113 6.5.2"));
                }
                INITIAL_WINDOW_SIZE => {
                    if self.streams.values().any(|stream| stream.window_up(value) > MAX_WINDOW) {
                        return Err(self.upstream_fault("window of a stream too large", "RFC 9113 6.9.2"));
                    }
                    self.upstream_window = value;
                    value
                }
                MAX_FRAME_SIZE if !(MAX_FRAME as u32..1 << 24).contains(&value) => {
                    return Err(self.upstream_fault("MAX_FRAME_SIZE out of range", "RFC 9113 6.5.2"));
                }
                MAX_FRAME_SIZE => {
                    self.client.max_frame = self.client.max_frame.max(value as usize);
                    value
                }
                _ => value,
            };
            streams_named |= id == MAX_CONCURRENT_STREAMS;
            push_setting(&mut changed, id, value);
        }
        // Said again later, it would raise what the upstream has allowed.
        if !std::mem::replace(&mut self.streams_told, true) && !streams_named {
            self.upstream_streams = u32::MAX;
            push_setting(&mut changed, MAX_CONCURRENT_STREAMS, self.limits.streams);
        }
        write(edit.insert_with(), SETTINGS, 0, 0, &changed);
        self.asked_of_client += 1;
        self.release();
        Ok(())
    }

    /// Streams beyond what GOAWAY names were not looked at and get no answer (RFC 9113 section 6.8).
    fn down_goaway(&mut self, payload: &[u8]) {
        let Some(&last) = payload.first_chunk() else { return };
        let last = u32::from_be_bytes(last) & 0x7fff_ffff;
        let beyond: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
        beyond.into_iter().for_each(|id| self.end(id, Ended::ByUpstream));
    }

    fn down_reset(&mut self, frame: Head, payload: &[u8]) -> Result<(), Fault> {
        let whole = self.streams.get(&frame.stream).is_some_and(|stream| stream.down_done);
        let no_error = payload == NO_ERROR.to_be_bytes();
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            // Nothing is on its way behind it.
            stream.down_done = true;
        }
        // "I have answered, keep the rest of your body" is no failure (section 8.1).
        let how = if whole && no_error { Ended::Whole } else { Ended::ByUpstream };
        self.end(frame.stream, how);
        let code = payload.try_into().map_or(NO_ERROR, u32::from_be_bytes);
        let provoked = matches!(code, PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR);
        if provoked && !self.budget.reset() {
            // The upstream says that the client broke a rule, and may still be at work on what it was made to reset.
            let rule = "too many resets that the upstream was made to send";
            return Err(self.client_fault(ENHANCE_YOUR_CALM, rule, "CVE-2025-8671"));
        }
        Ok(())
    }
}
