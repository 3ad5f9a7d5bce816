//! Values within a value in binary format: elements of arrays, fields of composites, bounds of ranges. Each is masked by its own type.
//!
//! ```text
//!   array      dimensions, flags, type | length, lower bound of each dimension | length, value | …
//!   composite  fields | type, length, value | …
//!   range      flags | length, value | length, value
//!   hstore     pairs | length, value | length, value | …
//!   tsvector   lexemes | text 0, positions, position … | …
//! ```
//! What a type that somebody made consists of is told by its first bytes. What does not read so is looked at as one text.

use super::columns::{Column, Form, form_of, read_of};
use crate::mask::{Shape, Value};
use crate::protocol::values::Need;

/// Follows one value.
#[derive(Debug, Default)]
pub(super) struct Nested {
    /// From the outermost to the one at hand.
    open: Vec<Container>,
    step: Step,
    /// Bytes that remained of the message when the need was returned that was met last.
    left: usize,
}

/// A value with others in it.
#[derive(Clone, Copy, Debug)]
struct Container {
    /// Bytes that are to come.
    left: usize,
    /// The rule that overwrites all in it.
    rule: Option<u16>,
    holds: Holds,
}

/// What stands in a container, one behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// It is not known yet.
    Unknown,
    /// Values of one type, each behind its length.
    Elements(u32),
    /// Values, each behind its type and its length.
    Fields,
    /// Texts up to a zero byte, and positions.
    Lexemes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// A value is shown, or bytes pass that are none.
    #[default]
    Value,
    /// Bytes before a value of so many, which is read so.
    Prefix(usize, Option<Value>),
    ArrayHead,
    /// The type of an array of so many dimensions.
    ArrayKind(u32),
    /// The length of an element.
    Length,
    /// How many fields or lexemes there are.
    Count(Holds),
    /// The type and the length of a field.
    Field,
    /// The length of a field of this type.
    FieldLength(u32),
    /// The first byte of what somebody made.
    First,
    /// What may be flags of a range.
    Flags,
    /// The byte behind them.
    BehindFlags,
    /// Two numbers.
    Numbers,
    /// The byte behind them.
    BehindNumbers(u32, u32),
    Lexeme,
    Positions,
}

/// Containers within each other.
const MAX_DEPTH: usize = 32;
/// Dimensions of an array (`MAXDIM`).
const MAX_DIMENSIONS: u32 = 6;
/// Fields of a composite (`MaxTupleAttributeNumber`).
const MAX_FIELDS: u32 = 1664;
/// Pairs of an hstore, ranges of a multirange; more of them are looked at as one text.
const MAX_PAIRS: u32 = 65_535;
/// No type has a lower number.
const FIRST_OID: u32 = 16;
/// The shortest array, which is empty.
const ARRAY_HEAD: usize = 12;
/// Flags of a range with a bound (`rangetypes.h`), without those of `()`: much else begins with a zero byte.
const RANGE_FLAGS: [u8; 8] = [0x02, 0x04, 0x06, 0x08, 0x0c, 0x10, 0x12, 0x14];
/// A type that is not known.
const UNKNOWN: u32 = 0;
const MALFORMED: &str = "a value does not read as its type says";

impl Nested {
    /// A value of `length` bytes begins.
    pub(super) fn begin(&mut self, column: Column, length: usize) -> Need {
        self.open.clear();
        self.value(column, length)
    }

