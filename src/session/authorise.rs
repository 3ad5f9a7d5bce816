//! Authentication and authorisation: who a client is, by whichever proof its protocol carries, and whether it may use the route.
//!
//! ```text
//!   token          verify, poll_verify   ┐
//!   password field verify_password       ├▶ identity ─▶ permit, authorise_account ─▶ permit (and account)
//!   certificate    identify_certificate  │                  │
//!   tunnel         verify, then permit   ┘                  └▶ Denial, said in the client's own protocol
//! ```
//! First the route's policy is asked, then whether there is room: nobody hears of limits who may not come in anyway.

use super::state::Session;
use crate::close::Close;
use crate::credential::Account;
use crate::gateway::Route;
use crate::identify::{Identification, IdentityProvider, Refused as ProofRefused};
use crate::policy::{Identity, OnExpiry, Permit, Proof, Refused};
use crate::protocol::RefusalReason;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

/// Why access is denied.
pub struct Denial {
    /// What the client is told.
    pub why: RefusalReason,
    /// What a database's client is told instead of the words for `why`.
    pub words: Option<String>,
    /// What the log says; never holds a token.
    pub detail: Cow<'static, str>,
    /// The identity, if it was established.
    pub identity: Option<Arc<Identity>>,
}

impl Denial {
    /// A denial without a known identity.
    pub(super) fn new(why: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Denial { why, words: None, detail: detail.into(), identity: None }
    }

    /// One message for the database's client and the log.
    pub(super) fn saying(why: RefusalReason, words: &str) -> Self {
        Denial { words: Some(words.to_owned()), ..Denial::new(why, words.to_owned()) }
    }

    /// A denial of a known identity.
    pub(super) fn of(self, identity: &Arc<Identity>) -> Self {
        Denial { identity: Some(identity.clone()), ..self }
    }
}

impl From<ProofRefused> for Denial {
    fn from(refused: ProofRefused) -> Self {
        Denial::new(refused.why, refused.detail)
    }
}

/// A token whose issuer's keys are being fetched.
pub(super) type Fetching = Pin<Box<dyn Future<Output = ()>>>;

/// Verifies a token; waits once for an issuer's keys.
pub(super) async fn verify(session: &Session, token: &[u8]) -> Result<Arc<Identity>, Denial> {
    let mut fetching = None;
    std::future::poll_fn(|cx| poll_verify(session, token, &mut fetching, cx)).await
}

/// The same for who is polled. `fetching` starts as `None` and stays with the token until the answer is there.
pub(super) fn poll_verify(
    session: &Session,
    token: &[u8],
    fetching: &mut Option<Fetching>,
    cx: &mut Context<'_>,
) -> Poll<Result<Arc<Identity>, Denial>> {
    let fetched = match fetching {
        Some(keys) => {
            ready!(keys.as_mut().poll(cx));
            *fetching = None;
            true
        }
        None => false,
    };
    if let Some(honeytoken) = session.gateway.honeytokens.by_token(|| sha256(token)) {
        session.raise_alarm(honeytoken, None);
        if honeytoken.cuts {
            return Poll::Ready(Err(Denial::new(RefusalReason::InvalidToken, HONEYTOKEN)));
        }
    }
    let identified = {
        let mut cache = session.shared.tokens.borrow_mut();
        session.shared.with_gateway(|gateway| gateway.issuers.identify(&mut cache, token, SystemTime::now()))
    };
    match identified {
        Identification::Known(identity) => Poll::Ready(Ok(identity)),
        Identification::Refused(refused) => Poll::Ready(Err(refused.into())),
        Identification::Pending { otherwise, .. } if fetched => Poll::Ready(Err(otherwise.into())),
        Identification::Pending { ready, .. } => {
            *fetching = Some(ready);
            poll_verify(session, token, fetching, cx)
        }
    }
}

/// Verifies a token that was sent as a password. `missing`: the message for an empty one.
pub(super) async fn verify_password(
    session: &Session,
    token: &[u8],
    missing: RefusalReason,
) -> Result<Arc<Identity>, Denial> {
    if token.is_empty() {
        return Err(Denial::new(missing, "an empty password"));
    }
    verify(session, token).await
}

/// Maps the client certificate to an identity, where the route does so. A tunnel's identity stays.
pub(super) fn identify_certificate(session: &Session, route: &Route) -> Result<(), Denial> {
    if session.is_tunnelled() {
        return Ok(());
    }
    let (Some(mapping), Some(leaf)) = (&route.certificate_identity, &session.certificate) else {
        session.set_proven_identity(None);
        return Ok(());
    };
    let mut cache = session.shared.tokens.borrow_mut();
    match IdentityProvider::identify(mapping, &mut cache, &leaf.der, SystemTime::now()) {
        Identification::Known(identity) => session.set_proven_identity(Some(identity)),
        Identification::Refused(refused) | Identification::Pending { otherwise: refused, .. } => {
            session.set_proven_identity(None);
            return Err(refused.into());
        }
    }
    Ok(())
}

/// Result of authorising a live session again under the configuration in force.
pub(super) struct Renewed {
    /// The route as it is now.
    pub(super) route: Arc<Route>,
    pub(super) permit: Permit,
}

