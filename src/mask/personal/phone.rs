//! Telephone numbers.

use super::{hit, starts_number};
use crate::mask::cursor::{Cursor, Hit, Keeps, Stop};

/// A telephone number: E.164 behind a `+`, or national with separators. The country's or area's code may pass.
pub(in crate::mask) fn phone(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) {
        return Err(Stop::No);
    }
    match cursor.behind(1) {
        Some(b'-' | b'/') => Err(Stop::No),
        // Of a time, an address, a port.
        Some(b':') if cursor.behind(2).is_some_and(|byte| byte.is_ascii_digit()) => Err(Stop::No),
        Some(b'+') => phone_international(cursor),
        Some(b'(') => phone_bracketed(cursor),
        _ => phone_national(cursor),
    }
}

fn phone_international(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let (mut count, mut whole) = (0, None);
    // North America's numbers are all of one length.
    let most = if cursor.peek()? == Some(b'1') { 11 } else { MAX_DIGITS };
    loop {
        if count < 2 {
            count += cursor.take_digits(2 - count);
            if count == 2 {
                cursor.hold_here();
            }
        }
        count += cursor.take_digits(most + 1 - count);
        if count > most {
            // Behind the number stands another.
            return hit(cursor, whole.ok_or(Stop::No)?, Keeps::Separators);
        }
        cursor.needs_more()?;
        if count >= MIN_DIGITS {
            whole = Some(cursor.at());
        }
        if !take_separators(cursor, b" -.()/")? {
            break;
        }
    }
    if count < MIN_DIGITS {
        return Err(Stop::No);
    }
    let to = extension(cursor)?;
    hit(cursor, to, Keeps::Separators)
}

/// Digits of an international number (ITU-T E.164), its country's code among them.
const MAX_DIGITS: usize = 15;
/// Digits of the shortest that are looked for.
const MIN_DIGITS: usize = 8;

/// `(030) 1234567`, `(555) 123-4567`
fn phone_bracketed(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let mut count = 0;
    while cursor.take_digit()?.is_some() {
        count += 1;
        if count > 5 {
            return Err(Stop::No);
        }
    }
    if count < 2 || cursor.take_one_of(b")")?.is_none() {
        return Err(Stop::No);
    }
    cursor.hold_here();
    if let Some(separator) = cursor.separator(b" -./")? {
        cursor.skip(separator.length);
    }
    loop {
        let from = cursor.at();
        while cursor.take_digit()?.is_some() {
            count += 1;
            if count > 12 {
                return Err(Stop::No);
            }
        }
        if cursor.at() == from {
            return Err(Stop::No);
        }
        if !take_separators(cursor, b" -./")? {
            break;
        }
    }
    let to = extension(cursor)?;
    if count < MIN_DIGITS { Err(Stop::No) } else { hit(cursor, to, Keeps::Separators) }
}

/// `555-123-4567`, `1-555-123-4567`, `001-555-123-4567x89`, `020 7946 0958`, `0495 58 82 32`, `030/901820`, `0049 30 901820`
fn phone_national(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let mut groups = [0usize; 6];
    let (mut group, mut separator) = (0, None);
    let mut first = [0u8; 3];
    let start = cursor.at();
    loop {
        let from = cursor.at();
        while let Some(digit) = cursor.take_digit()? {
            if group == 0 && groups[0] < first.len() {
                first[groups[0]] = digit;
            }
            groups[group] += 1;
            if groups[group] > 10 || group == 0 && groups[0] > 8 {
                return Err(Stop::No);
            }
        }
        if cursor.at() == from {
            return Err(Stop::No);
        }
        // Behind an area's code in full anything may separate what follows.
        let after_area = first[0] == 0 && groups[0] >= 3;
        let known = cursor.separator(if after_area { b" -./(" } else { b" -." })?;
        let goes_on = match known {
            None => false,
            Some(_) if after_area => take_separators(cursor, b" -./()")?,
            Some(found) => {
                let fits = separator.is_none_or(|known| known == found)
                    && cursor.peek_at(found.length)?.is_some_and(|byte| byte.is_ascii_digit());
                cursor.skip(if fits { found.length } else { 0 });
                fits
            }
        };
        if !goes_on {
            break;
        }
        if group == 0 && !begins_national(&cursor.text()[start..start + groups[0]]) {
            return Err(Stop::No);
        }
        group += 1;
        if group == groups.len() {
            return Err(Stop::No);
        }
        separator = known;
        // A country's code before an area's tells nothing of a number.
        if group == 1
            && (first[0] == 0 && groups[0] < 6 && first[..3] != [0, 0, 1] || groups[0] == 3 && first[0] > 1)
            || group == 2
        {
            cursor.hold_here();
        }
    }
    let to = extension(cursor)?;
    let groups = &groups[..group + 1];
    let count: usize = groups.iter().sum();
    let american = |groups: &[usize]| groups == [3, 3, 4];
    let fits = match first[0] {
        0 if first[..3] == [0, 0, 1] => american(&groups[1..]),
        // A country's code behind the two noughts that lead abroad.
        0 if first[1] == 0 => group >= 1 && (MIN_DIGITS + 2..=MAX_DIGITS + 2).contains(&count),
        // Grouped as a US social security number is.
        0 if groups == [3, 2, 4] => false,
        0 => {
            group >= 1
                && (9..=12).contains(&count)
                && (separator.is_none_or(|known| known.kind != b'.') || groups[0] >= 3 || groups == [2; 5])
        }
        1 if groups[0] == 1 => american(&groups[1..]),
        _ => american(groups),
    };
    if fits { hit(cursor, to, Keeps::Separators) } else { Err(Stop::No) }
}

/// True when a national number can have these digits, in ASCII, before its first separator.
pub(in crate::mask) fn begins_national(digits: &[u8]) -> bool {
    match digits {
        [b'0', b'0', b'1'] => true,
        [b'0', b'0', country, ..] => (3..=5).contains(&digits.len()) && *country != b'0',
        [b'0', second, ..] => (2..=5).contains(&digits.len()) && *second != b'0',
        [b'1'] => true,
        [area, _, _] => *area >= b'2',
        _ => false,
    }
}

/// Takes separators if digits follow them: at most three.
#[inline]
fn take_separators(cursor: &mut Cursor<'_>, of: &[u8]) -> Result<bool, Stop> {
    let mut ahead = 0;
    for _ in 0..=3 {
        let Some(byte) = cursor.peek_at(ahead)? else { return Ok(false) };
        if byte.is_ascii_digit() {
            cursor.skip(ahead);
            return Ok(ahead > 0);
        }
        ahead += match byte.is_ascii() {
            true if of.contains(&byte) => 1,
            true => return Ok(false),
            false => match cursor.separator_at(ahead, of)? {
                Some(separator) => separator.length,
                None => return Ok(false),
            },
        };
    }
    Ok(false)
}

/// Where the number ends, with its extension if it has one (`x123`). [`Stop::No`] in the middle of a word.
fn extension(cursor: &mut Cursor<'_>) -> Result<usize, Stop> {
    if cursor.peek()? == Some(b'x') && cursor.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit()) {
        cursor.skip(1);
        for _ in 0..6 {
            if cursor.take_digit()?.is_none() {
                break;
            }
        }
    }
    if cursor.number_ends()? { Ok(cursor.at()) } else { Err(Stop::No) }
}
