//! From the client: request heads are withheld until they are permitted, bodies are followed.

use super::body::Body;
use super::head::{self, CheckedLines};
use super::head_end::{Broken, HeadEnd};
use super::{ClientReading, Exchange, Http1, Life, Reply, UpstreamReading};
use crate::mask::Kind::Payload;
use crate::names::{Culprit, Direction};
use crate::protocol::masked::{self, UNMASKABLE};
use crate::protocol::{Edit, Ended, Event, Fault, RefusalReason, Request, Up};

impl Http1 {
    pub(super) fn read_up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault> {
        if !self.released_up.is_empty() {
            edit.put_back(&self.released_up);
            self.released_up.clear();
        }
        loop {
            match &mut self.client {
                ClientReading::Withheld(_) => return Ok(Up::Request),
                ClientReading::Closed => edit.skip(edit.rest().len()),
                ClientReading::Head { .. } if self.life != Life::Serving => edit.skip(edit.rest().len()),
                _ => {}
            }
            if edit.is_done() {
                return Ok(Up::Done);
            }
            match &mut self.client {
                ClientReading::Head { .. } if self.exchanges.len() >= self.limits.pipelined => {
                    return Ok(Up::Wait);
                }
                ClientReading::Head { .. } => {
                    if let Err(broken) = self.up_head(edit) {
                        return Err(self.client_fault(broken));
                    }
                }
                ClientReading::Body(body) => {
                    let mut n = 0;
                    let passed = body.pass(edit, &self.limits, &mut self.up_trailer, &self.guarded, &mut n);
                    let done = *body == Body::Done;
                    if let Some(back) = self.exchanges.back_mut() {
                        back.up += n;
                    }
                    passed.map_err(|broken| self.client_fault(broken))?;
                    if done {
                        self.sent();
                    }
                }
                ClientReading::Masked(body, stream) => {
                    let (trailer, mut n) = (&mut self.up_trailer, 0);
                    let passed = body.pass_masked(stream, edit, &self.limits, trailer, &self.guarded, &mut n);
                    let done = *body == Body::Done;
                    if stream.hold_changed() {
                        self.events.push_back(Event::Held);
                    }
                    if let Some(back) = self.exchanges.back_mut() {
                        back.up += n;
                    }
                    passed.map_err(|broken| self.client_fault(broken))?;
                    if done {
                        self.report_up();
                        self.sent();
                    } else if self.keeps_spans {
                        self.report_spans();
                    }
                }
                ClientReading::Agreeing => return Ok(Up::Wait),
                ClientReading::Tunnel => {
                    let n = edit.rest().len();
                    match &mut self.tunnel.up {
                        None => edit.keep(n),
                        Some(stream) => {
                            let passed = masked::pass(stream, edit, n, Payload);
                            if stream.hold_changed() {
                                self.events.push_back(Event::Held);
                            }
                            passed.map_err(|rule| self.tunnel_fault(rule))?;
                            if self.keeps_spans {
                                self.report_spans();
                            }
                        }
                    }
                    if let Some(front) = self.exchanges.front_mut() {
                        front.up += n as u64;
                    }
                }
                ClientReading::Withheld(_) | ClientReading::Closed => {}
            }
        }
    }

    /// Reads on in a request head; `Ok(true)` once it is whole.
    fn up_head(&mut self, edit: &mut Edit<'_>) -> Result<bool, Broken> {
        let ClientReading::Head { end, blank } = &mut self.client else { return Ok(false) };
        let rest = edit.rest();
        if end.is_start() {
            self.up_checked = CheckedLines::default();
        }
        let found = end.find(rest, self.limits.head_bytes);
        if found.is_err_and(|fault| fault.is_large()) {
            // A line that no head can hold counts before what is too large behind it, however the bytes were cut.
            let room = self.limits.head_bytes.saturating_sub(self.up_held.len());
            self.up_held.extend_from_slice(&rest[..rest.len().min(room)]);
            self.up_checked.check(&self.up_held)?;
        }
        let Some(n) = found? else {
            self.up_held.extend_from_slice(rest);
            edit.skip(rest.len());
            self.up_checked.check(&self.up_held)?;
            return Ok(false);
        };
        let head = if self.up_held.is_empty() {
            &rest[..n]
        } else {
            self.up_held.extend_from_slice(&rest[..n]);
            &self.up_held[..]
        };
        if head == b"\r\n" {
            if *blank {
                return Err(Broken::bad("more than one empty line before a request", "RFC 9112 2.2"));
            }
            self.client = ClientReading::Head { end: HeadEnd::default(), blank: true };
            self.up_held.clear();
            edit.skip(n);
            return Ok(false);
        }
        let asked = head::parse_request(head, &self.limits, &mut self.request)?;
        self.up_held.clear();
        edit.skip(n);
        self.keys += 1;
        self.request.key = self.keys;
        self.client = ClientReading::Withheld(asked);
        Ok(true)
    }

    /// The request in the back is complete.
    pub(super) fn sent(&mut self) {
        let Some(back) = self.exchanges.back_mut() else { return };
        back.sent = true;
        self.client = match (back.upgrade, back.close) {
            (true, _) => ClientReading::Agreeing,
            (_, true) => ClientReading::Closed,
            _ => ClientReading::START,
        };
        self.settle();
    }

    /// What goes up through a tunnel cannot be masked: it ends.
    pub(super) fn tunnel_fault(&mut self, rule: &'static str) -> Fault {
        self.report_fault(Direction::Up, rule);
        self.abandon(Ended::ByGateway);
        Fault { culprit: Culprit::Gateway, rule, section: UNMASKABLE }
    }

    /// The client broke a rule. It is answered behind what it is owed; in a body whose answer has begun, the connection is cut.
    pub(super) fn client_fault(&mut self, broken: Broken) -> Fault {
        let Broken { why, rule, section } = broken;
        if section == UNMASKABLE {
            self.report_fault(Direction::Up, rule);
        }
        let first = self.exchanges.len() == 1;
        let begun = first && !matches!(self.upstream, UpstreamReading::Head { .. });
        let why = if section == UNMASKABLE { RefusalReason::Unmaskable } else { why };
        if let ClientReading::Body(_) | ClientReading::Masked(..) = self.client {
            let session = self.session;
            match self.exchanges.back_mut() {
                Some(back) if !begun && !back.answered => {
                    Self::answer_instead(session, back, why, Ended::ByClient);
                    // What of an interim answer or a head is held belongs to an answer that does not count any more.
                    if first {
                        self.upstream = UpstreamReading::START;
                        self.down_held.clear();
                    }
                }
                _ => self.abandon(Ended::ByClient),
            }
        } else {
            let mut exchange = Exchange::new(0, &Request::default(), true);
            exchange.reply = Reply::Refused { why, id: None, how: Ended::ByClient };
            self.exchanges.push_back(exchange);
        }
        self.client = ClientReading::Closed;
        Fault { culprit: Culprit::Client, rule, section }
    }
}
