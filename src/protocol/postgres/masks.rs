//! Values in PostgreSQL's messages, shown to masks: rows, the data of COPY, errors and notices; statements and parameters.
//!
//! ```text
//!   T  how many | name 0, table, column, type, size, modifier, format | …
//!   D  how many | length, value | length, value | …
//!   B  portal 0 statement 0 | formats | how many | length, value | … | formats of the result
//! ```

use super::columns::Column;
use super::nested::Nested;
use super::prepared::Prepared;
use crate::mask::{Mode, Rules, Shape};
use crate::protocol::Edit;
use crate::protocol::masked::Masking;
use crate::protocol::values::{Heads, Layout, Need, Walk, Walks, text};
use std::rc::Rc;
use std::sync::Arc;

/// Both directions of a session under masks.
pub type Masks = Walks<Up, Down, Prepared>;

impl Masks {
    /// With these rules.
    pub fn new(masking: Masking) -> Self {
        let [up, down] = masking.streams();
        let layout = Down {
            by_name: masking.down.as_ref().is_some_and(|rules| rules.has_columns()),
            up: masking.up.as_ref().is_some_and(|rules| rules.mode == Mode::Mask),
            rules: masking.down,
            columns: Rc::default(),
            next: 0,
            nested: Nested::default(),
            step: DownStep::Rest,
        };
        let nested = Nested::default();
        let asks = Up { step: UpStep::Rest, left: 0, formats: Vec::new(), calls: false, nested };
        Walks {
            up: Walk::new(asks, up, Heads::Postgres),
            down: Walk::new(layout, down, Heads::Postgres),
            context: Prepared::default(),
        }
    }

    /// Lets the next `n` bytes go up; `copy` is appended what passes. `Err`: nothing more may pass.
    pub fn pass_up(
        &mut self,
        edit: &mut Edit<'_>,
        n: usize,
        copy: Option<&mut Vec<u8>>,
    ) -> Result<(), &'static str> {
        self.up.pass(&mut self.context, edit, n, copy)
    }

    /// Lets the next `n` bytes go down. `Err`: nothing more may pass.
    pub fn pass_down(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), &'static str> {
        self.down.pass(&mut self.context, edit, n, None)
    }
}

/// What the client sends.
pub struct Up {
    step: UpStep,
    /// Parameters, or formats, that are to come.
    left: usize,
    formats: Vec<u16>,
    /// The parameters are a function's, and no portal's.
    calls: bool,
    /// Follows a parameter in binary format.
    nested: Nested,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpStep {
    Rest,
    ParseName,
    Portal,
    Statement,
    Formats,
    FormatsOf,
    Parameters,
    Length,
    Parameter,
    /// A parameter in binary format.
    Binary,
    Results,
    ResultsOf,
    Describe,
    Close,
    DescribeName(u8),
    CloseName(u8),
    Execute,
    Function,
}

impl Layout for Up {
    type Context = Prepared;

    fn begin(&mut self, prepared: &mut Prepared, head: &[u8]) -> Result<Need, &'static str> {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).saturating_sub(4) as usize;
        let (step, need) = match head[0] {
            b'Q' => {
                prepared.query()?;
                (UpStep::Rest, Need::Text(text(Shape::Words)))
            }
            b'P' => (UpStep::ParseName, Need::Name),
            b'B' => (UpStep::Portal, Need::Name),
            b'D' => (UpStep::Describe, Need::Bytes(1)),
            b'C' => (UpStep::Close, Need::Bytes(1)),
            b'E' => (UpStep::Execute, Need::Name),
            b'S' => {
                prepared.sync()?;
                (UpStep::Rest, Need::Rest)
            }
            b'F' => {
                prepared.query()?;
                (UpStep::Function, Need::Bytes(4))
            }
            // The data of a COPY comes in pieces of any size.
            b'd' => (UpStep::Rest, Need::Part(length, text(Shape::Words))),
            b'c' | b'f' => {
                prepared.copy_ends();
                (UpStep::Rest, Need::PartsEnd)
            }
            _ => (UpStep::Rest, Need::Rest),
        };
        self.calls = step == UpStep::Function;
        self.step = step;
        Ok(need)
    }

