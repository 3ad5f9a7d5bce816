//! Deduplicates events. A replay older than the memory does no harm: a revocation dates from its event.

use crate::names::IssuerName;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Events that are remembered.
const SEEN_CAPACITY: usize = 10_000;

/// The last events that were obeyed.
#[derive(Default)]
pub(in crate::admin) struct SeenEvents(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    ids: HashSet<Arc<[u8]>>,
    order: VecDeque<Arc<[u8]>>,
}

impl SeenEvents {
    /// True when this event of this issuer came before.
    pub(super) fn has(&self, issuer: &IssuerName, id: &str) -> bool {
        self.0.lock().ids.contains(&key(issuer, id)[..])
    }

    /// Remembers an event.
    pub(super) fn put(&self, issuer: &IssuerName, id: &str) {
        let key: Arc<[u8]> = key(issuer, id).into();
        let seen = &mut *self.0.lock();
        if seen.ids.insert(key.clone()) {
            seen.order.push_back(key);
        }
        if seen.order.len() > SEEN_CAPACITY
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.ids.remove(&oldest);
        }
    }
}

fn key(issuer: &IssuerName, id: &str) -> Vec<u8> {
    let text = format!("{}\0{id}", issuer.0);
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_issuer_and_id_and_the_oldest_make_room() {
        let (seen, corp, other) =
            (SeenEvents::default(), IssuerName("corp".into()), IssuerName("other".into()));
        seen.put(&corp, "first");
        assert!(seen.has(&corp, "first") && !seen.has(&other, "first") && !seen.has(&corp, "second"));
        (0..SEEN_CAPACITY).for_each(|n| seen.put(&corp, &n.to_string()));
        assert!(!seen.has(&corp, "first") && seen.has(&corp, "0"));
        assert_eq!(seen.0.lock().ids.len(), SEEN_CAPACITY);
    }
}
