//! Redis under identity: a token in the password's place of AUTH or HELLO, or a client certificate.
//!
//! ```text
//!   client                    gateway                                upstream
//!     AUTH token   ─────────▶ identify, authorise                                 start
//!                             TLS, AUTH with the stored account ─────▶
//!                  ◀───────── +OK                               ◀─────
//!     commands     ◀──────────────────────────────────────────▶          traffic
//!     AUTH token   ─────────▶ identify, authorise
//!                             AUTH with the stored account      ─────▶
//!     replies      ◀──────────────────────────────────────────── in order
//! ```
//! Before the permit, commands other than AUTH, HELLO, QUIT and RESET are answered with `-NOAUTH`, and none of them
//! reaches an upstream: there is none yet.

pub(super) mod start;
pub(super) mod traffic;

use super::{Session, token};
use crate::credential::Account;
use crate::gateway::Route;
use crate::policy::{Identity, Permit, Refused};
use crate::protocol::Why;
use std::sync::Arc;
use std::time::SystemTime;

/// Why a client does not get through, for the client and for the log.
struct Denial {
    why: Why,
    /// Said to the client instead of what `why` says.
    words: Option<String>,
    detail: String,
}

impl Denial {
    fn new(why: Why, detail: impl ToString) -> Self {
        Denial { why, words: None, detail: detail.to_string() }
    }

    /// The error reply.
    fn said(&self) -> &str {
        self.words.as_deref().unwrap_or(self.why.said_to_redis_client())
    }
}

/// Who sent a token. An issuer's keys are waited for once.
async fn verify(session: &Session, route: &Route, token: &[u8]) -> Result<Arc<Identity>, Denial> {
    if !route.database.as_ref().is_some_and(|database| database.takes_tokens) {
        let words = "WRONGPASS this route knows clients by certificate and takes no tokens".to_owned();
        return Err(Denial { why: Why::InvalidToken, detail: words.clone(), words: Some(words) });
    }
    if token.is_empty() {
        return Err(Denial::new(Why::InvalidToken, "an empty password"));
    }
    token::verify(session, token).await.map_err(|fault| Denial::new(fault.why(), fault))
}

/// Asks the policy, and chooses the account.
fn authorise(route: &Route, identity: &Arc<Identity>) -> Result<(Permit, Account), Denial> {
    let permit = match route.policy.permit(&route.name, identity, SystemTime::now()) {
        Ok(permit) => permit,
        Err(Refused::NoRule) => {
            return Err(Denial::new(Why::Forbidden, "no rule of the route names this identity"));
        }
        Err(Refused::Expired) => {
            return Err(Denial::new(Why::ExpiredToken, "the proof of identity has expired"));
        }
    };
    let accounts = route.database.iter().flat_map(|database| &database.accounts);
    match accounts.into_iter().find(|account| account.is_for(identity)) {
        Some(account) => Ok((permit, account.clone())),
        None => Err(Denial::new(Why::Forbidden, "none of the route's accounts is for this identity")),
    }
}

/// The name and the password of an account.
fn login_of(account: &Account) -> (&str, &[u8]) {
    (&account.user, account.password.as_ref().map_or(&[], |password| password.expose()))
}
