//! Every live session of the process: its facts, its counts, and the orders that it was given.
//!
//! A shard per worker holds an `Entry` for each of the worker's sessions, from accept to close. Whoever shows sessions
//! (a live page), ends them (revocation, a drain) or has them authorised again (a reload) stands on this; so will a
//! recording, which needs the same facts.
//!
//! **Facts** are written by the session at its stages, some ten times in its life, under a lock of its own that nobody
//! contends for. A reader clones them.
//!
//! **Counts** are published: when the relay looks at its clock (every 30 s at the latest), when it is given an order, and
//! when a [`Registry::snapshot`] asked for it since its last poll. A session that moves bytes is exact within one poll of
//! a snapshot before; one that is quiet has published what it has at most 30 s after it fell silent.
//!
//! **Orders** (drain, authorise again, end with a reason) are left in the session's entry, from any thread; the shard's
//! generation goes up, and the session is woken. They are obeyed in the relay. Who is not permitted yet has the permit
//! deadline above it, and finds the orders when it gets to the relay.
//!
//! **The data path** pays one relaxed load of the shard's generation for each poll of a relay, of a line of memory that all
//! sessions of the worker share. No lock is taken, and nothing is counted, for a record or a request.

use crate::close::{Close, Stage};
use crate::gateway::Route;
use crate::names::{Reached, Remote, SessionId};
use crate::policy::Identity;
use crate::relay::{Orders, OrdersFor, Progress};
use crate::tls::handshake;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// The live sessions of all workers.
pub struct Registry {
    shards: Vec<Arc<Shard>>,
}

impl Registry {
    /// One shard for each worker.
    pub fn new(workers: usize) -> Self {
        Registry { shards: (0..workers).map(|worker| Arc::new(Shard::new(worker))).collect() }
    }

    /// The sessions of one worker.
    pub fn shard(&self, worker: usize) -> Option<&Arc<Shard>> {
        self.shards.get(worker)
    }

    /// What is known of each session. Counts are those that were published; asking has them published for the next time.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let entries: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                shard.generation.fetch_add(1, Ordering::Release);
                let table = shard.table.lock();
                table.sessions.values().map(|entry| (shard.worker, entry.clone())).collect::<Vec<_>>()
            })
            .collect();
        entries.iter().map(|(worker, entry)| entry.snapshot(*worker)).collect()
    }

    /// Gives an order to one session. False when there is none of this name.
    pub fn order(&self, id: SessionId, order: Order) -> bool {
        self.shards.iter().any(|shard| shard.order(id, order))
    }

    /// Ends all sessions now, and those that come.
    pub fn stop(&self, close: Close) {
        self.shards.iter().for_each(|shard| shard.stop(close));
    }

    /// Has every live session authorised again, by the configuration that is in force now.
    pub fn authorise_again(&self) {
        self.shards.iter().for_each(|shard| shard.order_all(Order::AuthoriseAgain));
    }
}

/// An order to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what is under way, take nothing new.
    Drain,
    /// The configuration has changed: whoever is not permitted any more ends as at expiry.
    AuthoriseAgain,
    /// End now, for this reason.
    End(Close),
}

/// The live sessions of one worker.
pub struct Shard {
    worker: usize,
    /// Another number whenever a session may have been given an order, or its counts are wanted.
    generation: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, Arc<Entry>>,
    /// What sessions that come are told at once.
    standing: OrdersFor,
}

impl Shard {
    fn new(worker: usize) -> Self {
        Shard { worker, generation: AtomicU64::new(0), table: Mutex::default() }
    }

    /// Puts a session on the list until the registration is dropped.
    pub(super) fn register(
        self: &Arc<Self>,
        id: SessionId,
        accepted: Instant,
        listener: SocketAddr,
        remote: Remote,
    ) -> Registration {
        let mut table = self.table.lock();
        let inbox = Mutex::new(Inbox { orders: table.standing, waker: None });
        let (facts, counts) = (Mutex::new(Facts::new(remote)), Counts::default());
        let entry = Arc::new(Entry { id, accepted, listener, facts, counts, inbox });
        table.sessions.insert(id, entry.clone());
        Registration { entry, shard: self.clone() }
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.table.lock().sessions.len()
    }

    /// True when no session lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells all sessions, and all that come, to finish what is under way.
    pub fn drain(&self) {
        self.table.lock().standing.add(Order::Drain);
        self.order_all(Order::Drain);
    }

    /// Ends all sessions now, and those that come as soon as they are permitted.
    pub fn stop(&self, close: Close) {
        self.table.lock().standing.add(Order::End(close));
        self.order_all(Order::End(close));
    }

    /// Takes back what [`Shard::stop`] told those that come.
    pub fn resume(&self) {
        self.table.lock().standing.end = None;
    }

