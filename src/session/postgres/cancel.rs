//! CancelRequest: a separate connection that names a running session by its key.
//!
//! The client knows the upstream's process number, as `pg_stat_activity` and notifications show it, and a secret of the
//! gateway's own. So it can cancel what runs through this gateway, on the route on which it got the key, and nothing
//! else of the upstream. Workers share the keys: a CancelRequest may reach any of them.

use super::super::leg_close::close_leg;
use crate::close::Close;
use crate::dial::{Application, ConnectDeadline, DialFault, Dialled};
use crate::gateway::Route;
use crate::names::Reached;
use crate::policy::Permit;
use crate::protocol::RefusalReason;
use crate::protocol::postgres::CancelKey;
use crate::session::database::cancels::CancelTarget;
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::handshake::Facts;
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// What a wrong guess costs. With 64 connections of an address that are not permitted yet (the default limit) half of
/// the 32-bit secrets would take a year.
pub(super) const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);

/// A CancelRequest whose key is good.
pub struct Cancel {
    session: Rc<Session>,
    leg: Leg,
    target: CancelTarget,
}

impl Cancel {
    /// Looks the key up. A wrong one is delayed, not answered, and counted.
    pub(super) async fn find(
        session: Rc<Session>,
        route: &Route,
        leg: Leg,
        key: CancelKey,
        trail: &mut Trail,
    ) -> Result<Self, Close> {
        match session.shared.cancels.postgres.find(&route.name, key) {
            Some(target) => Ok(Cancel { session, leg, target }),
            None => {
                trail.explain("a CancelRequest with the key of no session of this route");
                session.counters().refused(RefusalReason::Forbidden.code());
                sleep(WRONG_KEY_DELAY).await;
                close_leg(leg, true).await;
                Err(Close::Refused)
            }
        }
    }

    /// Under which the session runs that is to be cancelled.
    pub fn permit(&self) -> &Permit {
        &self.target.permit
    }

    /// Carries the request to where the session leads.
    pub async fn forward(self: Box<Self>, trail: &mut Trail) -> Close {
        let Cancel { session, leg, target } = *self;
        session.permitted(&target.permit);
        let started = Instant::now();
        match cancel_statement(&target).await {
            Ok((facts, address)) => trail.record_upstream(facts, address, started.elapsed(), false),
            Err(fault) => {
                trail.explain(format_args!("CancelRequest: {fault}"));
                close_leg(leg, false).await;
                return Close::Dial;
            }
        }
        trail.explain(format_args!("cancelled the statement of session {}", target.session));
        close_leg(leg, true).await;
        Close::Done
    }
}

/// Asks the upstream to cancel what runs, and waits until it has dealt with that: it says so by closing.
pub(super) async fn cancel_statement(target: &CancelTarget) -> Result<(Facts, Reached), DialFault> {
    let (upstream, limit) = (&target.route.upstream, target.route.timeouts.connect);
    let address = target.address.clone();
    let (deadline, until) = (ConnectDeadline::new(limit), Instant::now() + limit);
    let dialled =
        upstream.dial_same_address(&target.permit, Application::Postgres, address, deadline, u64::MAX);
    let Dialled { established, address, .. } = dialled.await?;
    let mut leg = established.leg;
    let asked = timeout_at(until, async {
        leg.queue(&target.key.request())?;
        leg.flush().await?;
        let mut nothing = Vec::new();
        while leg.read(&mut nothing).await? && nothing.is_empty() {}
        Ok::<_, LegFault>(())
    });
    match asked.await {
        // Whichever way it ends the connection, it has read the request.
        Ok(_) => Ok((established.facts, address)),
        Err(_) => Err(DialFault::Timeout(limit)),
    }
}
