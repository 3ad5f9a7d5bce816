//! Values in MySQL's packets, shown to masks: rows, errors, statements, files.
//!
//! ```text
//!   text row    length, value | 0xfb (NULL) | …
//!   binary row  0x00 | which are NULL | value | …: of a fixed size, behind one byte of length, or behind a length
//! ```

use super::Reader;
use super::command;
use super::replies::Role;
use crate::mask::{Format, Rules, Shape, Stream, Value};
use crate::names::Direction;
use crate::protocol::Edit;
use crate::protocol::masked::{self, Masked, Masking};
use crate::protocol::values::{Heads, Layout, Need, Walk, text};
use std::sync::Arc;

/// Both directions of a session under masks.
pub struct Masks {
    up: Walk<Up>,
    down: Walk<Down>,
}

impl Masks {
    /// With these rules.
    pub fn new(masking: Masking) -> Self {
        let keep_spans = masking.keep_spans;
        let stream = |rules: &Option<Arc<Rules>>| {
            rules.as_ref().map(|rules| masked::stream(keep_spans, rules.clone(), Format::Values))
        };
        let (up, down) = (stream(&masking.up), stream(&masking.down));
        let layout = Down {
            rules: masking.down,
            columns: Vec::new(),
            nulls: Vec::new(),
            next: 0,
            length: 0,
            step: DownStep::Rest,
        };
        Masks { up: Walk::new(Up, up, Heads::Mysql), down: Walk::new(layout, down, Heads::Mysql) }
    }

    /// Lets the next `n` bytes go up, of one packet. `is_command`: it is one, where it begins here.
    pub fn pass_up(
        &mut self,
        edit: &mut Edit<'_>,
        n: usize,
        mut is_command: bool,
        copy: Option<&mut Vec<u8>>,
    ) -> Result<(), &'static str> {
        self.up.pass(&mut is_command, edit, n, copy)
    }

    /// Lets the next `n` bytes go down, of one packet. `role`: what it is, where it begins here.
    pub fn pass_down(&mut self, edit: &mut Edit<'_>, n: usize, mut role: Role) -> Result<(), &'static str> {
        self.down.pass(&mut role, edit, n, None)
    }
}

impl Masked for Masks {
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

/// What the client sends.
struct Up;

impl Layout for Up {
    type Context = bool;

    fn begin(&mut self, is_command: &mut bool, head: &[u8]) -> Result<Need, &'static str> {
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        Ok(match (*is_command, length) {
            (true, 0) => Need::Rest,
            (true, _) => Need::Bytes(1),
            // A file comes in packets of any size, and an empty one behind them.
            (false, 0) => Need::PartsEnd,
            (false, length) => Need::Part(length, text(Shape::Words)),
        })
    }

    fn next(&mut self, _: &mut bool, shown: &[u8], _: usize) -> Result<Need, &'static str> {
        Ok(match shown {
            [command::QUERY | command::STMT_PREPARE] => Need::ToEnd(text(Shape::Words)),
            _ => Need::Rest,
        })
    }
}

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column {
    /// The rule that overwrites it whole.
    rule: Option<u16>,
    kind: u8,
}

/// What the server sends.
struct Down {
    rules: Option<Arc<Rules>>,
    columns: Vec<Column>,
    /// Which values of the binary row at hand are NULL.
    nulls: Vec<u8>,
    next: usize,
    /// Of the packet at hand.
    length: usize,
    step: DownStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DownStep {
    Rest,
    /// The first byte of what is no row.
    First {
        result: bool,
    },
    ErrorCode,
    Column,
    /// The first byte of a row.
    Row {
        binary: bool,
    },
    Nulls,
    /// The length of a value.
    Length {
        binary: bool,
    },
    Value {
        binary: bool,
    },
}

impl Layout for Down {
    type Context = Role;

    fn begin(&mut self, role: &mut Role, head: &[u8]) -> Result<Need, &'static str> {
        self.length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let (step, need) = match *role {
            _ if self.rules.is_none() || self.length == 0 => (DownStep::Rest, Need::Rest),
            Role::Result => (DownStep::First { result: true }, Need::Bytes(1)),
            Role::Other => (DownStep::First { result: false }, Need::Bytes(1)),
            Role::Column => (DownStep::Column, Need::Bytes(self.length)),
            Role::Row { binary } => (DownStep::Row { binary }, Need::Bytes(1)),
            Role::Fetched => return Err("rows of a cursor that is fetched from cannot be masked"),
            Role::Replication => return Err("a replication stream cannot be masked"),
        };
        self.step = step;
        Ok(need)
    }

