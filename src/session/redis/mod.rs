//! Redis under identity: a token in the password's place of AUTH or HELLO, or a client certificate.
//!
//! ```text
//!   client                    gateway                                upstream
//!     AUTH token   ─────────▶ identify, authorise                                 start
//!                             TLS, AUTH with the stored account ─────▶
//!                  ◀───────── +OK                               ◀─────
//!     commands     ◀──────────────────────────────────────────▶          dialect
//!     AUTH token   ─────────▶ identify, authorise
//!                             AUTH with the stored account      ─────▶
//!     replies      ◀──────────────────────────────────────────── in order
//! ```
//! Before the permit, commands other than AUTH, HELLO, QUIT and RESET are answered with `-NOAUTH`, and none of them
//! reaches an upstream: there is none yet.

pub(super) mod dialect;
pub(super) mod start;

use super::authorise::{Denial, verify_password};
use super::state::Session;
use crate::audit::{self, LoginLine, LoginResult};
use crate::credential::Account;
use crate::gateway::Route;
use crate::policy::Identity;
use crate::protocol::RefusalReason;
use std::sync::Arc;

/// The error reply.
fn said(denial: &Denial) -> &str {
    denial.words.as_deref().unwrap_or(denial.why.said_to_redis_client())
}

/// Who sent a token.
async fn verify(session: &Session, route: &Route, token: &[u8]) -> Result<Arc<Identity>, Denial> {
    if !route.database.as_ref().is_some_and(|database| database.takes_tokens) {
        let words = "WRONGPASS this route knows clients by certificate and takes no tokens";
        return Err(Denial::saying(RefusalReason::InvalidToken, words));
    }
    verify_password(session, token, RefusalReason::InvalidToken).await
}

/// Writes the line of a login whose token was verified.
fn log_login(session: &Session, route: &Route, identity: &Identity, user: Option<&str>, result: LoginResult) {
    let (session, route) = (session.id, &route.name);
    audit::login(&LoginLine { session, route, identity, database_user: user, result });
}

/// The name and the password of an account.
fn login_of(account: &Account) -> (&str, &[u8]) {
    (&account.user, account.password.as_ref().map_or(&[], |password| password.expose()))
}
