//! What the sessions of databases have in common before they are permitted: who is let in, as which account, and why not.

use super::{Session, authorise, token};
use crate::credential::Account;
use crate::gateway::Route;
use crate::policy::{Identity, Permit};
use crate::protocol::RefusalReason;
use std::sync::Arc;

/// RefusalReason a client does not get through, for the client and for the log.
pub(super) struct Denial {
    pub(super) why: RefusalReason,
    /// Said to the client instead of what `why` says.
    pub(super) words: Option<String>,
    pub(super) detail: String,
}

impl Denial {
    pub(super) fn new(why: RefusalReason, detail: impl ToString) -> Self {
        Denial { why, words: None, detail: detail.to_string() }
    }

    /// The client and the log are told the same.
    pub(super) fn saying(why: RefusalReason, words: &str) -> Self {
        Denial { why, words: Some(words.to_owned()), detail: words.to_owned() }
    }
}

/// Who sent a token in the place of a password. `missing` is what an empty one is called.
pub(super) async fn verify(
    session: &Session,
    token: &[u8],
    missing: RefusalReason,
) -> Result<Arc<Identity>, Denial> {
    if token.is_empty() {
        return Err(Denial::new(missing, "an empty password"));
    }
    token::verify(session, token).await.map_err(|fault| Denial::new(fault.why(), fault))
}

/// Asks the policy, and chooses the account.
pub(super) fn authorise(
    session: &Session,
    route: &Route,
    identity: &Arc<Identity>,
) -> Result<(Permit, Account), Denial> {
    let permit = authorise::permit(session, route, identity).map_err(|no| Denial::new(no.why, no.detail))?;
    let accounts = route.database.iter().flat_map(|database| &database.accounts);
    match accounts.into_iter().find(|account| account.is_for(identity)) {
        Some(account) => Ok((permit, account.clone())),
        None => {
            Err(Denial::new(RefusalReason::Forbidden, "none of the route's accounts is for this identity"))
        }
    }
}
