//! A conversation in the relay: what goes up is identified first, what comes down is followed.

use super::{Conversation, Decision, Exchange};
use crate::close::Close;
use crate::names::{Direction, Side};
use crate::policy::OnExpiry;
use crate::protocol::{Edit, Key, Up};
use crate::relay::Traffic;
use crate::session::authorise::permit_again;
use crate::session::expiry::Expiry;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

impl Traffic for Conversation {
    fn up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        self.tick();
        loop {
            // A request that was withheld before is still the one that is asked for.
            if self.fetching.is_none() {
                match self.http.http().up(edit) {
                    Err(fault) => return Poll::Ready(Err(self.blame(fault))),
                    Ok(Up::Done) => break,
                    Ok(Up::Wait) => {
                        self.notice();
                        return Poll::Pending;
                    }
                    Ok(Up::Request) => {}
                }
            }
            match std::task::ready!(self.poll_identify(cx)) {
                Err(denial) => self.deny(&denial),
                Ok(identity) => match self.authorise(identity) {
                    Decision::Permit(permit) => self.permit(edit, permit),
                    Decision::Deny(denial) => self.deny(&denial),
                },
            }
        }
        self.notice();
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        let dealt = self.http.http().down(edit);
        self.notice();
        dealt.map_err(|fault| self.blame(fault))
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.http.http_ref().wants_up(),
            Direction::Down => self.http.http_ref().wants_down(),
        }
    }

    fn ended(&mut self, direction: Direction) -> Result<(), Close> {
        let (ended, side) = match direction {
            Direction::Up => (self.http.http().up_ended(), Side::Client),
            Direction::Down => (self.http.http().down_ended(), Side::Upstream),
        };
        self.notice();
        if let Err(fault) = ended {
            self.fault.get_or_insert(fault);
            return Err(Close::Truncated(side));
        }
        let http = self.http.http_ref();
        self.over |= http.in_flight() == 0 && !http.is_tunnel();
        Ok(())
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
        let exchanges = self.exchanges.iter().filter_map(|exchange| exchange.ends.as_ref());
        exchanges.chain(&self.tunnel_ends).map(Expiry::due).min()
    }

    fn expire(&mut self, now: Instant) -> Result<(), Close> {
        if self.tunnel_ends.as_ref().is_some_and(|ends| ends.is_over(now)) {
            self.tunnel_ends = None;
            self.http.http().drain();
        }
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
