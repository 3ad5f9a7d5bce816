//! Honeytokens that are shown to the operator's listener.

use super::Admin;
use super::access::AccessDenied;
use crate::audit::{self, AlarmLine};
use crate::gateway::Gateway;
use crate::names::Remote;
use crate::policy::Identity;
use crate::policy::honeytoken::Honeytoken;
use ring::digest::{SHA256, digest};
use std::net::SocketAddr;

impl Admin {
    /// Raises the alarm where a token is a honeytoken, whether it verifies or not.
    pub(super) fn check_honeytoken(
        &self,
        gateway: &Gateway,
        token: &[u8],
        remote: SocketAddr,
    ) -> Result<(), AccessDenied> {
        let sha256 = || digest(&SHA256, token).as_ref().try_into().unwrap_or_default();
        match gateway.honeytokens.by_token(sha256) {
            Some(honeytoken) if self.raise_alarm(honeytoken, None, remote) => Err(AccessDenied::BadToken),
            _ => Ok(()),
        }
    }

    /// The same for whom a proof proves.
    pub(super) fn check_honey_identity(
        &self,
        gateway: &Gateway,
        identity: &Identity,
        remote: SocketAddr,
    ) -> Result<(), AccessDenied> {
        match gateway.honeytokens.by_identity(identity) {
            Some(honeytoken) if self.raise_alarm(honeytoken, Some(identity), remote) => {
                Err(AccessDenied::NotAnOperator)
            }
            _ => Ok(()),
        }
    }

    /// True: whoever showed it is refused.
    fn raise_alarm(&self, honeytoken: &Honeytoken, identity: Option<&Identity>, remote: SocketAddr) -> bool {
        let (cut, remote) = (honeytoken.cuts, Remote(remote));
        self.state.workers().iter().take(1).for_each(|worker| worker.alarm());
        if audit::admit_alarm(remote) {
            audit::alarm(&AlarmLine { honeytoken: &honeytoken.name, session: None, remote, identity, cut });
        }
        cut
    }
}
