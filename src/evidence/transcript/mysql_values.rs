//! Values of MySQL: length-encoded numbers and strings, the binary form of prepared statements.

use super::body::value;
use serde_json::Value;

/// A length-encoded number; the inner `None` for NULL.
pub(super) fn number(bytes: &mut &[u8]) -> Option<Option<u64>> {
    let (first, rest) = bytes.split_first()?;
    let width = match first {
        0xfb => {
            *bytes = rest;
            return Some(None);
        }
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => {
            *bytes = rest;
            return Some(Some(u64::from(*small)));
        }
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    *bytes = rest;
    Some(Some(little(digits)))
}

/// A length-encoded string; the inner `None` for NULL.
pub(super) fn string<'b>(bytes: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let Some(length) = number(bytes)? else { return Some(None) };
    let (found, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(found))
}

fn little(digits: &[u8]) -> u64 {
    digits.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A value in the binary form. `kind`: the type of a column or parameter.
pub(super) fn binary(bytes: &mut &[u8], kind: u8, is_unsigned: bool) -> Option<Value> {
    let width = match kind {
        0x01 => 1,
        0x02 | 0x0d => 2,
        0x03 | 0x09 => 4,
        0x08 => 8,
        0x04 => return fixed::<4>(bytes).map(|digits| f32::from_le_bytes(digits).into()),
        0x05 => return fixed::<8>(bytes).map(|digits| f64::from_le_bytes(digits).into()),
        0x07 | 0x0a | 0x0c => return moment(bytes),
        0x0b => return duration(bytes),
        0x06 => return Some(Value::Null),
        _ => return string(bytes)?.map(value),
    };
    let (digits, rest) = bytes.split_at_checked(width)?;
    *bytes = rest;
    let number = little(digits);
    if is_unsigned {
        return Some(number.into());
    }
    let shift = 64 - 8 * width as u32;
    Some((number.wrapping_shl(shift).cast_signed() >> shift).into())
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (digits, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*digits)
}

fn moment(bytes: &mut &[u8]) -> Option<Value> {
    let sent = string(bytes)??;
    let mut digits = [0_u8; 11];
    digits.get_mut(..sent.len())?.copy_from_slice(sent);
    let [y0, y1, month, day, hour, minute, second, fraction @ ..] = digits;
    let date = format!("{:04}-{month:02}-{day:02}", u16::from_le_bytes([y0, y1]));
    Some(match sent.len() {
        0..=4 => date.into(),
        5..=7 => format!("{date} {hour:02}:{minute:02}:{second:02}").into(),
        _ => format!("{date} {hour:02}:{minute:02}:{second:02}.{:06}", u32::from_le_bytes(fraction)).into(),
    })
}

fn duration(bytes: &mut &[u8]) -> Option<Value> {
    let sent = string(bytes)??;
    let mut digits = [0_u8; 12];
    digits.get_mut(..sent.len())?.copy_from_slice(sent);
    let [is_negative, d0, d1, d2, d3, hour, minute, second, fraction @ ..] = digits;
    let sign = if is_negative == 0 { "" } else { "-" };
    let hours = u64::from(u32::from_le_bytes([d0, d1, d2, d3])) * 24 + u64::from(hour);
    let fraction = u32::from_le_bytes(fraction);
    Some(format!("{sign}{hours:02}:{minute:02}:{second:02}.{fraction:06}").into())
}
