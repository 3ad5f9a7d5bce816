//! When to renew and when to try again. Pure: points in time and random numbers come in.

use std::time::{Duration, SystemTime};

/// Certificates that live no longer than this are renewed at half their life, others at two thirds.
const SHORT_LIFETIME: Duration = Duration::from_secs(10 * 86_400);
/// Renewals are spread over this part of the life before their time, so that many gateways do not come at once.
const JITTER_SHARE: u32 = 20;
/// A certificate younger than this part of its life is not renewed, whatever the authority suggests: one that always suggests
/// the past would be asked without end.
const YOUNG_DIVISOR: u32 = 10;
/// The same for long lives.
const MAX_YOUNG_AGE: Duration = Duration::from_secs(3600);
/// The last part of a life in which no suggestion can hold a renewal back.
const FINAL_DIVISOR: u32 = 20;

/// A certificate that begins later than this is not shown: clocks of authorities and of this machine differ by less.
const ISSUING_SKEW: Duration = Duration::from_secs(3600);

/// Between the first failed order and the next; three times as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// Longest delay while there is a certificate with plenty of life left.
const LAST_RETRY: Duration = Duration::from_secs(2 * 86_400);
/// Longest delay without a certificate.
const MAX_RETRY_WITHOUT_CERTIFICATE: Duration = Duration::from_secs(86_400);
/// Longest delay when the certificate is about to end. Authorities allow about five failed orders an hour for a name.
const MAX_RETRY_NEAR_EXPIRY: Duration = Duration::from_secs(3600);

/// A certificate's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Life {
    fn whole(self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    fn left(self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// Why a certificate that was just issued is not to be shown; `None`: it is good.
    pub(super) fn fault(self, now: SystemTime) -> Option<&'static str> {
        match () {
            () if self.not_after <= now => Some("has ended already"),
            () if self.not_before > now + ISSUING_SKEW => Some("is not valid yet"),
            () => None,
        }
    }

    /// When to renew if the authority suggests nothing. `random` lies in `0.0..1.0`.
    pub(super) fn renewal(self, random: f64) -> SystemTime {
        let whole = self.whole();
        let at = if whole > SHORT_LIFETIME { whole / 3 * 2 } else { whole / 2 };
        self.not_before + at.saturating_sub((whole / JITTER_SHARE).mul_f64(random))
    }

    /// When to renew within the window that the authority suggests (RFC 9773 section 4.2); `None` for a window that is none.
    /// A certificate that is very young stays, and none is left to its end.
    pub(super) fn renewal_within(
        self,
        start: SystemTime,
        end: SystemTime,
        random: f64,
    ) -> Option<SystemTime> {
        let window = end.duration_since(start).ok().filter(|window| !window.is_zero())?;
        let earliest = self.not_before + (self.whole() / YOUNG_DIVISOR).min(MAX_YOUNG_AGE);
        let latest = self.not_after - self.whole() / FINAL_DIVISOR;
        Some((start + window.mul_f64(random)).max(earliest).min(latest))
    }
}

/// How long to wait after the `failures`-th failure in a row, 1 the first. `life` is that of the certificate that serves.
pub(super) fn retry_delay(failures: u32, life: Option<Life>, now: SystemTime, random: f64) -> Duration {
    let most = match life.map(|life| life.left(now)) {
        None => MAX_RETRY_WITHOUT_CERTIFICATE,
        Some(left) => (left / 8).clamp(MAX_RETRY_NEAR_EXPIRY, LAST_RETRY),
    };
    let factor = 3_u32.saturating_pow(failures.saturating_sub(1).min(16));
    // From four fifths to six fifths: failures that have one cause do not come back together.
    FIRST_RETRY.saturating_mul(factor).min(most).mul_f64(0.8 + 0.4 * random)
}

