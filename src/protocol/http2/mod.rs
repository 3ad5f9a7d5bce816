//! HTTP/2 (RFC 9113) between one client and one upstream connection, frame by frame.
//!
//! Frames are forwarded end to end: settings, windows, pings and resets are the peers' own business, so flow control
//! and trailers work as if nobody stood between. Touched are only request heads (decoded, permitted, encoded again with
//! literals), settings that would break that, and streams that are refused or cut. Bodies pass where they lie.
//!
//! Before the first request is permitted there is no upstream. What [`Http::up`] emits until then is the beginning of a
//! valid client stream, and the client gets settings of ours, since some clients wait for them; their acknowledgement
//! is swallowed. No push (RFC 9113 section 8.4), no priorities, no `CONNECT` outside RFC 8441.
//!
//! Content-Length is held against DATA in both directions (RFC 9113 section 8.1.1): the next hop may speak HTTP/1.1, where the two
//! frame the message together. An answer that breaks a rule is a 502 while nothing of it went down, and a reset after.

mod answer;
mod budget;
mod client_table;
mod down;
mod down_heads;
mod frame;
mod frame_rules;
mod head;
mod late_data;
mod limits;
mod masks;
mod own_data;
mod own_frames;
mod side;
mod stream;
mod stream_ends;
mod stream_ids;
mod up;
mod up_control;
mod up_heads;
mod waiting;
mod window;

pub use limits::Limits;

use super::{
    Edit, Ended, Event, Fault, Fields, Http, HttpDate, Key, Kind, Refusal, RefusalReason, Request, Rewrite,
    Up,
};
use crate::mask;
use crate::names::{Culprit, Direction, SessionId};
use crate::protocol::masked::{self, MaskReport, Masking, format_of};
use budget::Budget;
use client_table::ClientTable;
use frame::{CANCEL, HEAD, Head};
use head::Pseudo;
use late_data::LateData;
use own_data::OwnData;
use side::{Reading, Side};
use std::collections::{HashMap, VecDeque};
use stream::Stream;
use stream_ids::StreamIds;
use waiting::{Discarded, Queue};

/// Bytes of a response head; only followed, never changed.
const MAX_RESPONSE_HEAD: usize = 256 * 1024;
/// Fields of a response head.
const MAX_RESPONSE_FIELDS: usize = 1_000;
/// Credit of the client's that the upstream is never told of, for bodies of refusals; before there is an upstream, as much again may be
/// taken in advance.
const REFUSED_BODY_CREDIT: u32 = 4_096;
/// Bytes that wait for a client that does not read, and for each stream that it may have open: about a refusal.
const MAX_UNREAD: usize = 64 * 1024;
const MAX_UNREAD_PER_STREAM: usize = 512;

