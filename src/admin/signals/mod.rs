//! Issuers' security events (OpenID CAEP), pushed (RFC 8935) or polled (RFC 8936): each shuts somebody out, as an operator's
//! order does.
//!
//! A revocation dates from `iat` of the event, so that one that comes again, late or by an attacker's hand, shuts out nobody
//! who has logged in since. An event that cannot be obeyed is answered as an error and logged: an issuer that believes
//! somebody to be out is told that they are not.

pub(super) mod poll;
mod seen;

use super::orders::{MAX_REASON, shut_out};
use super::{Admin, Peer, access};
use crate::audit::{self, OrderKind, OrderLine};
use crate::identify::oidc::{SecurityEventFault, TokenFault};
use crate::identify::signals::{Signal, SignalFault, SignalSource, read};
use crate::metrics::{SignalOutcome, count_signal};
use crate::names::Remote;
use crate::policy::revocation::Revocation;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ring::digest::{SHA256, digest};
pub(super) use seen::SeenEvents;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long an event shuts out, longer than tokens live; longer where a live session's token does.
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Media type of a pushed event (RFC 8935 section 2.1).
const MEDIA_TYPE: &str = "application/secevent+jwt";

/// Why an event was not obeyed.
#[derive(Debug)]
struct Rejection {
    /// The code of RFC 8935 section 2.4; `None`: it may be sent again, the fault is here.
    code: Option<&'static str>,
    text: String,
}

impl Rejection {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Rejection { code: Some(code), text: text.into() }
    }

    fn temporary(text: impl Into<String>) -> Self {
        Rejection { code: None, text: text.into() }
    }
}

impl From<SecurityEventFault> for Rejection {
    fn from(fault: SecurityEventFault) -> Self {
        let code = match fault {
            SecurityEventFault::Token(TokenFault::Unavailable) => {
                return Rejection::temporary(fault.to_string());
            }
            SecurityEventFault::Token(token) => match token {
                TokenFault::UnknownIssuer => "invalid_issuer",
                TokenFault::Audience => "invalid_audience",
                TokenFault::Algorithm
                | TokenFault::UnknownKey
                | TokenFault::UnnamedKey
                | TokenFault::KeyMismatch
                | TokenFault::Signature => "invalid_key",
                _ => "invalid_request",
            },
            _ => "invalid_request",
        };
        Rejection::new(code, fault.to_string())
    }
}

impl From<SignalFault> for Rejection {
    fn from(fault: SignalFault) -> Self {
        let code = if fault == SignalFault::OtherIssuer { "access_denied" } else { "invalid_request" };
        Rejection::new(code, fault.to_string())
    }
}

/// Takes a pushed event.
pub(super) async fn push(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(Peer { address: remote, .. }): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let done = pushed(&admin, &headers, &body, remote).await;
    let Err(Rejection { code, text }) = done else { return StatusCode::ACCEPTED.into_response() };
    let status = match code {
        None => StatusCode::SERVICE_UNAVAILABLE,
        Some("authentication_failed") => StatusCode::UNAUTHORIZED,
        Some(_) => StatusCode::BAD_REQUEST,
    };
    let body = Json(json!({ "err": code.unwrap_or("unavailable"), "description": text }));
    let mut response = (status, Extension(super::fault::ExplainedFault), body).into_response();
    if code.is_none() {
        response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("10"));
    }
    response
}

async fn pushed(
    admin: &Admin,
    headers: &HeaderMap,
    token: &[u8],
    remote: SocketAddr,
) -> Result<(), Rejection> {
    let token = token.trim_ascii();
    let source = source_of(admin, headers, token).inspect_err(|rejection| {
        count_signal(&"".into(), SignalOutcome::Refused);
        log_refusal("signals", Some(remote), rejection);
    })?;
    admin.apply_event(&source, token, Some(remote)).await
}

