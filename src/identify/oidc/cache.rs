//! Tokens that were looked at before, remembered per worker so that a signature is checked once and not per request.
//!
//! Holds digests, identities and reasons, never a token. A hit costs one SHA-256 and one look-up and allocates nothing.
//! Verified tokens and refused ones are kept apart, each bounded: whoever sends bad tokens pushes out bad tokens only.
//! An entry counts for the [`Issuers`](super::Issuers) that made it and while the issuer publishes the same key; two
//! configurations that serve at once, around a reload, have their entries side by side.

use super::fault::TokenFault;
use super::keys::{Key, KeySet};
use crate::metrics::WorkerMetrics;
use crate::policy::Identity;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Verified tokens that one worker remembers. At about 1 KiB for an identity with its claims this is 4 MiB at the most.
const MAX_VERIFIED: usize = 4_096;

/// Refused tokens that one worker remembers, about 100 bytes each.
const MAX_REFUSED: usize = 1_024;

/// How long a refusal is remembered: what was wrong may be mended at the issuer.
const REFUSED_LIFETIME: Duration = Duration::from_secs(10);

/// The tokens that one worker has seen.
#[derive(Debug, Default)]
pub struct TokenCache {
    verified: Recent<VerifiedToken>,
    refused: Recent<RefusedToken>,
    metrics: Option<Arc<WorkerMetrics>>,
}

/// Which [`Issuers`](super::Issuers) judged, and the SHA-256 of the token.
pub(super) type TokenId = (u64, [u8; 32]);

/// A token that verified.
#[derive(Debug)]
pub(super) struct VerifiedToken {
    /// Whom it proved.
    pub(super) identity: Arc<Identity>,
    /// Place of the issuer in its [`Issuers`](super::Issuers).
    pub(super) issuer: usize,
    /// The key set in which the key was last seen.
    pub(super) generation: u64,
    /// The key that verified it.
    pub(super) key: Arc<Key>,
}

impl VerifiedToken {
    /// True while the issuer publishes the key that verified this token.
    pub(super) fn is_current(&mut self, keys: &KeySet) -> bool {
        let current = self.generation == keys.generation() || keys.contains(&self.key);
        if current {
            self.generation = keys.generation();
        }
        current
    }
}

/// A token that was not accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedToken {
    /// Why; `None` when it named a key that was not there and new keys were asked for.
    pub(super) fault: Option<TokenFault>,
    /// Place of the issuer in its [`Issuers`](super::Issuers), where the token led to one.
    pub(super) issuer: Option<usize>,
    /// The key set that was looked into.
    pub(super) generation: Option<u64>,
    /// When that was.
    pub(super) at: SystemTime,
}

impl TokenCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache that counts hits and misses.
    pub fn counting(metrics: Arc<WorkerMetrics>) -> Self {
        TokenCache { metrics: Some(metrics), ..Self::default() }
    }

    /// How many verified tokens are remembered.
    pub fn len(&self) -> usize {
        self.verified.entries.len()
    }

    /// True without any verified token.
    pub fn is_empty(&self) -> bool {
        self.verified.entries.is_empty()
    }

    /// A token that verified.
    pub(super) fn verified(&mut self, id: &TokenId) -> Option<&mut VerifiedToken> {
        self.verified.entries.get_mut(id)
    }

    /// Remembers a token that verified. What was known of it before is replaced.
    pub(super) fn insert_verified(&mut self, id: TokenId, token: VerifiedToken) {
        self.verified.put(id, token, MAX_VERIFIED);
    }

    /// A token that was refused less than [`REFUSED_LIFETIME`] ago.
    pub(super) fn refused(&self, id: &TokenId, now: SystemTime) -> Option<RefusedToken> {
        let refused = self.refused.entries.get(id)?;
        let age = now.duration_since(refused.at).unwrap_or(Duration::MAX);
        (age < REFUSED_LIFETIME).then_some(*refused)
    }

    /// Remembers a token that was refused.
    pub(super) fn insert_refused(&mut self, id: TokenId, token: RefusedToken) {
        self.refused.put(id, token, MAX_REFUSED);
    }

    /// Counts a look-up.
    pub(super) fn count(&self, hit: bool) {
        match (&self.metrics, hit) {
            (Some(metrics), true) => metrics.token_hit(),
            (Some(metrics), false) => metrics.token_missed(),
            (None, _) => {}
        }
    }
}

