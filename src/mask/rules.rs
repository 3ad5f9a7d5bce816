//! Rules in force: which detectors, with which anchors, and what is done about what they find.

use super::cursor::{Cursor, Hit, Rest, Stop};
use super::detector::Detector;
use super::keys::{self, KEYS, Key};
use super::pattern::Pattern;
use super::personal;
use aho_corasick::{AhoCorasick, MatchKind};
use std::fmt;
use std::time::Duration;

/// One rule as it is to be.
pub enum Rule {
    /// A known kind of value.
    Known(Detector),
    /// What follows an anchor.
    Own {
        /// Its name in logs and metrics.
        name: Box<str>,
        /// The text before the value; may pass.
        anchor: Box<[u8]>,
        /// The value.
        pattern: Box<Pattern>,
    },
    /// Values of JSON members.
    Members {
        /// Its name in logs and metrics.
        name: Box<str>,
        /// Their names; compared without case.
        members: Vec<Box<str>>,
    },
    /// Values of columns.
    Columns {
        /// Its name in logs and metrics.
        name: Box<str>,
        /// Their names; compared without case.
        columns: Vec<Box<str>>,
    },
    /// A stored credential of the route itself.
    Credential(Box<[u8]>),
}

/// The name of the rule for the route's own credential.
pub const OWN_CREDENTIAL: &str = "own-credential";
/// Bytes of a credential that are worth looking for; shorter ones stand in any text.
pub const MIN_CREDENTIAL: usize = 8;

impl Rule {
    /// Its name in logs and metrics.
    pub fn name(&self) -> &str {
        match self {
            Rule::Known(detector) => detector.name(),
            Rule::Own { name, .. } | Rule::Members { name, .. } | Rule::Columns { name, .. } => name,
            Rule::Credential(_) => OWN_CREDENTIAL,
        }
    }

    /// What of a value may have passed before it is recognised.
    pub fn passes(&self) -> String {
        match self {
            Rule::Known(detector) => detector.passes().into(),
            Rule::Own { anchor, .. } => format!("its anchor {:?}", String::from_utf8_lossy(anchor)),
            Rule::Members { .. } | Rule::Columns { .. } => "nothing".into(),
            Rule::Credential(secret) => format!("its first {} bytes", credential_anchor(secret)),
        }
    }

    /// What it does not find.
    pub fn misses(&self) -> String {
        match self {
            Rule::Known(detector) => detector.misses().into(),
            Rule::Own { .. } => "values whose anchor is written otherwise".into(),
            Rule::Members { .. } => "members of anything but JSON, and true, false and null".into(),
            Rule::Columns { .. } => "columns that a statement gives another name (PostgreSQL), COPY".into(),
            Rule::Credential(_) => "encodings of it (base64, percent)".into(),
        }
    }
}

fn credential_anchor(secret: &[u8]) -> usize {
    (secret.len() / 4).clamp(1, 4)
}

/// What is done about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is overwritten.
    Mask,
    /// It is counted; nothing is changed and nothing is held.
    Observe,
}

/// How long what might become a value is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimit {
    /// Events (of a stream), or pieces of a body.
    pub events: u32,
    /// Time.
    pub time: Duration,
    /// What is held then passes as it is; otherwise it is overwritten.
    pub passes: bool,
}

/// Bytes of one stream that are held; more is dealt with as if the time were up.
pub const MAX_HELD_BYTES: usize = 32 * 1024;

/// The rules of one route and direction, compiled.
pub struct Rules {
    rules: Vec<Rule>,
    /// What is done about a value.
    pub mode: Mode,
    /// How long anything is held.
    pub hold: HoldLimit,
    /// Finds every anchor that is a text.
    literals: Option<AhoCorasick>,
    anchors: Vec<Anchor>,
    longest: usize,
    digits: Vec<Digits>,
    email: Option<u16>,
    ipv6: Option<u16>,
}

struct Anchor {
    rule: u16,
    text: Box<[u8]>,
    what: What,
}

