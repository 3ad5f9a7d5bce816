//! Orders: to end or drain a session, and to revoke. Each is a line of the log.

use super::Admin;
use super::access::{Operator, Role};
use super::fault::Fault;
use super::recordings::Transcript;
use super::revoked::revocation_id;
use crate::audit::{self, OrderKind, OrderLine, rfc3339};
use crate::close::Close;
use crate::names::SessionId;
use crate::policy::revocation::{Revocation, Target};
use crate::session::registry::Order;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// Bytes of a reason.
pub(super) const MAX_REASON: usize = 300;

/// How long a revocation stands where nothing else is said, and at most: longer than tokens and certificates live, so that none
/// that it covers counts again.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Bytes of a name in a revocation.
const MAX_NAME: usize = 1_024;

/// Who gives an order, and from where.
pub(super) struct OrderSource<'a> {
    pub(super) operator: &'a Operator,
    pub(super) remote: SocketAddr,
}

impl OrderSource<'_> {
    /// A line of the log about an order of this operator.
    pub(super) fn line(&self, order: OrderKind) -> OrderLine<'_> {
        OrderLine {
            order,
            operator: &self.operator.name,
            remote: Some(self.remote),
            session: None,
            target: None,
            until: None,
            sessions: None,
            reason: None,
        }
    }

    /// Refuses callers without the operator role.
    pub(super) fn must_operate(&self) -> Result<(), Fault> {
        if self.operator.role >= Role::Operate {
            return Ok(());
        }
        audit::order(&OrderLine { reason: Some("the role is view"), ..self.line(OrderKind::Refused) });
        Err(Fault::view_only())
    }
}

/// The session that a path names.
pub(super) fn session_id(text: &str) -> Result<SessionId, Fault> {
    let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u64::from_str_radix(text, 16).ok().filter(|_| digits).map(SessionId);
    id.ok_or_else(|| Fault::bad_request("a session's id has 16 digits of lower-case hex, as in the log"))
}

/// An order to one session, named by the last part of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionOrder {
    /// End now.
    End,
    /// Finish what is under way, take nothing new.
    Drain,
    /// Ask the policy again.
    Reauthorise,
}

impl SessionOrder {
    const ALL: [SessionOrder; 3] = [SessionOrder::End, SessionOrder::Drain, SessionOrder::Reauthorise];

    /// The word in its path and in the log.
    pub(super) fn name(self) -> &'static str {
        self.kind().name()
    }

    /// The order of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        SessionOrder::ALL.into_iter().find(|order| order.name() == name)
    }

    fn kind(self) -> OrderKind {
        match self {
            SessionOrder::End => OrderKind::End,
            SessionOrder::Drain => OrderKind::Drain,
            SessionOrder::Reauthorise => OrderKind::Reauthorise,
        }
    }

    fn order(self) -> Order {
        match self {
            SessionOrder::End => Order::End(Close::Operator),
            SessionOrder::Drain => Order::Drain,
            SessionOrder::Reauthorise => Order::AuthoriseAgain,
        }
    }
}

/// Gives an order to a session.
pub(super) fn give(
    admin: &Admin,
    giver: &OrderSource<'_>,
    id: &str,
    order: SessionOrder,
    reason: Option<&str>,
) -> Result<SessionId, Fault> {
    giver.must_operate()?;
    let id = session_id(id)?;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Fault::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    if !admin.state.registry().order(id, order.order()) {
        return Err(Fault::unknown_session(&id.to_string()));
    }
    admin.note_order(&OrderLine { session: Some(id), reason, ..giver.line(order.kind()) });
    Ok(id)
}

/// What was said in a recorded session. Whoever looks may ask: the key is what opens it. Each answer is a line of the log.
pub(super) async fn transcript(
    admin: &Admin,
    giver: &OrderSource<'_>,
    id: &str,
    identity: Zeroizing<String>,
) -> Result<Transcript, Fault> {
    let transcript = admin.transcript(id, identity).await?;
    admin.note_order(&OrderLine { session: Some(session_id(id)?), ..giver.line(OrderKind::Transcript) });
    Ok(transcript)
}

/// A revocation as it is asked for. All names that are given must fit.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevokeRequest {
    /// `sub` of the token, or the name taken from the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `jti` of the token.
    #[serde(skip_serializing_if = "Option::is_none", alias = "jti")]
    pub token_id: Option<String>,
    /// A group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Serial number of the client's certificate in hex.
    #[serde(skip_serializing_if = "Option::is_none", alias = "certificate_serial")]
    pub serial: Option<String>,
    /// The configured name of the issuer or certificate authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// An e-mail address in the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `sid` of the token.
    #[serde(skip_serializing_if = "Option::is_none", alias = "sid")]
    pub session_id: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it stands at least; ten years where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Result of a revocation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Revoked {
    /// By which it is taken back.
    pub(super) id: String,
    /// Live sessions that were ended.
    pub(super) sessions: usize,
    /// Until when it stands at least.
    pub(super) until: String,
    /// False: a restart of the gateway forgets it.
    pub(super) kept: bool,
}

