//! Detectors of personal data: cards, accounts, addresses, numbers. Each reads forward from an anchor.
//!
//! Each says with [`Cursor::hold_here`] from where on nothing may pass before its verdict, and overwrites nothing before that.

use super::cursor::{Class, Cursor, Hit, Stop};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

fn hit(cursor: &Cursor<'_>, to: usize, keeps_shape: bool) -> Result<Hit, Stop> {
    let from = cursor.hold.ok_or(Stop::No)?;
    if from < to { Ok(Hit { from, to, keeps_shape, rest: None }) } else { Err(Stop::No) }
}

/// True where a number begins that is no part of another: neither the fraction of one, nor a group of one.
fn starts_number(cursor: &Cursor<'_>) -> bool {
    let fraction =
        matches!(cursor.behind(1), Some(b'.' | b',')) && cursor.behind(2).is_some_and(|b| b.is_ascii_digit());
    cursor.starts_word() && !fraction
}

/// Digits of a payment card (ISO/IEC 7812): its issuer's range, its length, Luhn's digit. The first six may be shown (PCI DSS
/// 3.4.1), and the last four.
pub(super) fn card(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) {
        return Err(Stop::No);
    }
    let (mut digits, mut places) = ([0u8; 19], [0usize; 19]);
    let mut separator = None;
    let mut lengths: &[usize] = &[];
    let mut count = 0;
    loop {
        if lengths.contains(&count) && has_luhn_digit(&digits[..count]) && cursor.number_ends()? {
            return hit(cursor, places[count - 4], true);
        }
        if count == digits.len() {
            return Err(Stop::No);
        }
        if count > 0 {
            match cursor.peek()? {
                Some(byte @ (b' ' | b'-')) if separator.is_none_or(|known| known == byte) => {
                    if !cursor.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit()) {
                        return Err(Stop::No);
                    }
                    separator = Some(byte);
                    cursor.skip(1);
                }
                _ => {}
            }
        }
        places[count] = cursor.at();
        digits[count] = cursor.take_digit()?.ok_or(Stop::No)?;
        count += 1;
        if count == 1 && !(1..=6).contains(&digits[0]) {
            return Err(Stop::No);
        }
        if count == 6 {
            lengths = card_lengths(digits[..6].iter().fold(0, |value, digit| value * 10 + u32::from(*digit)));
            if lengths.is_empty() {
                return Err(Stop::No);
            }
            cursor.hold_here();
        }
    }
}

/// The lengths of cards whose numbers begin with these six digits.
fn card_lengths(first_six: u32) -> &'static [usize] {
    match (first_six / 10_000, first_six / 100, first_six / 1_000) {
        (40..=49, ..) => &[13, 16, 19],
        (51..=55, ..) | (_, 2221..=2720, _) => &[16],
        (34 | 37, ..) | (_, 1800 | 2131, _) => &[15],
        // JCB has 3528 to 3589; what tests and generators write is all of 35.
        (35, ..) => &[16, 17, 18, 19],
        (36, ..) => &[14, 15, 16, 17, 18, 19],
        (38 | 39, ..) | (_, _, 300..=305) | (_, 3095, _) => &[14, 16, 17, 18, 19],
        (62, ..) => &[16, 17, 18, 19],
        (65, ..) | (_, 6011, _) | (_, _, 644..=649) => &[16, 17, 18, 19],
        (50 | 56..=58 | 60..=69, ..) => &[12, 13, 14, 15, 16, 17, 18, 19],
        _ => &[],
    }
}

/// Luhn's check (ISO/IEC 7812-1 annex B).
pub(super) fn has_luhn_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => u32::from(*digit),
            _ => u32::from(*digit) * 2 - if *digit > 4 { 9 } else { 0 },
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A US social security number with separators. The area number may pass.
pub(super) fn ssn(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) || cursor.behind(1).is_some_and(|byte| matches!(byte, b'-' | b'+')) {
        return Err(Stop::No);
    }
    let area = cursor.digits(3)?;
    let separator = cursor.take_one_of(b"- .")?.ok_or(Stop::No)?;
    if area == 0 || area == 666 || area >= 900 {
        return Err(Stop::No);
    }
    cursor.hold_here();
    let group = cursor.digits(2)?;
    if cursor.take_one_of(&[separator])?.is_none() {
        return Err(Stop::No);
    }
    let serial = cursor.digits(4)?;
    if group == 0 || serial == 0 || !cursor.number_ends()? {
        return Err(Stop::No);
    }
    if cursor.peek()? == Some(separator)
        && cursor.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit())
        && separator != b' '
    {
        return Err(Stop::No);
    }
    hit(cursor, cursor.at(), true)
}

