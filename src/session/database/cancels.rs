//! What database sessions of all workers share: which can be cancelled, each by what the gateway gave its client for that,
//! and how MySQL's upstreams greet.

use crate::gateway::Route;
use crate::names::{IssuerName, Reached, RouteName, SessionId};
use crate::policy::{Identity, Permit};
use crate::protocol::mysql::greeting::{ServerGreeting, version};
use crate::protocol::postgres::CancelKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

/// What can be cancelled, by protocol. Workers share it: the wish to cancel is a connection of its own, and may reach any of
/// them.
#[derive(Default)]
pub struct Cancels {
    /// PostgreSQL's sessions, by the key that their clients were given.
    pub(in crate::session) postgres: Arc<CancelTable<CancelKey, CancelTarget>>,
    /// MySQL's, by the number in the gateway's greeting.
    pub(in crate::session) mysql: Arc<CancelTable<u32, KillTarget>>,
    /// How the upstreams of MySQL's routes greet.
    greetings: Mutex<HashMap<RouteName, KnownGreeting>>,
}

/// What clients choose by a server's greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) struct KnownGreeting {
    /// What it calls itself, where it is MariaDB.
    pub(in crate::session) version: Option<Box<str>>,
    /// The collation that it begins with.
    pub(in crate::session) charset: u8,
}

impl Cancels {
    /// Takes note of how a route's upstream greets.
    pub(in crate::session) fn note_greeting(&self, route: &RouteName, said: &ServerGreeting) {
        let text = std::str::from_utf8(&said.version).ok().filter(|text| text.contains("MariaDB"));
        let greeting = KnownGreeting { version: text.and_then(version), charset: said.charset };
        let mut known = self.greetings.lock();
        if known.get(route) != Some(&greeting) {
            known.insert(route.clone(), greeting);
        }
    }

    /// The greeting of the upstream behind this route; without one, of the only one that is known.
    pub(in crate::session) fn known_greeting(&self, route: Option<&RouteName>) -> Option<KnownGreeting> {
        let known = self.greetings.lock();
        match route {
            Some(route) => known.get(route).cloned(),
            None if known.len() == 1 => known.values().next().cloned(),
            None => None,
        }
    }
}

/// A PostgreSQL session that can be cancelled.
#[derive(Clone)]
pub struct CancelTarget {
    /// The identity that runs the statement.
    pub session: SessionId,
    /// Under which it runs, and under which it may be cancelled.
    pub permit: Permit,
    /// Its route, as it was when it began.
    pub route: Arc<Route>,
    /// Which of the upstream's addresses it reached.
    pub address: Reached,
    /// The upstream's own key.
    pub key: CancelKey,
}

/// A MySQL session that its own identity can kill.
#[derive(Clone)]
pub struct KillTarget {
    issuer: IssuerName,
    subject: Arc<str>,
    /// The number that the upstream gave it.
    pub thread: u32,
}

impl KillTarget {
    /// A session of this identity's.
    pub fn new(identity: &Identity, thread: u32) -> Self {
        KillTarget { issuer: identity.issuer.clone(), subject: identity.subject.clone(), thread }
    }

    /// True when it is this identity's.
    pub fn is_of(&self, identity: &Identity) -> bool {
        self.issuer == identity.issuer && self.subject == identity.subject
    }
}

/// The sessions of one protocol by route and key.
pub struct CancelTable<K, T> {
    targets: Mutex<HashMap<(RouteName, K), T>>,
}

/// A session's place in a table, until it is dropped.
pub struct CancelEntry<K: Eq + Hash, T> {
    table: Arc<CancelTable<K, T>>,
    at: (RouteName, K),
}

impl<K, T> Default for CancelTable<K, T> {
    fn default() -> Self {
        CancelTable { targets: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, T: Clone> CancelTable<K, T> {
    /// Lets `key`, on `route`, cancel the target. `None`: another session has that key.
    pub fn enter(self: &Arc<Self>, route: &RouteName, key: K, target: T) -> Option<CancelEntry<K, T>> {
        let at = (route.clone(), key);
        match self.targets.lock().entry(at.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(target);
                Some(CancelEntry { table: self.clone(), at })
            }
        }
    }

    /// The target of this key on this route.
    pub fn find(&self, route: &RouteName, key: K) -> Option<T> {
        self.targets.lock().get(&(route.clone(), key)).cloned()
    }

    /// The target of this key on any route; `None` also where there are two.
    pub fn find_on_any_route(&self, key: K) -> Option<T> {
        let targets = self.targets.lock();
        let mut found = targets.iter().filter(|((_, other), _)| *other == key).map(|(_, target)| target);
        found.next().filter(|_| found.next().is_none()).cloned()
    }
}

impl<K: Clone + Eq + Hash, T: Clone> CancelEntry<K, T> {
    /// The target of this entry.
    pub fn target(&self) -> Option<T> {
        self.table.targets.lock().get(&self.at).cloned()
    }
}

impl<K: Eq + Hash, T> Drop for CancelEntry<K, T> {
    fn drop(&mut self) {
        self.table.targets.lock().remove(&self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_on_its_route_as_long_as_its_session_lives() {
        let table: Arc<CancelTable<u32, &str>> = Arc::default();
        let (a, b) = (RouteName("a".into()), RouteName("b".into()));
        let entered = table.enter(&a, 7, "session 1").unwrap();
        assert_eq!(entered.target(), Some("session 1"));
        assert!(table.enter(&a, 7, "session 2").is_none(), "nobody takes another's key over");
        assert_eq!((table.find_on_any_route(7), table.find_on_any_route(8)), (Some("session 1"), None));
        let other = table.enter(&b, 7, "session 3").unwrap();
        assert_eq!((table.find(&a, 7), table.find(&b, 7)), (Some("session 1"), Some("session 3")));
        assert_eq!((table.find(&a, 8), table.find_on_any_route(7)), (None, None));
        drop((entered, other));
        assert_eq!(table.find(&a, 7), None);
        assert!(table.targets.lock().is_empty());
    }
}
