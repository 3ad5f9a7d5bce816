//! The issuer's own word on how it is called.

use super::plan::Plan;
use crate::client::{Fault, Offence, probe_issuer};
use std::time::Duration;
use tokio::time::timeout;

/// An issuer that is out of reach holds nobody up for longer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for the discovery document. Where only a `/` at the end is wrong, it is put right. Returns what to say about it.
pub(super) async fn correct(plan: &mut Plan) -> Option<String> {
    let first = probe(&plan.issuer, plan).await.err()?;
    let other = match plan.issuer.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{}/", plan.issuer),
    };
    if matches!(&first, Fault::Issuer { offence: Offence::Broken(_), .. })
        && probe(&other, plan).await.is_ok()
    {
        let note = format!("The issuer calls itself {other}; the configuration has it so.");
        plan.issuer = other;
        return Some(note);
    }
    Some(format!("warning: {first}; the gateway verifies no token before the issuer answers"))
}

async fn probe(url: &str, plan: &Plan) -> Result<(), Fault> {
    let probed = timeout(PROBE_TIMEOUT, probe_issuer(url, plan.issuer_ca.as_deref())).await;
    probed.unwrap_or_else(|_| {
        let offence = Offence::Unreachable(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
        Err(Fault::Issuer { url: url.to_owned(), offence })
    })
}
