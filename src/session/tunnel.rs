//! A tunnel: `CONNECT route`, with a token, in the first bytes of a connection to a listener's tunnel name.
//!
//! ```text
//!   client                                gateway
//!     CONNECT warehouse HTTP/1.1  ──────▶ token → identity, name → route, policy → permit
//!     Proxy-Authorization: Bearer …
//!                                 ◀────── 200
//!     the route's own protocol    ──────▶ sniff, identify (the tunnel's identity), authorise, dial …
//! ```
//! It is no open proxy: the target is the name of a configured route and nothing else. Who may not use a route is not told
//! whether there is one. After a refusal the connection ends; bytes that were sent behind the head are dropped with it.

use super::authorise::{Denial, ask_policy, close_for_refusal, verify};
use super::leg_close::{close_leg, flush, leg_fault, read};
use super::state::Session;
use super::trail::Trail;
use crate::close::{Close, Stage};
use crate::gateway::Route;
use crate::identify::slots;
use crate::names::{RequestId, Side};
use crate::policy::Identity;
use crate::protocol::RefusalReason;
use crate::protocol::http1::Limits;
use crate::protocol::http1::connect::{self, ConnectHead};
use crate::tls::leg::Leg;
use crate::tls::server::ClientCertificates;
use std::rc::Rc;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The inner side of an open tunnel.
pub(super) struct Opened {
    pub(super) route: Arc<Route>,
    pub(super) leg: Leg,
    /// Bytes read behind the head.
    pub(super) early: Vec<u8>,
}

/// Reads the head, and opens what it names or refuses.
pub(super) async fn open(
    session: &Rc<Session>,
    mut leg: Leg,
    early: Vec<u8>,
    trail: &mut Trail,
) -> Result<Opened, Close> {
    flush(&mut leg, trail).await?;
    let limits = &session.gateway.limits;
    let limits = Limits { head_bytes: limits.head, fields: limits.fields, ..Limits::default() };
    let mut plain = Zeroizing::new(early);
    let mut head = ConnectHead::default();
    let asked = loop {
        match head.read(&plain, &limits) {
            Ok(Some(asked)) => break asked,
            Ok(None) => {
                if !read(&mut leg, &mut plain, trail).await? {
                    return Err(Close::Done);
                }
            }
            Err(fault) => {
                let denial = Denial::new(fault.why, fault.to_string());
                return Err(refuse(session, leg, denial, trail).await);
            }
        }
    };
    trail.enter(Stage::Identify);
    let (route, identity) = match permitted(session, &asked, trail).await {
        Ok(permitted) => permitted,
        Err(denial) => return Err(refuse(session, leg, denial, trail).await),
    };
    session.identified(&identity);
    // Nobody else sets it: the tunnel's name asks for no certificate.
    session.set_proven_identity(Some(identity));
    trail.set_route(&route);
    let mut answer = Vec::new();
    connect::opened(&mut answer, route.protocol.name());
    leg.queue(&answer).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
    flush(&mut leg, trail).await?;
    trail.enter(Stage::Sniff);
    let early = plain[asked.length..].to_vec();
    Ok(Opened { route, leg, early })
}

/// The identity and the route that it asks for.
async fn permitted(
    session: &Session,
    asked: &connect::Connect,
    trail: &mut Trail,
) -> Result<(Arc<Route>, Arc<Identity>), Denial> {
    let Some(token) = asked.authorization().and_then(slots::bearer) else {
        return Err(Denial::new(RefusalReason::NoToken, "no token in Proxy-Authorization"));
    };
    let identity = verify(session, token).await?;
    trail.enter(Stage::Authorise);
    let forbidden = |detail: String| Denial::new(RefusalReason::Forbidden, detail).of(&identity);
    let reached = session.gateway.called(&asked.route).filter(|route| session.listener.serves(&route.name));
    let Some(route) = reached else {
        return Err(forbidden(format!("no route of this listener is called {}", asked.route)));
    };
    if route.client_certificates == ClientCertificates::Required {
        let name = &route.name;
        return Err(forbidden(format!("route {name} demands a client certificate, which a tunnel has not")));
    }
    // The session inside asks once more, and is recorded.
    match ask_policy(session, route, &identity) {
        Ok(_) => Ok((route.clone(), identity)),
        Err(denial) => {
            Err(Denial { detail: format!("route {}: {}", route.name, denial.detail).into(), ..denial })
        }
    }
}

async fn refuse(session: &Session, mut leg: Leg, denial: Denial, trail: &mut Trail) -> Close {
    trail.explain(&denial.detail);
    denial.identity.iter().for_each(|identity| session.identified(identity));
    session.counters().refused(denial.why.code());
    let mut answer = Vec::new();
    let id = RequestId { session: session.id, number: 0 };
    connect::not_opened(&mut answer, denial.why, id, super::http::http_date());
    // A leg that cannot take it any more ends without it.
    let _ = leg.queue(&answer);
    close_leg(leg, true).await;
    match denial.why {
        RefusalReason::BadRequest | RefusalReason::HeadTooLarge | RefusalReason::TwoTokens => {
            Close::Protocol(Side::Client)
        }
        why => close_for_refusal(why),
    }
}
