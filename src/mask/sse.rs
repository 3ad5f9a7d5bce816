//! Server-sent events: the values of `data`, each a JSON text or a piece of plain text (WHATWG HTML section 9.2).
//!
//! Comments, and the fields `event`, `id` and `retry`, are not looked at, unless the body only looks like an event stream.

use super::blank::Blank;
use super::json::Json;
use super::lane::Lane;
use super::rules::Rules;
use super::wire::{Fill, Found, Held};

/// Follows an event stream.
#[derive(Debug)]
pub(super) struct Sse {
    line: Line,
    /// The line before ended with CR: an LF belongs to it.
    cr: bool,
    /// What stands in the event's data so far.
    event: Event,
    /// White space that the event's data begins with, and where: what follows says whose it is.
    blank: Blank,
    /// So many bytes of a byte order mark were read at the stream's beginning.
    mark: Option<usize>,
    /// Another line of the event's data was read before this one.
    joins: bool,
    json: Json,
    text: Lane,
    /// What stands in all other lines, where that is looked at.
    others: Option<Lane>,
    pub(super) events: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of the field's name are `data:`.
    Name(usize),
    /// `data:` was read: a space may follow.
    Space,
    Data,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Empty,
    Json,
    Text,
}

const NAME: &[u8] = b"data:";
/// A byte order mark, which is no part of the first line.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Sse {
    pub(super) fn new() -> Self {
        Sse {
            line: Line::Name(0),
            cr: false,
            event: Event::Empty,
            blank: Blank::default(),
            mark: Some(0),
            joins: false,
            json: Json::new(),
            text: Lane::new(Fill::Text),
            others: None,
            events: 0,
        }
    }

    /// A body that only begins as an event stream does: all of it is looked at.
    pub(super) fn probable() -> Self {
        Sse { others: Some(Lane::new(Fill::Text)), ..Sse::new() }
    }

    /// Bytes that [`Sse::begins`] wants to see at most.
    pub(super) const LONGEST_FIELD: usize = 6;

    /// Whether a body that begins so is an event stream; `None`: what follows says it.
    pub(super) fn begins(first: &[u8]) -> Option<bool> {
        const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
        match FIELDS.iter().any(|field| first.starts_with(field)) {
            true => Some(true),
            false if FIELDS.iter().any(|field| field.starts_with(first)) => None,
            false => Some(false),
        }
    }

    pub(super) fn fault(&self) -> Option<&'static str> {
        self.json.fault
    }

    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if let Some(seen) = self.mark.take()
                && MARK.get(seen) == Some(&byte)
            {
                self.mark = Some(seen + 1);
                at += 1;
                continue;
            }
            if std::mem::take(&mut self.cr) && byte == b'\n' {
                at += 1;
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                if let (Some(others), Line::Other | Line::Name(_)) = (&mut self.others, self.line) {
                    others.push(&bytes[at..at + 1], wire + at as u64);
                }
                self.cr = byte == b'\r';
                self.end_line(rules, found);
                at += 1;
                continue;
            }
            match self.line {
                Line::Name(seen) => {
                    self.line = match NAME.get(seen) {
                        Some(expected) if *expected == byte && seen + 1 == NAME.len() => Line::Space,
                        Some(expected) if *expected == byte => Line::Name(seen + 1),
                        _ => Line::Other,
                    };
                    if let Some(others) = &mut self.others {
                        others.push(&bytes[at..at + 1], wire + at as u64);
                    }
                    at += 1;
                }
                Line::Space => {
                    self.line = Line::Data;
                    at += usize::from(byte == b' ');
                }
                Line::Data | Line::Other => {
                    let end = memchr::memchr2(b'\n', b'\r', &bytes[at..]).map_or(bytes.len(), |end| at + end);
                    if self.line == Line::Data {
                        self.data(&bytes[at..end], wire + at as u64, rules, found);
                    } else if let Some(others) = &mut self.others {
                        others.push(&bytes[at..end], wire + at as u64);
                    }
                    at = end;
                }
            }
        }
        if self.event == Event::Text {
            self.text.scan(rules, false, found);
        }
        if let Some(others) = &mut self.others {
            others.scan(rules, false, found);
        }
    }

    fn data(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let (mut bytes, mut wire) = (bytes, wire);
        if self.event == Event::Empty {
            let Some(is_json) = self.blank.begins_json(&mut bytes, &mut wire) else { return };
            self.begin(is_json);
        }
        match self.event {
            Event::Json => self.json.feed(bytes, wire, rules, found),
            _ => {
                self.join(wire);
                self.text.push(bytes, wire);
            }
        }
    }

    /// The event's data is JSON or text from here on.
    fn begin(&mut self, is_json: bool) {
        self.event = if is_json { Event::Json } else { Event::Text };
        let blank = std::mem::take(&mut self.blank);
        if !is_json && !blank.bytes.is_empty() {
            self.join(blank.wire);
            self.text.push(&blank.bytes, blank.wire);
        }
    }

    /// Lines of one event are joined by a line feed, which stands nowhere and cannot be overwritten.
    fn join(&mut self, wire: u64) {
        if std::mem::take(&mut self.joins) {
            self.text.push_joint(b"\n", wire);
        }
    }

    fn end_line(&mut self, rules: &Rules, found: &mut Found) {
        match std::mem::replace(&mut self.line, Line::Name(0)) {
            Line::Name(0) => {
                if self.event != Event::Empty {
                    self.events += 1;
                    self.text.scan(rules, false, found);
                    self.json.next_event(rules, found);
                }
                (self.event, self.joins) = (Event::Empty, false);
            }
            Line::Space | Line::Data => {
                if self.blank.hold().is_some() {
                    self.begin(false);
                }
                self.joins = true;
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        if self.blank.hold().is_some() {
            self.begin(false);
        }
        self.json.finish(rules, found);
        self.text.scan(rules, true, found);
        if let Some(others) = &mut self.others {
            others.scan(rules, true, found);
        }
    }

    pub(super) fn hold(&self) -> Option<Held> {
        let others = self.others.as_ref().and_then(Lane::hold);
        self.json.hold().into_iter().chain(self.text.hold()).chain(self.blank.hold()).chain(others).min()
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        if self.blank.hold().is_some() {
            self.begin(false);
        }
        let others = self.others.as_mut().map_or(0, |others| others.force(passes, found));
        self.json.force(passes, rules, found) + self.text.force(passes, found) + others
    }
}
