//! Shared signals: what an issuer's security events (OpenID CAEP and RISC) mean for those who hold its tokens.
//!
//! Pure. An issuer speaks of its own subjects only: every [`Target`] that is read here carries the issuer's name.

use crate::names::IssuerName;
use crate::policy::revocation::Target;
use crate::secret::Secret;
use serde_json::{Map, Value};
use std::sync::Arc;

/// An issuer that signals, as configured.
#[derive(Debug)]
pub struct SignalSource {
    /// The issuer, whose keys sign.
    pub issuer: IssuerName,
    /// Its URL: `iss` of events and of subjects.
    pub url: String,
    /// Events must be for one of these.
    pub audience: Vec<String>,
    /// What the transmitter must send as `Authorization: Bearer` with events that it pushes (RFC 8935); `None`: nothing.
    pub push_key: Option<Arc<Secret>>,
    /// Where events are polled (RFC 8936); `None`: they are pushed only.
    pub poll: Option<PollSource>,
}

/// Where events are polled.
#[derive(Debug)]
pub struct PollSource {
    /// The endpoint.
    pub url: crate::net::https::HttpsUrl,
    /// What is sent as `Authorization: Bearer`.
    pub key: Option<Arc<Secret>>,
    /// Connects there.
    pub https: crate::net::https::HttpsClient,
}

/// What an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Proofs that these targets fit, and that were issued before, count no more. The name of the event, and why in the
    /// issuer's words.
    ShutOut {
        /// The last part of the event's URI.
        event: &'static str,
        /// Whom; one at least.
        targets: Vec<Target>,
        /// Why.
        reason: Option<String>,
    },
    /// A test of the stream, or an event that changes nothing here.
    Nothing,
}

/// Why an event cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalFault {
    /// There is neither `sub_id` nor `subject`.
    #[error("the event has no subject: sub_id, or subject in the event")]
    NoSubject,
    /// The subject's format, or one of its members, is not known here.
    #[error(
        "the subject cannot be matched; iss_sub, email, account, opaque, jwt_id, aliases, or complex with user or session can"
    )]
    UnknownFormat,
    /// A member of the subject is absent, empty, too long, or no text.
    #[error("the subject is malformed")]
    Malformed,
    /// The subject is another issuer's.
    #[error("the subject belongs to another issuer, of which this one cannot speak")]
    OtherIssuer,
}

/// Events that end what was proven before: their URI, and how the log calls them.
const ENDING_EVENTS: [(&str, &str); 7] = [
    ("https://schemas.openid.net/secevent/caep/event-type/session-revoked", "session-revoked"),
    ("https://schemas.openid.net/secevent/caep/event-type/credential-change", "credential-change"),
    ("https://schemas.openid.net/secevent/caep/event-type/token-claims-change", "token-claims-change"),
    ("https://schemas.openid.net/secevent/risc/event-type/account-disabled", "account-disabled"),
    ("https://schemas.openid.net/secevent/risc/event-type/account-purged", "account-purged"),
    ("https://schemas.openid.net/secevent/risc/event-type/sessions-revoked", "sessions-revoked"),
    (
        "https://schemas.openid.net/secevent/risc/event-type/account-credential-change-required",
        "account-credential-change-required",
    ),
];

/// Bytes of a member of a subject.
const MAX_NAME: usize = 1_024;
/// Identifiers in `aliases`.
const MAX_ALIASES: usize = 16;

/// What one event of `source` asks for. `subject`: `sub_id` of the token that carries it; drafts before 2024 had it in the event.
pub fn read(
    source: &SignalSource,
    uri: &str,
    payload: &Map<String, Value>,
    subject: Option<&Value>,
) -> Result<Signal, SignalFault> {
    let Some((_, event)) = ENDING_EVENTS.into_iter().find(|(known, _)| *known == uri) else {
        return Ok(Signal::Nothing);
    };
    let subject = subject.or_else(|| payload.get("subject")).ok_or(SignalFault::NoSubject)?;
    Ok(Signal::ShutOut { event, targets: targets(source, subject)?, reason: reason(payload) })
}

