//! Operators who prove by a token of a configured issuer who they are.

use super::access::{AccessDenied, Operator, Role};
use crate::identify::cache::TokenCache;
use crate::identify::oidc::{Issuers, Verdict};
use crate::names::RouteName;
use crate::policy::revocation::Revocations;
use crate::policy::{Identity, Policy};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::SystemTime;

/// Which tokens let in, and as what.
pub(super) struct TokenRules {
    operate: Policy,
    view: Policy,
    cache: Mutex<TokenCache>,
}

impl TokenRules {
    pub(super) fn new(operate: Policy, view: Policy) -> Self {
        TokenRules { operate, view, cache: Mutex::default() }
    }

    /// True when no token lets anybody in.
    pub(super) fn is_empty(&self) -> bool {
        self.operate.rules.is_empty() && self.view.rules.is_empty()
    }

    /// What somebody may whose identity is proven, and until when.
    pub(super) fn judge(
        &self,
        revocations: &Revocations,
        identity: &Arc<Identity>,
    ) -> Result<(Operator, SystemTime), AccessDenied> {
        if revocations.cover(identity, SystemTime::now) {
            return Err(AccessDenied::Revoked);
        }
        let may =
            |policy: &Policy| policy.permit(&RouteName("admin".into()), identity, SystemTime::now()).is_ok();
        let role = match (may(&self.operate), may(&self.view)) {
            (true, _) => Role::Operate,
            (false, true) => Role::View,
            (false, false) => return Err(AccessDenied::NotAnOperator),
        };
        let operator =
            Operator { name: identity.subject.clone(), role, login: None, identity: Some(identity.clone()) };
        Ok((operator, identity.expires))
    }

    /// Whom a token proves. Waits once for an issuer's keys.
    pub(super) async fn identity(
        &self,
        issuers: &Issuers,
        token: &[u8],
    ) -> Result<Arc<Identity>, AccessDenied> {
        let verify = || issuers.verify(&mut self.cache.lock(), token, SystemTime::now());
        let verdict = match verify() {
            Verdict::Fetch(wanted) => {
                wanted.wait().await;
                verify()
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Verified(identity) => Ok(identity),
            Verdict::Refused(_) => Err(AccessDenied::BadToken),
            Verdict::Fetch(_) => Err(AccessDenied::NoKeys),
        }
    }
}
