//! Connection limits: in total, per source address, and half-open (before the permit) in total and per address.
//!
//! The last tenth of a limit on connections serves to say no: those who get in there go as far as a permit, and hear then,
//! in their own protocol, that there is no room. Beyond the limit a connection is closed without a word.
//!
//! Half-open connections are limited in another way, since honest clients arrive in crowds and a permit takes milliseconds:
//!
//! ```text
//!   per address   beyond the limit a connection waits, unread, until an earlier one of its address is permitted or ends;
//!                 beyond [`QUEUED_PER_STARTED`] times as many it is closed at once
//!   in all        beyond the limit the address with the most half-open connections loses its oldest one
//! ```
//! So a crowd behind one address is served one after the other, and whoever holds many half-open connections, from however
//! many addresses, keeps nobody out who holds fewer.
//!
//! An address is one of IPv4, or a /64 of IPv6, which is what one customer of a provider has.

use crate::gateway::Limits;
use crate::metrics::LimitHit;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Connection counts of all workers together.
#[derive(Default)]
pub struct Admission {
    counts: Mutex<Counts>,
    /// Memory shortage: 0 none, 1 no new permits, 2 no new connections.
    memory_shortage: AtomicU8,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    connections_of: HashMap<IpAddr, usize>,
    half_open: usize,
    half_open_of: HashMap<IpAddr, HalfOpen>,
    /// The number of the next place.
    next: u64,
}

/// The half-open connections of one address.
#[derive(Default)]
struct HalfOpen {
    /// Oldest first.
    places: VecDeque<Arc<Place>>,
    /// How many of them do not wait.
    started: usize,
}

/// A half-open connection's place; the worker that serves the connection may be another than the one that changes it.
struct Place {
    number: u64,
    since: Instant,
    state: AtomicU8,
    changed: Notify,
}

/// [`Place::state`]: not read from yet.
const QUEUED: u8 = 0;
/// [`Place::state`]: served.
const STARTED: u8 = 1;
/// [`Place::state`]: evicted, to make room for another.
const EVICTED: u8 = 2;

/// The limit that a connection reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Connections in all.
    Connections,
    /// Connections of this address.
    Address,
    /// Connections of this address that are not permitted yet.
    HalfOpenOfAddress,
    /// Connections that are not permitted yet, in all.
    HalfOpen,
    /// The memory of the process' control group.
    Memory,
}

impl Full {
    /// The setting's name, as in the log.
    pub fn name(self) -> &'static str {
        match self {
            Full::Connections => "connections",
            Full::Address => "connections_per_address",
            Full::HalfOpenOfAddress => "half_open_per_address",
            Full::HalfOpen => "half_open",
            Full::Memory => "memory",
        }
    }
}

impl From<Full> for LimitHit {
    fn from(full: Full) -> Self {
        match full {
            Full::Connections => LimitHit::Connections,
            Full::Address => LimitHit::PerAddress,
            Full::HalfOpenOfAddress | Full::HalfOpen => LimitHit::HalfOpen,
            Full::Memory => LimitHit::Memory,
        }
    }
}

/// What of a limit is kept for those who only hear that there is no room: a tenth. Nothing of a limit below ten.
const REFUSAL_DIVISOR: usize = 10;
/// Connections of an address that may wait for each half-open one that it may have.
const QUEUED_PER_STARTED: usize = 4;
/// A connection of this age has had time for a handshake. A younger one is only closed for the sake of an address that has
/// fewer: else, in a storm of honest clients, each would be closed just before its turn.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The limits in force; 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections in all.
    pub connections: usize,
    /// Per source address.
    pub per_address: usize,
    /// Not yet permitted, in all.
    pub half_open: usize,
    /// Not yet permitted, per source address.
    pub half_open_per_address: usize,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Bounds {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            half_open: limits.half_open,
            half_open_per_address: limits.half_open_per_address,
        }
    }
}

impl Bounds {
    /// The same, without those that hold for one address: a load balancer's stands for all its clients'.
    pub fn of_balancer(self) -> Self {
        Bounds { per_address: 0, half_open_per_address: 0, ..self }
    }
}

