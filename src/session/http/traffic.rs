//! HTTP traffic in the relay: requests are authorised on the way up, responses parsed on the way down.

use super::{Decision, Exchange, HttpTraffic};
use crate::close::{Close, Stage};
use crate::names::{Culprit, Direction, Side};
use crate::policy::OnExpiry;
use crate::protocol::{Edit, Fault, Key, RefusalReason, Up};
use crate::relay::Traffic;
use crate::session::authorise::permit_again;
use crate::session::expiry::Expiry;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

impl HttpTraffic {
    /// True while responses are in flight that must be delivered before a fault in a later request ends the session.
    fn owes_answers(&self) -> bool {
        let http = self.http.http_ref();
        http.in_flight() > 0 && !http.is_over()
    }

    /// A head that has begun may take as long as a whole connection may up to its first permit.
    fn note_head(&mut self) {
        match (self.http.http_ref().is_in_head(), self.head_due) {
            (false, None) | (true, Some(_)) => return,
            (false, Some(_)) => self.head_due = None,
            (true, None) => self.head_due = Some(Instant::now() + self.head_limit()),
        }
        self.update_next_deadline();
    }

    /// Updates the earlier of the head's and the hold's deadline.
    pub(super) fn update_next_deadline(&mut self) {
        self.soonest = self.head_due.into_iter().chain(self.mask_due).min();
    }

    fn head_limit(&self) -> Duration {
        self.session.gateway.limits.permit_deadline
    }

    fn check_head_timeout(&mut self, now: Instant) -> Result<(), Close> {
        if self.head_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        let http = self.http.http();
        if http.in_flight() == 0 {
            http.drain();
            return Err(Close::Deadline(Stage::Identify));
        }
        // What is under way is not ended for what stands behind it.
        self.head_due = Some(now + self.head_limit());
        self.update_next_deadline();
        Ok(())
    }

    /// Answers 504 where the upstream has not begun to respond in time.
    fn check_response_timeouts(&mut self, now: Instant) -> Result<(), Close> {
        let Some(response) = self.route.timeouts.response else { return Ok(()) };
        let due = |exchange: &&mut Exchange| exchange.answer_due.is_some_and(|due| due <= now);
        let http = self.http.http();
        http.set_time(super::http_date());
        for exchange in self.exchanges.iter_mut().filter(|exchange| due(exchange)) {
            // Its body may still be on its way.
            exchange.answer_due = Some(now + response);
            if http.awaits_answer(exchange.key) && !http.give_up(exchange.key, RefusalReason::UpstreamTimeout)
            {
                let rule = "no answer in time";
                self.fault.get_or_insert(Fault {
                    culprit: Culprit::Upstream,
                    rule,
                    section: "timeouts.response",
                });
                return Err(Close::Protocol(Side::Upstream));
            }
        }
        Ok(())
    }

    /// True until the oldest request's answer has begun.
    fn awaits_head(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.status.is_none())
    }
}

