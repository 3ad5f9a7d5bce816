//! What the gateway says by itself: resets, refusals, the end of the connection, credit for what it swallows.

use super::frame::{self, CANCEL};
use super::{Http2, REFUSED_BODY_CREDIT, answer};
use crate::names::{Culprit, RequestId};
use crate::protocol::{Edit, Ended, Event, Fault, Http, Kind, Refusal, RefusalReason};

/// Swallowed bytes that are given back at once.
const CREDIT_STEP: u32 = 4_096;

impl Http2 {
    /// A connection error of the client's: it gets a GOAWAY that says which.
    pub(super) fn client_fault(&mut self, code: u32, rule: &'static str, section: &'static str) -> Fault {
        frame::write_goaway(&mut self.to_client, self.last_forwarded, code);
        self.dead = true;
        self.end_streams(Ended::ByClient);
        Fault { culprit: Culprit::Client, rule, section }
    }

    /// A connection error of the upstream's: requests that have no answer yet get a 502. The client can tell this end from its own
    /// doing by the GOAWAY behind, and the log says whose fault it was.
    pub(super) fn upstream_fault(&mut self, rule: &'static str, section: &'static str) -> Fault {
        self.dead = true;
        // What is gathered of a frame or a block has not gone down, and does not.
        self.upstream.abandon_gathered();
        let last = self.last_permitted();
        self.upstream_lost(RefusalReason::BadAnswer);
        frame::write_goaway(&mut self.to_client, last, frame::INTERNAL_ERROR);
        Fault { culprit: Culprit::Upstream, rule, section }
    }

    /// Resets a stream of the client's that the upstream never hears of.
    pub(super) fn reset_client(&mut self, id: u32, code: u32) -> Result<(), Fault> {
        self.own_data.remove(id);
        frame::write_reset(&mut self.to_client, id, code);
        if !self.budget.reset() {
            let rule = "too many streams that had to be reset";
            return Err(self.client_fault(frame::ENHANCE_YOUR_CALM, rule, "CVE-2025-8671"));
        }
        Ok(())
    }

    /// Resets a stream by which the client broke a rule, on both sides: the upstream must not take the request for whole.
    pub(super) fn reset_request(&mut self, id: u32, code: u32) -> Result<(), Fault> {
        if !self.own_data.contains(id) && !self.end_waiting(id, Ended::ByClient) {
            frame::write_reset(&mut self.to_upstream, id, CANCEL);
            self.end(id, Ended::ByClient);
        }
        self.reset_client(id, code)
    }

    /// The upstream's answer breaks a rule: the client gets a 502 in its place, or a reset where it has begun.
    pub(super) fn refuse_answer(&mut self, id: u32, why: RefusalReason) {
        self.refuse_answer_with(id, why, CANCEL);
    }

    /// The same, with the error code that the upstream is told.
    pub(super) fn refuse_answer_with(&mut self, id: u32, why: RefusalReason, code: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        let granted = stream.granted;
        frame::write_reset(&mut self.to_upstream, id, code);
        if stream.answered {
            frame::write_reset(&mut self.to_client, id, frame::PROTOCOL_ERROR);
        } else {
            let refusal = Refusal { id: RequestId { session: self.session, number: id }, why };
            let (kind, to_head, up_done) = (stream.kind, stream.to_head, stream.up_done);
            self.write_refusal(id, &refusal, kind, to_head, up_done, granted);
            self.events.push_back(Event::Response { key: id, status: why.status() });
        }
        self.end(id, Ended::ByUpstream);
    }

    /// Answers a request that is refused. `granted`: credit of the client's for its stream so far.
    pub(super) fn write_refusal(
        &mut self,
        id: u32,
        refusal: &Refusal,
        kind: Kind,
        to_head: bool,
        request_ended: bool,
        granted: i64,
    ) {
        let room = (self.own_room() - self.own_data.bytes() as i64).max(0) as usize;
        let table = self.client_table.to_tell();
        let body = answer::write_head(&mut self.to_client, id, refusal, kind, to_head, room, table, self.now);
        match body {
            Some(body) => {
                self.own_data.push(id, body.into_bytes(), granted, !request_ended);
                self.write_own_data();
            }
            None if !request_ended => frame::write_reset(&mut self.to_client, id, frame::NO_ERROR),
            None => {}
        }
    }

    /// How much of the client's connection window own DATA may take: credit that the upstream was not told of. Before the first
    /// permit there is no upstream that could use the window; what is taken then comes out of later credit.
    fn own_room(&self) -> i64 {
        let is_alone = self.last_forwarded == 0 && self.queue.is_empty();
        let advance = if is_alone { i64::from(REFUSED_BODY_CREDIT) } else { 0 };
        (self.reserve + advance).min(self.client_connection_window)
    }

    /// Writes as much of the gateway's own bodies as the client's windows allow.
    pub(super) fn write_own_data(&mut self) {
        if !self.own_data.is_empty() {
            let room = self.own_room();
            let sent = self.own_data.write(&mut self.to_client, self.client_window, room);
            self.reserve -= sent;
            self.client_connection_window -= sent;
        }
    }

    /// DATA of the client's was swallowed: the upstream cannot give its window back, so we do, at the stream's end all.
    pub(super) fn return_client_window(&mut self, bytes: usize, ends: bool) {
        self.owed_to_client += bytes as u32;
        if self.owed_to_client >= CREDIT_STEP || (ends && self.owed_to_client > 0) {
            frame::write_credit(&mut self.to_client, std::mem::take(&mut self.owed_to_client));
        }
    }

    /// The same for the upstream.
    pub(super) fn return_upstream_window(&mut self, bytes: usize, ends: bool) {
        self.owed_to_upstream += bytes as u32;
        if self.owed_to_upstream >= CREDIT_STEP || (ends && self.owed_to_upstream > 0) {
            frame::write_credit(&mut self.to_upstream, std::mem::take(&mut self.owed_to_upstream));
        }
    }

    /// Puts in what there is to say to the upstream, if this is the place.
    pub(super) fn write_own_up(&mut self, edit: &mut Edit<'_>) {
        if !self.client.at_boundary() {
            return;
        }
        if !self.released_up.is_empty() {
            edit.put_back(&self.released_up);
            self.released_up.clear();
        }
        if !self.to_upstream.is_empty() {
            edit.insert(&self.to_upstream);
            self.to_upstream.clear();
        }
    }

    /// Puts in what there is to say to the client, if this is the place.
    pub(super) fn write_own_down(&mut self, edit: &mut Edit<'_>) {
        if !self.wants_down() {
            return;
        }
        let own = std::mem::take(&mut self.unsaid_settings);
        edit.insert(&self.to_client[..own]);
        if self.last_forwarded == 0 {
            // There is no upstream that could, and some clients wait for it. Before whatever else is said by these settings.
            for _ in 0..std::mem::take(&mut self.unacknowledged) {
                self.acknowledged_here += 1;
                self.client_table.settings_acknowledged();
                frame::write(edit.insert_with(), frame::SETTINGS, frame::ACK, 0, &[]);
            }
        }
        edit.insert(&self.to_client[own..]);
        self.to_client.clear();
    }
}
