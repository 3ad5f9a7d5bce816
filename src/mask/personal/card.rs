//! Payment cards.

use super::{hit, starts_number};
use crate::mask::cursor::{Cursor, Hit, Keeps, Stop};

/// Digits of a payment card (ISO/IEC 7812): its issuer's range, its length, Luhn's digit. The first six may be shown (PCI DSS
/// 3.4.1), and the last four.
pub(in crate::mask) fn card(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) {
        return Err(Stop::No);
    }
    // Where the last four digits are, each at its number modulo four.
    let mut places = [0usize; 4];
    let (mut separator, mut lengths) = (None, 0u32);
    let (mut count, mut first_six, mut luhn) = (0, 0, Luhn::default());
    loop {
        if lengths >> count & 1 == 1 && luhn.fits() && cursor.number_ends()? {
            return hit(cursor, places[count % 4], Keeps::Separators);
        }
        if count == MAX_DIGITS {
            return Err(Stop::No);
        }
        if count > 0
            && let Some(found) = cursor.separator(b" -")?
            && separator.is_none_or(|known| known == found)
        {
            separator = Some(found);
            cursor.skip(found.length);
        }
        places[count % 4] = cursor.at();
        let digit = cursor.take_digit()?.ok_or(Stop::No)?;
        luhn.add(digit);
        count += 1;
        if count <= 6 {
            first_six = first_six * 10 + u32::from(digit);
        }
        if count == 6 {
            lengths = card_lengths(first_six);
            if lengths == 0 {
                return Err(Stop::No);
            }
            cursor.hold_here();
        }
    }
}

/// Digits of the longest card.
const MAX_DIGITS: usize = 19;

/// False where no issuer's range begins with these digits, in ASCII.
pub(in crate::mask) fn begins_card(digits: &[u8]) -> bool {
    match digits {
        [b'1', b'8', b'0', b'0', ..] | [b'2', b'1', b'3', b'1', ..] | [b'9', b'7', b'9', b'2', ..] => true,
        [b'2', b'2'..=b'7', ..] | [b'8', b'1' | b'2', ..] => true,
        [b'1' | b'2' | b'9', _, _, _, ..] | [b'8', _, ..] => false,
        [b'1'..=b'6' | b'8' | b'9', ..] => true,
        _ => false,
    }
}

/// The lengths of cards whose numbers begin with these six digits: a bit for each.
fn card_lengths(first_six: u32) -> u32 {
    match (first_six / 10_000, first_six / 100, first_six / 1_000) {
        (40..=49, ..) => lengths(&[13, 16, 19]),
        // Mastercard; Troy; RuPay.
        (51..=55, ..) | (_, 2221..=2720, _) | (_, 9792, _) | (81 | 82, ..) => lengths(&[16]),
        (34 | 37, ..) | (_, 1800 | 2131, _) => lengths(&[15]),
        // Mir.
        (_, 2200..=2204, _) => lengths(&[16, 17, 18, 19]),
        // JCB has 3528 to 3589; what tests and generators write is all of 35.
        (35, ..) => lengths(&[16, 17, 18, 19]),
        (36, ..) => lengths(&[14, 15, 16, 17, 18, 19]),
        (38 | 39, ..) | (_, _, 300..=305) | (_, 3095, _) => lengths(&[14, 16, 17, 18, 19]),
        (62, ..) => lengths(&[16, 17, 18, 19]),
        (65, ..) | (_, 6011, _) | (_, _, 644..=649) => lengths(&[16, 17, 18, 19]),
        (50 | 56..=58 | 60..=69, ..) => lengths(&[12, 13, 14, 15, 16, 17, 18, 19]),
        _ => 0,
    }
}

const fn lengths(of: &[u32]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < of.len() {
        bits |= 1 << of[at];
        at += 1;
    }
    bits
}

/// Luhn's sums (ISO/IEC 7812-1 annex B) of digits that come one by one: with the last digit as it is, and with it doubled.
#[derive(Clone, Copy, Debug, Default)]
struct Luhn {
    plain: u32,
    doubled: u32,
}

impl Luhn {
    fn add(&mut self, digit: u8) {
        let twice = u32::from(digit) * 2 - if digit > 4 { 9 } else { 0 };
        (self.plain, self.doubled) = (self.doubled + u32::from(digit), self.plain + twice);
    }

    fn fits(self) -> bool {
        self.plain.is_multiple_of(10)
    }
}

/// True for digits whose last is Luhn's.
pub(in crate::mask) fn has_luhn_digit(digits: impl Iterator<Item = u8>) -> bool {
    let mut luhn = Luhn::default();
    digits.for_each(|digit| luhn.add(digit));
    luhn.fits()
}
