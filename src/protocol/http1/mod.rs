//! HTTP/1.1 as it passes: heads are parsed and requests rewritten, bodies are followed and never touched.
//!
//! Promises: no byte of a request goes up before it is permitted; a head that breaks a rule sends nothing up; answers
//! of the gateway come out in the order of the requests, at message boundaries only; a tunnel opens after a 101 to an
//! `Upgrade` and not before (CVE-2026-2833).
//!
//! ```text
//!   client:   Head -> Withheld -> Body -> Head        service:   Head -> Body -> Head
//!                         |-> Agreeing -> Tunnel                 Head -(101)-> Tunnel
//!                         |-> Closed (refused, last)             over: what still comes is dropped
//! ```
//!
//! An answer that is missing or breaks a rule is a 502 while nothing of it went down, and a cut after. A request that breaks off
//! in its body is a 400 on the same terms. Answers say HTTP/1.1 whatever the service says (RFC 9112 section 2.3).
//!
//! Limits: a refused request with a body ends the connection, since draining an unbounded body is work for nothing
//! (CVE-2025-4366). A fault in a head queues its answer behind the responses under way; a caller that wants these
//! delivered keeps calling [`Http::down`] until [`Http::is_over`]. Such an answer has no request id and no events.
//! HTTP/1.0 requests go up as HTTP/1.0 with `Connection: close`.

mod answer;
mod body;
pub mod connect;
mod down;
mod exchange;
mod head;
mod head_end;
mod limits;
mod masks;
#[cfg(test)]
mod tests;
mod up;

use std::collections::VecDeque;

use self::body::Body;
use self::exchange::{ClientReading, Exchange, Life, Reply, TunnelMasks, UpstreamReading};
use self::head::CheckedLines;
use self::head_end::Broken;
pub use self::limits::Limits;
use super::HttpDate;
use super::bucket::Bucket;
use super::{Edit, Ended, Event, Fault, Fields, Http, Key, Refusal, RefusalReason, Request, Rewrite, Up};
use crate::names::{Culprit, Direction, RequestId, SessionId};
use crate::protocol::masked::{self, MaskReport, Masking, format_of};

/// One client connection's HTTP/1.1.
pub struct Http1 {
    limits: Limits,
    session: SessionId,
    now: HttpDate,
    /// Bytes of interim answers that may still come.
    interim: Bucket,
    client: ClientReading,
    upstream: UpstreamReading,
    exchanges: VecDeque<Exchange>,
    events: VecDeque<Event>,
    request: Request,
    keys: Key,
    life: Life,
    /// An answer was cut in its middle.
    cut: bool,
    /// The client has said its end.
    client_left: bool,
    /// The upstream has said its end of a tunnel.
    upstream_left: bool,
    /// A head that came in pieces, or is held back to be changed.
    up_held: Vec<u8>,
    /// Bytes at the front of it whose lines may stand in a head.
    up_checked: CheckedLines,
    down_held: Vec<u8>,
    up_trailer: Vec<u8>,
    down_trailer: Vec<u8>,
    /// Names that no trailer of the present request may carry: what its head had taken out and put in.
    guarded: Fields,
    response: Fields,
    /// The rules for the withheld request, if it is permitted.
    masking: Masking,
    /// Where masks overwrite is wanted.
    keeps_spans: bool,
    mask_reports: VecDeque<MaskReport>,
    /// Masks of a tunnel's bytes.
    tunnel: TunnelMasks,
    /// What masks let go of by the clock, or at the end: goes before whatever follows.
    released_up: Vec<u8>,
    released_down: Vec<u8>,
    /// Milliseconds since the start, as [`Http1::tick`] tells.
    clock: u64,
    /// Always empty: trailers of responses are held to the fixed names only.
    unguarded: Fields,
}

