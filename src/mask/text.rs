//! A text of which its first character says whether it is JSON itself: an answer in a given schema, arguments of a tool.

use super::json::Json;
use super::lane::Lane;
use super::rules::Rules;
use super::wire::{Copied, Fill, Found, Held, Origin};

/// Texts in JSON that are JSON themselves, within each other. What is deeper is plain.
const MAX_NESTING: u8 = 3;

/// One text, from any number of pieces.
#[derive(Debug)]
pub(super) struct Text {
    kind: Kind,
    /// The text, or what stands before JSON.
    lane: Lane,
    json: Option<Box<Json>>,
    /// Texts around the JSON that this may be.
    nesting: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing but white space came.
    Undecided,
    Plain,
    Json,
}

impl Text {
    /// A text within so many others.
    pub(super) fn new(nesting: u8) -> Self {
        let nesting = nesting + 1;
        let mut text = Text { kind: Kind::Plain, lane: Lane::new(Fill::Text), json: None, nesting };
        text.restart(Fill::Text, None);
        text
    }

    /// The text of a body of which nobody said what it is.
    pub(super) fn body() -> Self {
        Text { nesting: 0, kind: Kind::Undecided, ..Text::new(0) }
    }

    /// `Some`: it cannot be followed.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.json.as_ref().and_then(|json| json.fault)
    }

    /// A text that is not read as JSON.
    pub(super) fn plain() -> Self {
        Text::new(MAX_NESTING)
    }

    /// Begins again with another text. `whole`: all of it is overwritten, by this rule.
    pub(super) fn restart(&mut self, fill: Fill, whole: Option<u16>) {
        let may_be_json = fill == Fill::Text && whole.is_none() && self.nesting <= MAX_NESTING;
        self.kind = if may_be_json { Kind::Undecided } else { Kind::Plain };
        self.lane.restart(fill, whole);
    }

    /// The text that begins is none of JSON, whatever it looks like.
    pub(super) fn read_plain(&mut self) {
        self.kind = Kind::Plain;
    }

    pub(super) fn set_fill(&mut self, fill: Fill) {
        self.lane.set_fill(fill);
    }

    pub(super) fn push(&mut self, bytes: &[u8], origin: Origin<'_>, rules: &Rules, found: &mut Found) {
        let (mut bytes, mut origin) = (bytes, origin);
        if self.kind == Kind::Undecided {
            let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blank > 0 {
                self.lane.append(&bytes[..blank], origin);
                (bytes, origin) = (&bytes[blank..], origin.skip(blank));
            }
            match bytes.first() {
                None => return,
                Some(b'{' | b'[') => {
                    self.kind = Kind::Json;
                    let nesting = self.nesting;
                    self.json.get_or_insert_with(|| Box::new(Json::nested(nesting))).begin_value(None);
                }
                Some(_) => self.kind = Kind::Plain,
            }
        }
        match (&mut self.json, self.kind) {
            (Some(json), Kind::Json) => json.read(bytes, origin, rules, found),
            _ => self.lane.append(bytes, origin),
        }
    }

    /// The last `length` bytes stand there as well.
    pub(super) fn push_copies(&mut self, length: usize, copies: &[Copied]) {
        if self.kind != Kind::Json {
            self.lane.push_copies(length, copies);
        }
    }

    /// Looks at what is new. `ended`: nothing follows.
    pub(super) fn scan(&mut self, rules: &Rules, ended: bool, found: &mut Found) {
        match (&mut self.json, self.kind) {
            (Some(json), Kind::Json) if ended => json.finish(rules, found),
            (Some(json), Kind::Json) => json.look(rules, found),
            _ => self.lane.scan(rules, ended, found),
        }
    }

    /// A number for this text and what was before it.
    pub(super) fn hash(&self, before: u64) -> u64 {
        self.lane.hash(before)
    }

    /// The last bytes of the text.
    pub(super) fn tail(&self) -> &[u8] {
        self.lane.tail()
    }

    pub(super) fn hold(&self) -> Option<Held> {
        match (&self.json, self.kind) {
            (Some(json), Kind::Json) => json.hold(),
            _ => self.lane.hold(),
        }
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        match (&mut self.json, self.kind) {
            (Some(json), Kind::Json) => json.force(passes, rules, found),
            _ => self.lane.force(passes, found),
        }
    }
}