/// Whether a limit is reached; 0 is none.
fn over(count: usize, bound: usize) -> bool {
    bound > 0 && count >= bound
}

/// Whether only the part that is for refusals is left.
fn nearly_over(count: usize, bound: usize) -> bool {
    over(count, bound - bound / REFUSAL_DIVISOR)
}

impl Admission {
    /// Sets the memory shortage: 0 none, 1 new connections are refused with an answer, 2 they are closed.
    pub fn set_memory_shortage(&self, shortage: u8) {
        self.memory_shortage.store(shortage, Relaxed);
    }

    /// Admits a connection, or returns the limit that it exceeds.
    pub fn admit(self: &Arc<Self>, address: IpAddr, bounds: Bounds) -> Result<Admitted, Full> {
        let address = counted_address(address);
        let shortage = self.memory_shortage.load(Relaxed);
        if shortage > 1 {
            return Err(Full::Memory);
        }
        let mut counts = self.counts.lock();
        if over(counts.connections, bounds.connections) {
            return Err(Full::Connections);
        }
        let limit_reached = match nearly_over(counts.connections, bounds.connections) {
            true => Some(Full::Connections),
            false => (shortage > 0).then_some(Full::Memory),
        };
        let place = Arc::new(Place {
            number: counts.next,
            since: Instant::now(),
            state: AtomicU8::new(STARTED),
            changed: Notify::new(),
        });
        let of_address = counts.enter(address, &place, bounds)?;
        counts.next += 1;
        counts.connections += 1;
        Ok(Admitted {
            admission: self.clone(),
            address: Cell::new(address),
            limit_reached: Cell::new(limit_reached.or(of_address)),
            place: RefCell::new(Some(place)),
        })
    }

    /// Counts an upstream connection that no session has yet, unless what is left is for clients.
    pub fn reserve(self: &Arc<Self>, connections: usize) -> Option<Reservation> {
        let mut counts = self.counts.lock();
        if nearly_over(counts.connections, connections) {
            return None;
        }
        counts.connections += 1;
        Some(Reservation(self.clone()))
    }

    /// Connections in all.
    pub fn count(&self) -> usize {
        self.counts.lock().connections
    }
}

impl Counts {
    /// Counts a half-open connection of `address`; returns the limit it exceeds, if it is only admitted for a refusal.
    fn enter(&mut self, address: IpAddr, place: &Arc<Place>, bounds: Bounds) -> Result<Option<Full>, Full> {
        let connections = self.connections_of.get(&address).copied().unwrap_or_default();
        if over(connections, bounds.per_address) {
            return Err(Full::Address);
        }
        let limit_reached = nearly_over(connections, bounds.per_address).then_some(Full::Address);
        let (places, started) =
            self.half_open_of.get(&address).map_or((0, 0), |of| (of.places.len(), of.started));
        let per_address = bounds.half_open_per_address;
        if over(places, per_address.saturating_mul(1 + QUEUED_PER_STARTED)) {
            return Err(Full::HalfOpenOfAddress);
        }
        if over(self.half_open, bounds.half_open) {
            self.make_room(places + 1)?;
        }
        let state = if over(started, per_address) { QUEUED } else { STARTED };
        place.state.store(state, Release);
        self.half_open += 1;
        *self.connections_of.entry(address).or_default() += 1;
        let of = self.half_open_of.entry(address).or_default();
        let index = of.places.partition_point(|other| other.number < place.number);
        of.places.insert(index, place.clone());
        of.started += usize::from(state == STARTED);
        Ok(limit_reached)
    }

    /// Evicts the oldest half-open connection of the address that has the most, for one that will have `wanted`.
    ///
    /// Looks at each address with a half-open connection, of which there are at most as many as the limit allows.
    fn make_room(&mut self, wanted: usize) -> Result<(), Full> {
        let oldest = |of: &HalfOpen| of.places.front().map_or(u64::MAX, |place| place.number);
        let heaviest =
            self.half_open_of.iter().max_by_key(|(_, of)| (of.places.len(), u64::MAX - oldest(of)));
        let Some((&address, of)) = heaviest else { return Ok(()) };
        let Some(victim) = of.places.front().cloned() else { return Ok(()) };
        if wanted >= of.places.len() && victim.since.elapsed() < MIN_AGE {
            return Err(Full::HalfOpen);
        }
        self.leave(address, &victim);
        victim.set(EVICTED);
        Ok(())
    }