/// An e-mail address, entered at its `@`, from which on it is overwritten: the part before may pass.
pub(super) fn email(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) || byte >= 0x80;
    if !cursor.behind(1).is_some_and(local) {
        return Err(Stop::No);
    }
    cursor.hold_here();
    cursor.skip(1);
    let from = cursor.at();
    cursor.run(Class::Dotted, MAX_DOMAIN)?;
    let text = &cursor.text()[from..cursor.at()];
    let length = text.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
    let mut labels = text[..length].rsplit(|byte| *byte == b'.');
    let top = labels.next().unwrap_or_default();
    let is_top = top.len() >= 2 && (top.iter().all(u8::is_ascii_alphabetic) || top.starts_with(b"xn--"));
    let mut rest = labels.peekable();
    if !is_top || rest.peek().is_none() || rest.any(|label| label.is_empty() || label.contains(&b'_')) {
        return Err(Stop::No);
    }
    hit(cursor, from + length, false)
}

/// Bytes of a host's name (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253;

/// A telephone number: E.164 behind a `+`, or national with separators. The country's or area's code may pass.
pub(super) fn phone(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) {
        return Err(Stop::No);
    }
    let before = cursor.behind(1);
    if before == Some(b'-') || before == Some(b'/') || before == Some(b':') {
        return Err(Stop::No);
    }
    match before {
        Some(b'+') => phone_international(cursor),
        Some(b'(') => phone_bracketed(cursor),
        _ => phone_national(cursor),
    }
}

fn phone_international(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let mut count = 0;
    let to = loop {
        while cursor.take_digit()?.is_some() {
            count += 1;
            if count > 15 {
                return Err(Stop::No);
            }
            if count == 2 {
                cursor.hold_here();
            }
        }
        let end = cursor.at();
        if !take_separators(cursor, b" -.()/")? {
            break end;
        }
    };
    let to = extension(cursor, to)?;
    if count < 8 { Err(Stop::No) } else { hit(cursor, to, true) }
}

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
    if cursor.peek()?.is_some_and(|byte| b" -.".contains(&byte)) {
        cursor.skip(1);
    }
    let to = loop {
        let from = cursor.at();
        while cursor.take_digit()?.is_some() {
            count += 1;
            if count > 12 {
                return Err(Stop::No);
            }
        }
        let end = cursor.at();
        if from == end {
            return Err(Stop::No);
        }
        if !take_separators(cursor, b" -.")? {
            break end;
        }
    };
    let to = extension(cursor, to)?;
    if count < 8 { Err(Stop::No) } else { hit(cursor, to, true) }
}

/// `555-123-4567`, `1-555-123-4567`, `001-555-123-4567x89`, `020 7946 0958`, `0495 58 82 32`
fn phone_national(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let mut groups = [0usize; 6];
    let (mut group, mut separator) = (0, None);
    let mut first = [0u8; 6];
    let to = loop {
        let from = cursor.at();
        while let Some(digit) = cursor.take_digit()? {
            if group == 0 && groups[0] < first.len() {
                first[groups[0]] = digit;
            }
            groups[group] += 1;
            if groups[group] > 8 {
                return Err(Stop::No);
            }
        }
        if cursor.at() == from {
            return Err(Stop::No);
        }
        let end = cursor.at();
        match cursor.peek()? {
            Some(byte @ (b' ' | b'-' | b'.')) if separator.is_none_or(|known| known == byte) => {
                if !cursor.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit()) {
                    break end;
                }
                if group == 0 && !begins_national(&first[..groups[0].min(6)], groups[0]) {
                    return Err(Stop::No);
                }
                group += 1;
                if group == groups.len() {
                    return Err(Stop::No);
                }
                separator = Some(byte);
                cursor.skip(1);
                // A country's code before an area's tells nothing of a number.
                if group == 1
                    && (first[0] == 0 && groups[0] < 6 && first[..3] != [0, 0, 1]
                        || groups[0] == 3 && first[0] > 1)
                    || group == 2
                {
                    cursor.hold_here();
                }
            }
            _ => break end,
        }
    };
    let to = extension(cursor, to)?;
    let groups = &groups[..group + 1];
    let count: usize = groups.iter().sum();
    let american = |groups: &[usize]| groups == [3, 3, 4];
    let fits = match first[0] {
        0 if first[..3] == [0, 0, 1] => american(&groups[1..]),
        // Grouped as a US social security number is.
        0 if groups == [3, 2, 4] => false,
        0 => {
            group >= 1
                && (9..=11).contains(&count)
                && (separator != Some(b'.') || groups[0] >= 3 || groups == [2; 5])
        }
        1 if groups[0] == 1 => american(&groups[1..]),
        _ => american(groups),
    };
    if fits { hit(cursor, to, true) } else { Err(Stop::No) }
}