/// A random number in `0.0..1.0`.
pub(super) fn random() -> f64 {
    let bytes = ring::rand::generate::<[u8; 4]>(&ring::rand::SystemRandom::new());
    bytes.map_or(0.5, |bytes| f64::from(u32::from_ne_bytes(bytes.expose())) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn life(days: u32) -> Life {
        let not_before = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        Life { not_before, not_after: not_before + days * DAY }
    }

    fn days(life: Life, at: SystemTime) -> f64 {
        at.duration_since(life.not_before).unwrap().as_secs_f64() / DAY.as_secs_f64()
    }

    #[test]
    fn what_has_ended_or_has_not_begun_is_not_shown() {
        let life = life(90);
        let hour = Duration::from_secs(3600);
        for (now, fault) in [
            (life.not_before, None),
            (life.not_before - hour, None),
            (life.not_before - 2 * hour, Some("is not valid yet")),
            (life.not_after - hour, None),
            (life.not_after, Some("has ended already")),
        ] {
            assert_eq!(life.fault(now), fault);
        }
    }

    #[test]
    fn long_lives_are_renewed_at_two_thirds_and_short_ones_at_half() {
        for (whole, at) in [(90, 60.0), (45, 30.0), (398, 265.33), (6, 3.0), (10, 5.0), (1, 0.5)] {
            let life = life(whole);
            assert!((days(life, life.renewal(0.0)) - at).abs() < 0.01, "{whole}");
            let early = at - f64::from(whole) / 20.0;
            assert!((days(life, life.renewal(1.0)) - early).abs() < 0.01, "{whole}");
        }
        // A certificate that ends before it begins is due at once.
        let nothing = Life { not_before: life(1).not_after, not_after: life(1).not_before };
        assert_eq!(nothing.renewal(0.5), nothing.not_before);
    }

    #[test]
    fn a_suggested_window_is_kept_to_but_neither_too_early_nor_too_late() {
        let life = life(90);
        let at = |day: f64| life.not_before + DAY.mul_f64(day);
        let within =
            |from, to, random| life.renewal_within(at(from), at(to), random).map(|at| days(life, at));
        assert_eq!(within(50.0, 52.0, 0.0), Some(50.0));
        assert_eq!(within(50.0, 52.0, 0.5), Some(51.0));
        // The past, as after a revocation: at once, but for a certificate that was just issued.
        let past = life.renewal_within(life.not_before - 3 * DAY, life.not_before - 2 * DAY, 0.5);
        assert_eq!(past, Some(life.not_before + MAX_YOUNG_AGE));
        // Behind the certificate's end: in time all the same.
        assert_eq!(within(100.0, 101.0, 0.0), Some(85.5));
        // No window at all.
        assert_eq!(within(52.0, 52.0, 0.0), None);
        assert_eq!(within(52.0, 50.0, 0.0), None);
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_days_and_less_when_the_end_is_near() {
        let now = life(90).not_before + 60 * DAY;
        let delay = |failures, life| retry_delay(failures, life, now, 0.5).as_secs();
        let without: Vec<u64> = (1..10).map(|n| delay(n, None)).collect();
        assert_eq!(without, [60, 180, 540, 1620, 4860, 14_580, 43_740, 86_400, 86_400]);
        assert_eq!(delay(20, Some(life(90))), 2 * 86_400);
        // Three days are left of six: an eighth of them.
        let short = Life { not_before: now - 3 * DAY, not_after: now + 3 * DAY };
        assert_eq!(delay(20, Some(short)), 3 * 86_400 / 8);
        let ended = Life { not_before: now - 90 * DAY, not_after: now - DAY };
        assert_eq!(delay(20, Some(ended)), 3600);
        assert!(retry_delay(9, None, now, 0.0) < retry_delay(9, None, now, 0.99));
        assert_eq!(retry_delay(u32::MAX, None, now, 0.5).as_secs(), 86_400);
    }

    #[test]
    fn random_numbers_are_fractions() {
        for _ in 0..100 {
            assert!((0.0..1.0).contains(&random()));
        }
    }
}