    fn next(&mut self, prepared: &mut Prepared, shown: &[u8], left: usize) -> Result<Need, &'static str> {
        let (step, need) = match self.step {
            UpStep::Rest => (UpStep::Rest, Need::Rest),
            UpStep::ParseName => {
                prepared.parse(shown)?;
                (UpStep::Rest, Need::Text(text(Shape::Words)))
            }
            UpStep::Portal => {
                prepared.bind_portal(shown);
                (UpStep::Statement, Need::Name)
            }
            UpStep::Statement => {
                prepared.bind_statement(shown);
                (UpStep::Formats, Need::Bytes(2))
            }
            UpStep::Function => (UpStep::Formats, Need::Bytes(2)),
            UpStep::Formats => (UpStep::FormatsOf, Need::Bytes(2 * number(shown))),
            UpStep::FormatsOf => {
                self.formats = formats(shown);
                (UpStep::Parameters, Need::Bytes(2))
            }
            UpStep::Parameters => {
                self.left = number(shown);
                return Ok(self.parameter());
            }
            UpStep::Length => {
                let place = self.left;
                self.left -= 1;
                let Some(length) = length(shown) else { return Ok(self.parameter()) };
                let binary = match &self.formats[..] {
                    [] => false,
                    [all] => *all == 1,
                    // Counted from the end.
                    each => each.len().checked_sub(place).and_then(|at| each.get(at)) == Some(&1),
                };
                match (binary, length) {
                    // Numbers and times are no longer, and their bytes are no text.
                    (true, ..=8) => (UpStep::Parameter, Need::Pass(length)),
                    (true, _) => (UpStep::Binary, self.nested.begin(Column::UNKNOWN, length)),
                    (false, _) => (UpStep::Parameter, Need::Value(length, text(Shape::Words))),
                }
            }
            UpStep::Binary => match self.nested.next(shown, left)? {
                Some(need) => (UpStep::Binary, need),
                None => return Ok(self.parameter()),
            },
            UpStep::Parameter => return Ok(self.parameter()),
            UpStep::Results => (UpStep::ResultsOf, Need::Bytes(2 * number(shown))),
            UpStep::ResultsOf => {
                prepared.bind(formats(shown))?;
                (UpStep::Rest, Need::Rest)
            }
            UpStep::Describe => (UpStep::DescribeName(shown[0]), Need::Name),
            UpStep::Close => (UpStep::CloseName(shown[0]), Need::Name),
            UpStep::DescribeName(kind) => {
                prepared.describe(kind, shown)?;
                (UpStep::Rest, Need::Rest)
            }
            UpStep::CloseName(kind) => {
                prepared.close(kind, shown);
                (UpStep::Rest, Need::Rest)
            }
            UpStep::Execute => {
                prepared.execute(shown)?;
                (UpStep::Rest, Need::Rest)
            }
        };
        self.step = step;
        Ok(need)
    }
}

impl Up {
    /// The next parameter's length, or what is behind the last.
    fn parameter(&mut self) -> Need {
        let (step, need) = match self.left {
            0 if self.calls => (UpStep::Rest, Need::Rest),
            0 => (UpStep::Results, Need::Bytes(2)),
            _ => (UpStep::Length, Need::Bytes(4)),
        };
        self.step = step;
        need
    }
}

/// What the upstream sends.
pub struct Down {
    /// `None`: nothing is masked on the way down.
    rules: Option<Arc<Rules>>,
    /// Some are by the names of columns.
    by_name: bool,
    /// What goes up is masked.
    up: bool,
    /// Columns of the row at hand, or those that are being described.
    columns: Rc<Vec<Column>>,
    /// Which is next.
    next: usize,
    /// Follows the value at hand.
    nested: Nested,
    step: DownStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DownStep {
    Rest,
    /// How many columns there are.
    Columns,
    ColumnName,
    ColumnType(Option<u16>),
    /// How many values.
    Row(bool),
    Length,
    Value,
    /// The name of a setting, whose value follows.
    Setting,
    FieldType,
    Field,
    FieldEnd,
    Process,
    Channel,
    Payload,
    Copy,
    Result,
}

impl Layout for Down {
    type Context = Prepared;

    fn begin(&mut self, prepared: &mut Prepared, head: &[u8]) -> Result<Need, &'static str> {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).saturating_sub(4) as usize;
        let masks = self.rules.is_some();
        self.next = 0;
        let (step, need) = match head[0] {
            b'G' => {
                prepared.copy_begins();
                (DownStep::Copy, Need::Bytes(1))
            }
            b'Z' => {
                prepared.ready();
                (DownStep::Rest, Need::Rest)
            }
            _ if !masks => (DownStep::Rest, Need::Rest),
            b'T' => {
                self.columns = Rc::default();
                (DownStep::Columns, Need::Bytes(2))
            }
            b'n' => {
                prepared.described(Rc::default());
                (DownStep::Rest, Need::Rest)
            }
            b'D' => {
                let (columns, known) = match prepared.columns() {
                    Some(columns) => (columns, true),
                    None if self.by_name => {
                        return Err("rows whose columns were never described cannot be masked by name");
                    }
                    None => (Rc::default(), false),
                };
                self.columns = columns;
                (DownStep::Row(known), Need::Bytes(2))
            }
            b'd' => (DownStep::Rest, Need::Value(length, text(Shape::Words))),
            b'H' if self.by_name => {
                return Err("the data of a COPY has no names of columns, by which the route masks");
            }
            b'H' => (DownStep::Copy, Need::Bytes(1)),
            b'W' => return Err("a replication stream cannot be masked"),
            b'E' | b'N' => {
                if head[0] == b'E' {
                    prepared.failed();
                }
                (DownStep::FieldType, Need::Bytes(1))
            }
            b'C' | b's' | b'I' => {
                prepared.completed();
                (DownStep::Rest, Need::Rest)
            }
            b'A' => (DownStep::Process, Need::Bytes(4)),
            b'S' => (DownStep::Setting, Need::Name),
            b'V' => (DownStep::Result, Need::Bytes(4)),
            _ => (DownStep::Rest, Need::Rest),
        };
        self.step = step;
        Ok(need)
    }

