//! Rate limits for log lines of unpermitted clients.
//!
//! Anybody who reaches a listener causes lines: by a handshake that fails, by a name without a route, by a request without a
//! token. Each address may cause [`BURST`] of them at once and one more each [`REFILL`], all addresses together
//! [`BURST_IN_ALL`] and one each [`REFILL_IN_ALL`]. What is left out is counted and told in one line for an address, so that
//! a flood costs the log's disk as much as a trickle. What is permitted is never left out.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Lines of one address at once: somebody who tries to get a client to work sees each refusal.
const BURST: u32 = 100;

/// How soon an address may cause one more.
const REFILL: Duration = Duration::from_secs(1);

/// Lines of all addresses at once.
const BURST_IN_ALL: u32 = 5_000;

/// How soon all may cause one more: 200 a second, some 100 KB.
const REFILL_IN_ALL: Duration = Duration::from_millis(5);

/// Addresses that are told apart. Those beyond are counted together.
const ADDRESSES: usize = 8_192;

/// How often an address' count is told at most.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Addresses that get a line of their own in one report; the others share one.
const REPORTED_ADDRESSES: usize = 100;

/// Lines that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OmittedLines {
    /// Whose: an IPv4 address or an IPv6 network of 64 bits; `None`: of many.
    pub remote: Option<IpAddr>,
    /// How many.
    pub lines: u64,
}

/// What addresses may cause.
#[derive(Default)]
pub struct Unpermitted(Mutex<Table>);

#[derive(Default)]
struct Table {
    addresses: HashMap<IpAddr, Share>,
    all: Bucket,
    /// Left out, of addresses beyond those that are told apart.
    others: u64,
    reported: Option<Instant>,
}

#[derive(Default)]
struct Share {
    bucket: Bucket,
    left_out: u64,
}

/// Lines that were caused and not given back by time.
#[derive(Clone, Copy, Default)]
struct Bucket {
    used: u32,
    since: Option<Instant>,
}

impl Bucket {
    fn refill(&mut self, now: Instant, each: Duration) {
        let since = *self.since.get_or_insert(now);
        let given =
            (now.saturating_duration_since(since).as_millis() / each.as_millis()).min(u32::MAX.into()) as u32;
        if given > 0 {
            self.used = self.used.saturating_sub(given);
            self.since = Some(since + each * given);
        }
    }
}

impl Unpermitted {
    /// That of the whole process.
    pub fn of_process() -> &'static Unpermitted {
        static PROCESS: LazyLock<Unpermitted> = LazyLock::new(Unpermitted::default);
        &PROCESS
    }

    /// That of alarms.
    pub fn of_alarms() -> &'static Unpermitted {
        static ALARMS: LazyLock<Unpermitted> = LazyLock::new(Unpermitted::default);
        &ALARMS
    }

    /// Asks for one line. False: it is left out, which was counted.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        self.ask(address, now, true)
    }

    /// Takes one line that is written in any case, as the end of something whose beginning was written.
    pub fn charge(&self, address: IpAddr, now: Instant) {
        let mut table = self.0.lock();
        if let Some(share) = table.addresses.get_mut(&network(address)) {
            share.bucket.refill(now, REFILL);
            share.bucket.used = (share.bucket.used + 1).min(2 * BURST);
        }
    }

    /// True when a line would be granted now. Nothing is taken or counted.
    pub fn has_room(&self, address: IpAddr, now: Instant) -> bool {
        self.ask(address, now, false)
    }

    fn ask(&self, address: IpAddr, now: Instant, take: bool) -> bool {
        let mut table = self.0.lock();
        let Table { addresses, all, others, .. } = &mut *table;
        let key = network(address);
        all.refill(now, REFILL_IN_ALL);
        let many = addresses.len() >= ADDRESSES;
        let share = match (addresses.get_mut(&key), take) {
            (Some(share), _) => share,
            (None, false) => return all.used < BURST_IN_ALL,
            (None, true) if many => {
                *others += 1;
                return false;
            }
            (None, true) => addresses.entry(key).or_default(),
        };
        share.bucket.refill(now, REFILL);
        let granted = share.bucket.used < BURST && all.used < BURST_IN_ALL;
        match (take, granted) {
            (true, true) => {
                share.bucket.used += 1;
                all.used += 1;
            }
            (true, false) => share.left_out += 1,
            (false, _) => {}
        }
        granted
    }

    /// What was left out since the last report, unless that was a moment ago. Forgets addresses that cause nothing any more.
    pub fn report(&self, now: Instant) -> Vec<OmittedLines> {
        let mut table = self.0.lock();
        if table.reported.is_some_and(|last| now < last + REPORT_EVERY) {
            return Vec::new();
        }
        let mut reports = Vec::new();
        let mut others = std::mem::take(&mut table.others);
        table.addresses.retain(|address, share| {
            match std::mem::take(&mut share.left_out) {
                0 => {}
                lines if reports.len() < REPORTED_ADDRESSES => {
                    reports.push(OmittedLines { remote: Some(*address), lines });
                }
                lines => others += lines,
            }
            share.bucket.refill(now, REFILL);
            share.bucket.used > 0
        });
        if others > 0 {
            reports.push(OmittedLines { remote: None, lines: others });
        }
        if !reports.is_empty() {
            table.reported = Some(now);
        }
        reports
    }
}

