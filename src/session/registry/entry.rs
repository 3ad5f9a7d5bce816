//! A session's entry: what it publishes, the orders that it is given, and what readers get to see.

use super::facts::Facts;
use crate::close::{Close, Stage};
use crate::metrics::RouteMetrics;
use crate::names::{Direction, SessionId};
use crate::relay::{OrdersFor, Transferred};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

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

/// A live session.
pub(in crate::session) struct Entry {
    pub(super) id: SessionId,
    pub(in crate::session) accepted: Instant,
    pub(super) listener: SocketAddr,
    pub(in crate::session) facts: Mutex<Facts>,
    /// Those of its route, once that is known.
    pub(in crate::session) counters: OnceLock<Arc<RouteMetrics>>,
    pub(super) counts: Counts,
    pub(super) inbox: Mutex<Inbox>,
}

/// Orders that were not applied yet, and the waker.
pub(super) struct Inbox {
    pub(super) orders: OrdersFor,
    pub(super) waker: Option<Waker>,
    /// Number of the revocations that were looked at.
    pub(super) revocations: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
    pub(super) records_up: AtomicU64,
    pub(super) records_down: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) under_way: AtomicU32,
}

impl Entry {
    /// Publishes what the session has moved, and counts for its route what that is more than before.
    pub(in crate::session) fn count(&self, moved: &Transferred) {
        let more = |published: &AtomicU64, now: u64| now - published.swap(now, Ordering::Relaxed).min(now);
        let counts = &self.counts;
        let (up, down) = (more(&counts.up, moved.up), more(&counts.down, moved.down));
        let records_up = more(&counts.records_up, moved.records_up);
        let records_down = more(&counts.records_down, moved.records_down);
        let Some(route) = self.counters.get() else { return };
        route.bytes(Direction::Up, up);
        route.bytes(Direction::Down, down);
        route.records(Direction::Up, records_up);
        route.records(Direction::Down, records_down);
    }

    /// Sets an order and returns the waker.
    pub(super) fn take_order(&self, order: Order) -> Option<Waker> {
        let mut inbox = self.inbox.lock();
        inbox.orders.add(order);
        inbox.waker.clone()
    }

    pub(super) fn snapshot(entry: Arc<Self>, worker: usize) -> Snapshot {
        let facts = entry.facts.lock().clone();
        Snapshot {
            id: entry.id,
            worker,
            listener: entry.listener,
            age: entry.accepted.elapsed(),
            facts,
            up: entry.counts.up.load(Ordering::Relaxed),
            down: entry.counts.down.load(Ordering::Relaxed),
            requests: entry.counts.requests.load(Ordering::Relaxed),
            under_way: entry.counts.under_way.load(Ordering::Relaxed),
            entry,
        }
    }
}

impl OrdersFor {
    /// The first reason to end counts.
    pub(super) fn add(&mut self, order: Order) {
        match order {
            Order::Drain => self.drain = true,
            Order::AuthoriseAgain => self.authorise_again = true,
            Order::End(close) => self.end = self.end.or(Some(close)),
        }
    }
}

/// A session's snapshot.
#[derive(Clone)]
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
    entry: Arc<Entry>,
}

impl Snapshot {
    /// Wakes an idle session so that it publishes its counters.
    pub fn wake(&self) {
        let waker = self.entry.inbox.lock().waker.clone();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Reads the published counters again. False: the session is over.
    pub fn read_counts(&mut self) -> bool {
        let counts = &self.entry.counts;
        self.age = self.entry.accepted.elapsed();
        self.up = counts.up.load(Ordering::Relaxed);
        self.down = counts.down.load(Ordering::Relaxed);
        self.requests = counts.requests.load(Ordering::Relaxed);
        self.under_way = counts.under_way.load(Ordering::Relaxed);
        self.entry.facts.lock().stage != Stage::Close
    }
}
