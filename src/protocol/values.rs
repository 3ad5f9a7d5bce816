//! Messages under masks: framing passes, and values are shown to a [`Stream`], whatever the pieces in which they come.
//!
//! A database's protocol says with [`Layout`] what its messages consist of, one [`Need`] after another; this follows it over the
//! bytes. Nothing is held between two messages. What does not read as the layout says is a fault, before the next byte passes.

use super::Edit;
use super::masked::{self, Masked};
use crate::mask::{Kind, Mode, Stream, Value};
use crate::names::Direction;

/// The next part of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// So many bytes, which the layout is shown.
    Bytes(usize),
    /// The next byte, which the layout is shown and which is not taken.
    Peek,
    /// Up to a zero byte, which is taken as well and not shown.
    Name,
    /// A length-encoded number (MySQL); shown as it is written.
    Counted,
    /// A line with its end.
    Line,
    /// So many bytes that nobody looks at.
    Pass(usize),
    /// A value of so many bytes.
    Value(usize, Value),
    /// A value up to a zero byte, which is not taken.
    Text(Value),
    /// A value up to the line's end, which is not taken.
    TextLine(Value),
    /// So many bytes of a value that goes on in later messages.
    Part(usize, Value),
    /// The rest of the message, of a value that goes on in later messages.
    PartToEnd(Value),
    /// The end of a value that went on over messages.
    PartsEnd,
    /// The rest of the message, which nobody looks at.
    Rest,
    /// The rest of the message, as one value.
    ToEnd(Value),
}

/// What the messages of one direction consist of.
pub(super) trait Layout {
    /// State shared by both directions.
    type Context;

    /// A message begins, with this head. Returns what it consists of first.
    fn begin(&mut self, context: &mut Self::Context, head: &[u8]) -> Result<Need, &'static str>;

    /// A part is complete: `shown` holds it, `left` is what remains of the message.
    fn next(&mut self, context: &mut Self::Context, shown: &[u8], left: usize) -> Result<Need, &'static str>;

    /// A message is over.
    fn end(&mut self, _: &mut Self::Context) -> Result<(), &'static str> {
        Ok(())
    }
}

/// How a message's head says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// A tag and a length that counts itself.
    Postgres,
    /// A length of three bytes and a number. The longest goes on in the next.
    Mysql,
    /// There are none: everything is one message.
    None,
}

impl Heads {
    fn size(self) -> usize {
        match self {
            Heads::Postgres => 5,
            Heads::Mysql => 4,
            Heads::None => 0,
        }
    }

    fn length(self, head: &[u8; 5]) -> usize {
        match self {
            Heads::Postgres => {
                (u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize).saturating_sub(4)
            }
            Heads::Mysql => u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize,
            Heads::None => usize::MAX,
        }
    }
}

/// Longest that is gathered: names, descriptions of columns, formats, types of parameters.
const MAX_SHOWN: usize = 128 * 1024 + 64;
const LONGEST_PACKET: usize = 0xff_ffff;
/// Where values go on over messages, what is held of one may wait for its sender.
const MALFORMED: &str = "a message does not read as its protocol says, so that its values cannot be masked";

/// Follows one direction.
pub(super) struct Walk<L> {
    pub(super) layout: L,
    /// `None`: what passes is followed and not changed.
    stream: Option<Stream>,
    heads: Heads,
    head: [u8; 5],
    have: usize,
    /// Bytes of the message's body that are to come; of MySQL's, of the packet's.
    left: usize,
    /// The message goes on in another packet.
    continues: bool,
    /// A head is to be read.
    at_head: bool,
    need: Need,
    shown: Vec<u8>,
    /// A value that goes on over messages was begun.
    in_parts: bool,
    /// Bytes that passed, for observers.
    copy: Option<Vec<u8>>,
    /// Nothing passes any more.
    broken: bool,
}

/// Both directions of a session, and what both know.
pub struct Walks<U, D, C> {
    pub(super) up: Walk<U>,
    pub(super) down: Walk<D>,
    pub(super) context: C,
}

impl<U, D, C> Masked for Walks<U, D, C> {
    fn streams(&mut self) -> [Option<&mut Stream>; 2] {
        [self.up.stream(), self.down.stream()]
    }

    fn is_holding(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.up.is_holding(),
            Direction::Down => self.down.is_holding(),
        }
    }
}