/// A bounded map; the oldest entry makes room.
#[derive(Debug)]
struct Recent<T> {
    entries: HashMap<TokenId, T>,
    /// The keys of `entries`, oldest first; each exactly once.
    order: VecDeque<TokenId>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Recent { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    fn put(&mut self, id: TokenId, entry: T, max: usize) {
        // An entry that is replaced keeps its place, so that `order` stays exact.
        if self.entries.insert(id, entry).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// SHA-256, the name of a token in the cache.
pub(super) fn digest(token: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use crate::policy::Proof;

    fn verified(keys: &KeySet) -> VerifiedToken {
        VerifiedToken {
            identity: Arc::new(Identity {
                issuer: IssuerName("corp".into()),
                subject: "ann".into(),
                groups: vec![],
                claims: Default::default(),
                proof: Proof::Token,
                expires: SystemTime::UNIX_EPOCH,
            }),
            issuer: 0,
            generation: keys.generation(),
            key: keys.first(),
        }
    }

    fn refused(at: SystemTime) -> RefusedToken {
        RefusedToken { fault: Some(TokenFault::Signature), issuer: Some(0), generation: Some(1), at }
    }

    fn key_set(x: &str) -> KeySet {
        let document = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
        KeySet::parse(document.as_bytes(), SystemTime::UNIX_EPOCH).unwrap()
    }

    fn id(owner: u64, token: impl ToString) -> TokenId {
        (owner, digest(token.to_string().as_bytes()))
    }

    #[test]
    fn the_oldest_entry_makes_room_and_the_bound_holds() {
        let keys = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let mut cache = TokenCache::new();
        for n in 0..MAX_VERIFIED + 10 {
            cache.insert_verified(id(1, n), verified(&keys));
            cache.insert_verified(id(1, n), verified(&keys));
        }
        assert_eq!((cache.len(), cache.verified.order.len()), (MAX_VERIFIED, MAX_VERIFIED));
        assert!(cache.verified(&id(1, 9)).is_none());
        assert!(cache.verified(&id(1, 10)).is_some());
    }

    #[test]
    fn bad_tokens_push_out_bad_tokens_only() {
        let keys = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let (mut cache, now) = (TokenCache::new(), SystemTime::UNIX_EPOCH);
        cache.insert_verified(id(1, "good"), verified(&keys));
        for n in 0..10 * MAX_VERIFIED {
            cache.insert_refused(id(1, n), refused(now));
        }
        assert!(cache.verified(&id(1, "good")).is_some());
        assert_eq!(cache.refused.entries.len(), MAX_REFUSED);
        assert!(cache.refused(&id(1, 10 * MAX_VERIFIED - 1), now).is_some());
        assert!(cache.refused(&id(1, 10 * MAX_VERIFIED - 1), now + REFUSED_LIFETIME).is_none());
    }

    #[test]
    fn two_configurations_have_their_entries_side_by_side() {
        let keys = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let mut cache = TokenCache::new();
        cache.insert_verified(id(1, "t"), verified(&keys));
        assert!(cache.verified(&id(2, "t")).is_none());
        cache.insert_verified(id(2, "t"), verified(&keys));
        assert!(cache.verified(&id(1, "t")).is_some() && cache.verified(&id(2, "t")).is_some());
    }

    #[test]
    fn an_entry_counts_while_its_key_is_published() {
        let first = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let again = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let other = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE");
        let mut entry = verified(&first);
        assert!(entry.is_current(&first) && entry.is_current(&again));
        assert_eq!(entry.generation, again.generation());
        // The same `kid` with other key material is another key.
        assert!(!entry.is_current(&other));
    }
}
