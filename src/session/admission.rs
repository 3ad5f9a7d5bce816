//! How many connections are let in: in all, per source address, and not yet permitted per source address.
//!
//! The last tenth of a limit serves to say no: those who get in there go as far as a permit, and hear then, in their own
//! protocol, that there is no room. Beyond the limit a connection is closed without a word.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts what all workers together let in.
#[derive(Default)]
pub struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Clone, Copy, Default)]
struct Address {
    connections: usize,
    half_open: usize,
}

/// Which limit kept a connection out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Connections in all.
    Connections,
    /// Connections of this address.
    Address,
    /// Connections of this address that are not permitted yet.
    HalfOpen,
}

impl Full {
    /// The setting that it is, as the log names it.
    pub fn name(self) -> &'static str {
        match self {
            Full::Connections => "connections",
            Full::Address => "connections_per_address",
            Full::HalfOpen => "half_open_per_address",
        }
    }
}

/// What of a limit is kept for those who only hear that there is no room: a tenth. Nothing of a limit below ten.
const FOR_REFUSALS: usize = 10;

/// The limits in force; 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections in all.
    pub connections: usize,
    /// Per source address.
    pub per_address: usize,
    /// Not yet permitted, per source address.
    pub half_open_per_address: usize,
}

impl Admission {
    /// Lets a connection in, or says which limit keeps it out.
    pub fn admit(self: &Arc<Self>, address: IpAddr, bounds: Bounds) -> Result<Admitted, Full> {
        let over = |count: usize, bound: usize| bound > 0 && count >= bound;
        let mut counts = self.counts.lock();
        if over(counts.all, bounds.connections) {
            return Err(Full::Connections);
        }
        let of_address = counts.addresses.get(&address).copied().unwrap_or_default();
        if over(of_address.connections, bounds.per_address) {
            return Err(Full::Address);
        }
        if over(of_address.half_open, bounds.half_open_per_address) {
            return Err(Full::HalfOpen);
        }
        let nearly = |count: usize, bound: usize| over(count, bound - bound / FOR_REFUSALS);
        let crowded = if nearly(counts.all, bounds.connections) {
            Some(Full::Connections)
        } else if nearly(of_address.connections, bounds.per_address) {
            Some(Full::Address)
        } else {
            None
        };
        counts.all += 1;
        let entry = counts.addresses.entry(address).or_default();
        entry.connections += 1;
        entry.half_open += 1;
        Ok(Admitted { admission: self.clone(), address, half_open: true, crowded })
    }

    /// Connections in all.
    pub fn count(&self) -> usize {
        self.counts.lock().all
    }
}

/// One connection's share of the counts; given back when dropped.
pub struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
    half_open: bool,
    crowded: Option<Full>,
}

impl Admitted {
    /// The limit that leaves this connection no room beyond hearing so.
    pub fn crowded(&self) -> Option<Full> {
        self.crowded
    }

    /// The connection was permitted: it is not half-open any more.
    pub fn permitted(&mut self) {
        if std::mem::take(&mut self.half_open)
            && let Some(entry) = self.admission.counts.lock().addresses.get_mut(&self.address)
        {
            entry.half_open -= 1;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.permitted();
        let mut counts = self.admission.counts.lock();
        counts.all -= 1;
        if let Some(entry) = counts.addresses.get_mut(&self.address) {
            entry.connections -= 1;
            if entry.connections == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { connections: 4, per_address: 3, half_open_per_address: 2 };

    #[test]
    fn each_limit_keeps_out_and_says_which() {
        let admission = Arc::new(Admission::default());
        let (ann, bob) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut first = admission.admit(ann, BOUNDS).unwrap();
        let _second = admission.admit(ann, BOUNDS).unwrap();
        assert_eq!(admission.admit(ann, BOUNDS).err(), Some(Full::HalfOpen));
        first.permitted();
        first.permitted();
        let _third = admission.admit(ann, BOUNDS).unwrap();
        assert_eq!(admission.admit(ann, BOUNDS).err(), Some(Full::Address));
        let _fourth = admission.admit(bob, BOUNDS).unwrap();
        assert_eq!(admission.admit(bob, BOUNDS).err(), Some(Full::Connections));
        drop(first);
        assert!(admission.admit(bob, BOUNDS).is_ok());
    }

    #[test]
    fn the_last_tenth_of_a_limit_is_for_those_who_hear_that_there_is_no_room() {
        let admission = Arc::new(Admission::default());
        let bounds = Bounds { connections: 20, per_address: 10, half_open_per_address: 0 };
        let (ann, bob) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let let_in = |address| admission.admit(address, bounds).map(|a| (a.crowded(), a));
        let of_ann: Vec<_> = (0..10).map(|_| let_in(ann).unwrap()).collect();
        let crowded: Vec<_> = of_ann.iter().filter_map(|(crowded, _)| *crowded).collect();
        assert_eq!(crowded, [Full::Address]);
        assert_eq!(let_in(ann).err(), Some(Full::Address));
        let of_bob: Vec<_> = (0..8).map(|_| let_in(bob).unwrap()).collect();
        assert!(of_bob.iter().all(|(crowded, _)| crowded.is_none()));
        assert_eq!(let_in(bob).unwrap().0, Some(Full::Connections));
        // A small limit has no tenth, and 0 is none.
        for connections in [0, 9] {
            let bounds = Bounds { connections, per_address: 0, half_open_per_address: 0 };
            let admission = Arc::new(Admission::default());
            let all: Vec<_> = (0..9).map(|_| admission.admit(ann, bounds).unwrap()).collect();
            assert!(all.iter().all(|admitted| admitted.crowded().is_none()), "{connections}");
        }
    }

    #[test]
    fn nothing_is_left_behind_when_all_are_gone() {
        let admission = Arc::new(Admission::default());
        drop(admission.admit(IpAddr::from([127, 0, 0, 1]), BOUNDS).unwrap());
        assert_eq!(admission.count(), 0);
        assert!(admission.counts.lock().addresses.is_empty());
    }

    #[test]
    fn ten_thousand_half_open_connections_take_no_place_of_the_permitted_and_leave_nothing() {
        let admission = Arc::new(Admission::default());
        let bounds = Bounds { connections: 4_000, per_address: 0, half_open_per_address: 64 };
        let good = IpAddr::from([192, 0, 2, 1]);
        let mut served: Vec<Admitted> = Vec::new();
        let mut half_open = Vec::new();
        for n in 0..10_000u32 {
            // 50 addresses: 200 attempts from each.
            half_open.extend(admission.admit(IpAddr::from([198, 51, 100, (n % 50) as u8]), bounds));
            if n % 100 == 0 {
                let mut admitted = admission.admit(good, bounds).unwrap();
                admitted.permitted();
                served.push(admitted);
            }
        }
        assert_eq!((half_open.len(), served.len(), admission.count()), (50 * 64, 100, 50 * 64 + 100));
        let crowd = IpAddr::from([198, 51, 100, 0]);
        assert_eq!(admission.admit(crowd, bounds).err(), Some(Full::HalfOpen));
        // One of them is permitted, which frees its place.
        half_open[0].permitted();
        assert!(admission.admit(crowd, bounds).is_ok());
        drop((half_open, served));
        assert_eq!(admission.count(), 0);
        assert!(admission.counts.lock().addresses.is_empty());
    }
}
