//! Header blocks of the upstream's: watched to learn how requests fare, and dropped or encoded again where they break a rule.

use super::frame::*;
use super::head::{self, Answered};
use super::stream::take_length;
use super::{Http2, MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD};
use crate::names::Direction;
use crate::protocol::hpack::{encode, encode_table_size};
use crate::protocol::masked::{self, check_upgrade, format_of};
use crate::protocol::{Edit, Event, Fault, Kind, RefusalReason};

impl Http2 {
    pub(super) fn down_block(
        &mut self,
        frame: Head,
        payload: &[u8],
        edit: &mut Edit<'_>,
    ) -> Result<(), Fault> {
        if frame.kind == HEADERS {
            match fragment(&frame, payload) {
                Some(part) => self.upstream.block.extend_from_slice(part),
                None => return Err(self.upstream_fault("padding longer than its frame", "RFC 9113 6.2")),
            }
        } else {
            self.upstream.block.extend_from_slice(payload);
        }
        if !frame.has(END_HEADERS) {
            return Ok(());
        }
        let Some(first) = self.upstream.block_head.take() else { return Ok(()) };
        let block = std::mem::take(&mut self.upstream.block);
        let verdict = self.decide_block(first, &block)?;
        self.write_block_down(edit, first, &block, verdict);
        self.upstream.block = block;
        self.finish_block(first);
        Ok(())
    }

    /// Decides what becomes of a header block, by what it decodes to.
    pub(super) fn decide_block(&mut self, first: Head, block: &[u8]) -> Result<Verdict, Fault> {
        self.decoded.clear();
        let changes = self.upstream.decoder.changes();
        let decoder = &mut self.upstream.decoder;
        if decoder.decode(block, MAX_RESPONSE_HEAD, MAX_RESPONSE_FIELDS, &mut self.decoded).is_err() {
            return Err(self.upstream_fault("malformed header block", "RFC 7541"));
        }
        let changed = self.upstream.decoder.changes() != changes;
        let ends = first.has(END_STREAM);
        let read = head::read_response(&self.decoded);
        let Some(stream) = self.streams.get_mut(&first.stream) else {
            if ends {
                self.return_upstream_window(0, true);
            }
            self.reencodes |= changed && read.is_err();
            // Later heads, of other streams too, mean something only to who has read this one (RFC 9113 section 4.3). On a
            // closed stream it does no harm.
            return Ok(if changed && !self.reencodes { Verdict::Passes } else { Verdict::Dropped });
        };
        if stream.down_done {
            return Err(self.upstream_fault("a header block behind the end of its stream", "RFC 9113 5.1"));
        }
        let fits = match read {
            Ok(Answered { status: Some(status), .. }) if !stream.answered && status < 200 => !ends,
            Ok(Answered { status: Some(status), length }) if !stream.answered => {
                let empty = stream.to_head || matches!(status, 204 | 304);
                stream.down_left = if empty { Some(0) } else { length };
                let fits = take_length(&mut stream.down_left, 0, ends);
                if let Some(rules) = stream.mask_answer.take()
                    && !(empty || ends)
                    && fits
                {
                    let format = match stream.kind {
                        Kind::Upgrade if status == 200 => check_upgrade(&self.decoded, &rules),
                        _ => format_of(&self.decoded, &rules),
                    };
                    match format {
                        Ok(format) => {
                            let keeps = self.keeps_spans;
                            let mask = |format| Box::new(masked::stream(keeps, rules, format));
                            stream.mask_down = format.map(mask);
                        }
                        Err(rule) => {
                            let report = masked::fault(first.stream, Direction::Down, rules, rule);
                            self.mask_reports.push_back(report);
                            self.refuse_answer(first.stream, RefusalReason::UnmaskableAnswer);
                            self.reencodes |= changed;
                            return Ok(Verdict::Dropped);
                        }
                    }
                }
                if fits {
                    stream.answered = true;
                    self.events.push_back(Event::Response { key: first.stream, status });
                }
                fits
            }
            Ok(Answered { status: None, .. }) if stream.answered && ends => {
                if stream.mask_down.is_some() && self.decoded.iter().any(|(name, _)| masked::is_digest(name))
                {
                    self.cut_unmaskable(first.stream, Direction::Down, masked::HAS_DIGEST);
                    self.reencodes |= changed;
                    return Ok(Verdict::Dropped);
                }
                take_length(&mut stream.down_left, 0, true)
            }
            _ => false,
        };
        if !fits {
            self.refuse_answer(first.stream, RefusalReason::BadAnswer);
            self.reencodes |= changed;
            return Ok(Verdict::Dropped);
        }
        if self.reencodes {
            return Ok(Verdict::Reencoded);
        }
        self.client_table.head_passed();
        Ok(Verdict::Passes)
    }

    pub(super) fn is_masked_down(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.mask_down.is_some())
    }

    pub(super) fn write_block_down(
        &mut self,
        edit: &mut Edit<'_>,
        first: Head,
        block: &[u8],
        verdict: Verdict,
    ) {
        let ends = first.has(END_STREAM);
        if ends && self.is_masked_down(first.stream) {
            self.finish_mask(first.stream, Direction::Down, edit.insert_with());
        }
        match verdict {
            Verdict::Dropped => {}
            Verdict::Passes => write_block(edit.insert_with(), first.stream, ends, block),
            Verdict::Reencoded => {
                let mut block = Vec::new();
                self.client_table
                    .to_tell()
                    .into_iter()
                    .for_each(|bytes| encode_table_size(bytes, &mut block));
                self.decoded.iter().for_each(|(name, value)| encode(name, value, false, &mut block));
                write_block(edit.insert_with(), first.stream, ends, &block);
            }
        }
    }

    /// A header block was dealt with; with its stream's last, the upstream has sent all of it.
    pub(super) fn finish_block(&mut self, first: Head) {
        if first.has(END_STREAM)
            && let Some(stream) = self.streams.get_mut(&first.stream)
        {
            stream.down_done = true;
            self.settle(first.stream);
        }
    }
}

/// Decision on a header block of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes down as it is.
    Passes,
    /// It goes down as literals, for the client's dynamic table is not what the upstream thinks.
    Reencoded,
    /// It does not go down.
    Dropped,
}
