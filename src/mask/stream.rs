//! The masking of one body: overwritten in place, and held from its hold points on.
//!
//! ```text
//!   the wire   | passed | held: copied, may still be overwritten | at hand |
//!              0        base                                     base + held.len()
//! ```
//! What is held keeps everything behind it back, framing too, so that the order stays.

use super::form::Form;
use super::frames::Frames;
use super::grpc::Grpc;
use super::json::Json;
use super::magic::Magic;
use super::rules::{HoldAction, MAX_HELD_BYTES, Mode, Rules};
use super::spans::{Span, Spans};
use super::sse::Sse;
use super::text::Text;
use super::values::{Value, Values};
use super::wire::{Found, Held, Origin, Why};
use std::fmt;
use std::sync::Arc;

/// Spans that are kept of a body until they are wanted: what is kept is bounded by this and by one piece.
const MANY_SPANS: usize = 256;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As one text, or as JSON if it begins so.
    Text,
    /// JSON texts, one or several.
    Json,
    /// Form fields, as URLs encode them.
    Form,
    /// Server-sent events.
    Events,
    /// WebSocket frames.
    Frames,
    /// gRPC messages.
    Grpc,
    /// One message of protocol buffers.
    Message,
    /// Parts, each with a head (`multipart/*`): a text of which lines may begin JSON.
    Parts,
    /// Values that a protocol delimits, each begun with [`Stream::begin_value`].
    Values,
}

/// Kind of a piece of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body's own.
    Payload,
    /// The same, and a value ends behind it.
    Last,
    /// Framing between: it passes in its place and is not looked at.
    Framing,
}

/// The masking of one body.
pub struct Stream {
    rules: Arc<Rules>,
    follower: Follower,
    held: Vec<u8>,
    base: u64,
    found: Found,
    /// How many times something was held for too long.
    forced: u32,
    hold: Option<Hold>,
    pieces: u64,
    /// Where what is held began when [`Stream::hold_changed`] was asked last.
    told: Option<u64>,
    /// What is overwritten, where that is wanted.
    spans: Option<Box<Spans>>,
    /// What a body begins with, as long as it may say that it cannot be read.
    magic: Option<Magic>,
    /// Bytes at hand that passed between what was released and what was held behind them.
    skipped: u64,
    /// What a text begins with, and where, as long as it may be an event stream that does not say so.
    first: Option<Vec<(u8, u64)>>,
}

enum Follower {
    Text(Box<Text>),
    Json(Box<Json>, u64),
    Form(Box<Form>),
    Events(Box<Sse>),
    Frames(Box<Frames>),
    Grpc(Box<Grpc>),
    Values(Box<Values>),
}

impl Follower {
    /// Applies what a WebSocket client's key makes of bytes at `wire` that were overwritten.
    fn apply_key(&self, bytes: &mut [u8], wire: u64) {
        if let Follower::Frames(frames) = self {
            bytes.iter_mut().zip(wire..).for_each(|(byte, wire)| *byte ^= frames.key_at(wire));
        }
    }
}

/// What is held: where, and since when.
#[derive(Clone, Copy, Debug)]
struct Hold {
    wire: u64,
    why: Why,
    events: u64,
    since: Option<u64>,
}

impl Stream {
    /// A body that is read in this way.
    pub fn new(rules: Arc<Rules>, format: Format) -> Self {
        let follower = match format {
            Format::Text => Follower::Text(Box::new(Text::body())),
            Format::Json => Follower::Json(Box::new(Json::new()), 0),
            Format::Form => Follower::Form(Box::new(Form::new())),
            Format::Events => Follower::Events(Box::new(Sse::new())),
            Format::Frames => Follower::Frames(Box::new(Frames::new())),
            Format::Grpc => Follower::Grpc(Box::new(Grpc::new())),
            Format::Message => Follower::Grpc(Box::new(Grpc::bare())),
            Format::Parts => Follower::Json(Box::new(Json::of_lines()), 0),
            Format::Values => Follower::Values(Box::new(Values::new())),
        };
        let (found, held) = (Found::default(), Vec::new());
        Stream {
            rules,
            follower,
            held,
            base: 0,
            found,
            forced: 0,
            hold: None,
            pieces: 0,
            told: None,
            spans: None,
            skipped: 0,
            magic: match format {
                Format::Text | Format::Parts => Some(Magic::new(false)),
                Format::Json | Format::Form | Format::Events => Some(Magic::new(true)),
                // They have framing of their own.
                Format::Frames | Format::Grpc | Format::Message | Format::Values => None,
            },
            first: (format == Format::Text).then(Vec::new),
        }
    }

