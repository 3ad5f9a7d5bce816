//! Security event tokens (SET, RFC 8417): what an issuer signs to tell that something happened to a user or a session.
//!
//! They are signed with the keys of the issuer's tokens and must never be taken for one another: a SET has the `typ`
//! `secevent+jwt`, `events` and no `exp`; a token has neither `typ` nor claim.

use super::fault::TokenFault;
use super::jwt::Jwt;
use super::keys::Search;
use super::refresh::Keeper;
use crate::names::IssuerName;
use crate::policy::CLOCK_SKEW;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;

/// `typ` of a SET (RFC 8417 section 2.3), which is mandatory here.
const TYPE: &str = "secevent+jwt";
/// Bytes of `jti`.
const MAX_ID: usize = 1_024;
/// Events in one SET.
const MAX_EVENTS: usize = 16;

/// A SET whose signature and claims were verified.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityEvent {
    /// Who signed it.
    pub issuer: IssuerName,
    /// `jti`: no two events of an issuer have the same.
    pub id: Arc<str>,
    /// `iat`.
    pub issued: SystemTime,
    /// The events by their URI, at least one.
    pub events: Vec<(String, Map<String, Value>)>,
    /// `sub_id`: whom they are about (RFC 9493).
    pub subject: Option<Value>,
}

/// Why a SET is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityEventFault {
    /// It is no SET.
    #[error("no security event token: {0}")]
    Token(TokenFault),
    /// It says when it expires, as tokens do and events do not.
    #[error("a security event does not expire (exp)")]
    Expires,
    /// A claim is of another type than it must be.
    #[error("claim {0} has the wrong type")]
    WrongType(&'static str),
    /// `jti` is too long.
    #[error("jti has more than {MAX_ID} bytes")]
    LongId,
    /// `events` is no object with at least one and at most 16 objects.
    #[error("events is not an object with 1 to {MAX_EVENTS} events")]
    Events,
}

impl From<TokenFault> for SecurityEventFault {
    fn from(fault: TokenFault) -> Self {
        SecurityEventFault::Token(fault)
    }
}

/// The issuer that a SET says it is from; nothing is verified.
pub(super) fn claimed_issuer<'a>(
    list: &'a [Arc<Keeper>],
    token: &[u8],
) -> Result<&'a Arc<Keeper>, SecurityEventFault> {
    let jwt = Jwt::parse_of(token, &[TYPE], "")?;
    let url = jwt.issuer()?;
    let keeper = list.iter().find(|keeper| keeper.settings.url == url);
    Ok(keeper.ok_or(TokenFault::UnknownIssuer)?)
}

/// Verifies a SET of one of these issuers that must be for one of `audience`. Waits once for keys that are not there.
pub(super) async fn security_event(
    list: &[Arc<Keeper>],
    token: &[u8],
    audience: &[String],
    now: SystemTime,
) -> Result<SecurityEvent, SecurityEventFault> {
    let keeper = claimed_issuer(list, token)?;
    let jwt = Jwt::parse_of(token, &[TYPE], "")?;
    // What is refused in any case is not worth a fetch.
    let event = read(&jwt, keeper, audience, now)?;
    verify_or_fetch(&jwt, keeper, now).await?;
    Ok(event)
}

fn read(
    jwt: &Jwt<'_>,
    keeper: &Keeper,
    audience: &[String],
    now: SystemTime,
) -> Result<SecurityEvent, SecurityEventFault> {
    let typed = |name| {
        move |fault| match fault {
            TokenFault::Malformed => SecurityEventFault::WrongType(name),
            fault => fault.into(),
        }
    };
    jwt.is_for(audience).map_err(typed("aud"))?;
    if jwt.claims.contains_key("exp") {
        return Err(SecurityEventFault::Expires);
    }
    let id = jwt
        .text("jti")
        .map_err(typed("jti"))?
        .filter(|id| !id.is_empty())
        .ok_or(TokenFault::Missing("jti"))?;
    if id.len() > MAX_ID {
        return Err(SecurityEventFault::LongId);
    }
    let issued = jwt.date("iat").map_err(typed("iat"))?.ok_or(TokenFault::Missing("iat"))?;
    if issued > now + CLOCK_SKEW {
        return Err(TokenFault::NotYetValid.into());
    }
    let events = jwt.claims.get("events").and_then(Value::as_object).ok_or(SecurityEventFault::Events)?;
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(SecurityEventFault::Events);
    }
    let event = |(name, payload): (&String, &Value)| Some((name.clone(), payload.as_object()?.clone()));
    let events: Option<_> = events.iter().map(event).collect();
    Ok(SecurityEvent {
        issuer: keeper.settings.name.clone(),
        id: id.into(),
        issued,
        events: events.ok_or(SecurityEventFault::Events)?,
        subject: jwt.claims.get("sub_id").cloned(),
    })
}

/// Verifies a signature, and waits once for keys that are not there.
pub(super) async fn verify_or_fetch(
    jwt: &Jwt<'_>,
    keeper: &Keeper,
    now: SystemTime,
) -> Result<(), TokenFault> {
    match verify(jwt, keeper, now) {
        Err(TokenFault::UnknownKey | TokenFault::Unavailable) if keeper.may_ask() => {
            keeper.ask().await;
            verify(jwt, keeper, now)
        }
        // The budget for fetches is spent: nothing is known of this key.
        Err(TokenFault::UnknownKey) => Err(TokenFault::Unavailable),
        verified => verified,
    }
}

fn verify(jwt: &Jwt<'_>, keeper: &Keeper, now: SystemTime) -> Result<(), TokenFault> {
    let algorithm = keeper.settings.algorithms.iter().find(|known| known.name() == jwt.header.alg);
    let algorithm = *algorithm.ok_or(TokenFault::Algorithm)?;
    let keys = keeper.keys(now).ok_or(TokenFault::Unavailable)?;
    let key = match keys.find(jwt.header.kid.as_deref(), algorithm) {
        Search::Key(key) => key,
        Search::Unknown => return Err(TokenFault::UnknownKey),
        Search::Unnamed => return Err(TokenFault::UnnamedKey),
        Search::Unfit => return Err(TokenFault::KeyMismatch),
    };
    match key.verifies(algorithm, jwt.message, &jwt.signature) {
        true => Ok(()),
        false => Err(TokenFault::Signature),
    }
}
