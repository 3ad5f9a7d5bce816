//! Texts in JSON: decodes strings and numbers where they lie, and joins the pieces that model APIs send of one text.
//!
//! It tells strings from structure and never judges; what turns out to be no JSON is read as one plain text from there on. Names of
//! members are not looked at. A text that is JSON itself is followed as such, so that it stays valid. Depth is bounded; what is
//! deeper is a fault.

mod bare;
mod escape;
mod paths;
mod pieces;

use super::rules::{Member, Rules};
use super::text::Text;
use super::wire::{Copied, Fill, Found, Fragment, Held, Origin, Why};
use bare::Bare;
use escape::{Escape, Step};
use paths::Role;
use pieces::{Piece, Pieces};

/// Objects and arrays within each other.
const MAX_DEPTH: usize = 128;
/// Bytes of a member's name that are compared.
const MAX_NAME: usize = 64;

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
    /// A text that is whole in one string or number, or what turned out to be no JSON.
    whole: Text,
    bare: Bare,
    /// Texts that go on.
    pieces: Pieces,
    /// Texts around it.
    nesting: u8,
    /// It was said to be JSON; otherwise it only looks so.
    is_certain: bool,
    /// Names of members are looked at, for they may be none.
    looks_at_names: bool,
    /// What cannot be followed.
    pub(super) fault: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Name,
    String(Place),
    Bare(Place),
    /// It is no JSON. `true`: a line begins.
    Loose(bool),
}

/// Where a value's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Whole,
    Signed,
    Piece,
    BesideToken,
}

#[derive(Debug)]
struct Level {
    object: bool,
    /// An object: a member's name is next.
    at_name: bool,
    path: usize,
    member: Option<Member>,
    /// A number for its members that tell one text from another.
    index: u64,
    /// The same for names of its text, and whether they count.
    id: u64,
    has_id: bool,
}

impl Level {
    fn index(&self) -> u64 {
        self.index.wrapping_add(if self.has_id { self.id } else { 0 })
    }
}

impl Json {
    pub(super) fn new() -> Self {
        Json { is_certain: true, ..Json::nested(0) }
    }

    /// What looks like JSON, in so many texts.
    pub(super) fn nested(nesting: u8) -> Self {
        Json {
            state: State::Between,
            levels: Vec::new(),
            path: Vec::new(),
            name: Vec::new(),
            member: None,
            escape: Escape::default(),
            whole: Text::new(nesting),
            bare: Bare::default(),
            pieces: Pieces::default(),
            nesting,
            is_certain: false,
            looks_at_names: false,
            fault: None,
        }
    }

    /// A text of which lines may begin JSON.
    pub(super) fn of_lines() -> Self {
        let mut json = Json { state: State::Loose(true), looks_at_names: true, ..Json::nested(0) };
        json.read_loose(true);
        json
    }

    /// It is no JSON from here on.
    fn read_loose(&mut self, begins_line: bool) {
        self.whole.restart(Fill::Text, None);
        self.whole.read_plain();
        self.state = State::Loose(begins_line);
    }