impl Traffic for HttpTraffic {
    fn up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        self.tick();
        loop {
            // A request that was withheld before is still the one that is asked for.
            if self.fetching.is_none() {
                match self.http.http().up(edit) {
                    Err(fault) => {
                        let close = self.record_fault(fault);
                        if !self.owes_answers() {
                            return Poll::Ready(Err(close));
                        }
                        // What was permitted before is delivered first; nothing more is read from this client.
                        let rest = edit.rest().len();
                        edit.skip(rest);
                        break;
                    }
                    Ok(Up::Done) => break,
                    Ok(Up::Wait) => {
                        self.notice();
                        return Poll::Pending;
                    }
                    Ok(Up::Request) => {}
                }
            }
            let identified = std::task::ready!(self.poll_identify(cx));
            if let Some(view) = edit.view() {
                self.write_view(view);
            }
            match identified {
                Err(denial) => self.deny(&denial),
                Ok(identity) => match self.authorise(identity) {
                    Decision::Permit(permit) => self.permit(edit, permit),
                    Decision::Deny(denial) => self.deny(&denial),
                },
            }
        }
        self.note_head();
        self.notice();
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        if self.awaits_head() {
            // Interim answers are bounded by time.
            self.tick();
        }
        let dealt = self.http.http().down(edit);
        self.notice();
        dealt.map_err(|fault| self.record_fault(fault))
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.http.http_ref().wants_up(),
            Direction::Down => self.http.http_ref().wants_down(),
        }
    }

    fn ending(&mut self, direction: Direction) {
        if self.masks {
            self.http.http().finish_masks(direction);
        }
    }

    fn ended(&mut self, direction: Direction) -> Result<(), Close> {
        let (ended, side) = match direction {
            Direction::Up => (self.http.http().up_ended(), Side::Client),
            Direction::Down => (self.http.http().down_ended(), Side::Upstream),
        };
        self.notice();
        if let Err(fault) = ended {
            let side = if fault.culprit == Culprit::Client { Side::Client } else { side };
            self.fault.get_or_insert(fault);
            return Err(Close::Truncated(side));
        }
        let http = self.http.http_ref();
        self.over |= http.in_flight() == 0 && !http.is_tunnel();
        Ok(())
    }

    fn holds_back(&self, direction: Direction) -> bool {
        direction == Direction::Down && self.http.http_ref().holds_down()
    }

    fn tolerates_eof(&self, _: Direction) -> bool {
        let http = self.http.http_ref();
        http.in_flight() == 0 && !http.is_tunnel()
    }

    fn awaits_response(&self) -> bool {
        let http = self.http.http_ref();
        http.in_flight() > 0 && !http.is_tunnel()
    }

    fn is_over(&self) -> bool {
        let http = self.http.http_ref();
        (self.over || http.is_over()) && !http.wants_down()
    }

    fn idle_limit(&self) -> Option<Duration> {
        let http = self.http.http_ref();
        // A response that is awaited may take as long as raw traffic may be silent: models think for minutes.
        let busy = http.in_flight() > 0 || http.is_tunnel();
        Some(if busy { self.route.timeouts.idle } else { self.route.timeouts.between_requests })
    }

    fn expires(&self) -> Option<Instant> {
        let due = |exchange: &Exchange| {
            exchange.ends.as_ref().map(Expiry::due).into_iter().chain(exchange.answer_due).min()
        };
        let tunnel = self.tunnel_ends.as_ref().map(Expiry::due);
        self.exchanges.iter().filter_map(due).chain(tunnel).chain(self.soonest).min()
    }

    fn expire(&mut self, now: Instant) -> Result<(), Close> {
        if self.tunnel_ends.as_ref().is_some_and(|ends| ends.is_over(now)) {
            self.tunnel_ends = None;
            self.http.http().drain();
        }
        self.check_head_timeout(now)?;
        self.check_response_timeouts(now)?;
        self.check_holds(now)?;
        let ended = |exchange: &Exchange| exchange.ends.as_ref().is_some_and(|ends| ends.is_over(now));
        let keys: Vec<Key> = self.exchanges.iter().filter(|e| ended(e)).map(|e| e.key).collect();
        for key in keys {
            if !self.http.http().cut(key) {
                return Err(Close::Expired);
            }
        }
        self.notice();
        // A cut exchange that left no event must not come up again.
        self.exchanges.retain(|exchange| !ended(exchange));
        Ok(())
    }

    fn drain(&mut self) {
        self.http.http().drain();
    }

    // What is new asks the configuration in force by itself; this is about what is under way.
    fn authorise_again(&mut self) -> Result<(), Close> {
        let now = SystemTime::now();
        for exchange in &mut self.exchanges {
            let Err(revoked) = permit_again(&self.session, &self.route, exchange.permit.identity()) else {
                continue;
            };
            let until = match revoked.on_expiry {
                OnExpiry::Drain => continue,
                OnExpiry::Cut => now,
                OnExpiry::Grace(grace) => now + grace,
            };
            exchange.ends = Some(Expiry::earliest(exchange.ends.as_ref(), until));
        }
        Ok(())
    }

    fn requests(&self) -> (u64, u32) {
        (self.requests, self.exchanges.len() as u32)
    }
}
