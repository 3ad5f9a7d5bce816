//! Compiled rules: detectors, their anchors, and the action for what they find.

use super::credential::{self, MIN_CREDENTIAL};
use super::cursor::{Cursor, Hit, Keeps, Rest, Stop};
use super::detector::Detector;
use super::keys::{self, KEYS};
use super::literals::{Anchor, MAX_BEHIND_SIGN, Searcher, Signed, What};
use super::marks::{Mark, each_mark};
use super::numbers::{NumberKind, NumberKinds};
use super::pattern::Pattern;
use super::personal;
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
            Rule::Credential(_) => {
                "it in pieces, or encoded in any way but base64, hexadecimal and percent".into()
            }
        }
    }
}

fn credential_anchor(secret: &[u8]) -> usize {
    (secret.len() / 4).clamp(1, 4)
}

/// Action for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is overwritten.
    Mask,
    /// It is counted; nothing is changed and nothing is held.
    Observe,
}

/// Limits on holding a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimit {
    /// Events (of a stream), or pieces of a body.
    pub events: u32,
    /// Time.
    pub time: Duration,
    /// What then becomes of it.
    pub action: HoldAction,
}

/// What becomes of what is held for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldAction {
    /// It is overwritten.
    Mask,
    /// It passes as it is.
    Pass,
    /// It does not pass, and nothing behind it does.
    Cut,
}

/// Bytes of one stream that are held; more is dealt with as if the time were up.
pub const MAX_HELD_BYTES: usize = 32 * 1024;

/// The rules of one route and direction, compiled.
pub struct Rules {
    rules: Vec<Rule>,
    /// Action for a value.
    pub mode: Mode,
    /// How long anything is held.
    pub hold: HoldLimit,
    anchors: Vec<Anchor>,
    /// Find every anchor that is a text, together with `signed`.
    searchers: Vec<Searcher>,
    signed: Signed,
    /// Rules for values that are entered at a run of digits, by their kind.
    numbers: [Vec<u16>; NumberKind::ALL.len()],
    /// The kinds that have some.
    number_kinds: NumberKinds,
    email: Option<u16>,
    ipv6: Option<u16>,
    /// Rules for what stands behind a name.
    settings: Vec<(u16, Detector)>,
}

/// A member of JSON whose value is overwritten whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) rule: u16,
    /// Also what is nested in it, and numbers; otherwise only a text.
    pub(super) nested: bool,
}

/// Where a candidate came from: how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Number(NumberKind),
    At,
    Colon,
    Setting,
    Text(u16),
}

impl Rules {
    /// Compiles rules. `Err` says why they cannot be together.
    pub fn new(rules: Vec<Rule>, mode: Mode, hold: HoldLimit) -> Result<Self, String> {
        let (mut anchors, mut email, mut ipv6) = (Vec::new(), None, None);
        let mut numbers = NumberKind::ALL.map(|_| Vec::new());
        let mut settings = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let number = number as u16;
            match rule {
                Rule::Known(detector) => match detector {
                    Detector::Card => numbers[NumberKind::Card as usize].push(number),
                    Detector::Iban => numbers[NumberKind::Account as usize].push(number),
                    Detector::Ssn => numbers[NumberKind::Ssn as usize].push(number),
                    Detector::Phone => numbers[NumberKind::Phone as usize].push(number),
                    Detector::Ip => {
                        numbers[NumberKind::Ipv4 as usize].push(number);
                        ipv6 = Some(number);
                    }
                    Detector::Email => email = Some(number),
                    _ => {
                        if keys::has_settings(*detector) {
                            settings.push((number, *detector));
                        }
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
                    for written in credential::written(secret) {
                        let (text, rest) = written.split_at(credential_anchor(&written));
                        let what = What::Credential(rest.into());
                        anchors.push(Anchor { rule: number, text: text.into(), what });
                    }
                }
                Rule::Credential(_) => {}
            }
        }
        let has_rules = |kind: &NumberKind| !numbers[*kind as usize].is_empty();
        let number_kinds = NumberKind::ALL.into_iter().filter(has_rules).collect();
        let (searchers, signed) = (Searcher::all(&anchors)?, Signed::new(&anchors));
        Ok(Rules {
            rules,
            mode,
            hold,
            anchors,
            searchers,
            signed,
            numbers,
            number_kinds,
            email,
            ipv6,
            settings,
        })
    }