impl<L> Walk<L> {
    pub(super) fn new(layout: L, stream: Option<Stream>, heads: Heads) -> Self {
        Walk {
            layout,
            stream,
            heads,
            head: [0; 5],
            have: 0,
            left: 0,
            continues: false,
            at_head: true,
            need: Need::Rest,
            shown: Vec::new(),
            in_parts: false,
            copy: None,
            broken: false,
        }
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// Stops all traffic.
    pub(super) fn stop(&mut self) {
        self.broken = true;
    }

    /// True while something is held, or when nothing passes any more: no message of our own may stand here.
    pub(super) fn is_holding(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| self.broken || stream.is_holding())
    }
}

impl<L: Layout> Walk<L> {
    /// Lets the next `n` bytes go through. `copy` is appended what passes. `Err`: nothing more may pass.
    pub(super) fn pass(
        &mut self,
        context: &mut L::Context,
        edit: &mut Edit<'_>,
        n: usize,
        copy: Option<&mut Vec<u8>>,
    ) -> Result<(), &'static str> {
        if copy.is_some() {
            self.copy.get_or_insert_default();
        }
        let from = edit.position();
        let passed = self.walk(context, edit, n);
        if let (Some(to), Some(copied)) = (copy, &mut self.copy) {
            to.append(copied);
        }
        match passed {
            Err(_) if self.observes() => {
                // What is only counted passes, whatever it is.
                (self.stream, self.broken) = (None, true);
                edit.keep(n - (edit.position() - from));
                Ok(())
            }
            Err(fault) => {
                self.broken = true;
                Err(fault)
            }
            Ok(()) => Ok(()),
        }
    }

    fn observes(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.rules().mode == Mode::Observe)
    }

    fn walk(
        &mut self,
        context: &mut L::Context,
        edit: &mut Edit<'_>,
        mut n: usize,
    ) -> Result<(), &'static str> {
        match (self.broken, &self.stream) {
            (true, None) => {
                edit.keep(n);
                return Ok(());
            }
            (true, Some(_)) => return Err(MALFORMED),
            (false, _) => {}
        }
        loop {
            if self.at_head {
                if n == 0 {
                    return Ok(());
                }
                let taken = (self.heads.size() - self.have).min(n);
                self.head[self.have..self.have + taken].copy_from_slice(&edit.rest()[..taken]);
                self.take(edit, taken, Kind::Framing)?;
                (self.have, n) = (self.have + taken, n - taken);
                if self.have < self.heads.size() {
                    return Ok(());
                }
                self.have = 0;
                self.at_head = false;
                self.left = self.heads.length(&self.head);
                let begins = !std::mem::replace(
                    &mut self.continues,
                    self.heads == Heads::Mysql && self.left == LONGEST_PACKET,
                );
                if begins {
                    let need = self.layout.begin(context, &self.head)?;
                    self.prepare(need);
                }
            }
            let budget = n.min(self.left);
            let (used, met) = self.step(edit, budget)?;
            (n, self.left) = (n - used, self.left - used);
            match (met, self.left) {
                (true, _) => {
                    let shown = std::mem::take(&mut self.shown);
                    let need = self.layout.next(context, &shown, self.left);
                    self.shown = shown;
                    self.prepare(need?);
                }
                (false, 0) if self.continues => self.at_head = true,
                (false, 0) if matches!(self.need, Need::Rest | Need::ToEnd(_) | Need::PartToEnd(_)) => {
                    self.layout.end(context)?;
                    self.at_head = true;
                }
                (false, 0) => return Err(MALFORMED),
                (false, _) if n == 0 => return Ok(()),
                (false, _) => {}
            }
        }
    }

    fn prepare(&mut self, need: Need) {
        self.shown.clear();
        self.need = need;
        let Some(stream) = &mut self.stream else { return };
        match need {
            Need::Value(_, value) | Need::Text(value) | Need::TextLine(value) | Need::ToEnd(value) => {
                stream.begin_value(value)
            }
            Need::Part(_, value) | Need::PartToEnd(value) if !std::mem::replace(&mut self.in_parts, true) => {
                stream.begin_value(value)
            }
            _ => {}
        }
    }

    /// Works at the need with up to `budget` bytes. Returns how many were used, and whether it was met.
    fn step(&mut self, edit: &mut Edit<'_>, budget: usize) -> Result<(usize, bool), &'static str> {
        match self.need {
            Need::Rest => {
                self.take(edit, budget, Kind::Framing)?;
                Ok((budget, false))
            }
            Need::ToEnd(_) => {
                let ends = budget == self.left && !self.continues;
                if budget > 0 {
                    self.take(edit, budget, if ends { Kind::Last } else { Kind::Payload })?;
                }
                Ok((budget, false))
            }
            Need::Pass(left) => {
                let used = left.min(budget);
                self.take(edit, used, Kind::Framing)?;
                self.need = Need::Pass(left - used);
                Ok((used, used == left))
            }
            Need::Bytes(size) => self.gather(edit, budget, size),
            Need::Peek => {
                self.shown.extend_from_slice(&edit.rest()[..budget.min(1)]);
                Ok((0, budget > 0))
            }
            Need::Counted => {
                let Some(first) = self.shown.first() else {
                    let (used, _) = self.gather(edit, budget, 1)?;
                    return Ok((used, self.shown.first().is_some_and(|first| *first < 0xfc)));
                };
                let size = match first {
                    0xfc => 3,
                    0xfd => 4,
                    _ => 9,
                };
                self.gather(edit, budget, size)
            }
            Need::Name | Need::Line => {
                let (byte, keep) = if matches!(self.need, Need::Name) { (0, 0) } else { (b'\n', 1) };
                let rest = &edit.rest()[..budget];
                let end = memchr::memchr(byte, rest);
                let used = end.map_or(budget, |end| end + 1);
                let shown = end.map_or(budget, |end| end + keep);
                if self.shown.len() + shown > MAX_SHOWN {
                    return Err(MALFORMED);
                }
                self.shown.extend_from_slice(&rest[..shown]);
                self.take(edit, used, Kind::Framing)?;
                Ok((used, end.is_some()))
            }
            Need::Value(left, value) => {
                let used = left.min(budget);
                let met = used == left;
                if used > 0 {
                    self.take(edit, used, if met { Kind::Last } else { Kind::Payload })?;
                }
                self.need = Need::Value(left - used, value);
                Ok((used, met))
            }
            Need::Text(_) | Need::TextLine(_) => {
                let byte = if matches!(self.need, Need::Text(_)) { 0 } else { b'\r' };
                let end = memchr::memchr(byte, &edit.rest()[..budget]);
                let used = end.unwrap_or(budget);
                let kind = if end.is_some() { Kind::Last } else { Kind::Payload };
                if used > 0 || end.is_some() {
                    self.take(edit, used, kind)?;
                }
                Ok((used, end.is_some()))
            }
            Need::Part(left, value) => {
                let used = left.min(budget);
                if used > 0 {
                    self.take(edit, used, Kind::Payload)?;
                }
                self.need = Need::Part(left - used, value);
                Ok((used, used == left))
            }
            Need::PartToEnd(_) => {
                if budget > 0 {
                    self.take(edit, budget, Kind::Payload)?;
                }
                Ok((budget, false))
            }
            Need::PartsEnd => {
                if std::mem::take(&mut self.in_parts) {
                    self.take(edit, 0, Kind::Last)?;
                }
                Ok((0, true))
            }
        }
    }

    fn gather(
        &mut self,
        edit: &mut Edit<'_>,
        budget: usize,
        size: usize,
    ) -> Result<(usize, bool), &'static str> {
        if size > MAX_SHOWN {
            return Err(MALFORMED);
        }
        let used = (size - self.shown.len()).min(budget);
        self.shown.extend_from_slice(&edit.rest()[..used]);
        self.take(edit, used, Kind::Framing)?;
        Ok((used, self.shown.len() == size))
    }

    fn take(&mut self, edit: &mut Edit<'_>, n: usize, kind: Kind) -> Result<(), &'static str> {
        match (&mut self.stream, &mut self.copy) {
            (None, copy) => {
                copy.iter_mut().for_each(|copy| copy.extend_from_slice(&edit.rest()[..n]));
                edit.keep(n);
                Ok(())
            }
            (Some(stream), None) => masked::pass(stream, edit, n, kind),
            (Some(stream), Some(copy)) => {
                let passed = stream.take(&mut edit.rest_mut()[..n], kind)?;
                stream.release(passed.held, |bytes| {
                    edit.put_back(bytes);
                    copy.extend_from_slice(bytes);
                });
                copy.extend_from_slice(&edit.rest()[..passed.at_hand]);
                edit.keep(passed.at_hand);
                edit.skip(n - passed.at_hand);
                Ok(())
            }
        }
    }
}

/// A text without a rule of its own.
pub(super) fn text(shape: crate::mask::Shape) -> Value {
    Value { shape, whole: None }
}