impl Http1 {
    /// A fresh connection.
    pub fn new(limits: Limits) -> Self {
        Http1 {
            limits,
            session: SessionId(0),
            now: HttpDate::default(),
            interim: Bucket::new(INTERIM_BYTES, INTERIM_BYTES_PER_SECOND),
            client: ClientReading::START,
            upstream: UpstreamReading::START,
            exchanges: VecDeque::new(),
            events: VecDeque::new(),
            request: Request::default(),
            keys: 0,
            life: Life::Serving,
            cut: false,
            client_left: false,
            upstream_left: false,
            up_held: Vec::new(),
            up_checked: CheckedLines::default(),
            down_held: Vec::new(),
            up_trailer: Vec::new(),
            down_trailer: Vec::new(),
            guarded: Fields::default(),
            response: Fields::default(),
            masking: Masking::default(),
            keeps_spans: false,
            mask_reports: VecDeque::new(),
            tunnel: TunnelMasks::default(),
            released_up: Vec::new(),
            released_down: Vec::new(),
            clock: 0,
            unguarded: Fields::default(),
        }
    }

    /// Names the session, for the ids of answers that the gateway gives in the upstream's place.
    pub fn of_session(mut self, session: SessionId) -> Self {
        self.session = session;
        self
    }

    /// Tells how much time has passed; budgets recover by it.
    pub fn tick(&mut self, milliseconds: u64) {
        self.interim.tick(milliseconds);
        self.clock += milliseconds;
    }

    /// An answer of the gateway's takes the place of the exchange's own, which has not begun. It is the last.
    fn answer_instead(session: SessionId, exchange: &mut Exchange, why: RefusalReason, how: Ended) {
        let id = Some(RequestId { session, number: exchange.key });
        exchange.reply = Reply::Refused { why, id, how };
        (exchange.sent, exchange.close) = (true, true);
    }

    /// The upstream will not answer any more: the request that is next gets an answer of the gateway's. True: it had one coming
    /// that has not begun. What was sent behind it is over.
    fn answer_for_upstream(&mut self, why: RefusalReason) -> bool {
        let waits = matches!(&self.upstream, UpstreamReading::Head { .. });
        let session = self.session;
        let Some(front) = self.exchanges.front_mut().filter(|e| waits && !e.answered) else { return false };
        if !matches!(front.reply, Reply::FromUpstream) {
            return false;
        }
        Self::answer_instead(session, front, why, Ended::ByUpstream);
        for exchange in self.exchanges.split_off(1) {
            if let Reply::FromUpstream = exchange.reply {
                self.events.push_back(exchange.ended(Ended::ByUpstream));
            }
        }
        self.upstream = UpstreamReading::START;
        self.down_held.clear();
        self.client = ClientReading::Closed;
        true
    }

    /// Ends the connection and everything under way.
    fn abandon(&mut self, how: Ended) {
        // A tunnel whose upstream has said its last is left as clients leave it.
        let how = if self.upstream_left && how == Ended::ByClient { Ended::Whole } else { how };
        self.report_tunnel();
        self.report_down();
        self.report_up();
        self.life = Life::Over;
        if !matches!(self.client, ClientReading::Tunnel) {
            self.client = ClientReading::Closed;
        }
        for exchange in std::mem::take(&mut self.exchanges) {
            if let Reply::FromUpstream = exchange.reply {
                self.cut |= !exchange.answered;
                self.events.push_back(exchange.ended(how));
            }
        }
    }

    fn answer_is_next(&self) -> bool {
        let boundary = matches!(&self.upstream, UpstreamReading::Head { end, .. } if end.is_start());
        boundary && matches!(self.exchanges.front(), Some(Exchange { reply: Reply::Refused { .. }, .. }))
    }

    /// True when no request follows the `left` exchanges that are still listed.
    fn is_last(&self, left: usize) -> bool {
        self.exchanges.len() == left && !matches!(self.client, ClientReading::Withheld(_))
    }

    /// Takes the front exchange off once both of its messages are complete, or its response ends the connection.
    fn settle(&mut self) {
        let Some(front) = self.exchanges.front() else { return };
        let (sent, close) = (front.sent, front.close);
        if !front.answered || !(sent || close) {
            return;
        }
        if let Some(front) = self.exchanges.pop_front() {
            self.events.push_back(front.ended(if sent { Ended::Whole } else { Ended::ByUpstream }));
        }
        if close {
            self.abandon(Ended::ByUpstream);
        }
    }
}

impl Http for Http1 {
    fn up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault> {
        self.read_up(edit)
    }

    fn request(&self) -> &Request {
        &self.request
    }

    fn write_view(&self, out: &mut Vec<u8>, hides: &dyn Fn(&[u8]) -> bool) {
        if let ClientReading::Withheld(asked) = &self.client {
            head::write_view(out, &self.request, asked, hides);
        }
    }

