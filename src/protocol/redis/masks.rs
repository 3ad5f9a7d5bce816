//! Values in Redis' replies, shown to masks: strings, errors, numbers.

use super::upstream;
use crate::mask::{Kind, Shape, Stream};
use crate::names::Direction;
use crate::protocol::masked::{Masked, Masking};
use crate::protocol::values::{Heads, Layout, Need, Walk, text};
use crate::protocol::{Edit, Fault};

/// How replies pass down.
pub trait Payload {
    /// Lets the next `n` bytes pass.
    fn keep(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), &'static str>;

    /// A reply of one line is sent on that did not pass.
    fn line(&mut self, line: &mut [u8]) -> Result<(), &'static str>;
}

/// Everything passes as it is.
impl Payload for () {
    fn keep(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), &'static str> {
        edit.keep(n);
        Ok(())
    }

    fn line(&mut self, _: &mut [u8]) -> Result<(), &'static str> {
        Ok(())
    }
}

/// A session's replies under masks.
pub struct Masks {
    down: Walk<Replies>,
}

impl Masks {
    /// With these rules; what goes up is not masked.
    pub fn new(masking: Masking) -> Self {
        let [_, stream] = masking.streams();
        Masks { down: Walk::new(Replies { step: Step::Start }, stream, Heads::None) }
    }

    /// What comes down are no replies any more: nothing of it may pass.
    pub fn stop(&mut self) {
        self.down.stop();
    }
}

impl Payload for Masks {
    fn keep(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), &'static str> {
        self.down.pass(&mut (), edit, n, None)
    }

    fn line(&mut self, line: &mut [u8]) -> Result<(), &'static str> {
        if let Some(stream) = self.down.stream() {
            stream.begin_value(text(Shape::Text));
            stream.take(line, Kind::Last)?;
        }
        Ok(())
    }
}

impl Masked for Masks {
    fn streams(&mut self) -> [Option<&mut Stream>; 2] {
        [None, self.down.stream()]
    }

    fn is_holding(&self, direction: Direction) -> bool {
        direction == Direction::Down && self.down.is_holding()
    }
}

/// What replies consist of: elements, one behind another.
struct Replies {
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Type,
    /// A text or number that is a line.
    Simple,
    /// What its line tells is no value.
    Line,
    Length,
    Value,
}

impl Layout for Replies {
    type Context = ();

    fn begin(&mut self, (): &mut (), _: &[u8]) -> Result<Need, &'static str> {
        Ok(self.start())
    }

    fn next(&mut self, (): &mut (), shown: &[u8], _: usize) -> Result<Need, &'static str> {
        let (step, need) = match self.step {
            Step::Start | Step::Line => return Ok(self.start()),
            Step::Type => match shown[0] {
                b'+' | b'-' => (Step::Simple, Need::TextLine(text(Shape::Text))),
                b':' | b'(' | b',' => (Step::Simple, Need::TextLine(text(Shape::Number))),
                b'$' | b'=' | b'!' => (Step::Length, Need::Line),
                _ => (Step::Line, Need::Line),
            },
            Step::Simple => (Step::Line, Need::Line),
            Step::Length => match shown.strip_suffix(b"\r\n").and_then(super::number) {
                Some(size @ 0..) => (Step::Value, Need::Value(size as usize, text(Shape::Text))),
                _ => return Ok(self.start()),
            },
            Step::Value => (Step::Line, Need::Pass(2)),
        };
        self.step = step;
        Ok(need)
    }
}

impl Replies {
    fn start(&mut self) -> Need {
        self.step = Step::Type;
        Need::Bytes(1)
    }
}

/// A fault of masks as one of the upstream's.
pub(super) fn unmaskable(rule: &'static str) -> Fault {
    Fault { section: crate::protocol::masked::UNMASKABLE, ..upstream(rule) }
}

#[cfg(test)]
mod tests;
