//! Which kinds of values a number could begin: one look rules out most, before any detector reads.

use super::cursor::{Cursor, Hit, Stop};
use super::marks::LONGEST_NUMBER;
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

    /// The kinds that are in both.
    pub(super) fn and(self, other: NumberKinds) -> Self {
        NumberKinds(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for NumberKinds {
    type Item = NumberKind;

    fn next(&mut self) -> Option<NumberKind> {
        let kind = NumberKind::ALL.get(self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(*kind)
    }
}

impl FromIterator<NumberKind> for NumberKinds {
    fn from_iter<T: IntoIterator<Item = NumberKind>>(kinds: T) -> Self {
        kinds.into_iter().fold(NumberKinds::NONE, |all, kind| all.with(kind, true))
    }
}

impl NumberKind {
    pub(super) const ALL: [NumberKind; 5] =
        [NumberKind::Card, NumberKind::Account, NumberKind::Ssn, NumberKind::Phone, NumberKind::Ipv4];

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

    /// The kinds that the number at `at` of so many digits, as [`Mark::Number`] counts them, could begin, by its length and by
    /// what stands around it. Every other kind would be refused by its detector, whatever follows.
    ///
    /// [`Mark::Number`]: super::marks::Mark::Number
    pub(super) fn possible_at(text: &[u8], at: usize, length: usize) -> NumberKinds {
        // At the beginning of the text nothing stands before it, as a blank does.
        let before = at.checked_sub(1).map_or(b' ', |before| text[before]);
        let behind_digit = || at > 1 && text[at - 2].is_ascii_digit();
        match before {
            b' ' => {}
            b'A'..=b'Z' | b'a'..=b'z' => {
                return NumberKinds::NONE.with(NumberKind::Account, true);
            }
            b'_' => return NumberKinds::NONE,
            // The fraction of a number, or a group of one.
            b'.' | b',' if behind_digit() => return NumberKinds::NONE,
            _ => {}
        }
        let Some(next) = text.get(at + length).copied().filter(|_| length < LONGEST_NUMBER) else {
            // It is not over, or longer than any value.
            let all = length < LONGEST_NUMBER;
            let none = NumberKinds::NONE.with(NumberKind::Card, all).with(NumberKind::Phone, all);
            return none.with(NumberKind::Ssn, all).with(NumberKind::Ipv4, all);
        };
        let digits = &text[at..at + length];
        // Another group may follow: behind the separator stands a digit, or nothing yet. What is not ASCII may be one too.
        let follows = || text.get(at + length + 1).is_none_or(u8::is_ascii_digit);
        let goes_on = next >= 0x80 || matches!(next, b' ' | b'-' | b'.') && follows();
        let phone = match before {
            b'+' => true,
            b'(' => (2..=5).contains(&length) && next == b')',
            b'-' | b'/' => false,
            b':' if behind_digit() => false,
            // Behind an area's code several separators may stand.
            _ if digits[0] == b'0' && (3..=8).contains(&length) => {
                (next >= 0x80 || matches!(next, b' ' | b'-' | b'.' | b'/' | b'('))
                    && personal::begins_national(digits)
            }
            _ => goes_on && length <= 8 && personal::begins_national(digits),
        };
        let card = length >= SHORTEST_CARD || goes_on && next != b'.';
        NumberKinds::NONE
            .with(NumberKind::Card, card && personal::begins_card(digits))
            .with(NumberKind::Ssn, length == 3 && goes_on)
            .with(NumberKind::Phone, phone)
            .with(NumberKind::Ipv4, length <= 3 && goes_on && !matches!(next, b' ' | b'-'))
    }
}

/// Digits of the shortest payment card.
const SHORTEST_CARD: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_passed_over_is_no_value_whatever_follows(
            before in "[ +(.,/:-]?", text in "[0-9]{1,13}[ .,x)-]{0,2}[0-9x ]{0,3}", rest in "[0-9 .x-]{0,30}",
        ) {
            let whole = format!("{before}{text}{rest}");
            let at = before.len();
            let text = &whole.as_bytes()[..at + text.len()];
            let length = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kinds = NumberKind::possible_at(text, at, length.min(LONGEST_NUMBER));
            for kind in [NumberKind::Card, NumberKind::Ssn, NumberKind::Phone, NumberKind::Ipv4] {
                if !kinds.into_iter().any(|possible| possible == kind) {
                    let mut cursor = Cursor::new(whole.as_bytes(), at, true);
                    prop_assert_eq!(kind.read(&mut cursor).err(), Some(Stop::No), "{:?}", kind);
                }
            }
        }
    }
}