    fn next(&mut self, prepared: &mut Prepared, shown: &[u8], left: usize) -> Result<Need, &'static str> {
        let (step, need) = match self.step {
            DownStep::Rest => (DownStep::Rest, Need::Rest),
            DownStep::Columns => {
                self.next = number(shown);
                return Ok(self.described(prepared));
            }
            DownStep::ColumnName => {
                let rule = self.rules.as_ref().and_then(|rules| rules.column(shown));
                (DownStep::ColumnType(rule), Need::Bytes(18))
            }
            DownStep::ColumnType(rule) => {
                let at = |from: usize| [shown[from], shown[from + 1], shown[from + 2], shown[from + 3]];
                let column =
                    Column { rule, kind: u32::from_be_bytes(at(6)), binary: shown[16..18] == [0, 1] };
                Rc::make_mut(&mut self.columns).push(column);
                self.next -= 1;
                return Ok(self.described(prepared));
            }
            DownStep::Row(known) => {
                let count = number(shown);
                if known && count != self.columns.len() && self.by_name {
                    return Err("a row has other columns than were described");
                }
                if !known || count != self.columns.len() {
                    self.columns = Rc::new(vec![Column::UNKNOWN; count]);
                }
                return Ok(self.value());
            }
            DownStep::Length => {
                let Some(length) = length(shown) else {
                    self.next += 1;
                    return Ok(self.value());
                };
                (DownStep::Value, self.nested.begin(self.columns[self.next], length))
            }
            DownStep::Value => match self.nested.next(shown, left)? {
                Some(need) => (DownStep::Value, need),
                None => {
                    self.next += 1;
                    return Ok(self.value());
                }
            },
            // Clients read numbers in it.
            DownStep::Setting if shown == b"server_version" => (DownStep::Rest, Need::Rest),
            DownStep::Setting => (DownStep::Rest, Need::Text(text(Shape::Text))),
            DownStep::FieldType => match shown[0] {
                0 => (DownStep::Rest, Need::Rest),
                // Severities and codes.
                b'S' | b'V' | b'C' => (DownStep::FieldEnd, Need::Name),
                _ => (DownStep::Field, Need::Text(text(Shape::Text))),
            },
            DownStep::Field => (DownStep::FieldEnd, Need::Bytes(1)),
            DownStep::FieldEnd => (DownStep::FieldType, Need::Bytes(1)),
            DownStep::Process => (DownStep::Channel, Need::Text(text(Shape::Text))),
            DownStep::Channel => (DownStep::Payload, Need::Bytes(1)),
            DownStep::Payload => (DownStep::Rest, Need::Text(text(Shape::Text))),
            DownStep::Copy => {
                let binary = shown[0] != 0;
                let up = prepared.is_copying();
                if binary && (if up { self.up } else { self.rules.is_some() }) {
                    return Err("the data of a COPY is binary, which cannot be masked");
                }
                (DownStep::Rest, Need::Rest)
            }
            DownStep::Result => {
                (DownStep::Rest, Need::Value(length(shown).unwrap_or(0).min(left), text(Shape::Words)))
            }
        };
        self.step = step;
        Ok(need)
    }
}

impl Down {
    /// The next column that is described, or the end of the description.
    fn described(&mut self, prepared: &mut Prepared) -> Need {
        let (step, need) = match self.next {
            0 => {
                prepared.described(std::mem::take(&mut self.columns));
                (DownStep::Rest, Need::Rest)
            }
            _ => (DownStep::ColumnName, Need::Name),
        };
        self.step = step;
        need
    }

    /// The next value's length, or the end of the row.
    fn value(&mut self) -> Need {
        let (step, need) = match self.next < self.columns.len() {
            true => (DownStep::Length, Need::Bytes(4)),
            false => (DownStep::Rest, Need::Rest),
        };
        self.step = step;
        need
    }
}

/// A number of 16 bits.
fn number(shown: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([shown[0], shown[1]]))
}

fn formats(shown: &[u8]) -> Vec<u16> {
    shown.chunks_exact(2).map(|format| u16::from_be_bytes([format[0], format[1]])).collect()
}

/// A value's length; `None`: it is NULL.
fn length(shown: &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes([shown[0], shown[1], shown[2], shown[3]])).ok()
}

#[cfg(test)]
mod tests;
