//! Revocations by their ids: to look at one, and to take it back.
//!
//! Proofs that only it covered are accepted again from then on; sessions that it ended stay ended.

use super::Admin;
use super::fault::Fault;
use super::orders::{MAX_REASON, OrderSource};
use super::revoked::revocation_id;
use crate::audit::{OrderKind, OrderLine};
use crate::policy::revocation::Revocation;
use axum::http::StatusCode;
use serde::Serialize;
use std::time::SystemTime;

/// Result of a withdrawal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Withdrawn {
    /// Which revocation.
    pub(super) id: String,
    /// False: it is out of force, and a restart of the gateway brings none back, since none is kept.
    pub(super) kept: bool,
}

/// The revocation of an id, as long as it stands.
pub(super) fn standing(admin: &Admin, id: &str) -> Result<Revocation, Fault> {
    let all = admin.state.registry().revocations().list(SystemTime::now());
    all.into_iter().find(|one| revocation_id(&one.target) == id).ok_or_else(|| {
        let message = "no revocation of this id stands; it may have ended or been taken back";
        Fault::new(StatusCode::NOT_FOUND, "unknown_revocation", message)
    })
}

/// Takes a revocation back.
pub(super) fn withdraw(
    admin: &Admin,
    giver: &OrderSource<'_>,
    id: &str,
    reason: Option<&str>,
) -> Result<Withdrawn, Fault> {
    giver.must_operate()?;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Fault::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    let revocation = standing(admin, id)?;
    let registry = admin.state.registry();
    registry.withdraw(&revocation.target);
    admin.note_order(&OrderLine {
        target: Some(&revocation.target),
        reason,
        ..giver.line(OrderKind::Withdraw)
    });
    Ok(Withdrawn { id: id.to_owned(), kept: admin.keep(registry)? })
}