    fn order(&self, id: SessionId, order: Order) -> bool {
        let entry = self.table.lock().sessions.get(&id).cloned();
        let waker = entry.as_ref().map(|entry| entry.take_order(order));
        self.generation.fetch_add(1, Ordering::Release);
        let found = waker.is_some();
        waker.flatten().into_iter().for_each(Waker::wake);
        found
    }

    fn order_all(&self, order: Order) {
        let wakers: Vec<_> = {
            let table = self.table.lock();
            table.sessions.values().filter_map(|entry| entry.take_order(order)).collect()
        };
        self.generation.fetch_add(1, Ordering::Release);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One session's place on the list, held by the session itself.
pub struct Registration {
    entry: Arc<Entry>,
    shard: Arc<Shard>,
}

impl Registration {
    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// Where its facts are kept.
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shard.table.lock().sessions.remove(&self.entry.id);
    }
}

impl Orders for &Registration {
    fn generation(&self) -> u64 {
        self.shard.generation.load(Ordering::Relaxed)
    }

    fn take(&self) -> OrdersFor {
        // What was written before the generation went up is read after.
        fence(Ordering::Acquire);
        let orders = &mut self.entry.inbox.lock().orders;
        let taken = *orders;
        orders.authorise_again = false;
        taken
    }

    fn publish(&self, progress: Progress) {
        let counts = &self.entry.counts;
        counts.up.store(progress.moved.up, Ordering::Relaxed);
        counts.down.store(progress.moved.down, Ordering::Relaxed);
        counts.requests.store(progress.requests, Ordering::Relaxed);
        counts.under_way.store(progress.under_way, Ordering::Relaxed);
    }

    fn wake_on_change(&self, waker: &Waker) {
        self.entry.inbox.lock().waker = Some(waker.clone());
    }
}

/// A live session.
pub(super) struct Entry {
    id: SessionId,
    pub(super) accepted: Instant,
    listener: SocketAddr,
    pub(super) facts: Mutex<Facts>,
    counts: Counts,
    inbox: Mutex<Inbox>,
}

/// Orders that were not obeyed yet, and whom they wake.
struct Inbox {
    orders: OrdersFor,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    requests: AtomicU64,
    under_way: AtomicU32,
}

impl Entry {
    /// Leaves an order, and returns whom to wake.
    fn take_order(&self, order: Order) -> Option<Waker> {
        let mut inbox = self.inbox.lock();
        inbox.orders.add(order);
        inbox.waker.clone()
    }

    fn snapshot(&self, worker: usize) -> Snapshot {
        Snapshot {
            id: self.id,
            worker,
            listener: self.listener,
            age: self.accepted.elapsed(),
            facts: self.facts.lock().clone(),
            up: self.counts.up.load(Ordering::Relaxed),
            down: self.counts.down.load(Ordering::Relaxed),
            requests: self.counts.requests.load(Ordering::Relaxed),
            under_way: self.counts.under_way.load(Ordering::Relaxed),
        }
    }
}

impl OrdersFor {
    /// The first reason to end counts.
    fn add(&mut self, order: Order) {
        match order {
            Order::Drain => self.drain = true,
            Order::AuthoriseAgain => self.authorise_again = true,
            Order::End(close) => self.end = self.end.or(Some(close)),
        }
    }
}

/// What a session has come to so far.
#[derive(Clone)]
pub struct Facts {
    /// The stage it is in.
    pub stage: Stage,
    /// The client's address; the one that the PROXY protocol told where it is believed.
    pub remote: Remote,
    /// The name that the client asked for.
    pub sni: Option<Box<str>>,
    /// True inside a tunnel.
    pub tunnel: bool,
    /// Where it leads.
    pub route: Option<Arc<Route>>,
    /// Who was last permitted, or refused by name.
    pub identity: Option<Arc<Identity>>,
    /// The client leg.
    pub client: Option<handshake::Facts>,
    /// The upstream leg, and the address that it reached.
    pub upstream: Option<(handshake::Facts, Reached)>,
    /// The upstream connection stood before it was asked for.
    pub dialled_ahead: bool,
    /// What a database client wants to connect to, and as whom it does.
    pub database: Option<Box<Connecting>>,
}

/// What a database client wants to connect to, and as whom it does.
#[derive(Clone)]
pub struct Connecting {
    /// The database.
    pub database: Box<[u8]>,
    /// As whom the client says it comes.
    pub client_user: Box<[u8]>,
    /// What it calls itself.
    pub application: Box<[u8]>,
    /// The stored user, once it is known.
    pub user: Option<Box<str>>,
    /// Lines of statements that there were, once the session is over.
    pub statements: Option<u64>,
}

impl Facts {
    fn new(remote: Remote) -> Self {
        Facts {
            stage: Stage::Accept,
            remote,
            sni: None,
            tunnel: false,
            route: None,
            identity: None,
            client: None,
            upstream: None,
            dialled_ahead: false,
            database: None,
        }
    }
}

/// A session as others see it.
pub struct Snapshot {
    /// Its name.
    pub id: SessionId,
    /// The worker that runs it.
    pub worker: usize,
    /// The listener that accepted it.
    pub listener: SocketAddr,
    /// Time since it was accepted.
    pub age: Duration,
    /// What it has come to.
    pub facts: Facts,
    /// Application bytes from the client.
    pub up: u64,
    /// Application bytes from the upstream.
    pub down: u64,
    /// Requests that came, where the protocol has requests.
    pub requests: u64,
    /// Requests, transactions or commands that are under way.
    pub under_way: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Transferred;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn register(shard: &Arc<Shard>, id: u64) -> (Registration, Arc<Count>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let registration = shard.register(SessionId(id), Instant::now(), address, Remote(address));
        let count = Arc::new(Count::default());
        (&registration).wake_on_change(&Waker::from(count.clone()));
        (registration, count)
    }