enum What {
    Key(Detector, &'static Key),
    Own,
    Credential,
}

/// A rule for values that are entered at a run of digits.
struct Digits {
    rule: u16,
    /// Entered behind two letters, where no other rule is.
    is_account: bool,
    read: fn(&mut Cursor<'_>) -> Result<Hit, Stop>,
}

/// Where a candidate came from: how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Digit(u8),
    At,
    Colon,
    Text(u16),
}

impl Rules {
    /// Compiles rules. `Err` says why they cannot be together.
    pub fn new(rules: Vec<Rule>, mode: Mode, hold: HoldLimit) -> Result<Self, String> {
        let (mut anchors, mut digits, mut email, mut ipv6) = (Vec::new(), Vec::new(), None, None);
        for (number, rule) in rules.iter().enumerate() {
            let number = number as u16;
            match rule {
                Rule::Known(detector) => match detector {
                    Detector::Card => {
                        digits.push(Digits { rule: number, is_account: false, read: personal::card })
                    }
                    Detector::Iban => {
                        digits.push(Digits { rule: number, is_account: true, read: personal::iban })
                    }
                    Detector::Ssn => {
                        digits.push(Digits { rule: number, is_account: false, read: personal::ssn })
                    }
                    Detector::Phone => {
                        digits.push(Digits { rule: number, is_account: false, read: personal::phone })
                    }
                    Detector::Ip => {
                        digits.push(Digits { rule: number, is_account: false, read: personal::ipv4 });
                        ipv6 = Some(number);
                    }
                    Detector::Email => email = Some(number),
                    _ => {
                        let keys =
                            KEYS.iter().filter(|(known, _)| known == detector).flat_map(|(_, keys)| *keys);
                        anchors.extend(keys.map(|key| Anchor {
                            rule: number,
                            text: key.prefix.into(),
                            what: What::Key(*detector, key),
                        }));
                    }
                },
                Rule::Own { anchor, .. } => {
                    anchors.push(Anchor { rule: number, text: anchor.clone(), what: What::Own });
                }
                Rule::Members { .. } | Rule::Columns { .. } => {}
                Rule::Credential(secret) if secret.len() >= MIN_CREDENTIAL => {
                    let text = secret[..credential_anchor(secret)].into();
                    anchors.push(Anchor { rule: number, text, what: What::Credential });
                }
                Rule::Credential(_) => {}
            }
        }
        let literals = match anchors.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(anchors.iter().map(|anchor| &anchor.text))
                    .map_err(|fault| fault.to_string())?,
            ),
        };
        let longest = anchors.iter().map(|anchor| anchor.text.len()).max().unwrap_or(0);
        Ok(Rules { rules, mode, hold, literals, anchors, longest, digits, email, ipv6 })
    }

    /// The rules, in the order of [`super::Stream::take_counts`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule for values of a JSON member of this name.
    pub(super) fn member(&self, name: &[u8]) -> Option<u16> {
        let names = |rule: &Rule| match rule {
            Rule::Members { members, .. } => members.iter().any(|m| m.as_bytes().eq_ignore_ascii_case(name)),
            _ => false,
        };
        self.rules.iter().position(names).map(|number| number as u16)
    }

    /// The rule for values of a column of this name, see [`super::Value::whole`].
    pub fn column(&self, name: &[u8]) -> Option<u16> {
        let names = |rule: &Rule| match rule {
            Rule::Columns { columns, .. } => columns.iter().any(|c| c.as_bytes().eq_ignore_ascii_case(name)),
            _ => false,
        };
        self.rules.iter().position(names).map(|number| number as u16)
    }

    /// True where values are overwritten by the names of their columns.
    pub fn has_columns(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule, Rule::Columns { .. }))
    }

    /// Shows every anchor in `text` that ends behind `seen`: its rule, how it is read, and where.
    pub(super) fn anchors(&self, text: &[u8], seen: usize, mut found: impl FnMut(u16, Source, usize)) {
        if let Some(literals) = &self.literals {
            let mut from = (seen + 1).saturating_sub(self.longest);
            while let Some(place) = literals.find(&text[from..]).map(|place| from + place.start()) {
                for (number, anchor) in self.anchors.iter().enumerate() {
                    let end = place + anchor.text.len();
                    if end > seen && text[place..].starts_with(&anchor.text) {
                        found(anchor.rule, Source::Text(number as u16), end);
                    }
                }
                from = place + 1;
            }
        }
        if let Some(rule) = self.email {
            memchr::memchr_iter(b'@', &text[seen..]).for_each(|at| found(rule, Source::At, seen + at));
        }
        if let Some(rule) = self.ipv6 {
            memchr::memchr_iter(b':', &text[seen..]).for_each(|at| found(rule, Source::Colon, seen + at));
        }
        if !self.digits.is_empty() {
            each_number(text, seen, |at| {
                let readers = self.digits.iter().enumerate();
                match at.checked_sub(1).map(|before| text[before]) {
                    // An account's check digits stand behind its country, and no other number behind a letter.
                    Some(b'A'..=b'Z' | b'a'..=b'z') => readers
                        .filter(|(_, digits)| digits.is_account)
                        .for_each(|(number, digits)| found(digits.rule, Source::Digit(number as u8), at)),
                    Some(b'_') => {}
                    before if is_plain(text, at, before) => {}
                    _ => readers
                        .filter(|(_, digits)| !digits.is_account)
                        .for_each(|(number, digits)| found(digits.rule, Source::Digit(number as u8), at)),
                }
            });
        }
    }

    /// Reads a candidate at its place: the verdict, and from where on it holds while there is none.
    pub(super) fn read(
        &self,
        source: Source,
        text: &[u8],
        at: usize,
        ended: bool,
    ) -> (Result<Hit, Stop>, Option<usize>) {
        let mut cursor = Cursor::new(text, at, ended);
        let verdict = match source {
            Source::Digit(number) => (self.digits[usize::from(number)].read)(&mut cursor),
            Source::At => personal::email(&mut cursor),
            Source::Colon => personal::ipv6(&mut cursor),
            Source::Text(number) => {
                let anchor = &self.anchors[usize::from(number)];
                match (&anchor.what, &self.rules[usize::from(anchor.rule)]) {
                    (What::Key(detector, key), _) => keys::key(*detector, key, &mut cursor),
                    (What::Own, Rule::Own { pattern, .. }) => pattern.detect(&mut cursor),
                    (What::Credential, Rule::Credential(secret)) => {
                        cursor.hold_here();
                        let to = at + secret.len() - anchor.text.len();
                        cursor.literal(&secret[anchor.text.len()..]).map(|()| Hit {
                            from: at,
                            to,
                            keeps_shape: false,
                            rest: None::<Rest>,
                        })
                    }
                    _ => Err(Stop::No),
                }
            }
        };
        (verdict, cursor.hold)
    }
}

