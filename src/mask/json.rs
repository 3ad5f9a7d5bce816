//! Texts in JSON: decodes strings and numbers where they lie, and joins the pieces that model APIs send of one text.
//!
//! It tells strings from structure and never judges: what is no JSON is looked at as far as it reads. Names of members are not
//! looked at. Depth is bounded; what is deeper is a fault.

use super::lane::{Fill, Found, Lane};
use super::rules::{Member, Rules};

/// Members that carry a piece of a text which goes on in the next event. Each has a text of its own for every `index`,
/// `output_index`, `content_index` and `type` that stand before it.
const DELTAS: [&str; 19] = [
    // OpenAI: chat completions, completions, responses.
    ".choices[].delta.content",
    ".choices[].delta.refusal",
    ".choices[].delta.reasoning",
    ".choices[].delta.reasoning_content",
    ".choices[].delta.tool_calls[].function.arguments",
    ".choices[].delta.function_call.arguments",
    ".choices[].text",
    ".delta",
    // Anthropic: messages, completions.
    ".delta.text",
    ".delta.partial_json",
    ".completion",
    // Gemini.
    ".candidates[].content.parts[].text",
    // Ollama.
    ".message.content",
    ".message.thinking",
    ".response",
    ".thinking",
    // Cohere, and what others call it.
    ".delta.message.content.text",
    ".delta.content",
    ".token.text",
];

/// Members that their sender has signed, or that are opaque: overwritten, they would be refused when they come back.
const SIGNED: [&str; 8] = [
    ".delta.thinking",
    ".delta.signature",
    ".content_block.signature",
    ".content_block.data",
    ".content[].signature",
    ".content[].thinking",
    ".thoughtSignature",
    ".encrypted_content",
];

/// Objects and arrays within each other.
const MAX_DEPTH: usize = 128;
/// Bytes of a member's name that are compared.
const MAX_NAME: usize = 64;
/// Texts that go on in later events, at a time.
const MAX_TEXTS: usize = 256;

/// Follows JSON texts, one behind another.
#[derive(Debug)]
pub(super) struct Json {
    state: State,
    levels: Vec<Level>,
    /// Where the value stands that is read: `.choices[].delta`.
    path: Vec<u8>,
    name: Vec<u8>,
    /// The rule for the value of the member that is read.
    member: Option<Member>,
    escape: Escape,
    /// A text that is whole in one string or number.
    once: Lane,
    bare: Vec<u8>,
    /// Texts that go on.
    texts: Vec<(Key, Lane)>,
    /// What cannot be followed.
    pub(super) fault: Option<&'static str>,
}

/// Which text a piece belongs to.
type Key = (u8, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Name,
    Text(Place),
    Bare,
}

/// Where a string's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Once,
    Signed,
    Going(usize),
}

#[derive(Debug)]
struct Level {
    object: bool,
    /// An object: a member's name is next.
    at_name: bool,
    path: usize,
    member: Option<Member>,
    index: u64,
}

/// An escape that is not whole.
#[derive(Debug, Default)]
struct Escape {
    bytes: [u8; 12],
    length: usize,
    wire: u64,
}

impl Json {
    pub(super) fn new() -> Self {
        Json {
            state: State::Between,
            levels: Vec::new(),
            path: Vec::new(),
            name: Vec::new(),
            member: None,
            escape: Escape::default(),
            once: Lane::new(Fill::Text),
            bare: Vec::new(),
            texts: Vec::new(),
            fault: None,
        }
    }

