//! The words that label counters, and what they count with.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Where `word` stands in `words`; the last place takes what is not there, so that nothing goes uncounted.
pub(super) fn index(words: &[&str], word: &&str) -> usize {
    words.iter().position(|w| w == word).unwrap_or(words.len() - 1)
}

/// Every code of a refusal, as in the client's answer and the log.
pub const REFUSALS: [&str; 18] = [
    "no_token",
    "invalid_token",
    "service_key",
    "expired_token",
    "two_tokens",
    "forbidden",
    "issuer_unavailable",
    "bad_gateway",
    "draining",
    "overloaded",
    "bad_request",
    "head_too_large",
    "method_not_allowed",
    "bad_answer",
    "upstream_timeout",
    "misdirected",
    "unmaskable",
    "unmaskable_answer",
];

/// `Close::name` of every reason.
pub(super) const CLOSE_REASONS: [&str; 28] = [
    "done",
    "not_tls",
    "deadline",
    "handshake",
    "no_route",
    "no_certificate",
    "wrong_protocol",
    "refused",
    "issuer_unavailable",
    "dial",
    "record",
    "protocol",
    "truncated",
    "reset",
    "alert",
    "idle",
    "stalled",
    "expired",
    "revoked",
    "operator",
    "drained",
    "limit",
    "log_full",
    "evicted",
    "key_limit",
    "recording",
    "unmaskable",
    "internal",
];

/// `Plaintext::name` of every kind.
pub(super) const PLAINTEXTS: [&str; 8] =
    ["http", "http2", "postgres", "postgres_cancel", "mysql", "ssh", "old_tls", "other"];

/// `Culprit::name` of each.
pub(super) const CULPRITS: [&str; 4] = ["client", "upstream", "gateway", "nobody"];
