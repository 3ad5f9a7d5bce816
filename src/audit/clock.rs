//! Times as RFC 3339 with microseconds, in UTC.

use std::fmt::{Result, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// The last second that was shown: most lines fall into the same one as the line before.
#[derive(Default)]
pub(super) struct Clock {
    second: Option<u64>,
    /// `2026-11-23T13:00:07`
    text: String,
}

impl Clock {
    /// Writes `2026-11-23T13:00:07.000042Z`. Times before 1970 are shown as 1970.
    pub(super) fn rfc3339(&mut self, out: &mut String, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text.clear();
            // Writing to a String cannot fail.
            let _ = date_and_time(&mut self.text, since.as_secs());
        }
        out.push_str(&self.text);
        out.push('.');
        let micros = since.subsec_micros();
        for unit in [100_000, 10_000, 1_000, 100, 10, 1] {
            out.push(char::from(b'0' + (micros / unit % 10) as u8));
        }
        out.push('Z');
    }
}

fn date_and_time(out: &mut String, seconds: u64) -> Result {
    let (year, month, day) = civil(seconds / 86_400);
    let seconds = seconds % 86_400;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Writes `13:00:07.042`, in UTC.
pub(super) fn time_of_day(out: &mut impl Write, at: SystemTime) -> Result {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(out, "{hour:02}:{minute:02}:{second:02}.{:03}", since.subsec_millis())
}

/// Days since 1970-01-01 → year, month, day of the Gregorian calendar.
///
/// Counted in years that begin in March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_YEAR_0_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + DAYS_FROM_YEAR_0_TO_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_around_leap_days_and_centuries() {
        let mut clock = Clock::default();
        for (seconds, micros, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000001Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, 7, "2024-12-31T23:59:59.000007Z"),
            (1_795_438_807, 42, "2026-11-23T13:00:07.000042Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ] {
            let mut out = String::new();
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            clock.rfc3339(&mut out, at);
            assert_eq!(out, expected);
        }
    }
}
