//! International bank account numbers.

use super::hit;
use crate::mask::cursor::{Cursor, Hit, Keeps, Stop};

/// An IBAN (ISO 13616), entered at its check digits behind the country. Both may pass.
pub(in crate::mask) fn iban(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
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
        if let Some(found) = cursor.separator(b" -")?
            && separator.is_none_or(|known| known == found)
        {
            separator = Some(found);
            cursor.skip(found.length);
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
    hit(cursor, cursor.at(), Keeps::Separators)
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
