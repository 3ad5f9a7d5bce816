//! Preconnect pool: upstream connections whose handshake is complete before a client needs one.
//!
//! Each is used by one session and was used by none before it. There is one only where somebody was permitted a moment ago:
//! a session that dials under its permit has the next few dialled as well. What nobody took within `MAX_IDLE` is closed, so a
//! route without clients holds nothing.

use super::admission::{Admission, Reservation};
use super::legs::upstream_opened;
use crate::dial::{Application, ConnectDeadline, Dialled};
use crate::gateway::{Gateway, Route};
use crate::metrics::WorkerMetrics;
use crate::names::Side;
use crate::policy::Permit;
use crate::tls::leg::PeerState;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection waits for its session. Shorter than any server in use waits for a first request (5 s and more), so
/// that none is taken at the moment at which the server gives it up.
const MAX_IDLE: Duration = Duration::from_secs(4);
/// Bytes that an upstream may say before it was spoken to; HTTP/2 settings and greetings of databases are a few hundred.
const MAX_EARLY_BYTES: usize = 64 * 1024;
/// Reads after which an upstream that still talks is not waited for.
const MAX_READS: usize = 32;

/// Ways to speak with the upstream of a route that are dialled ahead: clients of MySQL choose flags, and could make it many.
const MAX_POOLS_PER_ROUTE: usize = 4;

/// One worker's preconnected connections, by route and protocol.
pub struct PreconnectPool {
    metrics: Arc<WorkerMetrics>,
    admission: Arc<Admission>,
    pools: RefCell<HashMap<Key, Pool>>,
}

struct Pool {
    /// Keeps the address that the pool is found by from being given to another route.
    _route: Weak<Route>,
    ready: VecDeque<Ready>,
    dialling: usize,
    /// A task waits for the oldest to become too old.
    watched: bool,
}

type Key = (*const Route, Application);

struct Ready {
    dialled: Dialled,
    since: Instant,
    /// Counted as a connection until a session takes it.
    _reservation: Reservation,
}

impl PreconnectPool {
    /// Dials nothing until a route asks. Idle connections are counted in `admission`.
    pub(super) fn new(metrics: Arc<WorkerMetrics>, admission: Arc<Admission>) -> Self {
        PreconnectPool { metrics, admission, pools: RefCell::default() }
    }