    /// True while something is held.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// True when what is held is not what it was when this was asked before: [`Stream::due`] says something else.
    pub fn hold_changed(&mut self) -> bool {
        let hold = self.hold.map(|hold| hold.wire);
        std::mem::replace(&mut self.told, hold) != hold
    }

    /// What is held, and why.
    pub fn holding(&self) -> Option<Holding> {
        let hold = self.hold.filter(|_| self.is_holding())?;
        let reason = match hold.why {
            Why::Rule(rule) => HoldReason::Rule(rule.into()),
            Why::Escape => HoldReason::Escape,
            Why::Event => HoldReason::Event,
            Why::Blank => HoldReason::Blank,
            Why::Message => HoldReason::Message,
        };
        Some(Holding { offset: hold.wire, length: self.held.len(), reason })
    }

    /// When the time is up for what is held, on the clock, in milliseconds, that says `now`. It begins with the first call.
    pub fn due(&mut self, now: u64) -> Option<u64> {
        let time = self.rules.hold.time.as_millis() as u64;
        self.hold.as_mut().map(|hold| hold.since.get_or_insert(now).saturating_add(time))
    }

    /// Takes the next bytes of the wire. Returns what passes: first so much of what was held ([`Stream::release`]), then so
    /// many of `bytes`; the rest of them is held.
    ///
    /// `Err`: the body cannot be followed, and nothing more of it may pass.
    pub fn take(&mut self, bytes: &mut [u8], kind: Kind) -> Result<Passed, &'static str> {
        let wire = self.base + self.held.len() as u64;
        if kind == Kind::Framing
            && let Some(spans) = &mut self.spans
        {
            spans.add_framing(wire, bytes.len() as u64, self.base);
        }
        if kind == Kind::Framing && !self.is_holding() {
            self.base += bytes.len() as u64;
            return Ok(Passed { held: 0, at_hand: bytes.len() });
        }
        if kind != Kind::Framing {
            if let Some(magic) = &mut self.magic {
                if let Err(fault) = magic.check(bytes)
                    && self.rules.mode == Mode::Mask
                {
                    return Err(fault);
                }
                self.magic = self.magic.take_if(|magic| magic.is_open());
            }
            self.pieces += 1;
            self.feed(bytes, wire, kind == Kind::Last)?;
        }
        self.overwrite(bytes, wire);
        let end = wire + bytes.len() as u64;
        let mut passes_to = self.passes_to(end);
        if self.is_too_long(passes_to, end) {
            self.force()?;
            self.overwrite(bytes, wire);
            passes_to = self.passes_to(end);
        }
        let held = (passes_to.min(wire) - self.base) as usize;
        let at_hand = passes_to.saturating_sub(wire) as usize;
        let passed = Passed { held, at_hand };
        self.held.extend_from_slice(&bytes[at_hand..]);
        self.skipped = at_hand as u64;
        if held == 0 {
            self.base += std::mem::take(&mut self.skipped);
        }
        Ok(passed)
    }

    /// What was held and passes now: so many bytes, before any at hand.
    pub fn release(&mut self, held: usize, mut to: impl FnMut(&[u8])) {
        if held > 0 {
            to(&self.held[..held]);
            self.held.drain(..held);
            self.base += held as u64 + std::mem::take(&mut self.skipped);
        }
    }

    /// The time is up, or the body is over: everything is decided. Returns how much of what was held passes.
    pub fn finish(&mut self) -> usize {
        // A fault was one of JSON that is nested too deep, which so few bytes are not.
        let _ = self.decide_first(true);
        let (rules, found) = (&*self.rules, &mut self.found);
        match &mut self.follower {
            Follower::Text(text) => text.scan(rules, true, found),
            Follower::Json(json, _) => json.finish(rules, found),
            Follower::Form(form) => form.finish(rules, found),
            Follower::Events(sse) => sse.finish(rules, found),
            Follower::Frames(frames) => frames.finish(rules, found),
            Follower::Grpc(grpc) => grpc.finish(rules, found),
            Follower::Values(values) => values.finish(rules, found),
        }
        self.overwrite(&mut [], self.base + self.held.len() as u64);
        self.hold = None;
        self.held.len()
    }

    /// Deals with what is held for too long. Returns how much of it passes. `Err`: nothing more of the body may pass.
    pub fn expire(&mut self, now: u64) -> Result<usize, &'static str> {
        if self.due(now).is_none_or(|due| due > now) {
            return Ok(0);
        }
        let end = self.base + self.held.len() as u64;
        self.force()?;
        self.overwrite(&mut [], end);
        let passes_to = self.passes_to(end);
        Ok((passes_to - self.base) as usize)
    }

    /// What comes next is a value of its own: of a row, of a parameter. [`Kind::Last`] ends it. Only with [`Format::Values`].
    pub fn begin_value(&mut self, value: Value) {
        if let Follower::Values(values) = &mut self.follower {
            values.begin(value);
        }
    }

    /// True when values were found that [`Stream::take_counts`] has not told.
    pub fn has_found(&self) -> bool {
        self.forced > 0 || !self.found.counts.is_empty()
    }

    /// Values that were found, by rule, since this was asked last.
    pub fn take_counts(&mut self) -> (Vec<u32>, u32) {
        (std::mem::take(&mut self.found.counts), std::mem::take(&mut self.forced))
    }

    /// Keeps from now on what is overwritten, for [`Stream::take_spans`].
    pub fn keep_spans(&mut self) {
        let counts_framing = matches!(self.follower, Follower::Values(_));
        self.spans.get_or_insert_with(|| Box::new(Spans::new(counts_framing)));
    }

    /// True when so many spans were kept that they should be taken.
    pub fn has_many_spans(&self) -> bool {
        self.spans.as_ref().is_some_and(|spans| spans.len() >= MANY_SPANS)
    }

    /// What was overwritten since this was asked last, in order.
    pub fn take_spans(&mut self) -> Vec<Span> {
        self.spans.as_mut().map(|spans| spans.take()).unwrap_or_default()
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    fn feed(&mut self, bytes: &[u8], wire: u64, ends: bool) -> Result<(), &'static str> {
        if let Some(first) = &mut self.first {
            first.extend(bytes.iter().zip(wire..).map(|(byte, wire)| (*byte, wire)));
            return self.decide_first(false);
        }
        let (rules, found) = (&*self.rules, &mut self.found);
        match &mut self.follower {
            Follower::Text(text) => {
                text.push(bytes, Origin::Wire(wire), rules, found);
                text.scan(rules, false, found);
            }
            Follower::Json(json, texts) => {
                json.feed(bytes, wire, rules, found);
                *texts += u64::from(json.is_outside());
            }
            Follower::Form(form) => form.feed(bytes, wire, rules, found),
            Follower::Events(sse) => sse.feed(bytes, wire, rules, found),
            Follower::Frames(frames) => {
                frames.passed(self.base);
                frames.feed(bytes, wire, rules, found);
            }
            Follower::Grpc(grpc) => grpc.feed(bytes, wire, rules, found),
            Follower::Values(values) => values.feed(bytes, wire, ends, rules, found),
        }
        self.check()
    }

    /// Chooses between a text and an event stream by what the body begins with. `now`: nothing more is waited for.
    fn decide_first(&mut self, now: bool) -> Result<(), &'static str> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let bytes: Vec<u8> = first.iter().take(Sse::LONGEST_FIELD).map(|(byte, _)| *byte).collect();
        match Sse::begins(&bytes) {
            None if !now => {
                self.first = Some(first);
                return Ok(());
            }
            Some(true) => self.follower = Follower::Events(Box::new(Sse::probable())),
            _ => {}
        }
        for piece in first.chunk_by(|(_, before), (_, behind)| before + 1 == *behind) {
            let bytes: Vec<u8> = piece.iter().map(|(byte, _)| *byte).collect();
            self.feed(&bytes, piece[0].1, false)?;
        }
        Ok(())
    }

    /// Overwrites what was found, in what is held and at hand.
    fn overwrite(&mut self, bytes: &mut [u8], wire: u64) {
        let mut cuts = std::mem::take(&mut self.found.cuts);
        // In order: a later one may correct an earlier.
        let masks = self.rules.mode == Mode::Mask;
        for cut in cuts.drain(..) {
            let end = cut.wire + cut.length as u64;
            if let Some(spans) = &mut self.spans {
                spans.add(&cut);
            }
            if !masks {
                continue;
            }
            debug_assert!(cut.wire >= self.base, "what is overwritten has not passed");
            let from = cut.wire.max(self.base);
            if from < end.min(wire) {
                let place = (from - self.base) as usize..(end.min(wire) - self.base) as usize;
                cut.fill.apply(&mut self.held[place.clone()]);
                self.follower.apply_key(&mut self.held[place], from);
            }
            if end > wire {
                let from = from.max(wire);
                let place = (from - wire) as usize..(end - wire) as usize;
                cut.fill.apply(&mut bytes[place.clone()]);
                self.follower.apply_key(&mut bytes[place], from);
            }
        }
        self.found.cuts = cuts;
    }

    /// The place on the wire up to which all passes, and the note of what is held.
    fn passes_to(&mut self, end: u64) -> u64 {
        let hold = match (&self.follower, self.rules.mode) {
            (_, Mode::Observe) => None,
            (Follower::Text(text), _) => text.hold(),
            (Follower::Json(json, _), _) => json.hold(),
            (Follower::Form(form), _) => form.hold(),
            (Follower::Events(sse), _) => sse.hold(),
            (Follower::Frames(frames), _) => frames.hold(),
            (Follower::Grpc(grpc), _) => grpc.hold(),
            (Follower::Values(values), _) => values.hold(),
        };
        let first = self.first.as_ref().and_then(|first| first.first());
        let first = first.map(|(_, wire)| Held { wire: *wire, why: Why::Blank });
        let hold = hold.or(first.filter(|_| self.rules.mode == Mode::Mask)).filter(|hold| hold.wire < end);
        self.hold = hold.map(|Held { wire, why }| match self.hold {
            Some(hold) if hold.wire == wire => Hold { why, ..hold },
            _ => Hold { wire, why, events: self.events(), since: None },
        });
        hold.map_or(end, |hold| hold.wire)
    }

    /// Events so far, or pieces where there are none.
    fn events(&self) -> u64 {
        match &self.follower {
            Follower::Events(sse) => sse.events,
            Follower::Frames(frames) => frames.messages,
            Follower::Json(_, texts) => *texts,
            Follower::Text(_) | Follower::Form(_) => self.pieces,
            Follower::Grpc(grpc) => grpc.messages,
            // A value ends where its length says, and nobody can use a part of it.
            Follower::Values(_) => 0,
        }
    }

    fn is_too_long(&self, passes_to: u64, end: u64) -> bool {
        let Some(hold) = self.hold else { return false };
        let events = self.events() - hold.events;
        events > self.rules.hold.events.into() || (end - passes_to) as usize > MAX_HELD_BYTES
    }

    fn force(&mut self) -> Result<(), &'static str> {
        self.decide_first(true)?;
        let action = self.rules.hold.action;
        let (rules, passes, found) = (&*self.rules, action == HoldAction::Pass, &mut self.found);
        self.forced += match &mut self.follower {
            Follower::Text(text) => text.force(passes, rules, found),
            Follower::Json(json, _) => json.force(passes, rules, found),
            Follower::Form(form) => form.force(passes, found),
            Follower::Events(sse) => sse.force(passes, rules, found),
            Follower::Frames(frames) => frames.force(passes, rules, found),
            Follower::Grpc(grpc) => grpc.force(passes),
            Follower::Values(values) => values.force(passes, rules, found),
        };
        match action {
            HoldAction::Cut => Err("something was held for longer than it may be"),
            HoldAction::Mask | HoldAction::Pass => self.check(),
        }
    }

    /// `Err`: the body cannot be followed any more.
    fn check(&self) -> Result<(), &'static str> {
        let fault = match &self.follower {
            Follower::Text(text) => text.fault(),
            Follower::Form(_) => None,
            Follower::Json(json, _) => json.fault,
            Follower::Events(sse) => sse.fault(),
            Follower::Frames(frames) => frames.fault(),
            Follower::Grpc(grpc) => grpc.fault,
            Follower::Values(values) => values.fault(),
        };
        match fault {
            Some(fault) if self.rules.mode == Mode::Mask => Err(fault),
            _ => Ok(()),
        }
    }
}

// What is held is the peers' own.
impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Bytes of a body that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where they begin, in the bytes of the body.
    pub offset: u64,
    /// How many, with all behind them.
    pub length: usize,
    /// Why the first of them does not pass.
    pub reason: HoldReason,
}

/// Why something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// It may become a value of this rule, by its place among all.
    Rule(usize),
    /// It is a part of an escape.
    Escape,
    /// It is a piece of a text, which passes with its event's end.
    Event,
    /// It is white space before what says how the body is read.
    Blank,
    /// It is a part of a message.
    Message,
}

/// What passes after [`Stream::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// So many bytes of what was held.
    pub held: usize,
    /// So many bytes at hand, behind those. More than 0 only if all that was held passes.
    pub at_hand: usize,
}
