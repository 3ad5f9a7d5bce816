//! A lane: one text, decoded, with a map to wire offsets and its undecided candidates.
//!
//! ```text
//!   text   | looked at, kept for what looks behind | not looked at |
//!          base                                    seen            base + text.len()
//!   runs   decoded bytes -> wire: as they are, or one escape for several
//! ```

use super::cursor::{Class, Cursor, Keeps, Rest, Stop};
use super::personal::has_luhn_digit;
use super::rests::Rests;
use super::rules::{Rules, Source};
use super::wire::{Copied, Cut, Fill, Found, Fragment, Held, Origin, Why};

/// Bytes behind the place that detectors may look at: more than the longest prefix and what stands before it.
const LOOK_BEHIND: usize = 96;
/// Text is given up in pieces of this size, not with each word.
const KEPT: usize = 512;

/// Candidates behind fixed texts that may be undecided at a time; honest texts have one or two.
const MAX_OPEN: usize = 16;

/// In place of an escape's length: the text stands nowhere on the wire.
const NOT_ON_WIRE: u8 = u8::MAX;

/// One text.
#[derive(Debug)]
pub(super) struct Lane {
    text: Vec<u8>,
    /// The place of `text[0]` in the whole.
    base: u64,
    seen: usize,
    runs: Vec<Run>,
    open: Vec<Open>,
    rests: Rests,
    /// All of it is overwritten, by this rule.
    whole: Option<u16>,
    fill: Fill,
    /// Up to here values were overwritten, and count once.
    covered: u64,
    /// Some runs are copies.
    has_copies: bool,
}

/// Decoded bytes and where they came from.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: u64,
    length: u64,
    wire: u64,
    /// 0: as they are. Else the bytes of the one escape that they all came from.
    escape: u8,
    /// This is a copy of what stands elsewhere, and is overwritten so.
    copied: Option<Fill>,
}

/// A candidate without a verdict.
#[derive(Clone, Copy, Debug)]
struct Open {
    rule: u16,
    source: Source,
    at: u64,
    hold: Option<u64>,
    /// It was held for too long: it is overwritten as it comes. Up to here it was.
    forced: Option<u64>,
}

impl Lane {
    pub(super) fn new(fill: Fill) -> Self {
        Lane {
            text: Vec::new(),
            base: 0,
            seen: 0,
            runs: Vec::new(),
            open: Vec::new(),
            rests: Rests::default(),
            whole: None,
            fill,
            covered: 0,
            has_copies: false,
        }
    }

    /// Begins again with another text.
    pub(super) fn restart(&mut self, fill: Fill, whole: Option<u16>) {
        self.text.clear();
        self.runs.clear();
        self.open.clear();
        self.rests.clear();
        (self.base, self.seen, self.covered) = (0, 0, 0);
        (self.whole, self.fill, self.has_copies) = (whole, fill, false);
    }

    fn end(&self) -> u64 {
        self.base + self.text.len() as u64
    }

    /// Appends text that stands on the wire as it is.
    pub(super) fn push(&mut self, bytes: &[u8], wire: u64) {
        if bytes.is_empty() {
            return;
        }
        let (at, length) = (self.end(), bytes.len() as u64);
        match self.runs.last_mut() {
            Some(run) if run.escape == 0 && run.wire + run.length == wire && run.at + run.length == at => {
                run.length += length;
            }
            _ => self.runs.push(Run { at, length, wire, escape: 0, copied: None }),
        }
        self.text.extend_from_slice(bytes);
    }

    /// Appends text.
    pub(super) fn append(&mut self, bytes: &[u8], origin: Origin<'_>) {
        match origin {
            Origin::Wire(wire) => self.push(bytes, wire),
            Origin::Escape(fragments) => {
                for fragment in fragments {
                    self.push_run(bytes.len(), *fragment, None);
                }
                self.text.extend_from_slice(bytes);
            }
        }
    }

    /// Appends text that one escape stands for.
    pub(super) fn push_escape(&mut self, bytes: &[u8], wire: u64, length: u8) {
        self.append(bytes, Origin::Escape(&[Fragment { wire, length }]));
    }

    /// Appends text that stands nowhere on the wire, before what stands at `wire`.
    pub(super) fn push_joint(&mut self, bytes: &[u8], wire: u64) {
        self.push_escape(bytes, wire, NOT_ON_WIRE);
    }

