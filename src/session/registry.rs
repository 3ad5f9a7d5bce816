//! Registry of the process' live sessions: facts, counters and pending orders.
//!
//! A shard per worker holds an `Entry` for each of the worker's sessions, from accept to close. Whoever shows sessions
//! (the live page), ends them (revocation, a drain) or has them authorised again (a reload) stands on this; so will a
//! recording, which needs the same facts. A shard's table is locked for `ENTRIES_PER_LOCK` entries at a time, so that a
//! worker whose sessions come and go does not wait for whoever looks at all of them.
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

mod entry;
mod facts;

use entry::{Counts, Inbox};

pub(super) use entry::Entry;
pub use entry::{Order, Snapshot};
pub use facts::{Connecting, Facts};

use crate::close::{Close, Stage};
use crate::names::{Remote, SessionId};
use crate::policy::revocation::{Revocation, Revocations, Target, TooMany};
use crate::policy::{CLOCK_SKEW, Identity};
use crate::relay::{Orders, OrdersFor, Progress};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::SystemTime;
use tokio::time::Instant;

/// The live sessions of all workers.
pub struct Registry {
    shards: Vec<Arc<Shard>>,
    revocations: Arc<Revocations>,
    /// One revocation is put in force at a time, so that each counts the sessions that it ends itself.
    shutting_out: Mutex<()>,
}

impl Registry {
    /// One shard for each worker.
    pub fn new(workers: usize) -> Self {
        let revocations = Arc::<Revocations>::default();
        let shards = (0..workers).map(|worker| Arc::new(Shard::new(worker, revocations.clone()))).collect();
        Registry { shards, revocations, shutting_out: Mutex::default() }
    }

    /// The sessions of one worker.
    pub fn shard(&self, worker: usize) -> Option<&Arc<Shard>> {
        self.shards.get(worker)
    }