    /// Follows bytes that stand at `wire`.
    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        self.read(bytes, Origin::Wire(wire), rules, found);
        self.look(rules, found);
    }

    /// Follows bytes. [`Json::look`] comes after the last.
    pub(super) fn read(&mut self, bytes: &[u8], origin: Origin<'_>, rules: &Rules, found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() {
            let (rest, origin) = (&bytes[at..], origin.skip(at));
            at += match self.state {
                State::Between => self.structure(rest[0], rules, found),
                State::Bare(place) => self.bare(rest, origin, place, rules, found),
                State::Name | State::String(_) => self.string(rest, origin, rules, found),
                State::Loose(begins_line) => self.loose(rest, origin, begins_line, rules, found),
            };
        }
    }

    /// Looks at what is new of a text that is not over.
    pub(super) fn look(&mut self, rules: &Rules, found: &mut Found) {
        match self.state {
            State::String(Place::Whole) | State::Bare(Place::Whole) | State::Loose(_) => {
                self.whole.scan(rules, false, found);
            }
            State::Name if self.looks_at_names => self.whole.scan(rules, false, found),
            State::String(Place::Piece) if self.pieces.is_early => self.end_event(rules, found),
            _ => {}
        }
    }

    /// One byte between strings and numbers. Returns how many were taken.
    fn structure(&mut self, byte: u8, rules: &Rules, found: &mut Found) -> usize {
        match byte {
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => self.close(rules, found),
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
            // A separator of texts (RFC 7464), a byte order mark.
            0x1e | 0xef | 0xbb | 0xbf if self.levels.is_empty() => {}
            _ => {
                let whole = self.rule().filter(|member| member.nested).map(|member| member.rule);
                // Words such as true and null cannot be overwritten, and are nobody's secret.
                let is_number = byte == b'-' || byte.is_ascii_digit();
                let place = match (is_number, whole) {
                    (true, None) if self.nesting == 0 && paths::role(&self.path) == Role::BesideToken => {
                        Place::BesideToken
                    }
                    _ => Place::Whole,
                };
                self.whole
                    .restart(if is_number { Fill::Number } else { Fill::Words }, whole.filter(|_| is_number));
                self.bare.clear();
                self.state = State::Bare(place);
                return 0;
            }
        }
        1
    }

    /// The rule for the value that begins.
    fn rule(&self) -> Option<Member> {
        self.member.or_else(|| self.levels.last().and_then(|level| level.member))
    }

    fn open(&mut self, object: bool) {
        if self.levels.len() == MAX_DEPTH && !self.is_certain {
            self.read_loose(false);
            return;
        }
        if self.levels.len() == MAX_DEPTH {
            self.fault = Some("JSON is nested too deep to be followed");
            return;
        }
        if !object {
            self.path.extend_from_slice(b"[]");
        }
        let member = self.member.take().filter(|member| member.nested);
        let member = member.or_else(|| self.levels.last().and_then(|level| level.member));
        self.levels.push(Level {
            object,
            at_name: object,
            path: self.path.len(),
            member,
            index: 0,
            id: 0,
            has_id: false,
        });
    }

    fn close(&mut self, rules: &Rules, found: &mut Found) {
        if let Some(level) = self.levels.pop() {
            let ends_token = level.object && paths::is_token_object(&self.path[..level.path]);
            self.pieces.close_level(self.levels.len(), level.index(), ends_token);
        }
        // Some servers send events as elements of one array.
        let is_event = matches!(&self.levels[..], [] | [Level { object: false, .. }]);
        if is_event || self.pieces.is_much() {
            self.end_event(rules, found);
        }
        self.value_over();
    }

    /// What belongs to which text is known, or not waited for any longer.
    fn end_event(&mut self, rules: &Rules, found: &mut Found) {
        for (depth, level) in self.levels.iter().enumerate().rev() {
            self.pieces.close_level(depth, level.index(), false);
        }
        let goes_on = self.state == State::String(Place::Piece);
        if let Err(fault) = self.pieces.end_event(goes_on, rules, found) {
            self.fault = Some(fault);
        }
    }

    fn begin_string(&mut self) {
        if self.levels.last().is_some_and(|level| level.at_name) {
            self.name.clear();
            self.state = State::Name;
            if self.looks_at_names {
                self.whole.restart(Fill::Text, None);
            }
            return;
        }
        let rule = self.rule();
        let role = if rule.is_some() || self.nesting > 0 { Role::Whole } else { paths::role(&self.path) };
        let place = match role {
            Role::Whole => Place::Whole,
            Role::Signed => Place::Signed,
            Role::BesideToken => Place::BesideToken,
            Role::Piece(text) => {
                self.pieces.begin(Piece::new(text, self.levels.len()));
                Place::Piece
            }
        };
        if place == Place::Whole {
            self.whole.restart(Fill::Text, rule.map(|member| member.rule));
        }
        self.state = State::String(place);
    }

    /// Takes as much of a string as is at hand.
    fn string(&mut self, bytes: &[u8], origin: Origin<'_>, rules: &Rules, found: &mut Found) -> usize {
        if !self.escape.is_empty() {
            return self.escaped(bytes[0], origin, rules, found);
        }
        let plain = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.push(&bytes[..plain], origin, rules, found);
        match bytes.get(plain) {
            None => plain,
            Some(b'"') => {
                self.end_string(rules, found);
                plain + 1
            }
            Some(_) => {
                self.escape.step(b'\\', origin.skip(plain));
                plain + 1
            }
        }
    }

    fn push(&mut self, bytes: &[u8], origin: Origin<'_>, rules: &Rules, found: &mut Found) {
        if bytes.is_empty() {
            return;
        }
        match self.state {
            State::String(Place::Whole) => self.whole.push(bytes, origin, rules, found),
            State::String(Place::Piece) => {
                self.pieces.push(bytes, origin);
                if self.pieces.is_much() {
                    self.end_event(rules, found);
                }
            }
            State::String(Place::BesideToken) => self.copy(bytes.len(), origin, Fill::Text),
            State::Name => {
                let room = MAX_NAME.saturating_sub(self.name.len()).min(bytes.len());
                self.name.extend_from_slice(&bytes[..room]);
                if self.looks_at_names {
                    self.whole.push(bytes, origin, rules, found);
                }
            }
            _ => {}
        }
    }

    /// What stands here repeats a token.
    fn copy(&mut self, length: usize, origin: Origin<'_>, fill: Fill) {
        match origin {
            Origin::Wire(wire) => {
                for at in (0..length).step_by(Fragment::MAX.into()) {
                    let piece = (length - at).min(Fragment::MAX.into()) as u8;
                    let at = Fragment { wire: wire + at as u64, length: piece };
                    self.pieces.copies.push(Copied { at, fill });
                }
            }
            Origin::Escape(fragments) => {
                self.pieces.copies.extend(fragments.iter().map(|at| Copied { at: *at, fill }));
            }
        }
    }

    /// One more byte of an escape; returns 1 if it was taken, 0 if the escape ended before it.
    fn escaped(&mut self, byte: u8, origin: Origin<'_>, rules: &Rules, found: &mut Found) -> usize {
        match self.escape.step(byte, origin) {
            Step::More => {}
            Step::Whole(length, character) => self.push_escape(length, character, rules, found),
            Step::Halves => {
                let low = char::from_u32(self.escape.last_unit()).unwrap_or('\u{fffd}');
                let half = self.escape.length() / 2;
                self.push_escape(half, '\u{fffd}', rules, found);
                self.push_escape(half, low, rules, found);
            }
            Step::Broken => {
                // A half of a pair alone, or what is no escape.
                self.push_escape(self.escape.length(), '\u{fffd}', rules, found);
                return 0;
            }
        }
        1
    }

    fn push_escape(&mut self, length: usize, character: char, rules: &Rules, found: &mut Found) {
        let fragments = self.escape.take(length);
        let mut bytes = [0; 4];
        let text = character.encode_utf8(&mut bytes).as_bytes();
        self.push(text, Origin::Escape(&fragments), rules, found);
    }

    fn end_string(&mut self, rules: &Rules, found: &mut Found) {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Name => {
                if self.looks_at_names {
                    self.whole.scan(rules, true, found);
                }
                let level = self.levels.last().map_or(0, |level| level.path);
                self.path.truncate(level);
                self.path.push(b'.');
                self.path.extend_from_slice(&self.name);
                self.member = rules.member(&self.name);
                return;
            }
            State::String(Place::Whole) => {
                // Events of several kinds have their texts in members of one name.
                if let Some(level) = self.levels.last_mut() {
                    if paths::is_type(&self.path) {
                        level.index = level.index.wrapping_add(self.whole.hash(1));
                        level.has_id |= paths::has_id(self.whole.tail());
                    } else if paths::is_id(&self.path) {
                        level.id = level.id.wrapping_add(self.whole.hash(2));
                    }
                }
                self.whole.scan(rules, true, found);
            }
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
    fn bare(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        place: Place,
        rules: &Rules,
        found: &mut Found,
    ) -> usize {
        let (taken, ends) = self.bare.take(bytes);
        match place {
            Place::BesideToken => {
                let first = self.bare.length() - taken;
                for (at, _) in bytes[..taken].iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
                    let fill = if first + at == 0 { Fill::First } else { Fill::Number };
                    self.copy(1, origin.skip(at), fill);
                }
            }
            _ => self.whole.push(&bytes[..taken], origin, rules, found),
        }
        match ends {
            bare::End::Open => {}
            bare::End::Over => self.end_bare(rules, found),
            bare::End::NoJson => {
                self.whole.scan(rules, false, found);
                self.whole.set_fill(Fill::Text);
                self.state = State::Loose(false);
            }
        }
        taken
    }

    fn end_bare(&mut self, rules: &Rules, found: &mut Found) {
        if self.state == State::Bare(Place::Whole) {
            self.whole.scan(rules, true, found);
        }
        self.state = State::Between;
        if paths::is_index(&self.path)
            && let Some(level) = self.levels.last_mut().filter(|level| level.object)
        {
            // A place of its own for each name: they may stand in any order.
            let name = self
                .path
                .iter()
                .rev()
                .take(8)
                .fold(7u64, |name, byte| name.wrapping_mul(31) ^ u64::from(*byte));
            level.index = level.index.wrapping_add(name.wrapping_mul(self.bare.number().wrapping_add(1)));
        }
        self.value_over();
    }

    /// Takes what is no JSON as text. A line that begins as an object does is JSON again, for each line may be a text of its own.
    fn loose(
        &mut self,
        bytes: &[u8],
        origin: Origin<'_>,
        begins_line: bool,
        rules: &Rules,
        found: &mut Found,
    ) -> usize {
        let begins_json = bytes[0] == b'{' || self.looks_at_names && bytes[0] == b'[';
        if begins_line && begins_json && self.nesting == 0 {
            self.next_event(rules, found);
            return 0;
        }
        let line = memchr::memchr(b'\n', bytes);
        let taken = line.map_or(bytes.len(), |line| line + 1);
        self.whole.push(&bytes[..taken], origin, rules, found);
        self.state = State::Loose(line.is_some());
        taken
    }

    /// An event is over: the next JSON text begins, whatever this one left open. Texts go on.
    pub(super) fn next_event(&mut self, rules: &Rules, found: &mut Found) {
        match self.state {
            State::Bare(_) => self.end_bare(rules, found),
            State::String(_) => {
                if !self.escape.is_empty() {
                    self.push_escape(self.escape.length(), '\u{fffd}', rules, found);
                }
                self.end_string(rules, found);
            }
            State::Loose(_) => self.whole.scan(rules, true, found),
            State::Name | State::Between => {}
        }
        self.end_event(rules, found);
        self.state = State::Between;
        self.escape.clear();
        self.levels.clear();
        self.path.clear();
        self.member = None;
    }

    /// A JSON text begins, whatever was before it. `whole`: all its values are overwritten, by this rule.
    pub(super) fn begin_value(&mut self, whole: Option<u16>) {
        self.state = State::Between;
        self.escape.clear();
        self.levels.clear();
        self.path.clear();
        self.pieces.clear();
        self.member = whole.map(|rule| Member { rule, nested: true });
    }

    /// True between two JSON texts.
    pub(super) fn is_outside(&self) -> bool {
        self.levels.is_empty() && self.state == State::Between
    }

    /// Everything is over.
    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        self.next_event(rules, found);
        self.pieces.finish(rules, found);
    }

    pub(super) fn hold(&self) -> Option<Held> {
        let whole = match self.state {
            State::String(Place::Whole) | State::Bare(Place::Whole) | State::Loose(_) => self.whole.hold(),
            State::Name if self.looks_at_names => self.whole.hold(),
            _ => None,
        };
        let escape = self.escape.wire().map(|wire| Held { wire, why: Why::Escape });
        self.pieces.hold().into_iter().chain(escape).chain(whole).min()
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        let whole = match self.state {
            State::String(Place::Whole) | State::Bare(Place::Whole) | State::Loose(_) => {
                self.whole.force(passes, rules, found)
            }
            State::Name if self.looks_at_names => self.whole.force(passes, rules, found),
            _ => 0,
        };
        self.end_event(rules, found);
        whole + self.pieces.force(passes, rules, found)
    }
}
