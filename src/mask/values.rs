//! Values that a protocol delimits: fields of rows, parameters, strings of replies. Each is a text of its own, and nothing of one
//! is held beyond its end.

use super::blank::Blank;
use super::coded::{Coded, Coding};
use super::json::Json;
use super::lane::Lane;
use super::rules::Rules;
use super::wire::{Cut, Fill, Found, Fragment, Held, Origin, Why};

/// How a value is read, and what its overwritten bytes become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it looks like.
    pub shape: Shape,
    /// All of it is overwritten, by the rule of this place ([`Rules::column`]).
    pub whole: Option<u16>,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// JSON where it begins as JSON does; else a text.
    Text,
    /// JSON.
    Json,
    /// A number in digits, which stays one.
    Number,
    /// A text with a syntax, which stays: digits become `0` and letters `x`; `1` where all of it is overwritten.
    Words,
    /// The same of what is no text everywhere.
    Mixed,
    /// A date or time in digits, which stays one.
    Date,
    /// An address or identifier in hexadecimal digits.
    Hex,
    /// An address and, behind a slash, how much of it counts. What is zero stays.
    Network,
    /// `t` or `f`.
    Boolean,
    /// What is not written as text.
    Binary,
    /// The same of a number, which detectors read in decimal.
    Coded(Coding),
}

/// Follows values.
#[derive(Debug)]
pub(super) struct Values {
    /// It is a JSON text; `None`: its first byte is to come.
    is_json: Option<bool>,
    blank: Blank,
    lane: Lane,
    json: Json,
    /// A number that is not written as text, as far as it came.
    coded: Option<Coded>,
}

impl Values {
    pub(super) fn new() -> Self {
        let (lane, json) = (Lane::new(Fill::Text), Json::new());
        Values { is_json: Some(false), blank: Blank::default(), lane, json, coded: None }
    }

    pub(super) fn begin(&mut self, value: Value) {
        let fill = match value.shape {
            Shape::Text | Shape::Json => Fill::Text,
            Shape::Number => Fill::Number,
            Shape::Words if value.whole.is_some() => Fill::WholeWords,
            Shape::Words => Fill::Words,
            Shape::Mixed => Fill::Mixed,
            Shape::Network => Fill::Network,
            Shape::Boolean => Fill::False,
            Shape::Date => Fill::Ones,
            Shape::Hex => Fill::Hex,
            Shape::Binary | Shape::Coded(_) => Fill::Zeros,
        };
        self.coded = match (value.shape, value.whole) {
            (Shape::Coded(coding), None) => Some(Coded::new(coding)),
            _ => None,
        };
        self.blank = Blank::default();
        self.lane.restart(fill, value.whole);
        self.is_json = match (value.shape, value.whole) {
            (Shape::Json, _) => Some(true),
            (Shape::Text, None) => None,
            _ => Some(false),
        };
        if self.is_json == Some(true) {
            self.json.begin_value(value.whole);
        }
    }

    pub(super) fn fault(&self) -> Option<&'static str> {
        self.json.fault
    }

    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, ends: bool, rules: &Rules, found: &mut Found) {
        if let Some(coded) = &mut self.coded {
            coded.push(bytes, wire);
            if ends {
                self.end_coded(rules, found);
            }
            return;
        }
        let (mut bytes, mut wire) = (bytes, wire);
        let is_json = match self.is_json {
            Some(known) => known,
            // White space before it says nothing, whichever it is.
            None => match self.blank.begins_json(&mut bytes, &mut wire) {
                None => false,
                Some(is_json) => {
                    if is_json {
                        self.json.begin_value(None);
                    }
                    *self.is_json.insert(is_json)
                }
            },
        };
        if is_json {
            self.json.feed(bytes, wire, rules, found);
            if ends {
                self.json.finish(rules, found);
            }
        } else {
            self.lane.push(bytes, wire);
            self.lane.scan(rules, ends, found);
        }
    }

    /// A number is whole.
    fn end_coded(&mut self, rules: &Rules, found: &mut Found) {
        if let Some(coded) = self.coded.take()
            && let Some(number) = coded.number()
        {
            self.lane.append(number.as_bytes(), Origin::Escape(coded.fragments()));
            self.lane.scan(rules, true, found);
        }
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        self.json.finish(rules, found);
        self.lane.scan(rules, true, found);
    }

    pub(super) fn hold(&self) -> Option<Held> {
        match &self.coded {
            Some(coded) => coded.wire().map(|wire| Held { wire, why: Why::Escape }),
            None if self.is_json == Some(true) => self.json.hold(),
            None => self.lane.hold(),
        }
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        if let Some(coded) = self.coded.take() {
            // Nobody knows what it is, and nobody will: the rest is no number.
            if !passes {
                let cut = |at: &Fragment| Cut {
                    wire: at.wire,
                    length: at.length.into(),
                    fill: Fill::Zeros,
                    rule: 0,
                };
                found.cuts.extend(coded.fragments().iter().map(cut));
                self.lane.restart(Fill::Zeros, Some(0));
            }
            return 1;
        }
        if self.is_json == Some(true) {
            self.json.force(passes, rules, found)
        } else {
            self.lane.force(passes, found)
        }
    }
}
