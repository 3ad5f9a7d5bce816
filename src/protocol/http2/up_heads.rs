//! Header blocks of the client's: requests are withheld, trailers go up behind what they end.

use super::frame::*;
use super::side::Reading;
use super::stream::take_length;
use super::waiting::Discard;
use super::{Http2, head};
use crate::names::Direction;
use crate::protocol::hpack::{HpackFault, encode_table_size};
use crate::protocol::masked;
use crate::protocol::{Edit, Fault, Fields, RefusalReason, Request, head_rules};

impl Http2 {
    pub(super) fn up_block(
        &mut self,
        frame: Head,
        payload: &[u8],
        edit: &mut Edit<'_>,
    ) -> Result<bool, Fault> {
        if frame.kind == HEADERS {
            if depends_on_itself(&frame, payload) {
                let rule = "stream that depends on itself";
                return Err(self.client_fault(PROTOCOL_ERROR, rule, "RFC 7540 5.3.1"));
            }
            if payload.len() < least_payload(&frame) {
                let rule = "HEADERS without the fields that its flags name";
                return Err(self.client_fault(FRAME_SIZE_ERROR, rule, "RFC 9113 4.2"));
            }
            let Some(part) = fragment(&frame, payload) else {
                return Err(self.client_fault(
                    PROTOCOL_ERROR,
                    "padding longer than its frame",
                    "RFC 9113 6.2",
                ));
            };
            self.client.block.clear();
            self.client.block.extend_from_slice(part);
            self.client.block_head = Some(frame);
            self.client.continuations = 0;
        } else {
            self.client.block.extend_from_slice(payload);
        }
        if !frame.has(END_HEADERS) {
            return Ok(false);
        }
        let Some(first) = self.client.block_head.take() else { return Ok(false) };
        self.decoded.clear();
        let (head, fields) = (self.limits.head, self.limits.fields);
        let block = std::mem::take(&mut self.client.block);
        let decoded = self.client.decoder.decode(&block, head, fields, &mut self.decoded);
        self.client.block = block;
        let too_large = matches!(decoded, Err(HpackFault::TooLarge | HpackFault::TooMany));
        if decoded.is_err() && !too_large {
            return Err(self.client_fault(COMPRESSION_ERROR, "malformed header block", "RFC 7541"));
        }
        if first.stream > self.ids.last() {
            return self.up_request(first, too_large);
        }
        if self.ids.is_passed_over(first.stream) {
            return Err(self.client_fault(
                PROTOCOL_ERROR,
                "stream of a smaller number than before",
                "RFC 9113 5.1.1",
            ));
        }
        if too_large {
            let rule = "request trailers larger than the limit";
            return Err(self.client_fault(ENHANCE_YOUR_CALM, rule, "limit"));
        }
        self.up_trailers(first, edit).map(|()| false)
    }

    fn up_trailers(&mut self, first: Head, edit: &mut Edit<'_>) -> Result<(), Fault> {
        self.write_own_up(edit);
        let ends = first.has(END_STREAM);
        let (waits, forwarded) = (self.queue.get_mut(first.stream), self.streams.get_mut(&first.stream));
        let is_waiting = waits.is_some();
        let Some(stream) = waits.or(forwarded) else {
            if let Some(last) = self.discarded.take(first.stream, 0, 0, true) {
                let is_good =
                    |fields| head::write_trailers(fields, &Fields::default(), &mut Vec::new()).is_ok();
                if ends && last == Discard::Over && is_good(&self.decoded) {
                    return Ok(());
                }
                return self.reset_malformed(first.stream, ends).map(|_| ());
            }
            if !self.ids.is_reset(first.stream, ends) {
                return Err(self.client_fault(STREAM_CLOSED, "HEADERS on a closed stream", "RFC 9113 5.1"));
            }
            // Sent before the client could know that the stream is over; nobody misses it.
            self.return_client_window(0, true);
            return self.up_idle(Reading::Head).map(|_| ());
        };
        if stream.up_done {
            return Err(self.client_fault(STREAM_CLOSED, "HEADERS after END_STREAM", "RFC 9113 5.1"));
        }
        if !ends {
            return Err(self.client_fault(
                PROTOCOL_ERROR,
                "trailers that do not end the stream",
                "RFC 9113 8.1",
            ));
        }
        let mut block = Vec::new();
        if self.table_shrunk {
            encode_table_size(0, &mut block);
        }
        let short = !take_length(&mut stream.up_left, 0, true);
        if stream.mask_up.is_some() && self.decoded.iter().any(|(name, _)| masked::is_digest(name)) {
            // Its client has said all that it wants to.
            stream.up_done = true;
            self.cut_unmaskable(first.stream, Direction::Up, masked::HAS_DIGEST);
            return Ok(());
        }
        if short || head::write_trailers(&self.decoded, &self.guarded, &mut block).is_err() {
            return self.reset_request(first.stream, PROTOCOL_ERROR);
        }
        stream.up_done = true;
        let mut held = Vec::new();
        if stream.mask_up.is_some() {
            self.finish_mask(first.stream, Direction::Up, &mut held);
        }
        if let Some(view) = edit.view() {
            view.extend_from_slice(&held);
            write_block(view, first.stream, true, &block);
        }
        if is_waiting {
            let mut frames = held;
            write_block(&mut frames, first.stream, true, &block);
            self.queue.append_frames(first.stream, &frames);
            return Ok(());
        }
        edit.insert(&held);
        write_block(edit.insert_with(), first.stream, true, &block);
        self.settle(first.stream);
        Ok(())
    }

    fn up_request(&mut self, first: Head, too_large: bool) -> Result<bool, Fault> {
        let id = first.stream;
        if id.is_multiple_of(2) {
            return Err(self.client_fault(PROTOCOL_ERROR, "stream of an even number", "RFC 9113 5.1.1"));
        }
        self.ids.open(id);
        let open = self.streams.len() + self.queue.len() + self.own_data.len();
        if self.draining || open >= self.limits.streams as usize {
            if !first.has(END_STREAM) {
                self.ids.reset(id);
            }
            return self.reset_client(id, REFUSED_STREAM).map(|()| false);
        }
        self.request.key = id;
        self.request.ends = first.has(END_STREAM);
        self.request.barred = None;
        if too_large {
            // What was read of it is for the log alone.
            let Request { key, ends, .. } = self.request;
            self.request =
                Request { key, ends, barred: Some(RefusalReason::HeadTooLarge), ..Request::default() };
            let _ = head::read(&self.decoded, &mut self.request);
            self.withheld = Some(Default::default());
            return Ok(true);
        }
        let Ok(pseudo) = head::read(&self.decoded, &mut self.request) else {
            return self.reset_malformed(id, first.has(END_STREAM));
        };
        if first.has(END_STREAM) && pseudo.length.is_some_and(|length| length > 0) {
            return self.reset_malformed(id, true);
        }
        if pseudo.protocol.is_none() {
            let barred = head_rules::barred_method(&self.request.method, &self.request.fields);
            self.request.barred = barred.or(self.request.barred);
        }
        self.withheld = Some(pseudo);
        Ok(true)
    }

    /// Malformed requests are stream errors (section 8.1.1).
    pub(super) fn reset_malformed(&mut self, id: u32, ended: bool) -> Result<bool, Fault> {
        if !ended {
            self.ids.reset(id);
        }
        self.reset_client(id, PROTOCOL_ERROR).map(|()| false)
    }
}