    fn next(&mut self, role: &mut Role, shown: &[u8], _: usize) -> Result<Need, &'static str> {
        let _ = role;
        let (step, need) = match self.step {
            DownStep::Rest => (DownStep::Rest, Need::Rest),
            DownStep::First { .. } | DownStep::Row { .. } if shown[0] == 0xff => {
                (DownStep::ErrorCode, Need::Bytes(self.length.min(3) - 1))
            }
            DownStep::ErrorCode => (DownStep::Rest, Need::ToEnd(text(Shape::Text))),
            DownStep::First { result } => {
                if result {
                    self.columns.clear();
                }
                (DownStep::Rest, Need::Rest)
            }
            DownStep::Column => {
                let column = self.column(shown).ok_or("a column's description is malformed")?;
                self.columns.push(column);
                (DownStep::Rest, Need::Rest)
            }
            // An EOF packet, or an OK packet in its place; a row of which a value is longer is longer itself.
            DownStep::Row { .. } if shown[0] == 0xfe && self.length < LONGEST_PACKET => {
                (DownStep::Rest, Need::Rest)
            }
            DownStep::Row { .. } if self.columns.is_empty() => {
                return Err("a row whose columns were not described");
            }
            DownStep::Row { binary: false } => {
                self.next = 0;
                match shown[0] {
                    0xfc => (DownStep::Length { binary: false }, Need::Bytes(2)),
                    0xfd => (DownStep::Length { binary: false }, Need::Bytes(3)),
                    0xfe => (DownStep::Length { binary: false }, Need::Bytes(8)),
                    0xfb => return Ok(self.after_value(false)),
                    length => return Ok(self.show(length.into(), false)),
                }
            }
            DownStep::Row { binary: true } => {
                self.next = 0;
                (DownStep::Nulls, Need::Bytes((self.columns.len() + 9) / 8))
            }
            DownStep::Nulls => {
                self.nulls = shown.to_vec();
                return Ok(self.binary_value());
            }
            DownStep::Length { binary } => match length(shown) {
                Some(length) => return Ok(self.show(length, binary)),
                None => return Ok(self.after_value(binary)),
            },
            DownStep::Value { binary } => return Ok(self.after_value(binary)),
        };
        self.step = step;
        Ok(need)
    }
}

impl Down {
    fn column(&self, description: &[u8]) -> Option<Column> {
        let mut reader = Reader(description);
        let (_catalog, _schema, _table, _table_itself) =
            (reader.counted()?, reader.counted()?, reader.counted()?, reader.counted()?);
        let (name, itself) = (reader.counted()?, reader.counted()?);
        // How long the rest is, the character set, how long a value is at most.
        reader.take(1 + 2 + 4)?;
        let kind = reader.byte()?;
        let rules = self.rules.as_ref()?;
        Some(Column { rule: rules.column(name).or_else(|| rules.column(itself)), kind })
    }

    /// A value of so many bytes.
    fn show(&mut self, length: usize, binary: bool) -> Need {
        let column = self.columns[self.next];
        self.step = DownStep::Value { binary };
        match read_of(column, binary) {
            Some(value) => Need::Value(length, value),
            None => Need::Pass(length),
        }
    }

    fn after_value(&mut self, binary: bool) -> Need {
        self.next += 1;
        if binary {
            return self.binary_value();
        }
        let (step, need) = match self.next < self.columns.len() {
            true => (DownStep::Length { binary: false }, Need::Counted),
            false => (DownStep::Rest, Need::Rest),
        };
        self.step = step;
        need
    }

    /// The next value of a binary row that is not NULL.
    fn binary_value(&mut self) -> Need {
        let is_null = |at: &usize| self.nulls[(at + 2) / 8] >> ((at + 2) % 8) & 1 == 1;
        let Some(next) = (self.next..self.columns.len()).find(|at| !is_null(at)) else {
            self.step = DownStep::Rest;
            return Need::Rest;
        };
        self.next = next;
        let size = match self.columns[next].kind {
            kind::TINY => 1,
            kind::SHORT | kind::YEAR => 2,
            kind::LONG | kind::INT24 | kind::FLOAT => 4,
            kind::LONGLONG | kind::DOUBLE => 8,
            kind::NULL => 0,
            _ => {
                // What has a date's or a time's type has one byte of length, which reads as any other.
                self.step = DownStep::Length { binary: true };
                return Need::Counted;
            }
        };
        self.show(size, true)
    }
}

/// Types of columns.
mod kind {
    pub(super) const DECIMAL: u8 = 0;
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const NULL: u8 = 6;
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const BIT: u8 = 16;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const GEOMETRY: u8 = 255;
}

/// How a value is read; `None`: nobody looks at it.
fn read_of(column: Column, binary: bool) -> Option<Value> {
    let whole = column.rule;
    let (shape, looks) = match column.kind {
        kind::DECIMAL | kind::NEWDECIMAL => (Shape::Number, true),
        kind::TINY
        | kind::SHORT
        | kind::YEAR
        | kind::LONG
        | kind::INT24
        | kind::FLOAT
        | kind::LONGLONG
        | kind::DOUBLE => match binary {
            true => (Shape::Binary, false),
            false => (Shape::Number, true),
        },
        kind::DATE | kind::TIME | kind::DATETIME | kind::TIMESTAMP => match binary {
            true => (Shape::Binary, false),
            false => (Shape::Date, false),
        },
        kind::BIT | kind::GEOMETRY | kind::NULL => (Shape::Binary, false),
        kind::JSON => (Shape::Json, true),
        _ => (Shape::Text, true),
    };
    (looks || whole.is_some()).then_some(Value { shape, whole })
}

const LONGEST_PACKET: usize = super::MAX_PAYLOAD;

/// A length-encoded length, with its first byte or, at the front of a row, without; `None`: the value is NULL.
fn length(shown: &[u8]) -> Option<usize> {
    let digits = match shown {
        [0xfb] => return None,
        [0xfc, _, _] | [0xfd, _, _, _] | [0xfe, _, _, _, _, _, _, _, _] => &shown[1..],
        digits => digits,
    };
    let length = digits.iter().rev().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
    usize::try_from(length).ok()
}

#[cfg(test)]
mod tests;
