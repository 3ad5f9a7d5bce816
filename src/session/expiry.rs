//! The end of a permit: a moment on the wall clock, awaited on the steady one.
//!
//! The two drift apart: a clock is set, a virtual machine sleeps, and the steady clock hears nothing of it. So whoever waits
//! for a moment on the wall clock looks at it again, at least every `WALL_CLOCK_CHECK_INTERVAL`.

use std::cell::Cell;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How late an end may be noticed after the wall clock has jumped.
const WALL_CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// When a permit ends.
#[derive(Clone, Debug)]
pub struct Expiry {
    at: SystemTime,
    /// When to check the wall clock.
    look: Cell<Instant>,
}

impl Expiry {
    /// The end at `at`.
    pub fn new(at: SystemTime) -> Self {
        let expiry = Expiry { at, look: Cell::new(Instant::now()) };
        expiry.is_reached(expiry.look.get(), SystemTime::now());
        expiry
    }

    /// `until`, or an end that comes before it.
    pub fn earliest(ends: Option<&Expiry>, until: SystemTime) -> Self {
        Expiry::new(ends.map_or(until, |ends| ends.at.min(until)))
    }

    /// When [`Expiry::is_over`] has to be asked, which may be before the end. Costs no look at a clock.
    pub fn due(&self) -> Instant {
        self.look.get()
    }

    /// True when the wall clock shows the end or a later moment. Otherwise [`Expiry::due`] is later than `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.look.get() && self.is_reached(now, SystemTime::now())
    }

    fn is_reached(&self, now: Instant, wall: SystemTime) -> bool {
        match self.at.duration_since(wall) {
            Ok(left) if !left.is_zero() => {
                self.look.set(now + left.min(WALL_CLOCK_CHECK_INTERVAL));
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_end_is_looked_for_at_its_time_and_at_least_every_thirty_seconds() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let expiry = Expiry::new(wall + HOUR);
        assert!(expiry.due() > now && expiry.due() <= Instant::now() + WALL_CLOCK_CHECK_INTERVAL);
        let last = Duration::from_secs(5);
        assert!(!expiry.is_reached(now + HOUR - last, wall + HOUR - last));
        assert_eq!(expiry.due(), now + HOUR);
        assert!(expiry.is_reached(now + HOUR, wall + HOUR));
    }

    #[test]
    fn a_wall_clock_that_jumped_ahead_is_heeded_at_the_next_look() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let expiry = Expiry::new(wall + HOUR);
        assert!(expiry.is_reached(now + WALL_CLOCK_CHECK_INTERVAL, wall + HOUR + WALL_CLOCK_CHECK_INTERVAL));
    }

    #[test]
    fn a_wall_clock_that_was_set_back_gives_more_time() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let expiry = Expiry::new(wall + WALL_CLOCK_CHECK_INTERVAL / 2);
        let due = now + WALL_CLOCK_CHECK_INTERVAL / 2;
        assert!(!expiry.is_reached(due, wall + WALL_CLOCK_CHECK_INTERVAL / 2 - HOUR));
        assert_eq!(expiry.due(), due + WALL_CLOCK_CHECK_INTERVAL);
    }

    #[test]
    fn an_end_that_is_past_or_far_away_is_no_trouble() {
        let past = Expiry::new(SystemTime::UNIX_EPOCH);
        assert!(past.is_over(Instant::now()));
        let far = Expiry::new(SystemTime::now() + Duration::from_secs(1 << 40));
        assert!(!far.is_over(far.due()) && far.due() > Instant::now());
    }
}
