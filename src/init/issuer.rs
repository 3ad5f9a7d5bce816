//! The issuer's own word on how it is called.

use super::plan::Plan;
use crate::client::{Fault, IssuerOffence, probe_issuer};
use std::time::Duration;
use tokio::time::timeout;

/// An issuer that is out of reach holds nobody up for longer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for the discovery document. Where only a `/` at the end is wrong, it is put right; where the keys stand on another host, the
/// configuration names it. Returns what to say about it.
pub(super) async fn correct(plan: &mut Plan) -> Option<String> {
    let first = match probe(&plan.issuer, plan).await {
        Ok(keys_host) => return note_keys(plan, keys_host),
        Err(fault) => fault,
    };
    let other = match plan.issuer.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{}/", plan.issuer),
    };
    if matches!(&first, Fault::Issuer { offence: IssuerOffence::Broken(_), .. })
        && let Ok(keys_host) = probe(&other, plan).await
    {
        let note = format!("The issuer calls itself {other}; the configuration has it so.");
        plan.issuer = other;
        let keys = note_keys(plan, keys_host).map(|keys| format!("\n{keys}")).unwrap_or_default();
        return Some(note + &keys);
    }
    Some(format!("warning: {first}; the gateway verifies no token before the issuer answers"))
}

/// Gateways fetch keys from no other host than the issuer's unless they are told to.
fn note_keys(plan: &mut Plan, host: Option<String>) -> Option<String> {
    let host = host?;
    let note = format!("The issuer's keys stand at {host}; the configuration names it in jwks_hosts.");
    plan.keys_host = Some(host);
    Some(note)
}

async fn probe(url: &str, plan: &Plan) -> Result<Option<String>, Fault> {
    let probed = timeout(PROBE_TIMEOUT, probe_issuer(url, plan.issuer_ca.as_deref())).await;
    probed.unwrap_or_else(|_| {
        let offence = IssuerOffence::Unreachable(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
        Err(Fault::Issuer { url: url.to_owned(), offence })
    })
}
