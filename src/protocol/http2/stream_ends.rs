//! How streams end, which go up in their place, and how the connection ends.

use super::Http2;
use super::frame;
use super::side::Reading;
use super::stream::Stream;
use crate::names::Culprit;
use crate::protocol::{Ended, Event, Fault, Http, Key, RefusalReason};

impl Http2 {
    /// A stream is over if both sides have sent all.
    pub(super) fn settle(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|stream| stream.up_done && stream.down_done) {
            self.end(id, Ended::Whole);
        }
    }

    pub(super) fn end(&mut self, id: u32, how: Ended) {
        if let Some(stream) = self.streams.remove(&id) {
            let Stream {
                up, down, up_done, down_done, answered, down_left, granted, mask_up, mask_down, ..
            } = stream;
            if mask_up.is_some() || mask_down.is_some() {
                self.end_masks(id, mask_up, mask_down);
            }
            if !up_done {
                self.ids.reset(id);
            }
            if !down_done {
                self.late_data.stream_ended(granted, down);
            }
            // Who has all bytes that were announced may leave before the frame that says so.
            let whole = up_done && answered && down_left == Some(0);
            let how = if whole { Ended::Whole } else { how };
            self.events.push_back(Event::Ended { key: id, up, down, how });
            self.release();
        }
    }

    /// True for a stream that the client has reason to think open.
    pub(super) fn is_open(&mut self, id: u32) -> bool {
        self.streams.contains_key(&id) || self.queue.get_mut(id).is_some() || self.own_data.contains(id)
    }

    /// Ends a stream that the upstream never heard of. False: there is none.
    pub(super) fn end_waiting(&mut self, id: u32, how: Ended) -> bool {
        let Some((Stream { up, up_done, mask_up, .. }, kept)) = self.queue.remove(id) else { return false };
        self.return_client_window(kept, true);
        self.end_masks(id, mask_up, None);
        if !up_done {
            self.ids.reset(id);
        }
        self.events.push_back(Event::Ended { key: id, up, down: 0, how });
        true
    }

    pub(super) fn end_streams(&mut self, how: Ended) {
        self.queue.ids().into_iter().for_each(|id| _ = self.end_waiting(id, how));
        let all: Vec<u32> = self.streams.keys().copied().collect();
        all.into_iter().for_each(|id| self.end(id, how));
    }

    /// Lets streams go up that waited, as many as the upstream allows.
    pub(super) fn release(&mut self) {
        while self.streams.len() < self.upstream_streams as usize {
            let Some((id, stream, frames)) = self.queue.pop() else { return };
            self.to_upstream.extend_from_slice(&frames);
            self.last_forwarded = id;
            self.streams.insert(id, stream);
        }
    }

    /// The highest stream that was permitted, whether the upstream heard of it or not.
    pub(super) fn last_permitted(&self) -> u32 {
        self.queue.last().unwrap_or(self.last_forwarded)
    }

    /// Takes no more streams than those up to `last`, and says so, once.
    pub(super) fn go_away(&mut self, last: Key) {
        if !std::mem::replace(&mut self.draining, true) {
            // Streams on their way when this is said must be reset, through nobody's fault.
            self.budget.exempt_resets();
            frame::write_goaway(&mut self.to_client, last, frame::NO_ERROR);
        }
    }

    pub(super) fn ended(&mut self, culprit: Culprit, how: Ended) -> Result<(), Fault> {
        let side = if culprit == Culprit::Client { &self.client } else { &self.upstream };
        let cut =
            !self.streams.is_empty() || !(side.at_boundary() || matches!(side.reading, Reading::Preface(_)));
        if culprit == Culprit::Upstream && cut {
            self.upstream_lost(RefusalReason::BadAnswer);
        }
        self.dead = true;
        self.end_streams(how);
        match cut {
            true => Err(Fault {
                culprit,
                rule: "the connection ended with streams open or in a frame",
                section: "RFC 9113 5.4",
            }),
            false => Ok(()),
        }
    }
}