/// Whose event is pushed, and whether its transmitter may.
fn source_of(admin: &Admin, headers: &HeaderMap, token: &[u8]) -> Result<Arc<SignalSource>, Rejection> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(Rejection::new("invalid_request", format!("send the event as {MEDIA_TYPE}")));
    }
    let issuer = admin.state.gateway().issuers.security_event_issuer(token)?;
    let all = admin.state.signals();
    let source = all.iter().find(|source| source.issuer == issuer);
    let source = source
        .ok_or_else(|| Rejection::new("invalid_issuer", "no signals are taken from this issuer"))?
        .clone();
    if let Some(key) = &source.push_key {
        let sent = access::bearer(headers).unwrap_or_default();
        // Digests, so that the time it takes tells nothing of the key.
        if digest(&SHA256, sent).as_ref() != digest(&SHA256, key.expose()).as_ref() {
            let text = "send the configured key as 'Authorization: Bearer …'";
            return Err(Rejection::new("authentication_failed", text));
        }
    }
    Ok(source)
}

impl Admin {
    /// Applies one event of `source`, once however often it is delivered.
    async fn apply_event(
        &self,
        source: &SignalSource,
        token: &[u8],
        remote: Option<SocketAddr>,
    ) -> Result<(), Rejection> {
        let done = self.try_obey(source, token, remote).await;
        let outcome = match &done {
            Ok(outcome) => *outcome,
            Err(rejection) => {
                log_refusal(&format!("issuer:{}", source.issuer), remote, rejection);
                SignalOutcome::Refused
            }
        };
        count_signal(&source.issuer.0, outcome);
        done.map(drop)
    }

    async fn try_obey(
        &self,
        source: &SignalSource,
        token: &[u8],
        remote: Option<SocketAddr>,
    ) -> Result<SignalOutcome, Rejection> {
        let now = SystemTime::now();
        let issuers = self.state.gateway().issuers.clone();
        let event = issuers.security_event(token, &source.audience, now).await?;
        if event.issuer != source.issuer {
            return Err(Rejection::new("invalid_issuer", "the event is of another issuer"));
        }
        if self.seen_events.has(&event.issuer, &event.id) {
            return Ok(SignalOutcome::Repeated);
        }
        // All are read before any is obeyed.
        let signals: Result<Vec<_>, _> = event
            .events
            .iter()
            .map(|(uri, payload)| read(source, uri, payload, event.subject.as_ref()))
            .collect();
        let operator = format!("issuer:{}", event.issuer);
        let at = event.issued.min(now);
        let mut outcome = SignalOutcome::Ignored;
        for signal in signals? {
            let Signal::ShutOut { event: name, targets, reason } = signal else { continue };
            let reason = match reason {
                Some(text) => shortened(&format!("{name}: {text}")),
                None => name.to_owned(),
            };
            for target in targets {
                let revocation = Revocation { target, at, until: now + LIFETIME };
                let line = OrderLine {
                    order: OrderKind::Revoke,
                    operator: &operator,
                    remote,
                    session: None,
                    target: None,
                    until: None,
                    sessions: None,
                    reason: Some(&reason),
                };
                shut_out(self, revocation, line).map_err(|fault| Rejection::temporary(fault.message))?;
                outcome = SignalOutcome::Revoked;
            }
        }
        if outcome == SignalOutcome::Revoked {
            self.keep(self.state.registry()).map_err(|fault| Rejection::temporary(fault.message))?;
        }
        self.seen_events.put(&event.issuer, &event.id);
        Ok(outcome)
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_REASON)].to_owned()
}

/// Writes why an event was refused: as many lines as anybody may cause who is not permitted.
fn log_refusal(operator: &str, remote: Option<SocketAddr>, rejection: &Rejection) {
    if remote.is_none_or(|remote| audit::admit_unpermitted(Remote(remote), false)) {
        audit::order(&OrderLine {
            order: OrderKind::Refused,
            operator,
            remote,
            session: None,
            target: None,
            until: None,
            sessions: None,
            reason: Some(&format!("a security event: {}", rejection.text)),
        });
    }
}