    /// The last `length` bytes of the text stand there as well: what is overwritten of them is overwritten there, all of it.
    pub(super) fn push_copies(&mut self, length: usize, copies: &[Copied]) {
        let at = self.end() - length as u64;
        self.has_copies |= !copies.is_empty();
        for copied in copies.iter().filter(|_| length > 0) {
            let (wire, escape) = (copied.at.wire, copied.at.length);
            self.runs.push(Run { at, length: length as u64, wire, escape, copied: Some(copied.fill) });
        }
    }

    fn push_run(&mut self, length: usize, fragment: Fragment, copied: Option<Fill>) {
        let (at, length) = (self.end(), length as u64);
        self.runs.push(Run { at, length, wire: fragment.wire, escape: fragment.length, copied });
    }

    /// What is overwritten from here on becomes this.
    pub(super) fn set_fill(&mut self, fill: Fill) {
        self.fill = fill;
    }

    /// Looks at what is new. `ended`: nothing follows.
    pub(super) fn scan(&mut self, rules: &Rules, ended: bool, found: &mut Found) {
        if let Some(rule) = self.whole {
            let (from, to) = (self.base + self.seen as u64, self.end());
            if self.base == 0 && self.seen == 0 && to > 0 {
                found.count(rule);
            }
            self.cut(rule, from, to, Keeps::Nothing, found);
            self.seen = self.text.len();
            self.give_up();
            return;
        }
        self.follow_rests(found);
        let mut open = std::mem::take(&mut self.open);
        open.retain_mut(|candidate| self.decide(candidate, rules, ended, found));
        self.open = open;
        let mut fresh = std::mem::take(&mut found.fresh);
        rules.anchors(&self.text, self.seen, |rule, source, at| fresh.push((rule, source, at)));
        // In the order of the text: where rules overlap, the first counts.
        if !fresh.is_sorted_by_key(|(_, _, at)| *at) {
            fresh.sort_by_key(|(_, _, at)| *at);
        }
        for (rule, source, at) in fresh.drain(..) {
            let at = self.base + at as u64;
            let mut candidate = Open { rule, source, at, hold: None, forced: None };
            if !self.decide(&mut candidate, rules, ended, found) {
                continue;
            }
            let is_text = |open: &Open| matches!(open.source, Source::Text(_));
            if is_text(&candidate) && self.open.iter().filter(|open| is_text(open)).count() >= MAX_OPEN {
                // Nobody writes like this but to have each of them read again with each piece.
                self.follow(rule, Rest::Class(Class::Value), candidate.hold.unwrap_or(at), found);
                found.count(rule);
            } else {
                self.open.push(candidate);
            }
        }
        found.fresh = fresh;
        self.seen = self.text.len();
        self.give_up();
    }

    /// Asks for a verdict. True: there is none yet.
    fn decide(&mut self, candidate: &mut Open, rules: &Rules, ended: bool, found: &mut Found) -> bool {
        let at = (candidate.at - self.base) as usize;
        let mut cursor = Cursor::new(&self.text, at, ended);
        match rules.read(candidate.source, &mut cursor) {
            Err(Stop::No) => false,
            Err(Stop::More) => {
                candidate.hold = cursor.hold.map(|hold| self.base + hold as u64);
                if let (Some(forced), Some(hold)) = (&mut candidate.forced, candidate.hold) {
                    let from = hold.max(*forced);
                    *forced = self.end();
                    self.cut(candidate.rule, from, self.end(), Keeps::Nothing, found);
                }
                true
            }
            Ok(hit) => {
                // What was held for too long has passed, overwritten.
                let from = (self.base + hit.from as u64).max(candidate.forced.unwrap_or(0));
                let to = self.base + hit.to as u64;
                self.cut(candidate.rule, from, to, hit.keeps, found);
                if matches!(self.fill, Fill::Number | Fill::Words)
                    && self.is_number_with_luhn_digit(at, hit.from, hit.to)
                    && let Some(digit) = self.text[hit.from..hit.to].iter().position(u8::is_ascii_digit)
                {
                    let digit = from.max(self.base + (hit.from + digit) as u64);
                    let fill = std::mem::replace(&mut self.fill, Fill::First);
                    self.cut(candidate.rule, digit, digit + 1, Keeps::Nothing, found);
                    self.fill = fill;
                }
                if to > self.covered {
                    self.covered = to;
                    found.count(candidate.rule);
                }
                if let Some(rest) = hit.rest {
                    self.follow(candidate.rule, rest, to, found);
                }
                false
            }
        }
    }

