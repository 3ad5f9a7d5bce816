//! The form of a date in HTTP (RFC 9110 section 5.6.7).

use std::fmt;

/// A moment, in seconds since 1970. Shown as in `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpDate(pub u64);

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Days are counted from the 1st of March of the year 0, so that leap days end a year (Hinnant, "chrono-Compatible Low-Level
        // Date Algorithms").
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (month_day, carry) = (day - (153 * month + 2) / 5 + 1, u64::from(month >= 10));
        let weekday = WEEKDAYS[(days % 7) as usize];
        let name = MONTHS[((month + 2) % 12) as usize];
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let year = era * 400 + year + carry;
        write!(f, "{weekday}, {month_day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }
}

/// The 1st of January 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_and_year_ends() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(HttpDate(seconds).to_string(), date);
        }
    }
}
