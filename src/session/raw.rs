//! Raw traffic: bytes pass unchanged, and each direction half-closes by itself.

use super::authorise::{Renewed, Revoked, permit_again};
use super::connected::Finish;
use super::expiry::Expiry;
use super::leg_close::LegClose;
use super::state::Session;
use super::trail::Trail;
use crate::close::Close;
use crate::gateway::Route;
use crate::names::Direction;
use crate::policy::{Identity, OnExpiry, Permit};
use crate::protocol::Edit;
use crate::relay::Traffic;
use crate::tls::leg::Leg;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The traffic of a raw route, under the one permit of its connection.
pub struct Raw {
    session: Rc<Session>,
    route: Arc<Route>,
    identity: Arc<Identity>,
    ends: Option<Expiry>,
    /// Why it ends before its permit does.
    revoked: Option<Cow<'static, str>>,
}

impl Raw {
    /// The traffic under `permit`, as long as the configuration in force says the same.
    pub(super) fn new(session: Rc<Session>, route: Arc<Route>, permit: &Permit) -> Self {
        let (identity, ends) = (permit.identity().clone(), permit.ends().map(Expiry::new));
        Raw { session, route, identity, ends, revoked: None }
    }
}

impl Finish for Raw {
    // An end that the peers did not agree on must not look as if they had.
    fn finish(&mut self, close: Close, _: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        if close == Close::Expired {
            self.revoked.iter().for_each(|detail| trail.explain(detail));
        }
        (close, LegClose::clean(close == Close::Done))
    }
}

impl Traffic for Raw {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        edit.keep(edit.rest().len());
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        edit.keep(edit.rest().len());
        Ok(())
    }

    fn wants(&self, _: Direction) -> bool {
        false
    }

    fn ended(&mut self, _: Direction) -> Result<(), Close> {
        Ok(())
    }

    fn tolerates_eof(&self, _: Direction) -> bool {
        false
    }

    // Unknown; a client may send all it has and go.
    fn awaits_response(&self) -> bool {
        false
    }

    fn is_over(&self) -> bool {
        false
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.route.timeouts.idle)
    }

    fn expires(&self) -> Option<Instant> {
        self.ends.as_ref().map(Expiry::due)
    }

    fn expire(&mut self, now: Instant) -> Result<(), Close> {
        match self.ends.as_ref().is_some_and(|ends| ends.is_over(now)) {
            true => Err(Close::Expired),
            false => Ok(()),
        }
    }

    // Opaque bytes cannot be told to finish; they have until the drain deadline.
    fn drain(&mut self) {}

    // Nor can they be told that nothing new may come: without a grace they end at once.
    fn authorise_again(&mut self) -> Result<(), Close> {
        match permit_again(&self.session, &self.route, &self.identity) {
            Ok(Renewed { route, permit }) => {
                (self.identity, self.ends) = (permit.identity().clone(), permit.ends().map(Expiry::new));
                (self.route, self.revoked) = (route, None);
                Ok(())
            }
            // It ends already.
            Err(_) if self.revoked.is_some() => Ok(()),
            Err(Revoked { denial, on_expiry }) => {
                self.revoked = Some(denial.detail);
                let OnExpiry::Grace(grace) = on_expiry else { return Err(Close::Expired) };
                self.ends = Some(Expiry::earliest(self.ends.as_ref(), SystemTime::now() + grace));
                Ok(())
            }
        }
    }
}