    fn permit(&mut self, edit: &mut Edit<'_>, rewrite: &Rewrite<'_>) {
        let ClientReading::Withheld(asked) = &mut self.client else { return };
        head::write_request(edit.insert_with(), &self.request, asked, rewrite);
        self.guarded.clear();
        if matches!(asked.body, Body::Chunked(_)) {
            let set = rewrite.set.iter().map(|(name, _)| *name);
            rewrite.strip.iter().copied().chain(set).for_each(|name| self.guarded.push(name.as_bytes(), b""));
        }
        let body = std::mem::replace(&mut asked.body, Body::Done);
        let mut exchange = Exchange::new(self.request.key, &self.request, asked.close);
        let Masking { up, down, keep_spans } = std::mem::take(&mut self.masking);
        self.keeps_spans = keep_spans;
        exchange.mask_down = down;
        exchange.mask_up = up.clone().filter(|_| exchange.upgrade);
        self.exchanges.push_back(exchange);
        match body {
            Body::Done => self.sent(),
            body => {
                // The session has refused those that cannot be masked.
                let format =
                    up.and_then(|rules| Some((format_of(&self.request.fields, &rules).ok()??, rules)));
                self.client = match format {
                    Some((format, rules)) => {
                        ClientReading::Masked(body, Box::new(masked::stream(keep_spans, rules, format)))
                    }
                    None => ClientReading::Body(body),
                };
            }
        }
    }

    fn mask(&mut self, masking: Masking) {
        self.masking = masking;
    }

    fn mask_report(&mut self) -> Option<MaskReport> {
        self.mask_reports.pop_front()
    }

    fn mask_due(&mut self) -> Option<(u64, u64)> {
        let clock = self.clock;
        let up =
            if let ClientReading::Masked(_, stream) = &mut self.client { stream.due(clock) } else { None };
        let down = if let UpstreamReading::Masked(_, stream) = &mut self.upstream {
            stream.due(clock)
        } else {
            None
        };
        let tunnel = self.tunnel.up.iter_mut().chain(&mut self.tunnel.down);
        let tunnel = tunnel.filter_map(|stream| stream.due(clock));
        up.into_iter().chain(down).chain(tunnel).min().map(|due| (due, clock))
    }

    fn expire_masks(&mut self) -> Result<(), Fault> {
        self.expire_all_masks()
    }