/// All that a subject stands for (RFC 9493, and OpenID Shared Signals 1.0 section 3).
fn targets(source: &SignalSource, subject: &Value) -> Result<Vec<Target>, SignalFault> {
    let subject = subject.as_object().ok_or(SignalFault::Malformed)?;
    match format(subject)? {
        "aliases" => {
            let all = subject.get("identifiers").and_then(Value::as_array).ok_or(SignalFault::Malformed)?;
            if all.is_empty() || all.len() > MAX_ALIASES {
                return Err(SignalFault::Malformed);
            }
            let one = |one: &Value| simple(source, one.as_object().ok_or(SignalFault::Malformed)?);
            let (known, unknown): (Vec<_>, Vec<_>) = all.iter().map(one).partition(Result::is_ok);
            // They all name the same one: what can be matched is enough.
            match unknown.into_iter().find_map(Result::err) {
                Some(fault) if known.is_empty() || fault == SignalFault::OtherIssuer => Err(fault),
                _ => Ok(known.into_iter().flatten().collect()),
            }
        }
        "complex" => Ok(vec![complex(source, subject)?]),
        _ => Ok(vec![simple(source, subject)?]),
    }
}

/// A subject of several members, all of which are to fit. Those that no token tells (device, tenant, …) are passed over
/// beside a user or a session: that shuts out more, and never less.
fn complex(source: &SignalSource, subject: &Map<String, Value>) -> Result<Target, SignalFault> {
    let member = |name: &str| {
        let found = subject.get(name).map(|one| one.as_object().ok_or(SignalFault::Malformed));
        found.transpose()
    };
    let mut target = Target { issuer: Some(source.issuer.0.clone()), ..Target::default() };
    if let Some(user) = member("user")? {
        target = simple(source, user)?;
    }
    if let Some(session) = member("session")? {
        match format(session)? {
            "opaque" => target.session_id = Some(text(session, "id")?),
            _ => return Err(SignalFault::UnknownFormat),
        }
    }
    match target.subject.is_some() || target.email.is_some() || target.session_id.is_some() {
        true => Ok(target),
        false => Err(SignalFault::UnknownFormat),
    }
}

fn simple(source: &SignalSource, subject: &Map<String, Value>) -> Result<Target, SignalFault> {
    let mut target = Target { issuer: Some(source.issuer.0.clone()), ..Target::default() };
    let own = || match text(subject, "iss")? == source.url.as_str().into() {
        true => Ok(()),
        false => Err(SignalFault::OtherIssuer),
    };
    match format(subject)? {
        "iss_sub" => {
            own()?;
            target.subject = Some(text(subject, "sub")?);
        }
        "opaque" => target.subject = Some(text(subject, "id")?),
        "email" => target.email = Some(email(&text(subject, "email")?)?),
        "account" => {
            let uri = text(subject, "uri")?;
            target.email = Some(email(uri.strip_prefix("acct:").ok_or(SignalFault::Malformed)?)?);
        }
        "jwt_id" => {
            own()?;
            target.token_id = Some(text(subject, "jti")?);
        }
        _ => return Err(SignalFault::UnknownFormat),
    }
    Ok(target)
}

/// An address as identities are asked for theirs. A name without `@` is none, and would match nobody.
fn email(text: &str) -> Result<Arc<str>, SignalFault> {
    text.contains('@').then(|| text.to_lowercase().into()).ok_or(SignalFault::Malformed)
}

/// The format that a subject names; drafts called it `subject_type`, or left it out of complex ones.
fn format(subject: &Map<String, Value>) -> Result<&str, SignalFault> {
    match subject.get("format").or_else(|| subject.get("subject_type")) {
        Some(Value::String(name)) => Ok(if name == "iss-sub" { "iss_sub" } else { name }),
        Some(_) => Err(SignalFault::Malformed),
        None if subject.contains_key("user") || subject.contains_key("session") => Ok("complex"),
        None => Err(SignalFault::Malformed),
    }
}

fn text(subject: &Map<String, Value>, name: &str) -> Result<Arc<str>, SignalFault> {
    let text = subject.get(name).and_then(Value::as_str);
    text.filter(|text| (1..=MAX_NAME).contains(&text.len())).map(Into::into).ok_or(SignalFault::Malformed)
}