/// One client connection's HTTP/2.
pub struct Http2 {
    limits: Limits,
    session: SessionId,
    now: HttpDate,
    budget: Budget,
    client: Side,
    upstream: Side,
    /// Permitted and not over. What either side sends on any other stream is swallowed: the other side never heard of
    /// it, or has no use for it any more. So nothing has to be remembered of streams that were refused or cut.
    streams: HashMap<u32, Stream>,
    events: VecDeque<Event>,
    request: Request,
    decoded: Fields,
    withheld: Option<Pseudo>,
    /// What the last permitted head had stripped or set; trailers must not bring it back.
    guarded: Fields,
    /// What the gateway has to say to the client, at the next boundary.
    to_client: Vec<u8>,
    /// Bytes at the front of it that are the gateway's settings: the first that a client hears (section 3.4).
    unsaid_settings: usize,
    /// What the gateway has to say to the upstream, at the next boundary.
    to_upstream: Vec<u8>,
    ids: StreamIds,
    /// Permitted streams that wait until the upstream allows another.
    queue: Queue,
    /// Refused streams whose clients are still sending.
    discarded: Discarded,
    /// Streams that the upstream allows at once; before its settings came, one.
    upstream_streams: u32,
    last_forwarded: u32,
    /// Settings of the client's that nobody has acknowledged, before there is an upstream.
    unacknowledged: u32,
    /// Acknowledgements that the client has had from us and that the upstream is still to send.
    acknowledged_here: u32,
    /// Milliseconds since the start, as [`Http2::tick`] tells.
    clock: u64,
    /// Acknowledgements of our own settings that are still to come.
    own_settings: u32,
    client_table: ClientTable,
    /// The upstream asked for a smaller dynamic table than ours could be; it expects to be told (RFC 7541 section 4.2).
    table_shrunk: bool,
    /// The client was told how many streams it may open, in the upstream's first settings.
    streams_told: bool,
    /// Credit for the connection that the client gave and the upstream was not told of. Negative: own DATA that took window before
    /// there was an upstream, which later credit makes up for.
    reserve: i64,
    own_data: OwnData,
    /// What the upstream sent from a DATA frame on that waits for the client's credit: whole frames.
    held_down: Vec<u8>,
    /// Swallowed DATA of the client's that it was not given back yet.
    owed_to_client: u32,
    owed_to_upstream: u32,
    /// The flow-control window that a new stream of the client's begins with, for DATA down.
    client_window: u32,
    late_data: LateData,
    /// The same of the upstream's, for DATA up, and its window of the whole connection.
    upstream_window: u32,
    upstream_connection_window: i64,
    /// PING and SETTINGS of the upstream's that the client is to acknowledge.
    asked_of_client: u32,
    /// The client's flow-control window of the whole connection, for DATA down.
    client_connection_window: i64,
    /// A malformed head of the upstream's has changed its dynamic table and did not pass: every later one is encoded again.
    reencodes: bool,
    draining: bool,
    dead: bool,
    /// The rules for the withheld request, if it is permitted.
    masking: Masking,
    mask_reports: VecDeque<MaskReport>,
    /// Where masks overwrite is wanted.
    keeps_spans: bool,
    /// Frames with what masks let go of by the clock, on the way up.
    released_up: Vec<u8>,
    /// The upstream left while an answer was on its way.
    cut: bool,
}

impl Http2 {
    /// A fresh connection; there is something to say to the client at once.
    pub fn new(limits: Limits) -> Self {
        let mut http = Http2 {
            limits,
            session: SessionId(0),
            now: HttpDate::default(),
            budget: Budget::new(limits.resets, limits.resets_per_second),
            client: Side::new(Reading::Preface(0)),
            upstream: Side::new(Reading::Head),
            streams: HashMap::new(),
            events: VecDeque::new(),
            request: Request::default(),
            decoded: Fields::default(),
            withheld: None,
            guarded: Fields::default(),
            to_client: Vec::new(),
            unsaid_settings: 0,
            to_upstream: Vec::new(),
            ids: StreamIds::default(),
            queue: Queue::default(),
            discarded: Discarded::default(),
            upstream_streams: 1,
            unacknowledged: 0,
            acknowledged_here: 0,
            clock: 0,
            last_forwarded: 0,
            own_settings: 1,
            client_table: ClientTable::default(),
            table_shrunk: false,
            streams_told: false,
            reserve: 0,
            own_data: OwnData::default(),
            held_down: Vec::new(),
            owed_to_client: 0,
            owed_to_upstream: 0,
            client_window: 65_535,
            late_data: LateData::new(65_535),
            upstream_window: 65_535,
            upstream_connection_window: 65_535,
            asked_of_client: 0,
            client_connection_window: 65_535,
            reencodes: false,
            draining: false,
            dead: false,
            masking: Masking::default(),
            mask_reports: VecDeque::new(),
            keeps_spans: false,
            released_up: Vec::new(),
            cut: false,
        };
        let mut payload = Vec::new();
        frame::push_setting(&mut payload, frame::HEADER_TABLE_SIZE, super::hpack::TABLE as u32);
        frame::push_setting(&mut payload, frame::MAX_CONCURRENT_STREAMS, limits.streams);
        frame::push_setting(&mut payload, frame::MAX_HEADER_LIST_SIZE, limits.head as u32);
        frame::write(&mut http.to_client, frame::SETTINGS, 0, 0, &payload);
        http.unsaid_settings = http.to_client.len();
        http
    }

