//! Payment cards.

use super::{hit, starts_number};
use crate::mask::cursor::{Cursor, Hit, Keeps, Separator, Stop};

/// Digits of a payment card (ISO/IEC 7812): its issuer's range, its length, Luhn's digit. The first six may be shown (PCI DSS
/// 3.4.1), and the last four.
pub(in crate::mask) fn card(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) {
        return Err(Stop::No);
    }
    // Where the last four digits are, each at its number modulo four.
    let mut places = [0usize; 4];
    let (mut separator, mut luhn) = (None, Luhn::default());
    let mut first_six = 0;
    for count in 0..6 {
        let (_, digit) = next_digit(cursor, &mut separator, count == 0)?;
        luhn.add(digit);
        first_six = first_six * 10 + u32::from(digit);
    }
    let lengths = card_lengths(first_six);
    if lengths == 0 {
        return Err(Stop::No);
    }
    cursor.hold_here();
    for count in 6..=MAX_DIGITS {
        if lengths >> count & 1 == 1 && luhn.fits() && cursor.number_ends()? {
            return hit(cursor, places[count % 4], Keeps::Separators);
        }
        if lengths >> count <= 1 {
            break;
        }
        let (place, digit) = next_digit(cursor, &mut separator, false)?;
        places[count % 4] = place;
        luhn.add(digit);
    }
    Err(Stop::No)
}

/// Takes a digit, and before it the separator that all groups have. Where it is, and which.
#[inline]
fn next_digit(
    cursor: &mut Cursor<'_>,
    separator: &mut Option<Separator>,
    is_first: bool,
) -> Result<(usize, u8), Stop> {
    let mut digit = cursor.next_digit();
    if digit.is_none() && !is_first {
        let found = cursor.separator(b" -")?.ok_or(Stop::No)?;
        if separator.is_some_and(|known| known != found) {
            return Err(Stop::No);
        }
        *separator = Some(found);
        cursor.skip(found.length);
        digit = cursor.next_digit();
    }
    let digit = digit.ok_or_else(|| cursor.no_digit())?;
    let place = cursor.at();
    cursor.skip(1);
    Ok((place, digit))
}

/// Digits of the longest card.
const MAX_DIGITS: usize = 19;

/// False where no issuer's range begins with these digits, in ASCII.
pub(in crate::mask) fn begins_card(digits: &[u8]) -> bool {
    match digits {
        [first, second, rest @ ..] => match ((first - b'0') * 10 + (second - b'0'), rest) {
            (18, [third, fourth, ..]) => [*third, *fourth] == *b"00",
            (21, [third, fourth, ..]) => [*third, *fourth] == *b"31",
            (97, [third, fourth, ..]) => [*third, *fourth] == *b"92",
            (two, _) => matches!(two, 18 | 21..=27 | 30 | 34..=58 | 60..=69 | 81 | 82 | 97),
        },
        [first] => matches!(first, b'1'..=b'6' | b'8' | b'9'),
        [] => false,
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
        const TWICE: [u8; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
        let twice = u32::from(TWICE[usize::from(digit)]);
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