/// The session's identity is no longer permitted.
pub(super) struct Revoked {
    pub(super) denial: Denial,
    /// How it ends.
    pub(super) on_expiry: OnExpiry,
}

/// Authorises a permitted identity again on `route`, under the configuration in force.
pub(super) fn permit_again(
    session: &Session,
    route: &Route,
    identity: &Arc<Identity>,
) -> Result<Renewed, Revoked> {
    let forbidden = |detail: &'static str| Denial::new(RefusalReason::Forbidden, detail).of(identity);
    let current = session.shared.with_gateway(|gateway| gateway.called(&route.name.0).cloned());
    let Some(current) = current.filter(|current| current.protocol == route.protocol) else {
        return Err(Revoked { denial: forbidden(ROUTE_REMOVED), on_expiry: route.policy.on_expiry });
    };
    let revoked = |denial| Revoked { denial, on_expiry: current.policy.on_expiry };
    let mut identity = identity.clone();
    if identity.proof == Proof::Certificate {
        identify_certificate(session, &current).map_err(revoked)?;
        let proven = session.proven_identity();
        identity = proven.ok_or_else(|| revoked(forbidden("the route maps no certificates any more")))?;
    }
    // A proof that has expired since does not count here: what that means was settled by `on_expiry` when it was let in.
    let at = SystemTime::now().min(identity.expires);
    if is_revoked(session, &identity) {
        return Err(revoked(revoked_denial(&identity)));
    }
    match current.policy.permit(&current.name, &identity, at) {
        Ok(permit) => Ok(Renewed { route: current, permit }),
        Err(_) => Err(revoked(forbidden(NO_RULE))),
    }
}

const NO_RULE: &str = "no rule of the route names this identity";
/// Message for a route that a reload removed.
pub(super) const ROUTE_REMOVED: &str = "the configuration has no such route any more";

/// Asks the policy, then whether there is room, and begins the session's recording.
pub(super) fn permit(session: &Session, route: &Route, identity: &Arc<Identity>) -> Result<Permit, Denial> {
    let permit = ask_policy(session, route, identity)?;
    match session.begin_recording(route) {
        Ok(()) => Ok(permit),
        Err(fault) => {
            let detail = format!("the session cannot be recorded: {fault}");
            Err(Denial::new(RefusalReason::Overloaded, detail).of(identity))
        }
    }
}

/// Asks the policy, and then whether there is room.
pub(super) fn ask_policy(
    session: &Session,
    route: &Route,
    identity: &Arc<Identity>,
) -> Result<Permit, Denial> {
    let no = |why, detail: Cow<'static, str>| Denial::new(why, detail).of(identity);
    if let Some(honeytoken) = session.gateway.honeytokens.by_identity(identity) {
        session.raise_alarm(honeytoken, Some(identity));
        if honeytoken.cuts {
            return Err(no(RefusalReason::Forbidden, HONEYTOKEN.into()));
        }
    }
    let permit =
        route.policy.permit(&route.name, identity, SystemTime::now()).map_err(|refused| match refused {
            Refused::NoRule => {
                no(RefusalReason::Forbidden, format!("{NO_RULE}: {}", route.policy.explain(identity)).into())
            }
            Refused::Expired => no(RefusalReason::ExpiredToken, "the proof of identity has expired".into()),
        })?;
    if is_revoked(session, identity) {
        return Err(revoked_denial(identity));
    }
    if !crate::audit::takes_new_work() {
        return Err(no(RefusalReason::Overloaded, "no room: the log takes no more lines".into()));
    }
    match session.limit_reached {
        Some(limit) => Err(no(RefusalReason::Overloaded, format!("no room: limits.{}", limit.name()).into())),
        None => Ok(permit),
    }
}

fn is_revoked(session: &Session, identity: &Identity) -> bool {
    session.shared.live.revocations().cover(identity, SystemTime::now)
}

/// A token can be had anew; a certificate or a tunnel's identity cannot be shown again on the same connection.
fn revoked_denial(identity: &Arc<Identity>) -> Denial {
    let why = match identity.proof {
        Proof::Token => RefusalReason::InvalidToken,
        Proof::Certificate => RefusalReason::Forbidden,
    };
    Denial::new(why, REVOKED).of(identity)
}

const HONEYTOKEN: &str = "a honeytoken";

fn sha256(token: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

const REVOKED: &str = "revoked by an operator or the issuer";

/// Asks the policy, and chooses the stored account of a database.
pub(super) fn authorise_account(
    session: &Session,
    route: &Route,
    identity: &Arc<Identity>,
) -> Result<(Permit, Account), Denial> {
    let permit = permit(session, route, identity)?;
    let accounts = route.database.iter().flat_map(|database| &database.accounts);
    match accounts.into_iter().find(|account| account.is_for(identity)) {
        Some(account) => Ok((permit, account.clone())),
        None => {
            let detail = "none of the route's accounts is for this identity";
            Err(Denial::new(RefusalReason::Forbidden, detail).of(identity))
        }
    }
}

/// The close reason for a refusal.
pub(super) fn close_for_refusal(why: RefusalReason) -> Close {
    match why {
        RefusalReason::Overloaded => Close::Limit,
        RefusalReason::IssuerUnavailable => Close::IssuerUnavailable,
        _ => Close::Refused,
    }
}
