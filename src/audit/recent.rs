//! The last refusals, shown on the live page.
//!
//! Holds what the log holds of them, and no more of them than the log: a flood pushes out nothing that is not written.

use super::facts::{Closed, RequestLine, Verdict};
use super::token;
use crate::close::Close;
use crate::names::{RouteName, SessionId};
use crate::policy::Identity;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// In which session.
    pub session: SessionId,
    /// From where.
    pub remote: SocketAddr,
    /// The route that was named.
    pub route: Option<RouteName>,
    /// The code of a refused request, or the reason for which a session ended.
    pub reason: &'static str,
    /// In words; the stage of a deadline, or what plaintext looked like.
    pub detail: Option<Box<str>>,
    /// Issuer and subject, where that much was known.
    pub identity: Option<(Box<str>, Box<str>)>,
}

/// Refusals that are remembered: some 400 KB.
const MAX_REFUSALS: usize = 1_000;

/// Bytes of a text that are kept.
const TEXT_BYTES: usize = 300;

static REFUSALS: Mutex<VecDeque<Refusal>> = Mutex::new(VecDeque::new());

/// The last refusals, the youngest first.
pub fn refusals() -> Vec<Refusal> {
    REFUSALS.lock().iter().rev().cloned().collect()
}

pub(super) fn request(facts: &RequestLine<'_>) {
    if let Verdict::Refused { why, detail } = facts.verdict {
        remember(Refusal {
            at: SystemTime::now(),
            session: facts.id.session,
            remote: facts.remote.0,
            route: Some(facts.route.clone()),
            reason: why.code(),
            detail: detail.map(shortened),
            identity: facts.identity.map(who),
        });
    }
}

pub(super) fn closed(facts: &Closed<'_>) {
    let turned_away = matches!(
        facts.reason,
        Close::NotTls(_)
            | Close::Handshake(_)
            | Close::NoRoute
            | Close::WrongProtocol
            | Close::Refused
            | Close::IssuerUnavailable
            | Close::Dial
            | Close::Limit
            | Close::Evicted
            | Close::Deadline(_)
            | Close::Revoked
    );
    if turned_away {
        remember(Refusal {
            at: SystemTime::now(),
            session: facts.session,
            remote: facts.remote.0,
            route: facts.route.cloned(),
            reason: facts.reason.name(),
            detail: facts.detail.or(facts.reason.detail()).map(shortened),
            identity: facts.identity.map(who),
        });
    }
}

fn remember(refusal: Refusal) {
    let mut all = REFUSALS.lock();
    if all.len() >= MAX_REFUSALS {
        all.pop_front();
    }
    all.push_back(refusal);
}

fn who(identity: &Identity) -> (Box<str>, Box<str>) {
    (identity.issuer.0.as_ref().into(), shortened(&identity.subject))
}

/// A text without the tokens in it, no longer than is kept.
fn shortened(text: &str) -> Box<str> {
    let mut shown = String::new();
    let mut rest = &text[..text.floor_char_boundary(4 * TEXT_BYTES)];
    while let Some(found) = token::find(rest.as_bytes(), rest.len() < text.len()) {
        shown.push_str(&rest[..found.start]);
        token::write_digest(&mut shown, &rest.as_bytes()[found.clone()]);
        rest = &rest[found.end..];
    }
    shown.push_str(rest);
    shown.truncate(shown.floor_char_boundary(TEXT_BYTES));
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_text_is_not_kept_and_texts_are_bounded() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
        let kept = shortened(&format!("bad {token}"));
        assert!(kept.starts_with("bad eyJ…") && !kept.contains("c2ln"), "{kept}");
        assert!(shortened(&"ä".repeat(5_000)).len() <= TEXT_BYTES);
    }
}