/// Revokes.
pub(super) fn revoke(admin: &Admin, giver: &OrderSource<'_>, asked: RevokeRequest) -> Result<Revoked, Fault> {
    giver.must_operate()?;
    let RevokeRequest { subject, token_id, group, serial, issuer, email, session_id, reason, seconds } =
        asked;
    let name = |text: Option<String>, what: &str| -> Result<Option<Arc<str>>, Fault> {
        match text {
            Some(text) if text.is_empty() || text.len() > MAX_NAME => {
                Err(Fault::bad_request(format!("{what} has 1 to {MAX_NAME} bytes")))
            }
            text => Ok(text.map(Arc::from)),
        }
    };
    let target = Target {
        subject: name(subject, "subject")?,
        token_id: name(token_id, "token_id")?,
        group: name(group, "group")?,
        serial: serial.map(|text| serial_number(&text)).transpose()?,
        issuer: name(issuer, "issuer")?,
        email: name(email.map(|text| text.trim().to_lowercase()), "email")?,
        session_id: name(session_id, "session_id")?,
    };
    let is_address = |email: &str| {
        let (local, domain) = email.rsplit_once('@').unwrap_or_default();
        !local.is_empty() && !domain.is_empty() && !email.contains(char::is_whitespace)
    };
    if target.email.as_ref().is_some_and(|email| !is_address(email)) {
        return Err(Fault::bad_request("email is an address, with @; another name is a subject"));
    }
    if target.is_empty() {
        let message = "name whom to revoke: subject, email, token_id, session_id, group, serial, issuer, or several of them";
        return Err(Fault::bad_request(message));
    }
    if let Some(issuer) = &target.issuer {
        let known = admin.issuer_names();
        if !known.iter().any(|name| **name == **issuer) {
            let message = format!("there is no issuer {issuer:?}; there are {}", known.join(", "));
            return Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_issuer", message));
        }
    }
    let reason = reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Fault::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    let lifetime = seconds.map_or(MAX_LIFETIME, Duration::from_secs);
    if lifetime.is_zero() || lifetime > MAX_LIFETIME {
        return Err(Fault::bad_request("seconds is a number from 1 to 316224000 (ten years)"));
    }
    let at = SystemTime::now();
    let revocation = Revocation { target, at, until: at + lifetime };
    let line = OrderLine { reason, ..giver.line(OrderKind::Revoke) };
    let id = revocation_id(&revocation.target);
    let (sessions, until) = shut_out(admin, revocation, line)?;
    Ok(Revoked { id, sessions, until: rfc3339(until), kept: admin.keep(admin.state.registry())? })
}

/// Puts a revocation in force, and writes `line` with what came of it: how many live sessions ended, and until when it
/// stands.
pub(super) fn shut_out(
    admin: &Admin,
    revocation: Revocation,
    line: OrderLine<'_>,
) -> Result<(usize, SystemTime), Fault> {
    let (registry, now) = (admin.state.registry(), SystemTime::now());
    let target = revocation.target.clone();
    let wanted = revocation.until;
    let sessions = registry
        .revoke(revocation, now)
        .map_err(|fault| Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", fault.to_string()))?;
    let standing = registry.revocations().list(now).into_iter().find(|one| one.target == target);
    let until = standing.map_or(wanted, |one| one.until);
    admin.note_order(&OrderLine {
        target: Some(&target),
        until: Some(until),
        sessions: Some(sessions),
        ..line
    });
    Ok((sessions, until))
}

/// A serial number as tools print it (`0A:1B`, `0x0a1b`) in the spelling of [`Target::serial`].
fn serial_number(text: &str) -> Result<Arc<str>, Fault> {
    let digits = text.trim().to_ascii_lowercase();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits).replace([':', ' '], "");
    let is_hex = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex {
        return Err(Fault::bad_request("serial is a number in hex, as `openssl x509 -serial` prints it"));
    }
    let significant = digits.trim_start_matches('0');
    Ok(if significant.is_empty() { "0" } else { significant }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_tools_print_them() {
        let spelt = [("0A:1B", "a1b"), ("0x0a1b", "a1b"), ("a1b", "a1b"), (" 00 0a 1b ", "a1b"), ("00", "0")];
        for (text, read) in spelt {
            assert_eq!(&*serial_number(text).unwrap(), read);
        }
        for bad in ["", "0x", "g", "-1", &"a".repeat(65)] {
            assert!(serial_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_is_named_as_in_the_log() {
        assert_eq!(session_id("00000000000000ff").unwrap(), SessionId(255));
        for bad in ["ff", "00000000000000FF", "+0000000000000ff", "../../../etc/pass", ""] {
            assert_eq!(session_id(bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
