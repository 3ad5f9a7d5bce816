//! From the service: responses are followed where they lie, and the gateway's own answers put in between them.

use super::answer::{self, Challenge};
use super::body::{Body, unmaskable};
use super::head;
use super::head_end::Broken;
use super::{ClientReading, Http1, Life, Reply, UpstreamReading};
use crate::mask::Kind::Payload;
use crate::mask::Rules;
use crate::names::{Culprit, Direction};
use crate::protocol::masked::{self, UNMASKABLE, check_upgrade, format_of};
use crate::protocol::{Edit, Ended, Event, Fault, RefusalReason};
use std::sync::Arc;

/// Start of each status line.
const STATUS_LINE: &[u8] = b"HTTP/1.";

impl Http1 {
    pub(super) fn read_down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        if !self.released_down.is_empty() {
            edit.insert(&self.released_down);
            self.released_down.clear();
        }
        loop {
            self.answer(edit);
            if self.life == Life::Over {
                edit.skip(edit.rest().len());
            }
            // A body of no length is over without a further byte.
            if let UpstreamReading::Body(Body::Done) = self.upstream {
                self.answered();
                continue;
            }
            if edit.is_done() {
                return Ok(());
            }
            match &mut self.upstream {
                UpstreamReading::Head { .. } => {
                    if let Err(broken) = self.down_head(edit) {
                        return Err(self.upstream_fault(broken));
                    }
                }
                UpstreamReading::Body(body) => {
                    let (trailer, mut n) = (&mut self.down_trailer, 0);
                    let passed = body.pass(edit, &self.limits, trailer, &self.unguarded, &mut n);
                    if let Some(front) = self.exchanges.front_mut() {
                        front.down += n;
                    }
                    passed.map_err(|broken| self.upstream_fault(broken))?;
                }
                UpstreamReading::Masked(body, stream) => {
                    let (trailer, mut n) = (&mut self.down_trailer, 0);
                    let passed =
                        body.pass_masked(stream, edit, &self.limits, trailer, &self.unguarded, &mut n);
                    let done = *body == Body::Done;
                    if stream.hold_changed() {
                        self.events.push_back(Event::Held);
                    }
                    if let Some(front) = self.exchanges.front_mut() {
                        front.down += n;
                    }
                    passed.map_err(|broken| self.upstream_fault(broken))?;
                    if done {
                        self.report_down();
                        self.answered();
                    } else if self.keeps_spans {
                        self.report_spans();
                    }
                }
                UpstreamReading::Tunnel => {
                    let n = edit.rest().len();
                    match &mut self.tunnel.down {
                        None => edit.keep(n),
                        Some(stream) => {
                            let passed = masked::pass(stream, edit, n, Payload);
                            if stream.hold_changed() {
                                self.events.push_back(Event::Held);
                            }
                            passed.map_err(|rule| self.upstream_fault(unmaskable(rule)))?;
                            if self.keeps_spans {
                                self.report_spans();
                            }
                        }
                    }
                    if let Some(front) = self.exchanges.front_mut() {
                        front.down += n as u64;
                    }
                }
            }
        }
    }

    /// Puts in the answers that are next in order.
    fn answer(&mut self, edit: &mut Edit<'_>) {
        while self.answer_is_next() {
            let Some(exchange) = self.exchanges.pop_front() else { return };
            let Reply::Refused { why, id, how } = exchange.reply else { return };
            let close = exchange.close || self.life == Life::Draining && self.is_last(0);
            answer::write(edit.insert_with(), why, id, close, exchange.to_head, Challenge::Origin, self.now);
            if id.is_some() {
                self.events.push_back(Event::Response { key: exchange.key, status: why.status() });
                self.events.push_back(exchange.ended(how));
            }
            if close {
                self.abandon(Ended::ByGateway);
            }
        }
    }

    fn down_head(&mut self, edit: &mut Edit<'_>) -> Result<(), Broken> {
        let draining = self.life == Life::Draining;
        let last = self.is_last(1);
        let UpstreamReading::Head { end } = &mut self.upstream else { return Ok(()) };
        let exchange = match self.exchanges.front_mut() {
            Some(exchange) if !exchange.answered => exchange,
            _ => return Err(Broken::bad("response without a request", "RFC 9112 9.2")),
        };
        let rest = edit.rest();
        let found = end.find(rest, self.limits.response_head_bytes)?;
        let n = found.unwrap_or(rest.len());
        let whole = self.down_held.is_empty() && found.is_some();
        if !whole {
            // None of it goes down before all of it is known to be good.
            self.down_held.extend_from_slice(&rest[..n]);
        }
        if found.is_none() {
            edit.skip(n);
            let begun = self.down_held.len().min(STATUS_LINE.len());
            return match self.down_held[..begun] == STATUS_LINE[..begun] {
                true => Ok(()),
                // A server of another protocol may never send an empty line.
                false => Err(Broken::bad("no status line", "RFC 9112 4")),
            };
        }
        let head = if whole { &rest[..n] } else { &self.down_held[..] };
        let answered = head::parse_response(head, exchange.to_head, &mut self.response)?;
        let status = answered.status;
        if status == 101 && !(exchange.upgrade && exchange.sent) {
            return Err(Broken::bad("101 without an Upgrade, or before all of the request", "CVE-2026-2833"));
        }
        let is_interim = status < 200 && status != 101;
        if is_interim && !self.interim.spend(n as u64) {
            return Err(Broken::bad("too many interim responses", "limit"));
        }
        // What we close, the client is told of: at the end of a drain, and after an HTTP/1.0 answer, which goes down as 1.1.
        let closing = !is_interim && status != 101 && (draining && last || answered.old && answered.close);
        let frames = match exchange.mask_down.as_ref().or(exchange.mask_up.as_ref()) {
            Some(rules) if status == 101 => check_upgrade(&self.response, rules).map_err(unmaskable)?,
            _ => None,
        };
        let format = match &exchange.mask_down {
            Some(rules) if !is_interim && status != 101 && answered.body != Body::Done => {
                let format = format_of(&self.response, rules).map_err(unmaskable)?;
                format.map(|format| (format, rules.clone()))
            }
            _ => None,
        };
        if whole && !closing && !answered.old {
            edit.keep(n);
        } else {
            let mut copy = std::mem::take(&mut self.down_held);
            if whole {
                copy.extend_from_slice(&rest[..n]);
            }
            edit.skip(n);
            copy[..head::VERSION.len()].copy_from_slice(head::VERSION);
            match closing {
                true => head::write_closing(edit.insert_with(), &copy, &self.response),
                false => edit.insert(&copy),
            }
            self.down_held = copy;
        }
        self.down_held.clear();
        self.upstream = UpstreamReading::START;
        if is_interim {
            return Ok(());
        }
        self.events.push_back(Event::Response { key: exchange.key, status });
        if status == 101 {
            let keeps = self.keeps_spans;
            let tunnel = |rules: Arc<Rules>, format| Box::new(masked::stream(keeps, rules, format));
            if let (Some(rules), Some(format)) = (exchange.mask_down.take(), frames) {
                self.tunnel.down = Some(tunnel(rules, format));
            }
            if let (Some(rules), Some(format)) = (exchange.mask_up.take(), frames) {
                self.tunnel.up = Some(tunnel(rules, format));
            }
            self.client = ClientReading::Tunnel;
            self.upstream = UpstreamReading::Tunnel;
            return Ok(());
        }
        exchange.close |= answered.close || closing;
        if let ClientReading::Agreeing = self.client {
            self.client = ClientReading::START;
        }
        self.upstream = match format {
            Some((format, rules)) => UpstreamReading::Masked(
                answered.body,
                Box::new(masked::stream(self.keeps_spans, rules, format)),
            ),
            None => UpstreamReading::Body(answered.body),
        };
        Ok(())
    }

    /// The response in front is complete.
    pub(super) fn answered(&mut self) {
        self.upstream = UpstreamReading::START;
        self.down_trailer.clear();
        if let Some(front) = self.exchanges.front_mut() {
            front.answered = true;
        }
        self.settle();
    }

    /// Closes the account of a tunnel once both sides have said their end: until then the permit counts, masks look at what
    /// goes by, and bytes are counted.
    pub(super) fn finish_tunnel(&mut self) {
        if !(self.client_left && self.upstream_left) {
            return;
        }
        self.report_tunnel();
        if let Some(front) = self.exchanges.pop_front() {
            self.events.push_back(front.ended(Ended::Whole));
        }
    }

    pub(super) fn upstream_fault(&mut self, broken: Broken) -> Fault {
        if broken.section == UNMASKABLE {
            self.report_fault(Direction::Down, broken.rule);
        }
        let (why, how, culprit) = match broken.section {
            UNMASKABLE => (RefusalReason::UnmaskableAnswer, Ended::ByGateway, Culprit::Gateway),
            _ => (RefusalReason::BadAnswer, Ended::ByUpstream, Culprit::Upstream),
        };
        if !self.answer_for_upstream(why) {
            self.abandon(how);
        }
        Fault { culprit, rule: broken.rule, section: broken.section }
    }
}