    /// Takes an established connection, if there is one.
    pub(super) fn take(&self, route: &Arc<Route>, application: Application) -> Option<Dialled> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&(Arc::as_ptr(route), application))?;
        while let Some(Ready { mut dialled, since, .. }) = pool.ready.pop_front() {
            let good = since.elapsed() < MAX_IDLE && is_alive(&mut dialled);
            self.metrics.dialled_ahead(good);
            if good {
                return Some(dialled);
            }
        }
        None
    }

    /// Dials as many as the route wants, each in a task of its own.
    pub(super) fn refill(
        self: &Rc<Self>,
        route: &Arc<Route>,
        application: Application,
        permit: &Permit,
        gateway: &Gateway,
    ) {
        let records_per_key = gateway.limits.records_per_key;
        let key = (Arc::as_ptr(route), application);
        let missing = {
            let mut pools = self.pools.borrow_mut();
            let of_route = pools.keys().filter(|(route, _)| *route == key.0).count();
            if of_route >= MAX_POOLS_PER_ROUTE && !pools.contains_key(&key) {
                return;
            }
            let pool = pools.entry(key).or_insert_with(|| Pool {
                _route: Arc::downgrade(route),
                ready: VecDeque::new(),
                dialling: 0,
                watched: false,
            });
            let missing = route.dial_ahead.saturating_sub(pool.ready.len() + pool.dialling);
            pool.dialling += missing;
            missing
        };
        for _ in 0..missing {
            let connections = gateway.limits.connections;
            let Some(reservation) = self.admission.reserve(connections) else {
                self.dialled(key, None);
                continue;
            };
            let (pool, route, permit) = (self.clone(), route.clone(), permit.clone());
            // Boxed, since the runtime moves a task's future when it begins and writes all its bytes when it ends.
            tokio::task::spawn_local(Box::pin(async move {
                let (limit, started) = (route.timeouts.connect, Instant::now());
                let deadline = ConnectDeadline::new(limit);
                let mut dialled = route.upstream.dial(&permit, application, deadline, records_per_key).await;
                if let Ok(dialled) = &mut dialled {
                    // The handshake's last flight else goes with the first data; the upstream's own time for handshakes is
                    // running. A connection that broke here is found to be dead when it is taken.
                    let _ = tokio::time::timeout(limit, dialled.established.leg.flush()).await;
                }
                match &dialled {
                    Ok(dialled) => {
                        upstream_opened(&pool.metrics, &dialled.established.facts, started.elapsed());
                    }
                    // A session that needs one dials by itself, and says what is wrong.
                    Err(_) => pool.metrics.handshake_failed(Side::Upstream),
                }
                let ready = dialled.ok().map(|dialled| Ready {
                    dialled,
                    since: Instant::now(),
                    _reservation: reservation,
                });
                if pool.dialled(key, ready) {
                    tokio::task::spawn_local(pool.watch(key));
                }
            }));
        }
    }

    /// Stores a dial's result. True: the pool has no expiry task yet and needs one.
    fn dialled(&self, key: Key, ready: Option<Ready>) -> bool {
        let mut pools = self.pools.borrow_mut();
        let Some(pool) = pools.get_mut(&key) else { return false };
        pool.dialling -= 1;
        pool.ready.extend(ready);
        if pool.is_empty() && !pool.watched {
            pools.remove(&key);
            return false;
        }
        !pool.ready.is_empty() && !std::mem::replace(&mut pool.watched, true)
    }

    /// Closes what waits too long, as long as the pool holds anything. One task for all, since thousands may be dialled and
    /// taken in the time that one may wait.
    async fn watch(self: Rc<Self>, key: Key) {
        while let Some(since) = self.oldest(key) {
            tokio::time::sleep_until(since + MAX_IDLE).await;
            self.close_expired(key);
        }
    }

    /// Since when the one that waits longest does. Without any, the pool is watched no more, and forgotten if none is to come.
    fn oldest(&self, key: Key) -> Option<Instant> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&key)?;
        let oldest = pool.ready.front().map(|ready| ready.since);
        pool.watched = oldest.is_some();
        if pool.is_empty() {
            pools.remove(&key);
        }
        oldest
    }

    /// Closes what has waited too long.
    fn close_expired(&self, key: Key) {
        let mut pools = self.pools.borrow_mut();
        let Some(pool) = pools.get_mut(&key) else { return };
        while pool.ready.front().is_some_and(|ready| ready.since.elapsed() >= MAX_IDLE) {
            self.metrics.dialled_ahead(false);
            let old = pool.ready.pop_front();
            tokio::task::spawn_local(async move {
                if let Some(old) = old {
                    old.dialled.close_unused().await;
                }
            });
        }
    }
}

impl Pool {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.dialling == 0
    }
}

/// True while the upstream has neither ended the connection nor said more than a greeting. What it said is kept, and tickets
/// that it sent are dealt with.
fn is_alive(dialled: &mut Dialled) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..MAX_READS {
        match dialled.established.leg.poll_peer_state(&mut cx) {
            PeerState::Quiet => return !dialled.established.leg.rx.closed,
            PeerState::Unread => {}
            PeerState::Ended | PeerState::Gone | PeerState::Broken(_) => return false,
        }
        let mut said = Vec::new();
        let polled = pin!(dialled.established.leg.read(&mut said)).poll(&mut cx);
        dialled.established.early.append(&mut said);
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(true)) if dialled.established.early.len() <= MAX_EARLY_BYTES => {}
            Poll::Ready(_) => return false,
        }
    }
    false
}