    fn finish_masks(&mut self, direction: Direction) {
        let (stream, released) = match direction {
            Direction::Up => (&mut self.tunnel.up, &mut self.released_up),
            Direction::Down => (&mut self.tunnel.down, &mut self.released_down),
        };
        if let Some(stream) = stream {
            let held = stream.finish();
            stream.release(held, |bytes| released.extend_from_slice(bytes));
        }
        if direction == Direction::Up {
            return;
        }
        if let UpstreamReading::Masked(Body::UntilClose, stream) = &mut self.upstream {
            let held = stream.finish();
            stream.release(held, |bytes| self.released_down.extend_from_slice(bytes));
            self.report_down();
            self.upstream = UpstreamReading::Body(Body::UntilClose);
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let ClientReading::Withheld(asked) = &self.client else { return };
        let last = matches!(
            refusal.why,
            RefusalReason::Draining
                | RefusalReason::Overloaded
                | RefusalReason::BadRequest
                | RefusalReason::HeadTooLarge
        );
        let close = last || asked.close || asked.expects || !self.request.ends;
        let mut exchange = Exchange::new(self.request.key, &self.request, close);
        exchange.reply = Reply::Refused { why: refusal.why, id: Some(refusal.id), how: Ended::ByGateway };
        self.exchanges.push_back(exchange);
        self.client = if close { ClientReading::Closed } else { ClientReading::START };
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        self.read_down(edit)
    }

    fn upstream_lost(&mut self, why: RefusalReason) -> bool {
        let owed = |e: &Exchange| matches!(e.reply, Reply::FromUpstream) && !e.answered;
        !self.cut && (!self.exchanges.iter().any(owed) || self.answer_for_upstream(why))
    }

    fn give_up(&mut self, _key: Key, why: RefusalReason) -> bool {
        self.upstream_lost(why);
        false
    }

    fn awaits_answer(&self, key: Key) -> bool {
        let waits = matches!(self.upstream, UpstreamReading::Head { .. });
        waits && self.exchanges.front().is_some_and(|e| e.key == key && e.sent && !e.answered)
    }

    fn is_in_head(&self) -> bool {
        matches!(&self.client, ClientReading::Head { end, blank } if *blank || !end.is_start())
    }

    fn end_all(&mut self, how: Ended) {
        self.abandon(how);
    }

    fn set_time(&mut self, now: HttpDate) {
        self.now = now;
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn wants_up(&self) -> bool {
        !self.released_up.is_empty()
    }

    fn wants_down(&self) -> bool {
        self.answer_is_next() || !self.released_down.is_empty()
    }

    fn holds_down(&self) -> bool {
        false
    }

    fn up_ended(&mut self) -> Result<(), Fault> {
        self.client_left = true;
        let whole = match &self.client {
            ClientReading::Head { end, .. } => end.is_start(),
            ClientReading::Withheld(asked) => asked.body == Body::Done,
            ClientReading::Body(_) | ClientReading::Masked(..) => false,
            ClientReading::Agreeing | ClientReading::Tunnel | ClientReading::Closed => true,
        };
        if !whole {
            self.abandon(Ended::ByClient);
            let rule = "the client left in the middle of a request";
            return Err(Fault { culprit: Culprit::Client, rule, section: "RFC 9112 8" });
        }
        match &mut self.client {
            ClientReading::Withheld(asked) => asked.close = true,
            ClientReading::Head { .. } => {
                self.client = ClientReading::Closed;
                if self.exchanges.is_empty() {
                    self.life = Life::Over;
                }
            }
            ClientReading::Tunnel => self.finish_tunnel(),
            _ => {}
        }
        Ok(())
    }

    fn down_ended(&mut self) -> Result<(), Fault> {
        let pending = self.exchanges.iter().any(|e| matches!(e.reply, Reply::FromUpstream) && !e.answered);
        match &self.upstream {
            UpstreamReading::Body(Body::UntilClose) => self.answered(),
            UpstreamReading::Tunnel => {
                self.upstream_left = true;
                self.finish_tunnel();
            }
            UpstreamReading::Head { .. } if !pending => {
                // Answers of the gateway can still go down; nothing else can.
                self.client = ClientReading::Closed;
                match self.exchanges.back_mut() {
                    Some(back) if matches!(back.reply, Reply::Refused { .. }) => back.close = true,
                    _ => self.abandon(Ended::ByUpstream),
                }
            }
            UpstreamReading::Body(_) | UpstreamReading::Masked(..) if self.client_left => {
                // The upstream was told that the client is gone, and stopped for that.
                self.abandon(Ended::ByClient);
                let rule = "the client left before its response was complete";
                return Err(Fault { culprit: Culprit::Client, rule, section: "RFC 9112 8" });
            }
            _ => {
                let rule = "the upstream left before its response was complete";
                return Err(self.upstream_fault(Broken::bad(rule, "RFC 9112 8")));
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        if self.life == Life::Serving {
            self.life = Life::Draining;
        }
    }

    fn cut(&mut self, _key: Key) -> bool {
        false
    }

    fn is_cut(&self) -> bool {
        self.cut
    }

    fn in_flight(&self) -> usize {
        self.exchanges.iter().filter(|e| matches!(e.reply, Reply::FromUpstream)).count()
    }

    fn is_over(&self) -> bool {
        let last_words = self.answer_is_next() && self.exchanges.front().is_some_and(|e| e.close);
        let idle = self.is_last(0) && !self.is_tunnel();
        let taking = self.life == Life::Serving && !matches!(self.client, ClientReading::Closed);
        self.life == Life::Over || last_words || idle && !taking
    }

    fn is_tunnel(&self) -> bool {
        matches!(self.upstream, UpstreamReading::Tunnel)
    }
}

/// Bytes of interim answers that may come at once: hundreds of progress reports (102, 103, 104). Without a limit an upstream could keep
/// an exchange open for ever.
const INTERIM_BYTES: u64 = 64 * 1024;
/// Bytes of interim answers each second after that: a report in each, of any size in use.
const INTERIM_BYTES_PER_SECOND: u64 = 4 * 1024;