    /// A part is complete. Returns what follows; `None`: the value is over.
    pub(super) fn next(&mut self, shown: &[u8], left: usize) -> Result<Option<Need>, &'static str> {
        let before = std::mem::replace(&mut self.left, left);
        Ok(match self.step {
            Step::Value => self.go_on(),
            Step::Prefix(length, value) => Some(self.show(length, value)),
            Step::ArrayHead => self.array(number(shown, 0), number(shown, 8)),
            Step::ArrayKind(dimensions) => match number(shown, 0) {
                FIRST_OID.. => self.array(dimensions, number(shown, 0)),
                _ => self.rest(),
            },
            Step::Length => match self.open.last().map(|container| container.holds) {
                Some(Holds::Elements(kind)) => self.sized(kind, shown),
                _ => self.rest(),
            },
            Step::Count(holds) => self.hold(holds),
            Step::Field => self.sized(number(shown, 0), &shown[4..]),
            Step::FieldLength(kind) => self.sized(kind, shown),
            Step::First => match shown[0] {
                0 => self.take(8, Step::Numbers, Need::Bytes),
                flags if RANGE_FLAGS.contains(&flags) => self.take(1, Step::Flags, Need::Bytes),
                _ => self.rest(),
            },
            Step::Flags => Some(self.peek(Step::BehindFlags)),
            Step::BehindFlags => match shown[0] {
                0 => self.hold(Holds::Elements(UNKNOWN)),
                _ => self.rest(),
            },
            Step::Numbers => Some(self.peek(Step::BehindNumbers(number(shown, 0), number(shown, 4)))),
            Step::BehindNumbers(first, second) => self.made_by_somebody(first, second, shown[0]),
            Step::Lexeme => {
                let used = before.saturating_sub(left);
                let lexemes = self.open.last_mut().ok_or(MALFORMED)?;
                lexemes.left = lexemes.left.checked_sub(used).ok_or(MALFORMED)?;
                // The zero byte, and how many positions there are.
                self.take(3, Step::Positions, Need::Bytes)
            }
            Step::Positions => {
                let positions = 2 * usize::from(u16::from_be_bytes([shown[1], shown[2]]));
                self.take(positions, Step::Value, Need::Pass)
            }
        })
    }

    /// A value begins, perhaps within others.
    fn value(&mut self, column: Column, length: usize) -> Need {
        let (holds, size, step) = match form_of(column) {
            Form::Array => (Holds::Unknown, ARRAY_HEAD, Step::ArrayHead),
            Form::Composite => (Holds::Fields, 4, Step::Count(Holds::Fields)),
            Form::Lexemes => (Holds::Lexemes, 4, Step::Count(Holds::Lexemes)),
            Form::Range(bounds) => (Holds::Elements(bounds), 1, Step::Count(Holds::Elements(bounds))),
            Form::Multirange(range) => (Holds::Elements(range), 4, Step::Count(Holds::Elements(range))),
            Form::Unknown if length >= ARRAY_HEAD => (Holds::Unknown, 0, Step::First),
            Form::Unknown | Form::Plain => {
                let (read, rule) = (read_of(column), column.rule);
                return match read.prefix.min(length) {
                    0 => self.show(length, read.value(rule)),
                    prefix => {
                        self.step = Step::Prefix(length - prefix, read.value(rule));
                        Need::Pass(prefix)
                    }
                };
            }
        };
        if length < size || self.open.len() == MAX_DEPTH {
            return self.show(length, Some(as_one_text(column.rule)));
        }
        self.open.push(Container { left: length - size, rule: column.rule, holds });
        match step {
            Step::First => self.peek(step),
            step => {
                self.step = step;
                Need::Bytes(size)
            }
        }
    }

    /// What has these numbers at its front is an array, a composite, or something with lengths before all of its parts.
    fn made_by_somebody(&mut self, first: u32, second: u32, behind: u8) -> Option<Need> {
        match (first, second, behind) {
            (..=MAX_DIMENSIONS, ..=1, 0) => self.take(4, Step::ArrayKind(first), Need::Bytes),
            (1..=MAX_FIELDS, FIRST_OID.., 0 | 0xff) => {
                self.open.last_mut()?.holds = Holds::Fields;
                self.take(4, Step::FieldLength(second), Need::Bytes)
            }
            (1..=MAX_PAIRS, _, 1..) => {
                self.open.last_mut()?.holds = Holds::Elements(UNKNOWN);
                self.sized(UNKNOWN, &second.to_be_bytes())
            }
            _ => self.rest(),
        }
    }

    fn array(&mut self, dimensions: u32, kind: u32) -> Option<Need> {
        self.open.last_mut()?.holds = Holds::Elements(kind);
        self.take(dimensions.saturating_mul(8) as usize, Step::Value, Need::Pass)
    }

    fn hold(&mut self, holds: Holds) -> Option<Need> {
        self.open.last_mut()?.holds = holds;
        self.go_on()
    }

    /// What follows a value.
    fn go_on(&mut self) -> Option<Need> {
        while self.open.pop_if(|container| container.left == 0).is_some() {}
        let container = self.open.last()?;
        match container.holds {
            Holds::Elements(_) => self.take(4, Step::Length, Need::Bytes),
            Holds::Fields => self.take(8, Step::Field, Need::Bytes),
            Holds::Lexemes => {
                self.step = Step::Lexeme;
                Some(Need::Text(Value { shape: Shape::Words, whole: container.rule }))
            }
            Holds::Unknown => self.rest(),
        }
    }

    /// A value of this type whose length stands there.
    fn sized(&mut self, kind: u32, length: &[u8]) -> Option<Need> {
        let container = self.open.last_mut()?;
        let Ok(length) = usize::try_from(number(length, 0) as i32) else {
            // It is NULL.
            return self.go_on();
        };
        let Some(left) = container.left.checked_sub(length) else { return self.rest() };
        container.left = left;
        let rule = container.rule;
        Some(self.value(Column { rule, kind, binary: true }, length))
    }

    /// The next bytes of the container.
    fn take(&mut self, size: usize, step: Step, need: fn(usize) -> Need) -> Option<Need> {
        let container = self.open.last_mut()?;
        let Some(left) = container.left.checked_sub(size) else { return self.rest() };
        container.left = left;
        self.step = step;
        Some(need(size))
    }

    /// The rest of a container that does not read as what it was taken for.
    fn rest(&mut self) -> Option<Need> {
        let container = self.open.pop()?;
        Some(self.show(container.left, Some(as_one_text(container.rule))))
    }

    fn show(&mut self, length: usize, value: Option<Value>) -> Need {
        self.step = Step::Value;
        match value {
            Some(value) => Need::Value(length, value),
            None => Need::Pass(length),
        }
    }

    /// Looks at the next byte. There is one wherever the container is not over.
    fn peek(&mut self, step: Step) -> Need {
        match self.open.last() {
            Some(Container { left: 1.., .. }) => {
                self.step = step;
                Need::Peek
            }
            _ => {
                self.step = Step::Value;
                Need::Pass(0)
            }
        }
    }
}

fn as_one_text(whole: Option<u16>) -> Value {
    Value { shape: if whole.is_some() { Shape::Mixed } else { Shape::Words }, whole }
}

fn number(shown: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([shown[at], shown[at + 1], shown[at + 2], shown[at + 3]])
}
