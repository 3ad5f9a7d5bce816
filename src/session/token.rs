//! A token is verified, and an issuer's keys are waited for once.

use super::Session;
use crate::identify::oidc::{TokenFault, Verdict};
use crate::policy::Identity;
use std::sync::Arc;
use std::time::SystemTime;

/// Who sent a token.
pub(super) async fn verify(session: &Session, token: &[u8]) -> Result<Arc<Identity>, TokenFault> {
    let mut fetched = false;
    loop {
        let verdict = {
            let mut cache = session.shared.tokens.borrow_mut();
            session.gateway.issuers.verify(&mut cache, token, SystemTime::now())
        };
        match verdict {
            Verdict::Verified(identity) => return Ok(identity),
            Verdict::Refused(fault) => return Err(fault),
            Verdict::Fetch(wanted) if fetched => return Err(wanted.fault()),
            Verdict::Fetch(wanted) => {
                wanted.wait().await;
                fetched = true;
            }
        }
    }
}