    /// Names the session, for the ids of answers that the gateway gives in the upstream's place.
    pub fn of_session(mut self, session: SessionId) -> Self {
        self.session = session;
        self
    }

    /// Tells how much time has passed; budgets recover by it.
    pub fn tick(&mut self, milliseconds: u64) {
        self.budget.tick(milliseconds);
        self.clock += milliseconds;
    }
}

impl Http for Http2 {
    fn up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault> {
        if self.withheld.is_some() {
            return Ok(Up::Request);
        }
        self.read_up(edit)
    }

    fn request(&self) -> &Request {
        &self.request
    }

    fn write_view(&self, out: &mut Vec<u8>, hides: &dyn Fn(&[u8]) -> bool) {
        let Some(pseudo) = &self.withheld else { return };
        let mut block = Vec::new();
        head::write_view(&self.request, pseudo, hides, &mut block);
        frame::write_block(out, self.request.key, self.request.ends, &block);
    }

    fn permit(&mut self, edit: &mut Edit<'_>, rewrite: &Rewrite<'_>) {
        let Some(pseudo) = self.withheld.take() else { return };
        // Streams that were released meanwhile have smaller numbers.
        self.write_own_up(edit);
        let mut block = std::mem::take(&mut self.client.block);
        block.clear();
        if self.table_shrunk {
            super::hpack::encode_table_size(0, &mut block);
        }
        head::write(&self.request, &pseudo, rewrite, &mut block);
        self.guarded.clear();
        let set = rewrite.set.iter().map(|(name, _)| *name);
        rewrite.strip.iter().copied().chain(set).for_each(|name| self.guarded.push(name.as_bytes(), b""));
        let Masking { up, down, keep_spans } = std::mem::take(&mut self.masking);
        self.keeps_spans = keep_spans;
        let mask_up = up.filter(|_| !self.request.ends).and_then(|rules| {
            // The session has refused those that cannot be masked.
            let format = match self.request.kind {
                Kind::Upgrade => mask::Format::Frames,
                _ => format_of(&self.request.fields, &rules).ok()??,
            };
            Some(Box::new(masked::stream(keep_spans, rules, format)))
        });
        let stream = Stream {
            mask_answer: down,
            mask_up,
            begun: self.clock,
            up_done: self.request.ends,
            kind: self.request.kind,
            to_head: self.request.method == b"HEAD",
            up_left: pseudo.length,
            ..Stream::default()
        };
        if self.queue.is_empty() && self.streams.len() < self.upstream_streams as usize {
            frame::write_block(edit.insert_with(), self.request.key, self.request.ends, &block);
            self.last_forwarded = self.request.key;
            self.streams.insert(self.request.key, stream);
        } else {
            let mut head = Vec::with_capacity(block.len() + HEAD);
            frame::write_block(&mut head, self.request.key, self.request.ends, &block);
            self.queue.push(self.request.key, stream, head);
        }
        block.clear();
        self.client.block = block;
    }

    fn mask(&mut self, masking: Masking) {
        self.masking = masking;
    }

    fn mask_report(&mut self) -> Option<MaskReport> {
        self.mask_reports.pop_front()
    }

    fn mask_due(&mut self) -> Option<(u64, u64)> {
        self.next_mask_due().map(|due| (due, self.clock))
    }

    fn expire_masks(&mut self) -> Result<(), Fault> {
        self.expire_all_masks();
        Ok(())
    }

    // Bodies end with their streams.
    fn finish_masks(&mut self, _: Direction) {}

