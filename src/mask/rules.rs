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
    digits: Vec<(u16, Read)>,
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

/// Reads a value, entered at its first digit.
type Read = fn(&mut Cursor<'_>) -> Result<Hit, Stop>;

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
                    Detector::Card => digits.push((number, personal::card as Read)),
                    Detector::Iban => digits.push((number, personal::iban as Read)),
                    Detector::Ssn => digits.push((number, personal::ssn as Read)),
                    Detector::Phone => digits.push((number, personal::phone as Read)),
                    Detector::Ip => {
                        digits.push((number, personal::ipv4 as Read));
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
                for (number, (rule, _)) in self.digits.iter().enumerate() {
                    found(*rule, Source::Digit(number as u8), at);
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
            Source::Digit(number) => self.digits[usize::from(number)].1(&mut cursor),
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

/// Shows the first digit of every run of digits that begins behind `seen`.
fn each_number(text: &[u8], seen: usize, mut found: impl FnMut(usize)) {
    let mut at = seen;
    while at < text.len() {
        // Blocks without a digit are passed over without a branch for each byte.
        if let Some(block) = text.get(at..at + 32) {
            let digits = block.iter().fold(0u8, |any, byte| any | u8::from(byte.wrapping_sub(b'0') < 10));
            if digits == 0 {
                at += 32;
                continue;
            }
        }
        let end = (at + 32).min(text.len());
        for place in at..end {
            if text[place].is_ascii_digit() && (place == 0 || !text[place - 1].is_ascii_digit()) {
                found(place);
            }
        }
        at = end;
    }
}

// Rules hold the route's credential.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(Rule::name)).finish()
    }
}
