//! Verified tokens, remembered per worker so that a signature is checked once and not per request.
//!
//! Holds digests and identities, never a token. A hit costs one SHA-256 and one look-up and allocates nothing.
//! An entry counts only while the issuer still publishes the key that verified it, and only for the
//! [`Issuers`](super::Issuers) that made it: a reload starts anew.

use super::keys::{Key, KeySet};
use crate::policy::Identity;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Tokens remembered by one worker. At about 1 KiB for an identity with its claims this is 4 MiB at the most.
const ENTRIES: usize = 4_096;

/// The verified tokens of one worker, bounded; the oldest entry makes room.
#[derive(Debug, Default)]
pub struct TokenCache {
    /// Which [`Issuers`](super::Issuers) filled this cache.
    owner: u64,
    entries: HashMap<TokenDigest, Entry>,
    /// The keys of `entries`, oldest first; each exactly once.
    order: VecDeque<TokenDigest>,
}

/// SHA-256 of a token.
pub(super) type TokenDigest = [u8; 32];

/// A token that verified.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whom it proved.
    pub(super) identity: Arc<Identity>,
    /// Place of the issuer in its [`Issuers`](super::Issuers).
    pub(super) issuer: usize,
    /// The key set in which the key was last seen.
    pub(super) generation: u64,
    /// The key that verified it.
    pub(super) key: Arc<Key>,
}

impl Entry {
    /// True while the issuer publishes the key that verified this token.
    pub(super) fn counts(&mut self, keys: &KeySet) -> bool {
        let current = self.generation == keys.generation() || keys.contains(&self.key);
        if current {
            self.generation = keys.generation();
        }
        current
    }
}

impl TokenCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any token.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a token, if `owner` made it.
    pub(super) fn get(&mut self, owner: u64, digest: &TokenDigest) -> Option<&mut Entry> {
        if self.owner != owner {
            self.entries.clear();
            self.order.clear();
            self.owner = owner;
        }
        self.entries.get_mut(digest)
    }

    /// Remembers a token. An entry that no longer counts is replaced in its place, so `order` stays exact.
    pub(super) fn put(&mut self, digest: TokenDigest, entry: Entry) {
        if self.entries.insert(digest, entry).is_some() {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// SHA-256, the name of a token in the cache.
pub(super) fn digest(token: &[u8]) -> TokenDigest {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use crate::policy::Proof;
    use std::time::SystemTime;

    fn entry(keys: &KeySet) -> Entry {
        Entry {
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

    fn key_set(x: &str) -> KeySet {
        let document = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
        KeySet::parse(document.as_bytes(), SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn the_oldest_entry_makes_room_and_the_bound_holds() {
        let keys = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let mut cache = TokenCache::new();
        assert!(cache.get(1, &digest(b"0")).is_none());
        for n in 0..ENTRIES + 10 {
            cache.put(digest(n.to_string().as_bytes()), entry(&keys));
            cache.put(digest(n.to_string().as_bytes()), entry(&keys));
        }
        assert_eq!((cache.len(), cache.order.len()), (ENTRIES, ENTRIES));
        assert!(cache.get(1, &digest(b"9")).is_none());
        assert!(cache.get(1, &digest(b"10")).is_some());
    }

    #[test]
    fn another_owner_finds_nothing() {
        let keys = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let mut cache = TokenCache::new();
        assert!(cache.get(1, &digest(b"t")).is_none());
        cache.put(digest(b"t"), entry(&keys));
        assert!(cache.get(1, &digest(b"t")).is_some());
        assert!(cache.get(2, &digest(b"t")).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn an_entry_counts_while_its_key_is_published() {
        let first = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let again = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let other = key_set("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE");
        let mut entry = entry(&first);
        assert!(entry.counts(&first) && entry.counts(&again));
        assert_eq!(entry.generation, again.generation());
        // The same `kid` with other key material is another key.
        assert!(!entry.counts(&other));
    }
}
