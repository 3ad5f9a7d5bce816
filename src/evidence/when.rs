//! Parsing of times and durations as people write them.

use std::str::FromStr;
use std::time::Duration;

/// A point in time, ns since 1970: RFC 3339, a date, or how long ago (`30m`, `2h`, `7d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub u64);

impl FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos() as u64);
        parse(text, now)
            .map(When)
            .ok_or_else(|| "write 2026-11-27, 2026-11-27T10:30:00Z, or how long ago: 30m, 2h, 7d".to_owned())
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::table::time(self.0))
    }
}

const SECOND: u64 = 1_000_000_000;

/// How long `90s`, `30m`, `2h` and `7d` are.
pub(super) fn period(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let (count, seconds) = units.iter().find_map(|(unit, s)| Some((text.strip_suffix(*unit)?, s)))?;
    count.parse::<u64>().ok()?.checked_mul(*seconds).map(Duration::from_secs)
}

fn parse(text: &str, now: u64) -> Option<u64> {
    if text.ends_with(['s', 'm', 'h', 'd']) {
        let ago = period(text)?.as_nanos();
        return Some(now.saturating_sub(u64::try_from(ago).ok()?));
    }
    let (date, time) = text.split_once(['T', ' ', 't']).unwrap_or((text, ""));
    let mut parts = date.split('-');
    let year: i64 = digits(parts.next()?, 4)?;
    let (month, day) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > month_length(year, month) {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut seconds = 0;
    if !whole.is_empty() {
        let parts: Vec<&str> = whole.split(':').collect();
        let limits = [(3600, 23), (60, 59), (1, 60)];
        if parts.len() < 2 || parts.len() > limits.len() {
            return None;
        }
        for (part, (weight, limit)) in parts.iter().zip(limits) {
            seconds += weight * digits(part, 2).filter(|number| *number <= limit)?;
        }
    }
    let zone = match zone {
        "" | "Z" | "z" => 0,
        offset => {
            let (hours, minutes) = offset[1..].split_once(':')?;
            let minutes = digits(hours, 2)? * 60 + digits(minutes, 2)?;
            if offset.starts_with('-') { -minutes } else { minutes }
        }
    };
    let nanoseconds = match fraction {
        "" => 0,
        fraction if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{:0<9.9}", fraction).parse::<u64>().ok()?
        }
        _ => return None,
    };
    let seconds = u64::try_from(days * 86_400 + seconds - zone * 60).ok()?;
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

fn digits(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    years + (1..month).map(|month| month_length(year, month)).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_the_forms_that_people_write() {
        let cases = [
            ("1970-01-01", Some(0)),
            ("2026-11-27T10:30:00Z", Some(1_795_775_400)),
            ("2026-11-27 10:30", Some(1_795_775_400)),
            ("2026-11-27T11:30:00+01:00", Some(1_795_775_400)),
            ("2024-02-29T00:00:00-00:30", Some(1_709_166_600)),
            ("2025-02-29", None),
            ("2026-13-01", None),
            ("2026-11-27T25:00", None),
            ("yesterday", None),
            ("1969-12-31", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse(text, 0), seconds.map(|s: u64| s * SECOND), "{text}");
        }
        assert_eq!(parse("2026-11-27T10:30:00.5Z", 0), Some(1_795_775_400_500_000_000));
        assert_eq!(parse("2h", 7200 * SECOND + 1), Some(1));
        assert_eq!(parse("90m", 7200 * SECOND), Some(1800 * SECOND));
        assert_eq!(parse("99999999999999999999d", 1), None);
    }
}
