//! Why an order failed, in words for the log.

use super::client::AcmeClient;
use instant_acme::Error;
use std::time::SystemTime;

/// Characters of a fault that are kept: authorities quote whole pages.
const MAX_TEXT: usize = 500;

/// What types of problems begin with (RFC 8555 section 6.7).
const PROBLEM_TYPES: &str = "urn:ietf:params:acme:error:";

/// Problems that say nothing about the order.
const OUTAGES: [&str; 3] = ["serverInternal", "rateLimited", "badNonce"];

/// Why an order failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) text: String,
    /// When the authority wants to be asked again.
    pub(super) retry_after: Option<SystemTime>,
    pub(super) kind: Option<String>,
    /// True when the authority, or the way to it, is at fault, whatever it is asked for.
    pub(super) is_outage: bool,
}

impl Fault {
    /// A fault of this side.
    pub(super) fn own(text: impl ToString) -> Self {
        Fault { text: clean(&text.to_string()), retry_after: None, kind: None, is_outage: false }
    }

    /// True for a problem of this type (RFC 8555 section 6.7).
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.as_ref().and_then(|own| own.strip_prefix(PROBLEM_TYPES)) == Some(kind)
    }
}

/// A fault of the library's as one of ours.
pub(super) fn explain(error: Error, client: &AcmeClient) -> Fault {
    let text = match &error {
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or("about:blank");
            let kind = kind.rsplit(':').next().unwrap_or(kind);
            let mut text = format!("{kind}: {}", problem.detail.as_deref().unwrap_or("no details"));
            for sub in &problem.subproblems {
                text += &format!("; {sub}");
            }
            text
        }
        other => other.to_string(),
    };
    let (kind, is_outage) = match error {
        Error::Api(problem) => {
            let of_server = problem.status.is_some_and(|status| status >= 500);
            let kind = problem.r#type.as_deref().and_then(|kind| kind.strip_prefix(PROBLEM_TYPES));
            let is_outage = of_server || kind.is_some_and(|kind| OUTAGES.contains(&kind));
            (problem.r#type, is_outage)
        }
        _ => (None, true),
    };
    Fault { text: clean(&text), retry_after: client.retry_after(), kind, is_outage }
}

/// What may stand in a log line of texts that the other side chose.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