/// True when a national number can have this group before its first separator.
fn begins_national(digits: &[u8], length: usize) -> bool {
    match digits {
        [0, 0, 1] => true,
        [0, second, ..] => (2..=5).contains(&length) && *second != 0,
        [1] => true,
        [area, ..] => length == 3 && *area >= 2,
        [] => false,
    }
}

/// Takes separators if digits follow them: at most three.
fn take_separators(cursor: &mut Cursor<'_>, of: &[u8]) -> Result<bool, Stop> {
    for ahead in 0..=3 {
        match cursor.peek_at(ahead)? {
            Some(byte) if byte.is_ascii_digit() => {
                cursor.skip(ahead);
                return Ok(ahead > 0);
            }
            Some(byte) if of.contains(&byte) => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Where the number ends that ends at `to` or has an extension there (`x123`). [`Stop::No`] in the middle of a word.
fn extension(cursor: &mut Cursor<'_>, to: usize) -> Result<usize, Stop> {
    debug_assert_eq!(cursor.at(), to);
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

/// An IPv4 address. The first two numbers may pass.
pub(super) fn ipv4(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) || matches!(cursor.behind(1), Some(b'.' | b'-')) {
        return Err(Stop::No);
    }
    let from = cursor.at();
    for group in 0..4 {
        if group > 0 && cursor.take_one_of(b".")?.is_none() {
            return Err(Stop::No);
        }
        if group == 2 {
            cursor.hold_here();
        }
        let start = cursor.at();
        while cursor.take_digit()?.is_some() {
            if cursor.at() - start > 3 {
                return Err(Stop::No);
            }
        }
    }
    let text = std::str::from_utf8(&cursor.text()[from..cursor.at()]).map_err(|_| Stop::No)?;
    let address = Ipv4Addr::from_str(text).map_err(|_| Stop::No)?;
    if address.octets()[0] == 0 || !cursor.number_ends()? {
        return Err(Stop::No);
    }
    hit(cursor, cursor.at(), true)
}

/// An IPv6 address, entered at its first colon. The first two groups may pass.
pub(super) fn ipv6(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
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
    hit(cursor, from + length, true)
}

/// An IBAN (ISO 13616), entered at its check digits behind the country. Both may pass.
pub(super) fn iban(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let (Some(b), Some(a)) = (cursor.behind(1), cursor.behind(2)) else { return Err(Stop::No) };
    if cursor.behind(3).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Stop::No);
    }
    // In one case throughout: words of mixed case are none.
    let lower = a.is_ascii_lowercase();
    let country = [a, b].map(|byte| byte.to_ascii_uppercase());
    if b.is_ascii_lowercase() != lower {
        return Err(Stop::No);
    }
    let Some((_, length)) = IBAN_LENGTHS.iter().find(|(known, _)| **known == country) else {
        return Err(Stop::No);
    };
    let mut rest = 0;
    let mut step = |byte: u8| {
        let value = char::from(byte).to_digit(36).unwrap_or(0);
        rest = if value > 9 { (rest * 100 + value) % 97 } else { (rest * 10 + value) % 97 };
    };
    let check = cursor.digits(2)?;
    cursor.hold_here();
    let mut separator = None;
    for _ in 4..*length {
        if let Some(byte @ (b' ' | b'-')) = cursor.peek()?
            && separator.is_none_or(|known| known == byte)
        {
            separator = Some(byte);
            cursor.skip(1);
        }
        match cursor.peek()? {
            Some(byte)
                if byte.is_ascii_digit()
                    || byte.is_ascii_alphabetic() && byte.is_ascii_lowercase() == lower =>
            {
                step(byte);
                cursor.skip(1);
            }
            _ => return Err(Stop::No),
        }
    }
    [a, b].into_iter().for_each(&mut step);
    let rest = (rest * 100 + check) % 97;
    if rest != 1 || !cursor.number_ends()? {
        return Err(Stop::No);
    }
    hit(cursor, cursor.at(), true)
}

/// The registry's countries, with how many characters their accounts have (SWIFT IBAN registry).
const IBAN_LENGTHS: [(&[u8; 2], usize); 86] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"XK", 20),
];