/// True for a number that no rule but that for accounts can begin with, whatever follows: too short to be whole, and with nothing
/// behind it that would let it go on.
fn is_plain(text: &[u8], at: usize, before: Option<u8>) -> bool {
    let rest = &text[at..];
    let Some(length) = rest.iter().take(SHORTEST_WHOLE).position(|byte| !byte.is_ascii_digit()) else {
        return false;
    };
    let goes_on = match rest[length] {
        b' ' | b'-' | b'.' => rest.get(length + 1).is_none_or(u8::is_ascii_digit),
        _ => false,
    };
    !goes_on && !matches!(before, Some(b'+' | b'('))
}

/// Digits of the shortest value without separators: a payment card.
const SHORTEST_WHOLE: usize = 12;

/// Shows the first digit of every run of digits that begins behind `seen`.
fn each_number(text: &[u8], seen: usize, mut found: impl FnMut(usize)) {
    let mut at = seen;
    let mut behind_digit = seen.checked_sub(1).is_some_and(|before| text[before].is_ascii_digit());
    while at < text.len() {
        // Blocks without a digit are passed over without a branch for each byte.
        if let Some(block) = text.get(at..at + 32) {
            let digits = block.iter().fold(0u8, |any, byte| any | u8::from(byte.wrapping_sub(b'0') < 10));
            if digits == 0 {
                at += 32;
                behind_digit = false;
                continue;
            }
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

/// The highest bit of each byte that is a digit, the first byte lowest.
fn digits_of(eight: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Digits are 0 to 9 now; 0x76 more, and only they stay below 0x80. No byte carries into the next.
    let bytes = u64::from_le_bytes(eight) ^ (0x30 * ONES);
    let low = (bytes & (0x7f * ONES)) + 0x76 * ONES;
    !(low | bytes) & (0x80 * ONES)
}

// Rules hold the route's credential.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(Rule::name)).finish()
    }
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
            if is_plain(&whole.as_bytes()[..at + text.len()], at, before.bytes().last()) {
                for read in [personal::card, personal::ssn, personal::phone, personal::ipv4] {
                    let mut cursor = Cursor::new(whole.as_bytes(), at, true);
                    prop_assert_eq!(read(&mut cursor).err(), Some(Stop::No));
                }
            }
        }
    }
}
