//! Time stamps that grow, whatever the system's clock does.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub type WallClock = fn() -> u64;

/// The system's clock.
pub fn system() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Stamps of one writer: each later than the one before.
#[derive(Debug)]
pub struct Clock {
    wall: WallClock,
    last: u64,
}

impl Clock {
    /// Stamps later than `floor`.
    pub fn new(wall: WallClock, floor: u64) -> Self {
        Clock { wall, last: floor }
    }

    /// The next stamp.
    pub fn stamp(&mut self) -> u64 {
        self.last = (self.wall)().max(self.last.saturating_add(1));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local!(static NOW: Cell<u64> = const { Cell::new(100) });

    #[test]
    fn a_clock_that_jumps_back_does_not_break_order() {
        let mut clock = Clock::new(|| NOW.get(), 90);
        let mut stamps = vec![clock.stamp()];
        for now in [100, 50, 0, 101, 500] {
            NOW.set(now);
            stamps.push(clock.stamp());
        }
        assert_eq!(stamps, [100, 101, 102, 103, 104, 500]);
        assert_eq!(Clock::new(|| 5, 90).stamp(), 91);
    }
}
