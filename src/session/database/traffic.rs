//! A running database session: passes its dialect's messages, and ends it with an error in that dialect.

use super::dialect::{ClosingMessage, Dialect, Grant, Stop, Until};
use super::ending::End;
use crate::close::Close;
use crate::names::{Culprit, Direction, Side};
use crate::policy::OnExpiry;
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::authorise::{Renewed, Revoked, permit_again};
use crate::session::connected::{Finish, parting};
use crate::session::leg_close::LegClose;
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// The traffic of a database route under the permit and the account in force.
///
/// ```text
///            drain ──▶ draining ──idle──▶┐
///   Open ── expiry, a broken rule ──────▶ Leaving ── between two messages: the notice goes down ──▶ Left
///     └──── the upstream ends ────────────────────────────────────────────────────────────────────▶ Left
/// ```
/// From `Leaving` on nothing of the client's goes up, from `Left` on nothing of the upstream's goes down.
pub struct DatabaseTraffic<D> {
    dialect: D,
    grant: Grant,
    end: End<ClosingMessage>,
    /// It ends as soon as nothing is under way, for this reason and with this notice.
    ends_when_idle: Option<(Close, ClosingMessage)>,
    /// When it ends because a reload took its permit away, with a grace.
    revoked: Option<Instant>,
    /// The client has ended its direction.
    client_ended: bool,
    /// Nothing more can be said to the upstream: it was told, has ended, or the client's end was passed on to it.
    upstream_told: bool,
    /// The upstream has ended: nothing more can be said to the client.
    client_told: bool,
    fault: Option<Fault>,
    detail: Option<&'static str>,
}

impl<D: Dialect> DatabaseTraffic<D> {
    pub(in crate::session) fn new(dialect: D, grant: Grant) -> Self {
        DatabaseTraffic {
            dialect,
            grant,
            end: End::Open,
            ends_when_idle: None,
            revoked: None,
            client_ended: false,
            upstream_told: false,
            client_told: false,
            fault: None,
            detail: None,
        }
    }

    fn end_if_idle(&mut self) {
        if let Some((close, notice)) = self.ends_when_idle
            && self.dialect.is_idle()
        {
            self.end.leave(close, notice);
        }
    }

    fn stop(&mut self, stop: Stop) {
        match stop {
            Stop::Fault(fault) => {
                self.end.leave(Close::Protocol(Side::Client), ClosingMessage::Fault(fault.rule));
                self.fault = Some(fault);
            }
            Stop::Leave { close, notice, detail } => {
                self.end.leave(close, notice);
                self.detail = self.detail.or(detail);
            }
            Stop::Cut { close, detail } => {
                self.end.leave(close, ClosingMessage::Fault(detail));
                self.detail = self.detail.or(Some(detail));
            }
        }
    }

    /// True where a message of our own that ends the session upstream may stand.
    fn may_terminate(&self) -> bool {
        !D::TERMINATE.is_empty()
            && !self.end.is_open()
            && !self.upstream_told
            && !self.dialect.has_quit()
            && self.dialect.is_between(Direction::Up)
    }

    /// The final message for the client after the relay's end, where one can be sent.
    fn last_notice(&self, close: Close) -> Option<ClosingMessage> {
        if !self.dialect.is_between(Direction::Down) || self.end.left().is_some() {
            return None;
        }
        match close {
            Close::Idle => Some(ClosingMessage::Idle),
            Close::Drained | Close::LogFull | Close::KeyLimit => Some(ClosingMessage::GoingAway),
            Close::Operator => Some(ClosingMessage::Ended),
            Close::Revoked => Some(ClosingMessage::NotPermitted),
            _ if close.culprit() == Culprit::Upstream => Some(ClosingMessage::UpstreamBroke),
            _ => None,
        }
    }
}

impl<D: Dialect> Finish for DatabaseTraffic<D> {
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        let left = self.end.left();
        let close = match left.unwrap_or(close) {
            // The client said that it leaves. Neither end reads on then: not a session ticket, not the other's close_notify.
            Close::Reset(_) if self.dialect.has_quit() && !self.dialect.awaits_response() => Close::Done,
            // What it still sent to a server that had closed by then is answered with a reset.
            Close::Reset(Side::Upstream) if self.client_ended && D::UPSTREAM_LEAVES_WITH_CLIENT => {
                Close::Done
            }
            close => close,
        };
        self.dialect.finish(trail);
        trail.set_account(&self.grant.account().user);
        self.fault.iter().for_each(|fault| trail.explain(fault));
        self.detail.iter().for_each(|detail| trail.explain(detail));
        // A leg that cannot take them any more ends without them.
        let told = self
            .last_notice(close)
            .is_some_and(|notice| client.queue(&self.dialect.encode(&notice, self.grant.session.id)).is_ok());
        (close, parting(close, left.is_some(), told))
    }

    // A permit that has ended permits no work to go on, and work that was given up has no reader.
    fn after_close(&mut self, close: Close) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let given_up = matches!(close, Close::Expired | Close::Revoked | Close::Operator | Close::Idle)
            && self.dialect.awaits_response();
        if given_up { self.dialect.cancel_work() } else { None }
    }
}

