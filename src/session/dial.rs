//! The upstream leg of a session: preconnected, or dialled now.

use super::state::Session;
use super::trail::Trail;
use crate::dial::{Application, ConnectDeadline};
use crate::gateway::Route;
use crate::names::Side;
use crate::policy::Permit;
use crate::protocol::mysql::Agreed;
use crate::tls::leg::Leg;
use std::sync::Arc;
use tokio::time::Instant;

/// Opens the upstream leg, or takes one that was dialled ahead, and takes note of it. `Err`: what a client may know of why
/// not.
pub(super) async fn dial(
    route: &Arc<Route>,
    session: &Session,
    permit: &Permit,
    application: Application,
    trail: &mut Trail,
) -> Result<(Leg, Vec<u8>), &'static str> {
    let dialled = dial_with_greeting(route, session, permit, application, trail).await;
    dialled.map(|(leg, early, _)| (leg, early))
}

/// The same, with what a MySQL server said first.
pub(super) async fn dial_with_greeting(
    route: &Arc<Route>,
    session: &Session,
    permit: &Permit,
    application: Application,
    trail: &mut Trail,
) -> Result<(Leg, Vec<u8>, Option<Agreed>), &'static str> {
    let started = Instant::now();
    let (shared, records_per_key) = (&session.shared, session.gateway.limits.records_per_key);
    let ahead = shared.preconnect.take(route, application);
    let is_ahead = ahead.is_some();
    let dialled = match ahead {
        Some(dialled) => Ok(dialled),
        None => {
            let (limit, spent) = (route.timeouts.connect, session.spent_connecting.take());
            let deadline = ConnectDeadline::with_spent(limit, spent);
            Box::pin(route.upstream.dial(permit, application, deadline, records_per_key)).await
        }
    };
    match dialled {
        Ok(dialled) => {
            shared.preconnect.refill(route, application, permit, &session.gateway);
            trail.record_upstream(dialled.established.facts, dialled.address, started.elapsed(), is_ahead);
            Ok((dialled.established.leg, dialled.established.early, dialled.mysql))
        }
        Err(fault) => {
            tracing::warn!(route = %route.name, session = %session.id, %fault, "dial failed");
            session.shared.metrics.handshake_failed(Side::Upstream);
            session.counters().dial_failed();
            trail.explain(&fault);
            Err("the upstream cannot be reached or does not verify")
        }
    }
}
