//! Addresses of the Internet Protocol.

use super::{hit, starts_number};
use crate::mask::cursor::{Cursor, Hit, Keeps, Stop};
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An IPv4 address. The first two numbers may pass.
pub(in crate::mask) fn ipv4(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) || matches!(cursor.behind(1), Some(b'.' | b'-')) {
        return Err(Stop::No);
    }
    for group in 0..4 {
        if group > 0 && cursor.take_one_of(b".")?.is_none() {
            return Err(Stop::No);
        }
        if group == 2 {
            cursor.hold_here();
        }
        let start = cursor.at();
        let length = cursor.take_digits(4);
        let digits = &cursor.text()[start..cursor.at()];
        let value = digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        // As the usual notation has it: a nought stands alone.
        let is_octet = length <= 3 && value <= 255 && (length < 2 || digits[0] != b'0');
        if !is_octet || group == 0 && length > 0 && value == 0 {
            return Err(Stop::No);
        }
        cursor.needs_more()?;
        if length == 0 {
            return Err(Stop::No);
        }
    }
    if !cursor.number_ends()? {
        return Err(Stop::No);
    }
    hit(cursor, cursor.at(), Keeps::Address)
}

/// An IPv6 address, entered at its first colon. The first two groups may pass.
pub(in crate::mask) fn ipv6(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let mut back = 0;
    while cursor.behind(back + 1).is_some_and(|byte| byte.is_ascii_hexdigit()) {
        back += 1;
        if back > 4 {
            return Err(Stop::No);
        }
    }
    if cursor.behind(back + 1).is_some_and(|byte| byte.is_ascii_alphanumeric() || b":_.".contains(&byte)) {
        return Err(Stop::No);
    }
    let from = cursor.at() - back;
    let (mut colons, mut length) = (0, back);
    loop {
        match cursor.peek()? {
            Some(b':') => {
                colons += 1;
                cursor.skip(1);
                if colons == 2 {
                    cursor.hold_here();
                }
            }
            Some(byte) if byte.is_ascii_hexdigit() || byte == b'.' => cursor.skip(1),
            _ => break,
        }
        length += 1;
        if length > 46 {
            return Err(Stop::No);
        }
    }
    let text = &cursor.text()[from..cursor.at()];
    let length = text.iter().rposition(|byte| byte.is_ascii_hexdigit()).map_or(0, |last| last + 1);
    let text = &text[..length];
    if cursor.peek()?.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Stop::No);
    }
    let digits = text.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    if digits < 5 || !text.iter().any(u8::is_ascii_digit) {
        return Err(Stop::No);
    }
    let text = std::str::from_utf8(text).map_err(|_| Stop::No)?;
    Ipv6Addr::from_str(text).map_err(|_| Stop::No)?;
    hit(cursor, from + length, Keeps::Address)
}
