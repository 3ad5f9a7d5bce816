//! Fetches events where a transmitter keeps them (RFC 8936): one request under way at a time, which the transmitter may
//! hold back until there is an event. What was obeyed or refused is told with the next request; what could not be obeyed
//! for a fault of our own is not, and comes again.

use super::{Admin, SignalSource};
use crate::identify::signals::PollSource;
use crate::net::https::HttpsFault;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Events that are asked for at a time.
const EVENTS_PER_POLL: usize = 100;
/// Between the beginnings of two requests to a transmitter that answers at once.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The same where there was an event, or there are more.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// After a fault, doubled each time up to the second.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How soon a reload's new sources are polled.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Polls every source that the configuration in force names; never ends.
pub(in crate::admin) async fn run(admin: Arc<Admin>) {
    let (mut polled, mut tasks): (Vec<Arc<SignalSource>>, _) = (Vec::new(), JoinSet::new());
    loop {
        let sources = admin.state.signals();
        let is_same = polled.len() == sources.len()
            && polled.iter().zip(&sources).all(|(one, other)| Arc::ptr_eq(one, other));
        if !is_same {
            tasks.shutdown().await;
            for source in sources.iter().filter(|source| source.poll.is_some()) {
                tasks.spawn(poll(admin.clone(), source.clone()));
            }
            polled = sources;
        }
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
}

/// What a transmitter answers.
#[derive(Deserialize)]
struct Polled {
    #[serde(default)]
    sets: BTreeMap<String, String>,
}

/// Acknowledgements of the events before.
#[derive(Default)]
struct Receipt {
    obeyed: Vec<String>,
    refused: Map<String, Value>,
}

async fn poll(admin: Arc<Admin>, source: Arc<SignalSource>) {
    let Some(place) = &source.poll else { return };
    let (mut receipt, mut retry) = (Receipt::default(), None);
    loop {
        let begun = Instant::now();
        let fault = match ask(place, &receipt).await {
            Ok(polled) => {
                if retry.is_some() {
                    tracing::info!(issuer = %source.issuer, "security events are polled again");
                }
                let (told, is_done) = apply_events(&admin, &source, &polled.sets).await;
                receipt = told;
                if is_done {
                    retry = None;
                    let interval = if receipt.is_empty() { POLL_INTERVAL } else { BUSY_POLL_INTERVAL };
                    tokio::time::sleep(interval.saturating_sub(begun.elapsed())).await;
                    continue;
                }
                "an event could not be obeyed yet".to_owned()
            }
            // Nothing happened for as long as an answer may be held back.
            Err(PollFault::Https(HttpsFault::Timeout(_))) if retry.is_none() => continue,
            Err(fault) => fault.to_string(),
        };
        if retry.is_none() {
            tracing::warn!(issuer = %source.issuer, fault, "security events cannot be polled");
        }
        let wait = retry.map_or(FIRST_RETRY, |wait: Duration| (wait * 2).min(LAST_RETRY));
        retry = Some(wait);
        tokio::time::sleep(wait).await;
    }
}

impl Receipt {
    fn is_empty(&self) -> bool {
        self.obeyed.is_empty() && self.refused.is_empty()
    }
}

/// Obeys events one after the other. False: one of them is to come again.
async fn apply_events(
    admin: &Admin,
    source: &SignalSource,
    sets: &BTreeMap<String, String>,
) -> (Receipt, bool) {
    let (mut receipt, mut is_done) = (Receipt::default(), true);
    for (id, token) in sets.iter().take(EVENTS_PER_POLL) {
        match admin.apply_event(source, token.trim().as_bytes(), None).await {
            Ok(()) => receipt.obeyed.push(id.clone()),
            Err(rejection) => match rejection.code {
                Some(code) => {
                    let told = json!({ "err": code, "description": rejection.text });
                    receipt.refused.insert(id.clone(), told);
                }
                None => is_done = false,
            },
        }
    }
    (receipt, is_done)
}

/// Why nothing was polled.
#[derive(Debug, thiserror::Error)]
enum PollFault {
    #[error(transparent)]
    Https(#[from] HttpsFault),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not the JSON of RFC 8936")]
    Malformed,
}

async fn ask(place: &PollSource, receipt: &Receipt) -> Result<Polled, PollFault> {
    let mut body = json!({ "maxEvents": EVENTS_PER_POLL, "returnImmediately": false });
    if !receipt.obeyed.is_empty() {
        body["ack"] = json!(receipt.obeyed);
    }
    if !receipt.refused.is_empty() {
        body["setErrs"] = json!(receipt.refused);
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &place.key {
        let text = [b"Bearer ", key.expose()].concat();
        // The configuration has checked that it fits into a header.
        if let Ok(mut value) = HeaderValue::from_bytes(&text) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    let answer = place.https.send(Method::POST, &place.url, headers, body.to_string().into()).await?;
    match answer.status.as_u16() {
        200 => serde_json::from_slice(answer.body.expose()).map_err(|_| PollFault::Malformed),
        202 | 204 => Ok(Polled { sets: BTreeMap::new() }),
        status => Err(PollFault::Status(status)),
    }
}