    #[test]
    fn an_order_reaches_its_session_and_no_other() {
        let registry = Registry::new(2);
        let (ann, ann_woken) = register(registry.shard(0).unwrap(), 1);
        let (bob, bob_woken) = register(registry.shard(1).unwrap(), 2);
        let seen = (&bob).generation();
        assert!(registry.order(SessionId(2), Order::End(Close::Idle)));
        assert!(!registry.order(SessionId(3), Order::Drain));
        assert_ne!((&bob).generation(), seen, "its relay looks");
        assert_eq!((&bob).take().end, Some(Close::Idle));
        assert_eq!((&ann).take(), OrdersFor::default());
        assert_eq!((ann_woken.0.load(Ordering::Relaxed), bob_woken.0.load(Ordering::Relaxed)), (0, 1));
        registry.order(SessionId(2), Order::End(Close::Drained));
        assert_eq!((&bob).take().end, Some(Close::Idle), "the first reason counts");
        drop((ann, bob));
        assert!(!registry.order(SessionId(1), Order::Drain), "who is gone is not told");
    }

    #[test]
    fn authorise_again_is_told_once_and_what_stands_is_told_to_those_that_come() {
        let registry = Registry::new(1);
        let shard = registry.shard(0).unwrap();
        let (ann, woken) = register(shard, 1);
        registry.authorise_again();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!((&ann).take().authorise_again);
        assert!(!(&ann).take().authorise_again);
        shard.drain();
        shard.stop(Close::Drained);
        let (bob, _) = register(shard, 2);
        let told = (&bob).take();
        assert_eq!((told.drain, told.end), (true, Some(Close::Drained)));
        shard.resume();
        let (carl, _) = register(shard, 3);
        let told = (&carl).take();
        assert_eq!((told.drain, told.end, shard.len()), (true, None, 3));
    }

    #[test]
    fn a_snapshot_shows_what_was_published_and_asks_for_more() {
        let registry = Registry::new(1);
        let (ann, woken) = register(registry.shard(0).unwrap(), 1);
        ann.entry().facts.lock().stage = Stage::Relay;
        let moved = Transferred { up: 7, down: 9, ..Transferred::default() };
        (&ann).publish(Progress { moved, requests: 3, under_way: 1 });
        let before = (&ann).generation();
        let seen = registry.snapshot();
        assert_eq!(seen.len(), 1);
        let Snapshot { id, up, down, requests, under_way, .. } = seen[0];
        assert_eq!((id, up, down, requests, under_way), (SessionId(1), 7, 9, 3, 1));
        assert_eq!(seen[0].facts.stage, Stage::Relay);
        assert_ne!((&ann).generation(), before);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "whoever is quiet stays asleep");
    }

    #[test]
    fn snapshots_go_on_while_sessions_come_and_go() {
        let registry = Registry::new(1);
        let (shard, over) = (registry.shard(0).unwrap().clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut most = 0;
                while !over.load(Ordering::Relaxed) {
                    let seen = registry.snapshot();
                    assert!(seen.iter().all(|one| one.facts.remote.0.port() == 443));
                    most = most.max(seen.len());
                }
                most
            });
            for round in 0..2_000 {
                let sessions: Vec<_> = (0..8).map(|n| register(&shard, round * 8 + n)).collect();
                sessions.iter().for_each(|(one, _)| one.entry().facts.lock().stage = Stage::Relay);
            }
            over.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() <= 8);
        });
        assert!(shard.is_empty());
    }

    /// An idle session may cost 6 KiB in all; most of it are the two legs.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 512, "{}", size_of::<Entry>());
    }
}