    /// True where a number would look like a card's still with noughts in this place.
    fn is_number_with_luhn_digit(&self, at: usize, from: usize, to: usize) -> bool {
        let in_number = |byte: &u8| byte.is_ascii_digit() || self.fill == Fill::Words && b" -".contains(byte);
        let number = self.text[at..].iter().take_while(|byte| in_number(byte)).enumerate();
        let digits = number.filter(|(_, byte)| byte.is_ascii_digit());
        let digit =
            |(place, byte): (usize, &u8)| if (from..to).contains(&(at + place)) { 0 } else { byte - b'0' };
        let mut digits = digits.map(digit).peekable();
        digits.peek().is_some() && has_luhn_digit(digits)
    }

    /// Overwrites what belongs to a value that was found up to `at`, now and later.
    fn follow(&mut self, rule: u16, rest: Rest, at: u64, found: &mut Found) {
        if self.rests.add(rule, rest, at) {
            self.follow_rests(found);
        }
    }

    /// Overwrites what belongs to values whose beginning was found.
    fn follow_rests(&mut self, found: &mut Found) {
        let mut rests = std::mem::take(&mut self.rests);
        let mut covered = self.covered;
        rests.read(&self.text, self.base, |rule, from, to, keeps| {
            covered = covered.max(to);
            self.cut(rule, from, to, keeps, found);
        });
        (self.rests, self.covered) = (rests, covered);
    }

    /// Overwrites decoded text where it lies, but not what it `keeps`.
    fn cut(&self, rule: u16, from: u64, to: u64, keeps: Keeps, found: &mut Found) {
        if from >= to {
            return;
        }
        let first = self.runs.partition_point(|run| run.at + run.length <= from);
        for run in &self.runs[first..] {
            if run.at >= to {
                // Copies stand behind all pieces of what they repeat.
                match run.copied.is_none() && !self.has_copies {
                    true => break,
                    false => continue,
                }
            }
            let (start, end) = (run.at.max(from), (run.at + run.length).min(to));
            let bytes = &self.text[(start - self.base) as usize..(end - self.base) as usize];
            if run.escape == NOT_ON_WIRE {
                continue;
            }
            if run.escape > 0 {
                if !bytes.iter().all(|byte| keeps.has(*byte)) {
                    let fill = run.copied.unwrap_or(self.fill);
                    found.cuts.push(Cut { wire: run.wire, length: run.escape.into(), fill, rule });
                }
                continue;
            }
            let wire = run.wire + (start - run.at);
            if self.fill == Fill::Number {
                for (place, byte) in bytes.iter().enumerate() {
                    if !byte.is_ascii_digit() {
                        // A number has nothing else in it than this; what goes on in words is none.
                        let before = ((start - self.base) as usize + place).checked_sub(1);
                        let exponent = matches!(byte, b'e' | b'E')
                            && before.is_some_and(|before| self.text[before].is_ascii_digit());
                        if self.whole.is_none() && !exponent && !b"+-.,$ ".contains(byte) {
                            let wire = wire + place as u64;
                            found.cuts.push(Cut { wire, length: 1, fill: Fill::Text, rule });
                        }
                        continue;
                    }
                    let at = start + place as u64;
                    let first = at == 0 || at == 1 && self.base == 0 && self.text[0] == b'-';
                    let fill = if first { Fill::First } else { Fill::Number };
                    found.cuts.push(Cut { wire: wire + place as u64, length: 1, fill, rule });
                }
                continue;
            }
            if self.fill == Fill::Network {
                self.cut_network(rule, start, end, wire, found);
                continue;
            }
            let fill = match (self.fill, keeps) {
                // Letters are digits there.
                (Fill::Words, Keeps::Address) => Fill::Hex,
                (fill, _) => fill,
            };
            let mut at = 0;
            while at < bytes.len() {
                let length = match keeps {
                    Keeps::Nothing => bytes.len() - at,
                    _ => bytes[at..].iter().position(|byte| keeps.has(*byte)).unwrap_or(bytes.len() - at),
                };
                if length > 0 {
                    found.cuts.push(Cut { wire: wire + at as u64, length, fill, rule });
                }
                at += length + 1;
            }
        }
    }

    /// Overwrites an address from `start` to `end`, which stands at `wire`: it stays one with noughts where it had some.
    fn cut_network(&self, rule: u16, start: u64, end: u64, wire: u64, found: &mut Found) {
        let (from, to) = ((start - self.base) as usize, (end - self.base) as usize);
        let address = memchr::memchr(b'/', &self.text[..to]).unwrap_or(to);
        for at in from..address {
            let begins = !at.checked_sub(1).is_some_and(|before| self.text[before].is_ascii_hexdigit());
            if !(begins && self.text[at] == b'0') {
                let wire = wire + (at - from) as u64;
                found.cuts.push(Cut { wire, length: 1, fill: Fill::Hex, rule });
            }
        }
    }