    /// The rules, in the order of [`super::Stream::take_counts`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule for values of a JSON member of this name.
    pub(super) fn member(&self, name: &[u8]) -> Option<Member> {
        let names = |(number, rule): (usize, &Rule)| {
            let nested = match rule {
                Rule::Members { members, .. } => {
                    members.iter().any(|m| m.as_bytes().eq_ignore_ascii_case(name)).then_some(true)
                }
                Rule::Known(detector) => keys::is_secret_member(*detector, name).then_some(false),
                _ => None,
            };
            nested.map(|nested| Member { rule: number as u16, nested })
        };
        self.rules.iter().enumerate().filter_map(names).max_by_key(|member| member.nested)
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
        for searcher in &self.searchers {
            searcher.each_anchor(&self.anchors, text, seen, |number, end| {
                found(self.anchors[usize::from(number)].rule, Source::Text(number), end);
            });
        }
        let no_sign =
            self.signed.is_empty() && self.email.or(self.ipv6).is_none() && self.settings.is_empty();
        if self.number_kinds.is_empty() && no_sign {
            return;
        }
        each_mark(text, seen.saturating_sub(MAX_BEHIND_SIGN), |mark| match mark {
            Mark::Number(at, _) if at < seen => {}
            Mark::Number(at, length) => {
                let kinds = NumberKind::possible_at(text, at, length).and(self.number_kinds);
                if kinds.is_empty() {
                    return;
                }
                for kind in kinds {
                    self.numbers[kind as usize]
                        .iter()
                        .for_each(|rule| found(*rule, Source::Number(kind), at));
                }
            }
            Mark::Sign(at) => {
                self.signed.each_anchor(&self.anchors, text, at, |number, end| {
                    if end > seen {
                        found(self.anchors[usize::from(number)].rule, Source::Text(number), end);
                    }
                });
                match text[at] {
                    _ if at < seen => {}
                    b'@' => self.email.iter().for_each(|rule| found(*rule, Source::At, at)),
                    sign @ (b':' | b'=') => {
                        let address = self.ipv6.filter(|_| sign == b':');
                        address.iter().for_each(|rule| found(*rule, Source::Colon, at));
                        self.each_setting(text, at, |rule| found(rule, Source::Setting, at));
                    }
                    _ => {}
                }
            }
        });
    }

    /// Shows the rules for what stands behind the sign at `at`.
    fn each_setting(&self, text: &[u8], at: usize, found: impl FnMut(u16)) {
        if self.settings.is_empty() {
            return;
        }
        if let Some(setting) = keys::setting_before(text, at) {
            let rules = self.settings.iter().filter(|(_, detector)| *detector == setting.detector);
            rules.map(|(rule, _)| *rule).for_each(found);
        }
    }

    /// Reads a candidate at its place: the verdict. While there is none, the cursor says from where on it holds.
    pub(super) fn read(&self, source: Source, cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
        match source {
            Source::Number(kind) => kind.read(cursor),
            Source::At => personal::email(cursor),
            Source::Colon => personal::ipv6(cursor),
            Source::Setting => keys::setting(cursor),
            Source::Text(number) => {
                let anchor = &self.anchors[usize::from(number)];
                match (&anchor.what, &self.rules[usize::from(anchor.rule)]) {
                    (What::Key(detector, key), _) => keys::key(*detector, key, cursor),
                    (What::Own, Rule::Own { pattern, .. }) => pattern.detect(cursor),
                    (What::Credential(rest), _) => {
                        cursor.hold_here();
                        let from = cursor.at();
                        cursor.literal(rest).map(|()| Hit {
                            from,
                            to: cursor.at(),
                            keeps: Keeps::Nothing,
                            rest: None::<Rest>,
                        })
                    }
                    _ => Err(Stop::No),
                }
            }
        }
    }
}

// Rules hold the route's credential.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(Rule::name)).finish()
    }
}