    /// A snapshot of each session. Counters are those last published; asking has sessions publish anew.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let mut all = Vec::new();
        self.ask_for_counts();
        for shard in &self.shards {
            shard.for_each_lot(|lot| {
                all.extend(lot.drain(..).map(|entry| Entry::snapshot(entry, shard.worker)))
            });
        }
        all
    }

    /// A snapshot of one session.
    pub fn find(&self, id: SessionId) -> Option<Snapshot> {
        self.shards.iter().find_map(|shard| {
            shard.generation.fetch_add(1, Ordering::Release);
            shard.find(id).map(|entry| Entry::snapshot(entry, shard.worker))
        })
    }

    /// Has sessions publish their counts when they are polled next.
    pub fn ask_for_counts(&self) {
        for shard in &self.shards {
            shard.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// True when no session lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives an order to one session. False when there is none of this name.
    pub fn order(&self, id: SessionId, order: Order) -> bool {
        self.shards.iter().any(|shard| shard.order(id, order))
    }

    /// Shuts somebody out: no proof that the revocation covers is accepted from here on, and live sessions in which one was
    /// are ended. Returns how many. A revocation of proofs whose end is known stands at least as long as they do.
    pub fn revoke(&self, mut revocation: Revocation, now: SystemTime) -> Result<usize, TooMany> {
        let (ended, longest) = self.shut_out(&revocation, now)?;
        if longest > revocation.until {
            revocation.until = longest;
            self.revocations.add(revocation, now)?;
        }
        Ok(ended)
    }

    /// The same for exactly the revocation's lifetime. Also returns when the last covered proof expires.
    ///
    /// Whoever moves bytes looks for itself when it is polled next, and is silent from there on; thousands that sleep are
    /// looked at one after another, and woken when all have their orders.
    pub fn shut_out(&self, revocation: &Revocation, now: SystemTime) -> Result<(usize, SystemTime), TooMany> {
        let _one = self.shutting_out.lock();
        self.put_in_force(revocation, now)?;
        let mut wakers: Vec<Vec<Waker>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (shard, wakers) in self.shards.iter().zip(&mut wakers) {
            shard.for_each_lot(|lot| {
                let meant = lot.iter().filter(|entry| shard.end_where(entry, |one| revocation.covers(one)));
                wakers.extend(meant.filter_map(|entry| entry.inbox.lock().waker.clone()));
                lot.clear();
            });
        }
        self.ask_for_counts();
        self.shards.iter().zip(wakers).for_each(|(shard, wakers)| shard.wake(wakers));
        let found = self.shards.iter().map(|shard| shard.shut_out.lock().clone());
        Ok(found.fold((0, revocation.until), |(ended, longest), found| {
            (ended + found.sessions, found.longest.map_or(longest, |one| longest.max(one)))
        }))
    }

    /// From here on no proof that the revocation covers is accepted, and sessions look whether they are meant.
    fn put_in_force(&self, revocation: &Revocation, now: SystemTime) -> Result<(), TooMany> {
        let last = Arc::new(revocation.clone());
        for shard in &self.shards {
            *shard.shut_out.lock() = ShutOut { revocation: Some(last.clone()), ..ShutOut::default() };
        }
        let added = self.revocations.add(revocation.clone(), now);
        if added.is_err() {
            // It is not in force: nobody is to find itself meant.
            self.shards.iter().for_each(|shard| *shard.shut_out.lock() = ShutOut::default());
        }
        self.ask_for_counts();
        added
    }

    /// Takes a revocation back: proofs that only it covered are accepted again. False: there is none of this target.
    pub fn withdraw(&self, target: &Target) -> bool {
        let _one = self.shutting_out.lock();
        let was_there = self.revocations.withdraw(target);
        for shard in &self.shards {
            let mut last = shard.shut_out.lock();
            if last.revocation.as_ref().is_some_and(|one| one.target == *target) {
                // A session that has not looked yet must not find itself meant.
                *last = ShutOut::default();
            }
        }
        was_there
    }

    /// Revocations in force.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
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

/// The live sessions of one worker.
pub struct Shard {
    worker: usize,
    /// Another number whenever a session may have been given an order, or its counts are wanted.
    generation: AtomicU64,
    table: Mutex<Table>,
    asleep: Mutex<Asleep>,
    revocations: Arc<Revocations>,
    shut_out: Mutex<ShutOut>,
}

/// The last revocation, and what it has ended. All before it have given each session its order.
#[derive(Clone, Default)]
struct ShutOut {
    revocation: Option<Arc<Revocation>>,
    sessions: usize,
    /// When the last of the proofs that it covers expires.
    longest: Option<SystemTime>,
}

/// Sessions that were given an order and wait to be woken for it.
#[derive(Default)]
struct Asleep {
    wakers: Vec<Waker>,
    /// Wakes them, on their worker.
    alarm_clock: Option<Waker>,
}

#[derive(Default)]
struct Table {
    /// Each session keeps its slot from accept to close.
    places: Vec<Option<Arc<Entry>>>,
    /// Free slots.
    free: Vec<u32>,
    /// Orders for sessions that register from now on.
    standing: OrdersFor,
}

/// Sessions that are woken between two looks at what else the worker has to do.
const WAKES_PER_TURN: usize = 64;

/// Entries that are taken under one lock of their table: some 10 µs, and 60 where each has to be fetched from memory.
const ENTRIES_PER_LOCK: usize = 64;

impl Shard {
    fn new(worker: usize, revocations: Arc<Revocations>) -> Self {
        let (table, asleep, shut_out) = (Mutex::default(), Mutex::default(), Mutex::default());
        Shard { worker, generation: AtomicU64::new(0), table, asleep, revocations, shut_out }
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
        let inbox = Inbox { orders: table.standing, waker: None, revocations: self.revocations.generation() };
        let inbox = Mutex::new(inbox);
        let (facts, counts) = (Mutex::new(Facts::new(remote)), Counts::default());
        let entry =
            Arc::new(Entry { id, accepted, listener, facts, counters: OnceLock::new(), counts, inbox });
        let place = match table.free.pop() {
            Some(place) => {
                table.places[place as usize] = Some(entry.clone());
                place
            }
            None => {
                table.places.push(Some(entry.clone()));
                (table.places.len() - 1) as u32
            }
        };
        Registration { entry, shard: self.clone(), place }
    }

    /// Revocations in force.
    pub(super) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Looks at every session that lives from the beginning to the end of this, some at a time; others may be seen.
    ///
    /// They are looked at without the lock and while the processor still has them at hand: to fetch one from memory takes
    /// longer than to read it.
    fn for_each_lot(&self, mut look: impl FnMut(&mut Vec<Arc<Entry>>)) {
        let mut lot = Vec::with_capacity(ENTRIES_PER_LOCK);
        for from in (0..).step_by(ENTRIES_PER_LOCK) {
            {
                let table = self.table.lock();
                let Some(places) = table.places.get(from..).filter(|places| !places.is_empty()) else {
                    return;
                };
                lot.extend(places.iter().take(ENTRIES_PER_LOCK).flatten().cloned());
            }
            look(&mut lot);
            lot.clear();
        }
    }

    fn find(&self, id: SessionId) -> Option<Arc<Entry>> {
        let mut found = None;
        self.for_each_lot(|lot| {
            found = found.take().or_else(|| lot.iter().find(|entry| entry.id == id).cloned())
        });
        found
    }

    /// Has a session end where one of its identities is meant. False: none is.
    fn end_where(&self, entry: &Entry, is_meant: impl Fn(&Identity) -> bool) -> bool {
        let facts = entry.facts.lock();
        let meant = facts.identities().filter(|identity| is_meant(identity));
        let Some(longest) = meant.map(|identity| identity.expires + CLOCK_SKEW).max() else { return false };
        drop(facts);
        let mut shut_out = self.shut_out.lock();
        shut_out.longest = shut_out.longest.max(Some(longest));
        let end = &mut entry.inbox.lock().orders.end;
        if end.is_none() {
            shut_out.sessions += 1;
            *end = Some(Close::Revoked);
        }
        true
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        let table = self.table.lock();
        table.places.len() - table.free.len()
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

    pub(super) fn order(&self, id: SessionId, order: Order) -> bool {
        let mut wakers = Vec::new();
        let is_found = self.order_where(order, &mut wakers, |entry| entry.id == id) > 0;
        self.wake(wakers);
        is_found
    }

    fn order_all(&self, order: Order) {
        let mut wakers = Vec::new();
        self.order_where(order, &mut wakers, |_| true);
        self.wake(wakers);
    }

    /// Wakes sessions that were given an order: by their own worker where that is there. Thousands of wakes from another thread
    /// would each take a system call, and turns with the ends that they bring about.
    fn wake(&self, wakers: Vec<Waker>) {
        let mut asleep = self.asleep.lock();
        match asleep.alarm_clock.clone() {
            Some(alarm_clock) => {
                asleep.wakers.extend(wakers);
                drop(asleep);
                alarm_clock.wake();
            }
            None => {
                drop(asleep);
                wakers.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Wakes the sessions of this worker that were given orders, a few at a time. To be run by the worker, for as long as it lives.
    pub async fn wake_sessions(self: Arc<Self>) {
        poll_fn(|cx| {
            let mut asleep = self.asleep.lock();
            if !asleep.alarm_clock.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                asleep.alarm_clock = Some(cx.waker().clone());
            }
            let left = asleep.wakers.len().saturating_sub(WAKES_PER_TURN);
            let woken = asleep.wakers.split_off(left);
            drop(asleep);
            woken.into_iter().for_each(Waker::wake);
            if left > 0 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Orders the matching sessions and returns their number. The caller wakes what is put into `wakers`.
    fn order_where(
        &self,
        order: Order,
        wakers: &mut Vec<Waker>,
        mut is_meant: impl FnMut(&Entry) -> bool,
    ) -> usize {
        let mut count = 0;
        for from in (0..).step_by(ENTRIES_PER_LOCK) {
            {
                let table = self.table.lock();
                let Some(places) = table.places.get(from..).filter(|places| !places.is_empty()) else {
                    break;
                };
                let lot = places.iter().take(ENTRIES_PER_LOCK).flatten();
                for entry in lot.filter(|entry| is_meant(entry)) {
                    count += 1;
                    wakers.extend(entry.take_order(order));
                }
            }
            // Those who take it without being woken look when the number is another.
            self.generation.fetch_add(1, Ordering::Release);
        }
        count
    }
}

/// One session's registration, held by the session itself.
pub struct Registration {
    entry: Arc<Entry>,
    shard: Arc<Shard>,
    place: u32,
}

impl Registration {
    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// Waits for an end that means this session, before it has a relay that looks for orders.
    pub(super) async fn ended(&self) -> Close {
        poll_fn(|cx| {
            let mut inbox = self.entry.inbox.lock();
            if let Some(close @ (Close::Operator | Close::Revoked)) = inbox.orders.end {
                return Poll::Ready(close);
            }
            if !inbox.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                inbox.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Where its facts are kept.
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.entry.facts.lock().stage = Stage::Close;
        let mut table = self.shard.table.lock();
        table.places[self.place as usize] = None;
        table.free.push(self.place);
    }
}

impl Orders for &Registration {
    fn generation(&self) -> u64 {
        self.shard.generation.load(Ordering::Relaxed)
    }

    fn take(&self) -> OrdersFor {
        // What was written before the generation went up is read after.
        fence(Ordering::Acquire);
        let now = self.shard.revocations.generation();
        let is_new = std::mem::replace(&mut self.entry.inbox.lock().revocations, now) != now;
        let last = if is_new { self.shard.shut_out.lock().revocation.clone() } else { None };
        if let Some(last) = last {
            // The last alone: the session may have refused somebody whom an earlier one covers.
            self.shard.end_where(&self.entry, |identity| last.covers(identity));
        }
        let orders = &mut self.entry.inbox.lock().orders;
        let taken = *orders;
        orders.authorise_again = false;
        taken
    }

    fn publish(&self, progress: Progress) {
        let counts = &self.entry.counts;
        self.entry.count(&progress.moved);
        counts.requests.store(progress.requests, Ordering::Relaxed);
        counts.under_way.store(progress.under_way, Ordering::Relaxed);
    }

    fn wake_on_change(&self, waker: &Waker) {
        self.entry.inbox.lock().waker = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests;