/// `reason_admin`: a text, or one by language.
fn reason(payload: &Map<String, Value>) -> Option<String> {
    match payload.get("reason_admin")? {
        Value::String(text) => Some(text.clone()),
        Value::Object(by_language) => {
            let text = by_language.get("en").or_else(|| by_language.values().next())?;
            text.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

    fn source() -> SignalSource {
        SignalSource {
            issuer: IssuerName("corp".into()),
            url: "https://idp.test".into(),
            audience: vec!["a".into()],
            push_key: None,
            poll: None,
        }
    }

    fn read_subject(subject: &Value) -> Result<Vec<Target>, SignalFault> {
        match read(&source(), REVOKED, &Map::new(), Some(subject))? {
            Signal::ShutOut { targets, .. } => Ok(targets),
            Signal::Nothing => panic!("{subject} came to nothing"),
        }
    }

    #[test]
    fn subjects_of_every_format_lead_to_those_of_their_own_issuer() {
        let named = |change: fn(&mut Target)| {
            let mut target = Target { issuer: Some("corp".into()), ..Target::default() };
            change(&mut target);
            target
        };
        let iss_sub = json!({"format": "iss_sub", "iss": "https://idp.test", "sub": "ann"});
        let email = json!({"format": "email", "email": "Ann@Corp.test"});
        let ann = named(|one| one.subject = Some("ann".into()));
        let mail = named(|one| one.email = Some("ann@corp.test".into()));
        for (subject, targets) in [
            (iss_sub.clone(), vec![ann.clone()]),
            (json!({"subject_type": "iss-sub", "iss": "https://idp.test", "sub": "ann"}), vec![ann.clone()]),
            (email.clone(), vec![mail.clone()]),
            (json!({"format": "account", "uri": "acct:ann@corp.test"}), vec![mail.clone()]),
            (json!({"format": "opaque", "id": "ann"}), vec![ann.clone()]),
            (
                json!({"format": "jwt_id", "iss": "https://idp.test", "jti": "t"}),
                vec![named(|one| one.token_id = Some("t".into()))],
            ),
            (json!({"format": "aliases", "identifiers": [iss_sub, email]}), vec![ann.clone(), mail]),
            (
                json!({"format": "complex", "user": email, "session": {"format": "opaque", "id": "s"}}),
                vec![named(|one| {
                    (one.email, one.session_id) = (Some("ann@corp.test".into()), Some("s".into()));
                })],
            ),
            (
                json!({"session": {"format": "opaque", "id": "s"}, "tenant": {"format": "opaque", "id": "t"}}),
                vec![named(|one| one.session_id = Some("s".into()))],
            ),
            (
                json!({"format": "aliases", "identifiers": [{"format": "did", "url": "did:x:1"}, iss_sub]}),
                vec![ann],
            ),
        ] {
            assert_eq!(read_subject(&subject), Ok(targets), "{subject}");
        }
    }

    #[test]
    fn a_subject_that_cannot_be_matched_is_told_and_never_passed_over() {
        for (subject, fault) in [
            (
                json!({"format": "iss_sub", "iss": "https://other.test", "sub": "ann"}),
                SignalFault::OtherIssuer,
            ),
            (json!({"format": "iss_sub", "iss": "https://idp.test"}), SignalFault::Malformed),
            (json!({"format": "email", "email": ""}), SignalFault::Malformed),
            (json!({"format": "email", "email": ["a@b"]}), SignalFault::Malformed),
            (json!({"format": "email", "email": "ann"}), SignalFault::Malformed),
            (json!({"format": "account", "uri": "acct:ann"}), SignalFault::Malformed),
            (json!({"format": "opaque", "id": "x".repeat(1_025)}), SignalFault::Malformed),
            (json!({"format": "phone_number", "phone_number": "+1"}), SignalFault::UnknownFormat),
            (
                json!({"format": "complex", "tenant": {"format": "opaque", "id": "t"}}),
                SignalFault::UnknownFormat,
            ),
            (json!({"format": "complex"}), SignalFault::UnknownFormat),
            (json!({"format": "aliases", "identifiers": []}), SignalFault::Malformed),
            (
                json!({"format": "aliases", "identifiers": [
                    {"format": "opaque", "id": "ann"}, {"format": "iss_sub", "iss": "https://other.test", "sub": "x"}]}),
                SignalFault::OtherIssuer,
            ),
            (json!({"email": "ann@corp.test"}), SignalFault::Malformed),
            (json!("ann"), SignalFault::Malformed),
        ] {
            assert_eq!(read_subject(&subject), Err(fault), "{subject}");
        }
        assert_eq!(read(&source(), REVOKED, &Map::new(), None), Err(SignalFault::NoSubject));
    }

    #[test]
    fn what_changes_nothing_comes_to_nothing_whatever_its_subject() {
        for uri in ["https://schemas.openid.net/secevent/ssf/event-type/verification", "", "x"] {
            assert_eq!(read(&source(), uri, &Map::new(), None), Ok(Signal::Nothing), "{uri}");
        }
    }
}
