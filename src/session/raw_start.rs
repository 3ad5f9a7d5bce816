//! Raw sessions up to the permit: identity comes from the connection alone.

use super::authorise::{close_for_refusal, permit};
use super::connected::ConnectedTo;
use super::dial::dial;
use super::leg_close::close_leg;
use super::raw::Raw;
use super::stage::{Authorised, Identified, Routed, Start, Verdict};
use super::trail::Trail;
use crate::close::Close;
use crate::dial::Application;
use crate::protocol::RefusalReason;
use crate::tls::leg::Leg;

/// A raw session before its permit.
pub(super) struct RawStart(Routed);

/// The alert `access_denied` (RFC 8446 section 6.2): a valid certificate, and access control said no.
const ACCESS_DENIED: u8 = 49;
/// The alert `internal_error`: the gateway has no room, which TLS has no other word for.
const INTERNAL_ERROR: u8 = 80;

impl RawStart {
    pub(super) fn new(mut routed: Routed) -> Box<Self> {
        if routed.session.is_tunnelled() {
            // What was agreed on is the tunnel's protocol, not that of the bytes in it.
            routed.application = Application::None;
        }
        Box::new(RawStart(routed))
    }
}

impl Start for RawStart {
    type Traffic = Raw;

    async fn identify(self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        match self.0.session.proven_identity() {
            Some(identity) => Ok(Identified { start: self, identity }),
            None => {
                trail.explain("no client certificate that maps to an identity");
                refuse(self.0.leg, ACCESS_DENIED).await;
                Err(Close::Refused)
            }
        }
    }

    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close> {
        let Identified { start, identity } = identified;
        let Routed { session, route, .. } = &start.0;
        match permit(session, route, &identity) {
            Ok(permit) => {
                trail.record_identity();
                session.permitted(&permit);
                Ok(Ok(Authorised { start, permit }))
            }
            Err(denial) => {
                session.identified(&identity);
                trail.explain(denial.detail);
                session.counters().refused(denial.why.code());
                let full = denial.why == RefusalReason::Overloaded;
                refuse(start.0.leg, if full { INTERNAL_ERROR } else { ACCESS_DENIED }).await;
                Err(close_for_refusal(denial.why))
            }
        }
    }

    async fn dial(authorised: Authorised<Self>, trail: &mut Trail) -> Result<Box<ConnectedTo<Raw>>, Close> {
        let Authorised { start, permit } = authorised;
        let Routed { session, route, leg, early, application } = start.0;
        session.client_said(&early);
        match dial(&route, &session, &permit, application, trail).await {
            Ok((upstream, from_upstream)) => Ok(Box::new(ConnectedTo {
                client: leg,
                upstream,
                early: from_upstream,
                stall: route.timeouts.stall,
                traffic: Raw::new(session, route, &permit),
                first_bytes: early.len() as u64,
                first: early,
                waiting: Vec::new(),
            })),
            Err(_) => {
                close_leg(leg, false).await;
                Err(Close::Dial)
            }
        }
    }
}

async fn refuse(mut leg: Leg, alert: u8) {
    leg.queue_alert(alert);
    close_leg(leg, false).await;
}