impl<D: Dialect> Traffic for DatabaseTraffic<D> {
    fn up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        if self.end.is_open() {
            match ready!(self.dialect.pass_up(cx, edit, &mut self.grant)) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(stop) => self.stop(stop),
            }
        }
        // What a client says after its end is for nobody.
        edit.skip(edit.rest().len());
        if self.may_terminate() {
            edit.insert(D::TERMINATE);
            self.upstream_told = true;
        }
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        loop {
            if self.dialect.is_between(Direction::Down)
                && let Some(notice) = self.end.say()
            {
                edit.insert(&self.dialect.encode(&notice, self.grant.session.id));
            }
            if self.end.left().is_some() {
                edit.skip(edit.rest().len());
            }
            if edit.is_done() {
                return Ok(());
            }
            let until = match (self.end.is_open(), self.ends_when_idle.is_some()) {
                (false, _) => Until::Boundary,
                (true, true) => Until::Idle,
                (true, false) => Until::End,
            };
            match self.dialect.pass_down(edit, until, &mut self.grant) {
                Ok(()) => self.end_if_idle(),
                Err(Stop::Fault(fault)) => {
                    self.fault = Some(fault);
                    return Err(Close::Protocol(Side::Upstream));
                }
                Err(Stop::Cut { close, detail }) => {
                    self.detail = self.detail.or(Some(detail));
                    return Err(close);
                }
                Err(stop) => self.stop(stop),
            }
        }
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.may_terminate(),
            Direction::Down => {
                self.end.is_ending() && !self.client_told && self.dialect.is_between(Direction::Down)
            }
        }
    }

    fn ended(&mut self, direction: Direction) -> Result<(), Close> {
        if !self.dialect.is_whole(direction) {
            let side = match direction {
                Direction::Up => Side::Client,
                Direction::Down => Side::Upstream,
            };
            return Err(Close::Truncated(side));
        }
        match direction {
            // The upstream is told by the end of its input; nothing can stand behind that.
            Direction::Up => (self.client_ended, self.upstream_told) = (true, true),
            Direction::Down => {
                self.upstream_told |= self.end.is_open();
                self.client_told = true;
                self.end.upstream_ended();
            }
        }
        Ok(())
    }

    // Whoever said that it leaves, or was told to, closes in whichever way.
    fn tolerates_eof(&self, direction: Direction) -> bool {
        let follows = direction == Direction::Down && self.client_ended && D::UPSTREAM_LEAVES_WITH_CLIENT;
        self.dialect.is_between(direction)
            && (self.dialect.may_omit_close_notify(direction) || self.end.left().is_some() || follows)
    }

    fn awaits_response(&self) -> bool {
        self.dialect.awaits_response()
    }

    fn is_over(&self) -> bool {
        self.end.left().is_some()
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.grant.route.timeouts.idle)
    }

    fn expires(&self) -> Option<Instant> {
        // Whichever comes first.
        let permit = [self.grant.ends(), self.revoked].into_iter().flatten().min();
        self.end.due(permit)
    }

    fn expire(&mut self, now: Instant) -> Result<(), Close> {
        self.end.check_patience()?;
        let revoked = self.revoked.is_some_and(|at| at <= now);
        if !revoked && !self.grant.is_over(now) {
            return Ok(());
        }
        self.end.leave(
            Close::Expired,
            if revoked { ClosingMessage::NotPermitted } else { ClosingMessage::Expired },
        );
        Ok(())
    }

    fn drain(&mut self) {
        self.ends_when_idle.get_or_insert((Close::Done, ClosingMessage::GoingAway));
        self.end_if_idle();
    }

    fn authorise_again(&mut self) -> Result<(), Close> {
        let (session, route) = (&self.grant.session, &self.grant.route);
        let on_expiry = match permit_again(session, route, self.grant.permit().identity()) {
            Ok(Renewed { route, permit }) => {
                let accounts = route.database.iter().flat_map(|database| &database.accounts);
                let account = accounts.into_iter().find(|account| account.is_for(permit.identity())).cloned();
                match account {
                    Some(account) if account.user == self.grant.account().user => {
                        self.grant.replace(permit, account);
                        self.grant.route = route;
                        self.revoked = None;
                        return Ok(());
                    }
                    _ => route.policy.on_expiry,
                }
            }
            Err(Revoked { on_expiry, .. }) => on_expiry,
        };
        self.detail.get_or_insert("a reload took the permit or the account of this session away");
        match on_expiry {
            OnExpiry::Cut => self.end.leave(Close::Expired, ClosingMessage::NotPermitted),
            OnExpiry::Grace(grace) => drop(self.revoked.get_or_insert(Instant::now() + grace)),
            OnExpiry::Drain => {
                self.ends_when_idle = Some((Close::Expired, ClosingMessage::NotPermitted));
                self.end_if_idle();
            }
        }
        Ok(())
    }
}
