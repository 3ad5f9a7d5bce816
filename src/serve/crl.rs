//! A list of revoked client certificates that arrives with a reload ends the live sessions of those that are new on it.
//!
//! New handshakes are refused by the list itself. So the revocation that ends live sessions stands only for as long as a
//! session may be between its handshake, which the old list let pass, and its permit.

use crate::audit::{OrderKind, OrderLine};
use crate::config::Summary;
use crate::gateway::Gateway;
use crate::policy::revocation::{Revocation, Target};
use crate::session::registry::Registry;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Lifetime of a revocation by other means than the list.
const OVERLAP: Duration = Duration::from_secs(120);

/// Certificate authority's name and serial number of each certificate on a list.
#[derive(Clone, Default)]
pub(super) struct RevokedSerials(HashSet<(Arc<str>, Arc<str>)>);

impl RevokedSerials {
    /// Those of all routes whose clients get their identity from a certificate.
    pub(super) fn of(summary: &Summary, gateway: &Gateway) -> Self {
        let mut all = HashSet::new();
        for route in summary.routes.iter().filter(|route| !route.crl_serials.is_empty()) {
            let known = gateway.called(&route.name).and_then(|route| route.certificate_identity.as_ref());
            if let Some(mapping) = known {
                let authority = &mapping.authority.0;
                all.extend(route.crl_serials.iter().map(|serial| (authority.clone(), serial.clone())));
            }
        }
        RevokedSerials(all)
    }

    /// Ends live sessions of certificates that were not on the lists before. `note`: writes each order down.
    pub(super) fn end_sessions(
        &self,
        before: &RevokedSerials,
        registry: &Registry,
        note: impl Fn(&OrderLine<'_>),
    ) {
        let now = SystemTime::now();
        for (authority, serial) in self.0.difference(&before.0) {
            let target =
                Target { issuer: Some(authority.clone()), serial: Some(serial.clone()), ..Target::default() };
            let revocation = Revocation { target: target.clone(), at: now, until: now + OVERLAP };
            let sessions = match registry.shut_out(&revocation, now) {
                Ok((0, _)) => continue,
                Ok((sessions, _)) => sessions,
                Err(error) => {
                    tracing::error!(%error, "certificates on the new list keep their live sessions");
                    return;
                }
            };
            note(&OrderLine {
                order: OrderKind::Revoke,
                operator: "crl",
                remote: None,
                session: None,
                target: Some(&target),
                until: None,
                sessions: Some(sessions),
                reason: Some("a list of revoked certificates"),
            });
        }
    }
}