    /// Follows bytes that stand at `wire`.
    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() {
            let (rest, here) = (&bytes[at..], wire + at as u64);
            at += match self.state {
                State::Between => self.structure(rest[0], here, rules, found),
                State::Bare => self.bare(rest, here, rules, found),
                State::Name | State::Text(_) => self.string(rest, here, rules, found),
            };
        }
        match self.state {
            State::Text(Place::Once) => self.once.scan(rules, false, found),
            State::Text(Place::Going(text)) => self.texts[text].1.scan(rules, false, found),
            _ => {}
        }
    }

    /// One byte between strings and numbers.
    fn structure(&mut self, byte: u8, wire: u64, rules: &Rules, found: &mut Found) -> usize {
        match byte {
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => {
                self.levels.pop();
                self.value_over();
            }
            b',' => {
                if let Some(level) = self.levels.last_mut() {
                    level.at_name = level.object;
                }
            }
            b':' => {
                if let Some(level) = self.levels.last_mut() {
                    level.at_name = false;
                }
            }
            b'"' => self.begin_string(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                self.state = State::Bare;
                self.bare.clear();
                let whole = self.member.or_else(|| self.levels.last().and_then(|level| level.member));
                // Words such as true and null cannot be overwritten, and are nobody's secret.
                let is_number = byte == b'-' || byte.is_ascii_digit();
                let whole = whole.filter(|member| is_number && member.nested).map(|member| member.rule);
                // What says that it is JSON and is none is looked at as well.
                self.once.restart(if is_number { Fill::Number } else { Fill::Text }, whole);
                return self.bare(&[byte], wire, rules, found);
            }
        }
        1
    }

    fn open(&mut self, object: bool) {
        if self.levels.len() == MAX_DEPTH {
            self.fault = Some("JSON is nested too deep to be followed");
            return;
        }
        if !object {
            self.path.extend_from_slice(b"[]");
        }
        let above = self.levels.last();
        let index = above.map_or(0, |level| level.index);
        let member = self.member.take().filter(|member| member.nested);
        let member = member.or_else(|| above.and_then(|level| level.member));
        self.levels.push(Level { object, at_name: object, path: self.path.len(), member, index });
    }

    fn begin_string(&mut self) {
        if self.levels.last().is_some_and(|level| level.at_name) {
            self.name.clear();
            self.state = State::Name;
            return;
        }
        let whole = self.member.or_else(|| self.levels.last().and_then(|level| level.member));
        let place = match whole {
            Some(_) => Place::Once,
            None => self.place(),
        };
        if place == Place::Once {
            self.once.restart(Fill::Text, whole.map(|member| member.rule));
        }
        self.state = State::Text(place);
    }

    /// Where the string goes that begins here.
    fn place(&mut self) -> Place {
        // Some servers send the events as elements of one array.
        let path = self.path.strip_prefix(b"[]").unwrap_or(&self.path);
        if SIGNED.iter().any(|signed| path.ends_with(signed.as_bytes())) {
            return Place::Signed;
        }
        let Some(delta) = DELTAS.iter().position(|delta| delta.as_bytes() == path) else {
            return Place::Once;
        };
        let key = (delta as u8, self.levels.last().map_or(0, |level| level.index));
        if let Some(text) = self.texts.iter().position(|(known, _)| *known == key) {
            return Place::Going(text);
        }
        if self.texts.len() == MAX_TEXTS {
            self.fault = Some("more texts at a time than can be followed");
            return Place::Once;
        }
        self.texts.push((key, Lane::new(Fill::Text)));
        Place::Going(self.texts.len() - 1)
    }

    /// Takes as much of a string as is at hand.
    fn string(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) -> usize {
        if self.escape.length > 0 {
            return self.escaped(bytes[0]);
        }
        let plain = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.push(&bytes[..plain], wire);
        match bytes.get(plain) {
            None => plain,
            Some(b'"') => {
                self.end_string(rules, found);
                plain + 1
            }
            Some(_) => {
                self.escape.bytes[0] = b'\\';
                (self.escape.length, self.escape.wire) = (1, wire + plain as u64);
                plain + 1
            }
        }
    }

    fn push(&mut self, bytes: &[u8], wire: u64) {
        match self.state {
            State::Text(Place::Once) => self.once.push(bytes, wire),
            State::Text(Place::Going(text)) => self.texts[text].1.push(bytes, wire),
            State::Name => {
                let room = MAX_NAME.saturating_sub(self.name.len()).min(bytes.len());
                self.name.extend_from_slice(&bytes[..room]);
            }
            _ => {}
        }
    }

    /// One more byte of an escape; returns 1 if it was taken, 0 if the escape ended before it.
    fn escaped(&mut self, byte: u8) -> usize {
        let escape = &mut self.escape;
        let hex = |at: usize, byte: u8| match at {
            0 => byte == b'\\',
            1 => byte == b'u',
            _ => byte.is_ascii_hexdigit(),
        };
        let fits = match escape.length {
            1 => true,
            length => hex(length % 6, byte),
        };
        if !fits {
            // A half of a pair alone, or what is no escape: it stands for something, whatever that is.
            let length = escape.length;
            self.push_escape(length, "\u{fffd}");
            return 0;
        }
        escape.bytes[escape.length] = byte;
        escape.length += 1;
        let unit = |bytes: &[u8]| {
            std::str::from_utf8(&bytes[2..6])
                .ok()
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .unwrap_or(0xfffd)
        };
        match escape.length {
            2 if byte != b'u' => {
                let text = match byte {
                    b'n' => "\n",
                    b't' => "\t",
                    b'r' => "\r",
                    b'b' => "\u{8}",
                    b'f' => "\u{c}",
                    b'"' => "\"",
                    b'\\' => "\\",
                    b'/' => "/",
                    _ => "\u{fffd}",
                };
                self.push_escape(2, text);
            }
            6 => {
                let first = unit(&escape.bytes);
                if !(0xd800..0xdc00).contains(&first) {
                    let text = char::from_u32(first).unwrap_or('\u{fffd}');
                    self.push_escape(6, text.encode_utf8(&mut [0; 4]));
                }
            }
            12 => {
                let (high, low) = (unit(&escape.bytes), unit(&escape.bytes[6..]));
                match (0xdc00..0xe000).contains(&low) {
                    true => {
                        let scalar = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        let text = char::from_u32(scalar).unwrap_or('\u{fffd}');
                        self.push_escape(12, text.encode_utf8(&mut [0; 4]));
                    }
                    false => {
                        let wire = self.escape.wire;
                        let text = char::from_u32(low).unwrap_or('\u{fffd}');
                        self.push_escape(6, "\u{fffd}");
                        self.escape.wire = wire + 6;
                        self.push_escape(6, text.encode_utf8(&mut [0; 4]));
                    }
                }
            }
            _ => {}
        }
        1
    }

    fn push_escape(&mut self, length: usize, text: &str) {
        let wire = self.escape.wire;
        self.escape.length = 0;
        match self.state {
            State::Text(Place::Once) => self.once.push_escape(text.as_bytes(), wire, length as u8),
            State::Text(Place::Going(going)) => {
                self.texts[going].1.push_escape(text.as_bytes(), wire, length as u8);
            }
            _ => self.push(text.as_bytes(), wire),
        }
    }

    fn end_string(&mut self, rules: &Rules, found: &mut Found) {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Name => {
                let level = self.levels.last().map_or(0, |level| level.path);
                self.path.truncate(level);
                self.path.push(b'.');
                self.path.extend_from_slice(&self.name);
                self.member = rules.member(&self.name);
                return;
            }
            State::Text(Place::Once) => {
                // Events of several kinds have their texts in members of one name.
                if self.path.ends_with(b".type")
                    && let Some(level) = self.levels.last_mut()
                {
                    level.index = self.once.hash(level.index);
                }
                self.once.scan(rules, true, found);
            }
            State::Text(Place::Going(text)) => self.texts[text].1.scan(rules, false, found),
            _ => {}
        }
        self.value_over();
    }

    /// A value is complete: the next stands elsewhere.
    fn value_over(&mut self) {
        self.member = None;
        if let Some(level) = self.levels.last() {
            self.path.truncate(level.path);
        } else {
            self.path.clear();
        }
    }

    /// Takes a number or a word.
    fn bare(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) -> usize {
        let ends = |byte: &u8| {
            matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b'\t' | b'\r' | b'\n' | b'{' | b'[')
        };
        let end = bytes.iter().position(ends);
        let taken = end.unwrap_or(bytes.len());
        self.once.push(&bytes[..taken], wire);
        let room = 20usize.saturating_sub(self.bare.len()).min(taken);
        self.bare.extend_from_slice(&bytes[..room]);
        if end.is_some() {
            self.end_bare(rules, found);
        } else {
            self.once.scan(rules, false, found);
        }
        taken
    }

    fn end_bare(&mut self, rules: &Rules, found: &mut Found) {
        self.state = State::Between;
        self.once.scan(rules, true, found);
        if [&b"index"[..], b"output_index", b"content_index"].iter().any(|name| self.path.ends_with(name))
            && let Some(level) = self.levels.last_mut().filter(|level| level.object)
        {
            let index = std::str::from_utf8(&self.bare)
                .ok()
                .and_then(|text| text.trim_end().parse::<u64>().ok())
                .unwrap_or(0);
            level.index = level.index.wrapping_mul(4_099).wrapping_add(index + 1);
        }
        self.value_over();
    }

    /// An event is over: the next JSON text begins, whatever this one left open. Texts go on.
    pub(super) fn next_event(&mut self, rules: &Rules, found: &mut Found) {
        match self.state {
            State::Bare => self.end_bare(rules, found),
            State::Text(_) => {
                if self.escape.length > 0 {
                    self.push_escape(self.escape.length, "\u{fffd}");
                }
                self.end_string(rules, found);
            }
            State::Name | State::Between => {}
        }
        self.state = State::Between;
        self.escape.length = 0;
        self.levels.clear();
        self.path.clear();
        self.member = None;
    }

    /// A JSON text begins, whatever was before it. `whole`: all its values are overwritten, by this rule.
    pub(super) fn begin_value(&mut self, whole: Option<u16>) {
        self.state = State::Between;
        self.escape.length = 0;
        self.levels.clear();
        self.path.clear();
        self.texts.clear();
        self.member = whole.map(|rule| Member { rule, nested: true });
    }

    /// True between two JSON texts.
    pub(super) fn is_outside(&self) -> bool {
        self.levels.is_empty() && self.state == State::Between
    }

    /// Everything is over.
    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        self.next_event(rules, found);
        self.texts.iter_mut().for_each(|(_, text)| text.scan(rules, true, found));
        self.texts.clear();
    }

    pub(super) fn hold(&self) -> Option<u64> {
        let escape = (self.escape.length > 0).then_some(self.escape.wire);
        let once = match self.state {
            State::Text(Place::Once) | State::Bare => self.once.hold(),
            _ => None,
        };
        self.texts.iter().filter_map(|(_, text)| text.hold()).chain(escape).chain(once).min()
    }

    pub(super) fn force(&mut self, passes: bool, found: &mut Found) -> u32 {
        let once = match self.state {
            State::Text(Place::Once) | State::Bare => self.once.force(passes, found),
            _ => 0,
        };
        self.texts.iter_mut().map(|(_, text)| text.force(passes, found)).sum::<u32>() + once
    }
}
