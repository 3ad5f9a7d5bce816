//! Values of PostgreSQL: text as it is, the common types of the binary form.

use super::body::value;
use serde_json::{Value, json};

/// A value in its format (0 text, 1 binary) and type (an OID; 0 unknown).
pub(super) fn shown(format: u16, oid: u32, bytes: &[u8]) -> Value {
    match format {
        0 => value(bytes),
        _ => binary(oid, bytes).unwrap_or_else(|| match bytes.len() {
            _ if oid == 0 => value(bytes),
            _ => json!({ "binary": value(bytes) }),
        }),
    }
}

fn binary(oid: u32, bytes: &[u8]) -> Option<Value> {
    Some(match oid {
        16 => (*bytes.first()? != 0).into(),
        20 => i64::from_be_bytes(bytes.try_into().ok()?).into(),
        21 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        23 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        26 => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        700 => f32::from_be_bytes(bytes.try_into().ok()?).into(),
        701 => f64::from_be_bytes(bytes.try_into().ok()?).into(),
        // char, name, text, json, xml, bpchar, varchar, unknown
        18 | 19 | 25 | 114 | 142 | 1042 | 1043 | 705 => value(bytes),
        // jsonb: a version, then text
        3802 => value(bytes.strip_prefix(&[1])?),
        1082 => date(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))).into(),
        1114 | 1184 => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            let (days, rest) = (microseconds.div_euclid(DAY), microseconds.rem_euclid(DAY));
            let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let zone = if oid == 1184 { "+00" } else { "" };
            format!("{} {hours:02}:{minutes:02}:{seconds:02}.{fraction:06}{zone}", date(days)).into()
        }
        2950 => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let part = |from: usize, to: usize| hex.get(from..to);
            let parts = [part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?];
            parts.join("-").into()
        }
        _ => return None,
    })
}

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// Days since 2000-01-01 in the Gregorian calendar.
fn date(days: i64) -> String {
    // Days since 0000-03-01, so that leap days end a year.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", year + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_read_as_the_server_prints_them() {
        let cases: [(u32, &[u8], Value); 8] = [
            (16, &[1], true.into()),
            (20, &(-7_i64).to_be_bytes(), (-7).into()),
            (1082, &0_i32.to_be_bytes(), "2000-01-01".into()),
            (1082, &8823_i32.to_be_bytes(), "2024-02-27".into()),
            (1082, &8825_i32.to_be_bytes(), "2024-02-29".into()),
            (1082, &(-1_i32).to_be_bytes(), "1999-12-31".into()),
            (1114, &1_500_000_i64.to_be_bytes(), "2000-01-01 00:00:01.500000".into()),
            (25, b"text", "text".into()),
        ];
        for (oid, bytes, expected) in cases {
            assert_eq!(shown(1, oid, bytes), expected);
        }
    }
}