    /// Releases a place and wakes the next waiting connection of its address; idempotent.
    fn leave(&mut self, address: IpAddr, place: &Place) {
        let Some(of) = self.half_open_of.get_mut(&address) else { return };
        let Ok(index) = of.places.binary_search_by_key(&place.number, |place| place.number) else { return };
        of.places.remove(index);
        self.half_open -= 1;
        if place.state.load(Acquire) == STARTED {
            match of.places.iter().find(|other| other.state.load(Acquire) == QUEUED) {
                Some(next) => next.set(STARTED),
                None => of.started -= 1,
            }
        }
        if of.places.is_empty() {
            self.half_open_of.remove(&address);
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(connections) = self.connections_of.get_mut(&address) {
            *connections -= 1;
            if *connections == 0 {
                self.connections_of.remove(&address);
            }
        }
    }
}

impl Place {
    fn set(&self, state: u8) {
        self.state.store(state, Release);
        self.changed.notify_waiters();
    }

    async fn until(&self, is_met: impl Fn(u8) -> bool) {
        loop {
            // Before the look at the state: a change between the two wakes it.
            let changed = self.changed.notified();
            if is_met(self.state.load(Acquire)) {
                return;
            }
            changed.await;
        }
    }
}

/// The place of an upstream connection that no session has yet; given back when dropped.
pub struct Reservation(Arc<Admission>);

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.counts.lock().connections -= 1;
    }
}

/// One connection's share of the counts; given back when dropped.
pub struct Admitted {
    admission: Arc<Admission>,
    address: Cell<IpAddr>,
    limit_reached: Cell<Option<Full>>,
    /// While it is half-open.
    place: RefCell<Option<Arc<Place>>>,
}

impl Admitted {
    /// The limit that this connection exceeds: it is admitted only for a refusal.
    pub fn limit_reached(&self) -> Option<Full> {
        self.limit_reached.get()
    }

    /// True where it must wait for earlier connections of its address.
    pub fn is_queued(&self) -> bool {
        self.place.borrow().as_ref().is_some_and(|place| place.state.load(Acquire) == QUEUED)
    }

    /// Returns when it is this connection's turn to be read from.
    pub async fn turn(&self) {
        let place = self.place.borrow().clone();
        if let Some(place) = place {
            place.until(|state| state != QUEUED).await;
        }
    }

    /// Returns when the connection has to make room for another; never once it is permitted.
    pub async fn wait_evicted(&self) {
        let place = self.place.borrow().clone();
        match place {
            Some(place) => place.until(|state| state == EVICTED).await,
            None => std::future::pending().await,
        }
    }

    /// Counts it under the client's own address, which a load balancer told. It may have to wait for its turn again.
    pub fn set_client(&self, client: IpAddr, bounds: Bounds) -> Result<(), Full> {
        let (before, client) = (self.address.get(), counted_address(client));
        let mut counts = self.admission.counts.lock();
        let place = self.place.borrow();
        let Some(place) = place.as_ref().filter(|place| place.state.load(Acquire) != EVICTED) else {
            return Err(Full::HalfOpen);
        };
        counts.leave(before, place);
        let limit_reached = counts.enter(client, place, bounds)?;
        counts.forget(before);
        self.address.set(client);
        self.limit_reached.set(self.limit_reached.get().or(limit_reached));
        Ok(())
    }

    /// The connection was permitted: it is not half-open any more.
    pub fn permitted(&self) {
        if let Some(place) = self.place.take() {
            self.admission.counts.lock().leave(self.address.get(), &place);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock();
        if let Some(place) = self.place.take() {
            counts.leave(self.address.get(), &place);
        }
        counts.connections -= 1;
        counts.forget(self.address.get());
    }
}

/// The key under which an address is counted.
fn counted_address(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