    fn refuse(&mut self, refusal: &Refusal) {
        let Some(pseudo) = self.withheld.take() else { return };
        let Request { key, kind, ends, .. } = self.request;
        let to_head = self.request.method == b"HEAD";
        let discards = !ends && self.discarded.begin(key, pseudo.length);
        if !ends && !discards {
            self.ids.reset(key);
        }
        self.write_refusal(key, refusal, kind, to_head, ends || discards, 0);
        if refusal.why == RefusalReason::Overloaded {
            // No other request of this connection would fare better. Behind the answer: some clients read none after it.
            self.go_away(key);
        }
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        self.read_down(edit)
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn wants_up(&self) -> bool {
        let says = !self.to_upstream.is_empty() || !self.released_up.is_empty();
        !self.dead && self.client.at_boundary() && says
    }

    fn wants_down(&self) -> bool {
        let unacknowledged = self.unacknowledged > 0 && self.last_forwarded == 0 && self.withheld.is_none();
        self.upstream.at_boundary() && (unacknowledged || !self.to_client.is_empty() || self.has_released())
    }

    fn holds_down(&self) -> bool {
        !self.dead && !self.held_down.is_empty()
    }

    fn up_ended(&mut self) -> Result<(), Fault> {
        self.ended(Culprit::Client, Ended::ByClient)
    }

    fn upstream_lost(&mut self, why: RefusalReason) -> bool {
        // First what waits, so that nothing is released.
        for id in self.queue.ids() {
            if let Some((stream, kept)) = self.queue.remove(id) {
                self.return_client_window(kept, true);
                self.streams.insert(id, stream);
            }
        }
        let all: Vec<u32> = self.streams.keys().copied().collect();
        for id in all {
            self.cut |= self.streams.get(&id).is_some_and(|stream| stream.answered);
            self.refuse_answer(id, why);
        }
        if !self.dead {
            self.go_away(self.last_permitted());
        }
        self.upstream.at_boundary() && !self.cut
    }

    fn give_up(&mut self, key: Key, why: RefusalReason) -> bool {
        self.refuse_answer(key, why);
        true
    }

    fn awaits_answer(&self, key: Key) -> bool {
        self.streams.get(&key).is_some_and(|stream| stream.up_done && !stream.answered)
    }

    fn is_in_head(&self) -> bool {
        let part = |head: &Head| matches!(head.kind, frame::HEADERS | frame::CONTINUATION);
        self.client.held > 0
            || self.client.block_head.is_some()
            || matches!(&self.client.reading, Reading::Gather(head) if part(head))
    }

    fn end_all(&mut self, how: Ended) {
        self.end_streams(how);
    }

    fn set_time(&mut self, now: HttpDate) {
        self.now = now;
    }

    fn down_ended(&mut self) -> Result<(), Fault> {
        self.ended(Culprit::Upstream, Ended::ByUpstream)
    }

    fn drain(&mut self) {
        // A request that waits for its verdict may still be permitted; the client must not send it again.
        self.go_away(if self.withheld.is_some() { self.request.key } else { self.last_permitted() });
    }

    fn cut(&mut self, key: Key) -> bool {
        if self.streams.contains_key(&key) {
            frame::write_reset(&mut self.to_client, key, CANCEL);
            frame::write_reset(&mut self.to_upstream, key, CANCEL);
            self.end(key, Ended::ByGateway);
        } else if self.end_waiting(key, Ended::ByGateway) {
            frame::write_reset(&mut self.to_client, key, CANCEL);
        }
        true
    }

    fn is_cut(&self) -> bool {
        // Its stream is reset.
        false
    }

    fn in_flight(&self) -> usize {
        // A frame that has begun is finished before anything is closed.
        self.streams.len() + self.queue.len() + usize::from(!self.upstream.at_boundary())
    }

    fn is_over(&self) -> bool {
        let is_idle = self.in_flight() == 0 && self.withheld.is_none() && self.own_data.is_empty();
        self.dead || (self.draining && is_idle)
    }

    fn is_tunnel(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