    /// The first byte of the wire that must not pass yet.
    pub(super) fn hold(&self) -> Option<Held> {
        let held = |open: &Open| {
            let hold = open.hold.filter(|hold| *hold < self.end() && open.forced.is_none());
            hold.map(|hold| (hold, open.rule))
        };
        let (at, rule) = self.open.iter().filter_map(held).min()?;
        let run = &self.runs[self.runs.partition_point(|run| run.at + run.length <= at)];
        let wire = if run.escape > 0 { run.wire } else { run.wire + (at - run.at) };
        Some(Held { wire, why: Why::Rule(rule) })
    }

    /// What is held was held for too long: it is overwritten from its hold point on, or let go. Returns how many.
    pub(super) fn force(&mut self, passes: bool, found: &mut Found) -> u32 {
        let end = self.end();
        let mut open = std::mem::take(&mut self.open);
        let mut forced = 0;
        open.retain_mut(|open| {
            let Some(hold) = open.hold.filter(|hold| *hold < end && open.forced.is_none()) else {
                return true;
            };
            forced += 1;
            if !passes {
                open.forced = Some(end);
                self.cut(open.rule, hold, end, Keeps::Nothing, found);
            }
            !passes
        });
        self.open = open;
        forced
    }

    /// A number for this text and what was before it (FNV-1a). All that are too long to be kept have the same.
    pub(super) fn hash(&self, before: u64) -> u64 {
        let kept = if self.end() > KEPT as u64 { &[] } else { &self.text[..] };
        kept.iter().fold(before ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    /// The last bytes of the text.
    pub(super) fn tail(&self) -> &[u8] {
        &self.text
    }

    /// Forgets text that nothing will look at again.
    fn give_up(&mut self) {
        let needed = self.open.iter().map(|open| open.at).min().unwrap_or(u64::MAX).min(self.end());
        let keep = needed.saturating_sub(LOOK_BEHIND as u64);
        if keep < self.base + KEPT as u64 {
            return;
        }
        let gone = (keep - self.base) as usize;
        self.text.drain(..gone);
        self.base = keep;
        self.seen -= gone;
        let first = self.runs.partition_point(|run| run.at + run.length <= keep);
        self.runs.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Detector;
    use crate::mask::rules::{HoldAction, HoldLimit, Mode, Rule};
    use std::time::Duration;

    /// What a text of these words, in pieces of 16 bytes, leaves to be read again with each piece: undecided candidates, values
    /// that go on.
    fn left_to_read_again(word: &str) -> (usize, usize) {
        let hold = HoldLimit { events: u32::MAX, time: Duration::from_secs(5), action: HoldAction::Mask };
        let known = Detector::all().map(Rule::Known).collect();
        let rules = Rules::new(known, Mode::Mask, hold).unwrap();
        let (mut lane, mut found) = (Lane::new(Fill::Text), Found::default());
        let text = word.repeat(32 * 1024 / word.len());
        let mut worst = (0, 0);
        for (number, piece) in text.as_bytes().chunks(16).enumerate() {
            lane.push(piece, number as u64 * 16);
            lane.scan(&rules, false, &mut found);
            found.cuts.clear();
            worst = (worst.0.max(lane.open.len()), worst.1.max(lane.rests.len()));
        }
        worst
    }

    #[test]
    fn texts_made_of_beginnings_leave_little_to_be_read_again() {
        for word in [
            "xoxb-",
            "xoxd-",
            "-eyJ",
            "eyJ.",
            "-AKIA",
            "sk-",
            "sk-ant-",
            "ghp_-",
            "hooks.slack.com/services/",
            "sig=",
            "password=",
            "pwd='",
            "apikey:",
            "://",
            "://a:",
            "Bearer ",
            "asic ",
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
            "4111 ",
            "4111-",
            "+49",
            "a@",
            "a@b.",
            "::",
            "1:",
            "127.",
            "DE89",
            "hf_-xoxb-sk-ant-ghs_-sig=",
        ] {
            let (open, rests) = left_to_read_again(word);
            assert!(open <= 2 * MAX_OPEN && rests <= 8, "{word}: {open} candidates, {rests} values");
        }
    }
}
