//! Where numbers begin, and which kinds of values could begin there: one look rules out most, before any detector reads.

use super::cursor::{Cursor, Hit, Stop};
use super::personal;

/// A kind of value that is entered at a run of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberKind {
    Card,
    /// Entered behind two letters, where no other kind is.
    Account,
    Ssn,
    Phone,
    Ipv4,
}

/// Kinds, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberKinds(u8);

impl NumberKinds {
    const NONE: NumberKinds = NumberKinds(0);

    fn with(self, kind: NumberKind, possible: bool) -> Self {
        NumberKinds(self.0 | u8::from(possible) << kind as u8)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, kind: NumberKind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }
}

/// Digits that are looked at: as many as the longest payment card has, and one.
const LOOK_AHEAD: usize = 20;

impl NumberKind {
    /// Reads a value of this kind, entered at its first digit.
    pub(super) fn read(self, cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
        match self {
            NumberKind::Card => personal::card(cursor),
            NumberKind::Account => personal::iban(cursor),
            NumberKind::Ssn => personal::ssn(cursor),
            NumberKind::Phone => personal::phone(cursor),
            NumberKind::Ipv4 => personal::ipv4(cursor),
        }
    }

    /// The kinds that the number at `at` could begin, by its length and by what stands around it. Every other kind would be
    /// refused by its detector, whatever follows.
    pub(super) fn possible_at(text: &[u8], at: usize) -> NumberKinds {
        let before = at.checked_sub(1).map(|before| text[before]);
        match before {
            Some(b'A'..=b'Z' | b'a'..=b'z') => {
                return NumberKinds::NONE.with(NumberKind::Account, true);
            }
            Some(b'_') => return NumberKinds::NONE,
            // The fraction of a number, or a group of one.
            Some(b'.' | b',') if at > 1 && text[at - 2].is_ascii_digit() => return NumberKinds::NONE,
            _ => {}
        }
        let ahead = &text[at..text.len().min(at + LOOK_AHEAD)];
        let length = ahead.iter().position(|byte| !byte.is_ascii_digit());
        let Some(length) = length else {
            // It is not over, or longer than any value.
            let all = ahead.len() < LOOK_AHEAD;
            let none = NumberKinds::NONE.with(NumberKind::Card, all).with(NumberKind::Phone, all);
            return none.with(NumberKind::Ssn, all).with(NumberKind::Ipv4, all);
        };
        let next = ahead[length];
        // Another group may follow: behind the separator stands a digit, or nothing yet. What is not ASCII may be one too.
        let goes_on = |separators: &[u8]| {
            let follows = || text.get(at + length + 1).is_none_or(u8::is_ascii_digit);
            next >= 0x80 || separators.contains(&next) && follows()
        };
        let phone = match before {
            Some(b'+') => true,
            Some(b'(') => (2..=5).contains(&length) && next == b')',
            Some(b'-' | b'/') => false,
            Some(b':') if at > 1 && text[at - 2].is_ascii_digit() => false,
            // Behind an area's code several separators may stand.
            _ if ahead[0] == b'0' && (3..=8).contains(&length) => next >= 0x80 || b" -./(".contains(&next),
            _ => length <= 8 && goes_on(b" -."),
        };
        let phone = phone
            && (matches!(before, Some(b'+' | b'(')) || {
                let mut first = [0; 6];
                first.iter_mut().zip(ahead).for_each(|(digit, byte)| *digit = byte.wrapping_sub(b'0'));
                personal::begins_national(&first[..length.min(6)], length)
            });
        NumberKinds::NONE
            .with(
                NumberKind::Card,
                (length >= SHORTEST_CARD || goes_on(b" -")) && personal::begins_card(&ahead[..length]),
            )
            .with(NumberKind::Ssn, length == 3 && goes_on(b" -."))
            .with(NumberKind::Phone, phone)
            .with(NumberKind::Ipv4, length <= 3 && goes_on(b"."))
    }
}

/// Digits of the shortest payment card.
const SHORTEST_CARD: usize = 12;

/// Shows the first digit of every run of digits that begins behind `seen`.
pub(super) fn each_number(text: &[u8], seen: usize, mut found: impl FnMut(usize)) {
    let mut at = seen;
    let mut behind_digit = seen.checked_sub(1).is_some_and(|before| text[before].is_ascii_digit());
    while at < text.len() {
        // Blocks without a digit are passed over without a branch for each byte.
        if text[at..].first_chunk().is_some_and(|block| !has_digit(block)) {
            at += BLOCK;
            behind_digit = false;
            continue;
        }
        for _ in 0..4 {
            let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
            let digits = digits_of(*eight);
            let mut starts = digits & !(digits << 8 | u64::from(behind_digit) << 7);
            while starts != 0 {
                found(at + starts.trailing_zeros() as usize / 8);
                starts &= starts - 1;
            }
            behind_digit = digits >> 63 != 0;
            at += 8;
        }
        if text.len() - at < 8 {
            for (place, byte) in text.iter().enumerate().skip(at) {
                let is_digit = byte.is_ascii_digit();
                if is_digit && !behind_digit {
                    found(place);
                }
                behind_digit = is_digit;
            }
            return;
        }
    }
}

/// Bytes that are compared at once.
const BLOCK: usize = 32;

fn has_digit(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(0u8, |any, byte| any | u8::from(byte.wrapping_sub(b'0') < 10)) != 0
}

/// The highest bit of each byte that is a digit, the first byte lowest.
fn digits_of(eight: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Digits are 0 to 9 now; 0x76 more, and only they stay below 0x80. No byte carries into the next.
    let bytes = u64::from_le_bytes(eight) ^ (0x30 * ONES);
    let low = (bytes & (0x7f * ONES)) + 0x76 * ONES;
    !(low | bytes) & (0x80 * ONES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_found_where_they_begin(text in "[0-9a/:\u{ff} ]{0,90}", seen in 0usize..90) {
            let text = text.as_bytes();
            let seen = seen.min(text.len());
            let mut found = Vec::new();
            each_number(text, seen, |at| found.push(at));
            let digit = |at: usize| text[at].is_ascii_digit();
            let expected: Vec<usize> =
                (seen..text.len()).filter(|&at| digit(at) && (at == 0 || !digit(at - 1))).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_passed_over_is_no_value_whatever_follows(
            before in "[ +(.,/:-]?", text in "[0-9]{1,13}[ .,x)-]{0,2}[0-9x ]{0,3}", rest in "[0-9 .x-]{0,30}",
        ) {
            let whole = format!("{before}{text}{rest}");
            let at = before.len();
            let text = &whole.as_bytes()[..at + text.len()];
            let kinds = NumberKind::possible_at(text, at);
            for kind in [NumberKind::Card, NumberKind::Ssn, NumberKind::Phone, NumberKind::Ipv4] {
                if !kinds.has(kind) {
                    let mut cursor = Cursor::new(whole.as_bytes(), at, true);
                    prop_assert_eq!(kind.read(&mut cursor).err(), Some(Stop::No), "{:?}", kind);
                }
            }
        }
    }
}
