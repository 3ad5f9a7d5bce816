//! Durations (`30s`, `5m`, `1h`, `250ms`) and sizes (`16KiB`, `1MiB`) as people write them.

use std::time::Duration;

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let wrong = || format!("{text:?} is no duration; write for example \"30s\", \"5m\", \"250ms\"");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a size: a whole number and one of `B`, `KiB`, `MiB`, `GiB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let wrong = || format!("{text:?} is no size; write for example \"16KiB\", \"1MiB\"");
    let number: usize = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_to_durations_and_sizes() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(size("16KiB"), Ok(16 * 1024));
        assert_eq!(size("0B"), Ok(0));
    }

    #[test]
    fn what_is_neither_is_told_how_to_write_it() {
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999d", "9999999999999999d"] {
            assert!(duration(text).unwrap_err().contains("write for example"), "{text}");
        }
        for text in ["", "16", "16KB", "16kib", "99999999999GiB99"] {
            assert!(size(text).unwrap_err().contains("write for example"), "{text}");
        }
    }
}