/// Who counts as one: whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 66));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_flood_of_one_address_leaves_a_burst_and_a_count_and_nothing_of_others_is_left_out() {
        let (unpermitted, begin) = (Unpermitted::default(), Instant::now());
        let granted = (0..100_000).filter(|_| unpermitted.take(EVE, begin)).count();
        assert_eq!(granted, BURST as usize);
        assert!(!unpermitted.has_room(EVE, begin) && unpermitted.has_room(BOB, begin));
        assert!(unpermitted.take(BOB, begin));
        let left_out = OmittedLines { remote: Some(EVE), lines: 100_000 - u64::from(BURST) };
        assert_eq!(unpermitted.report(begin), [left_out]);
        // It comes back slowly, and its count is not told for each.
        assert!(!unpermitted.take(EVE, begin + REFILL / 2));
        assert!(
            unpermitted.take(EVE, begin + REFILL * 3 / 2) && !unpermitted.take(EVE, begin + REFILL * 3 / 2)
        );
        assert_eq!(unpermitted.report(begin + REPORT_EVERY / 2), []);
        assert_eq!(unpermitted.report(begin + REPORT_EVERY), [OmittedLines { remote: Some(EVE), lines: 2 }]);
        // Who causes nothing any more is forgotten.
        assert_eq!(unpermitted.report(begin + REFILL * 2 * BURST), []);
        assert!(unpermitted.0.lock().addresses.is_empty());
    }

    #[test]
    fn many_addresses_together_have_a_limit_in_lines_and_in_memory() {
        let (unpermitted, begin) = (Unpermitted::default(), Instant::now());
        let address = |n: u32| IpAddr::from(Ipv6Addr::from_bits(u128::from(n) << 64 | 7));
        let granted = (0..20_000).filter(|n| unpermitted.take(address(*n), begin)).count();
        assert_eq!(granted, BURST_IN_ALL as usize);
        assert_eq!(unpermitted.0.lock().addresses.len(), ADDRESSES);
        let reports = unpermitted.report(begin);
        assert_eq!(reports.len(), REPORTED_ADDRESSES + 1);
        assert_eq!(reports.last().unwrap().remote, None);
        assert_eq!(reports.iter().map(|report| report.lines).sum::<u64>(), 20_000 - u64::from(BURST_IN_ALL));
    }

    #[test]
    fn ends_that_are_written_in_any_case_use_up_what_their_address_may_cause() {
        let (unpermitted, begin) = (Unpermitted::default(), Instant::now());
        // Of an address that has caused nothing, nothing is kept.
        unpermitted.charge(BOB, begin);
        assert!(unpermitted.0.lock().addresses.is_empty());
        assert!(unpermitted.take(EVE, begin));
        for _ in 1..BURST {
            assert!(unpermitted.has_room(EVE, begin));
            unpermitted.charge(EVE, begin);
        }
        assert!(!unpermitted.has_room(EVE, begin) && !unpermitted.take(EVE, begin));
        // However many end, the address is heard again once as much as two bursts has come back.
        (0..10 * BURST).for_each(|_| unpermitted.charge(EVE, begin));
        assert!(!unpermitted.take(EVE, begin + REFILL * BURST));
        assert!(unpermitted.take(EVE, begin + REFILL * (BURST + 1)));
        // They were written, so that nothing was left out but what `take` refused.
        assert_eq!(unpermitted.report(begin), [OmittedLines { remote: Some(EVE), lines: 2 }]);
    }

    #[test]
    fn the_addresses_of_one_network_count_as_one() {
        let (unpermitted, begin) = (Unpermitted::default(), Instant::now());
        let granted = (0..1_000).filter(|n| unpermitted.take(Ipv6Addr::from_bits(*n).into(), begin)).count();
        assert_eq!(granted, BURST as usize);
        assert_eq!(network("::ffff:192.0.2.66".parse().unwrap()), EVE);
    }
}
