//! Lingering close: drains clients that go on sending after a refusal, so that they can read it.
//!
//! Most HTTP/1.1 clients send a whole body before they look for the answer. A connection that is closed meanwhile is reset
//! by the kernel for the bytes that it throws away, and the reset takes a 401, 403 or 413 along that the client has not
//! read. So what comes is read and thrown away, without being decrypted, as nginx does (`lingering_close`). The session is
//! over by then and its line is written; what is left is a socket and this task, and neither counts among connections.
//! Their number is bounded for each address and in all, and so are their time and their bytes: a flood of refused uploads
//! costs no more than that, and whoever is beyond is closed at once.

use crate::tls::leg::Leg;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long such a client may go on in all; nginx: `lingering_time`.
const MAX_TIME: Duration = Duration::from_secs(30);
/// How long it may pause; nginx: `lingering_timeout`.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How much is thrown away: what a client at 30 Mbit/s sends in [`MAX_TIME`].
const MAX_BYTES: usize = 128 * 1024 * 1024;
/// Such clients of a worker from one address: more than any honest client opens, also behind one NAT.
const MAX_PER_ADDRESS: u32 = 64;
/// Such clients of a worker: a socket and a task each, together less than 1 MiB beside the kernel's buffers.
const MAX_LINGERING: u32 = 512;

#[derive(Default)]
struct Places {
    in_all: u32,
    by_address: HashMap<IpAddr, u32>,
}

thread_local! {
    static PLACES: RefCell<Places> = RefCell::default();
}

/// A permit to linger, released when dropped.
pub(super) struct Place(IpAddr);

impl Place {
    /// `None` when the worker, or this address, has no place left.
    pub(super) fn take(address: IpAddr) -> Option<Self> {
        PLACES.with_borrow_mut(|places| {
            let of_address = places.by_address.get(&address).copied().unwrap_or(0);
            if places.in_all >= MAX_LINGERING || of_address >= MAX_PER_ADDRESS {
                return None;
            }
            places.in_all += 1;
            places.by_address.insert(address, of_address + 1);
            Some(Place(address))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Fails only where the thread ends, and all places with it.
        let _ = PLACES.try_with(|places| {
            let mut places = places.borrow_mut();
            places.in_all -= 1;
            if let Some(of_address) = places.by_address.get_mut(&self.0) {
                *of_address -= 1;
                if *of_address == 0 {
                    places.by_address.remove(&self.0);
                }
            }
        });
    }
}

/// Reads and throws away what the client sends, until it ends, pauses too long, or a limit is reached.
pub(super) async fn discard(mut leg: Leg, _place: Place) {
    let (until, mut left) = (Instant::now() + MAX_TIME, MAX_BYTES);
    while left > 0 && Instant::now() < until {
        match timeout(MAX_PAUSE, poll_fn(|cx| leg.poll_discard(cx))).await {
            Ok(Ok(n @ 1..)) => left = left.saturating_sub(n),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_address_and_in_all_and_come_back() {
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let mut held: Vec<Place> = (0..MAX_PER_ADDRESS).map(|_| Place::take(address(1)).unwrap()).collect();
        assert!(Place::take(address(1)).is_none());
        held.pop();
        held.push(Place::take(address(1)).expect("a place that was given back"));
        for n in 2..=255 {
            held.extend((0..MAX_PER_ADDRESS).map_while(|_| Place::take(address(n))));
        }
        assert_eq!(held.len(), MAX_LINGERING as usize);
        drop(held);
        PLACES.with_borrow(|places| assert!(places.in_all == 0 && places.by_address.is_empty()));
    }
}
