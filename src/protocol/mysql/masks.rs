//! Values in MySQL's packets, shown to masks: rows, errors, statements, files.
//!
//! ```text
//!   text row    length, value | 0xfb (NULL) | …
//!   binary row  0x00 | which are NULL | value | …: of a fixed size, behind one byte of length, or behind a length
//! ```

use super::Reader;
use super::command;
use super::prepared::Prepared;
use super::replies::Role;
use crate::mask::{Coding, Rules, Shape, Value};
use crate::protocol::Edit;
use crate::protocol::masked::Masking;
use crate::protocol::values::{Heads, Layout, Need, Walk, Walks, text};
use std::sync::Arc;

/// Both directions of a session under masks.
pub type Masks = Walks<Up, Down, Shared>;

impl Masks {
    /// With these rules.
    pub fn new(masking: Masking) -> Self {
        let follows = masking.up.is_some();
        let [up, down] = masking.streams();
        let layout = Down {
            rules: masking.down,
            columns: Vec::new(),
            nulls: Vec::new(),
            next: 0,
            length: 0,
            step: DownStep::Rest,
        };
        Walks {
            up: Walk::new(Up::new(), up, Heads::Mysql),
            down: Walk::new(layout, down, Heads::Mysql),
            context: Shared { prepared: Prepared::default(), is_command: false, role: Role::Other, follows },
        }
    }

    /// Lets the next `n` bytes go up, of one packet. `is_command`: it is one, where it begins here.
    pub fn pass_up(
        &mut self,
        edit: &mut Edit<'_>,
        n: usize,
        is_command: bool,
        copy: Option<&mut Vec<u8>>,
    ) -> Result<(), &'static str> {
        self.context.is_command = is_command;
        self.up.pass(&mut self.context, edit, n, copy)
    }

    /// Lets the next `n` bytes go down, of one packet. `role`: what it is, where it begins here.
    pub fn pass_down(&mut self, edit: &mut Edit<'_>, n: usize, role: Role) -> Result<(), &'static str> {
        self.context.role = role;
        self.down.pass(&mut self.context, edit, n, None)
    }
}

/// State shared by both directions.
pub struct Shared {
    prepared: Prepared,
    /// The packet that goes up is a command, where it begins.
    is_command: bool,
    /// What the packet is that comes down, where it begins.
    role: Role,
    /// What goes up is looked at.
    follows: bool,
}

/// What the client sends.
pub struct Up {
    step: UpStep,
    /// The statement that is executed, or whose long data come.
    statement: u32,
    /// The parameter whose long data are coming.
    long: Option<(u32, u16)>,
    nulls: Vec<u8>,
    types: Vec<u8>,
    next: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpStep {
    Rest,
    Command,
    /// This command, behind long data that are over.
    Behind(u8),
    Execute,
    Nulls,
    NewTypes,
    Types,
    Length,
    DateLength,
    Parameter,
    LongData,
    LongDataBehind(u16),
    Reset,
    Close,
}

impl Layout for Up {
    type Context = Shared;

    fn begin(&mut self, shared: &mut Shared, head: &[u8]) -> Result<Need, &'static str> {
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let (step, need) = match (shared.is_command, length) {
            // Where nothing of it is masked, what was prepared is not known.
            _ if !shared.follows => (UpStep::Rest, Need::Rest),
            (true, 0) => (UpStep::Rest, Need::Rest),
            (true, _) => (UpStep::Command, Need::Bytes(1)),
            // A file comes in packets of any size, and an empty one behind them.
            (false, 0) => (UpStep::Rest, Need::PartsEnd),
            (false, _) => (UpStep::Rest, Need::PartToEnd(text(Shape::Words))),
        };
        self.step = step;
        Ok(need)
    }

    fn next(&mut self, shared: &mut Shared, shown: &[u8], _: usize) -> Result<Need, &'static str> {
        let prepared = &mut shared.prepared;
        let (step, need) = match self.step {
            UpStep::Rest => (UpStep::Rest, Need::Rest),
            UpStep::Command if self.long.is_some() && shown[0] != command::STMT_SEND_LONG_DATA => {
                self.long = None;
                (UpStep::Behind(shown[0]), Need::PartsEnd)
            }
            UpStep::Command => self.command(shown[0], prepared)?,
            UpStep::Behind(command) => self.command(command, prepared)?,
            UpStep::Execute => {
                self.statement = prepared.id(number(shown))?;
                match prepared.statement(self.statement)?.parameters {
                    0 => (UpStep::Rest, Need::Rest),
                    parameters => (UpStep::Nulls, Need::Bytes(parameters.div_ceil(8))),
                }
            }
            UpStep::Nulls => {
                self.nulls = shown.to_vec();
                (UpStep::NewTypes, Need::Bytes(1))
            }
            UpStep::NewTypes if shown[0] != 0 => {
                (UpStep::Types, Need::Bytes(2 * prepared.statement(self.statement)?.parameters))
            }
            UpStep::NewTypes => return self.first_parameter(prepared),
            UpStep::Types => {
                prepared.statement(self.statement)?.types = shown.iter().step_by(2).copied().collect();
                return self.first_parameter(prepared);
            }
            UpStep::Length => (UpStep::Parameter, Need::Value(parameter_length(shown)?, text(Shape::Words))),
            UpStep::DateLength => (UpStep::Parameter, Need::Pass(parameter_length(shown)?)),
            UpStep::Parameter => {
                self.next += 1;
                return self.parameter(prepared);
            }
            UpStep::LongData => {
                self.statement = prepared.id(number(shown))?;
                let parameter = u16::from_le_bytes([shown[4], shown[5]]);
                let this = Some((self.statement, parameter));
                match std::mem::replace(&mut self.long, this) {
                    long if long == this => (UpStep::Rest, Need::PartToEnd(text(Shape::Words))),
                    None => self.begin_long(parameter, prepared)?,
                    Some(_) => (UpStep::LongDataBehind(parameter), Need::PartsEnd),
                }
            }
            UpStep::LongDataBehind(parameter) => self.begin_long(parameter, prepared)?,
            UpStep::Reset => {
                // What it does not know it refuses.
                prepared.id(number(shown)).into_iter().for_each(|id| prepared.reset(id));
                (UpStep::Rest, Need::Rest)
            }
            UpStep::Close => {
                prepared.id(number(shown)).into_iter().for_each(|id| prepared.close(id));
                (UpStep::Rest, Need::Rest)
            }
        };
        self.step = step;
        Ok(need)
    }
}

impl Up {
    fn new() -> Self {
        let (nulls, types) = (Vec::new(), Vec::new());
        Up { step: UpStep::Rest, statement: 0, long: None, nulls, types, next: 0 }
    }

    fn command(&self, command: u8, prepared: &mut Prepared) -> Result<(UpStep, Need), &'static str> {
        Ok(match command {
            command::QUERY => (UpStep::Rest, Need::ToEnd(text(Shape::Words))),
            command::STMT_PREPARE => {
                prepared.ask();
                (UpStep::Rest, Need::ToEnd(text(Shape::Words)))
            }
            // The statement, flags, a count.
            command::STMT_EXECUTE => (UpStep::Execute, Need::Bytes(4 + 1 + 4)),
            command::STMT_SEND_LONG_DATA => (UpStep::LongData, Need::Bytes(4 + 2)),
            command::STMT_RESET => (UpStep::Reset, Need::Bytes(4)),
            command::STMT_CLOSE => (UpStep::Close, Need::Bytes(4)),
            command::STMT_BULK_EXECUTE => return Err("parameters of a bulk execution cannot be masked"),
            command::RESET_CONNECTION => {
                prepared.clear();
                (UpStep::Rest, Need::Rest)
            }
            _ => (UpStep::Rest, Need::Rest),
        })
    }

    /// The first long data of a parameter.
    fn begin_long(&self, parameter: u16, prepared: &mut Prepared) -> Result<(UpStep, Need), &'static str> {
        match prepared.statement(self.statement)?.long.insert(parameter) {
            true => Ok((UpStep::Rest, Need::PartToEnd(text(Shape::Words)))),
            // Its value was taken for whole.
            false => Err("long data of several parameters by turns"),
        }
    }

    fn first_parameter(&mut self, prepared: &mut Prepared) -> Result<Need, &'static str> {
        let statement = prepared.statement(self.statement)?;
        if statement.types.len() != statement.parameters {
            return Err("a statement is executed whose parameters have no types");
        }
        self.types.clone_from(&statement.types);
        self.next = 0;
        self.parameter(prepared)
    }

    /// The next parameter that stands in the packet.
    fn parameter(&mut self, prepared: &mut Prepared) -> Result<Need, &'static str> {
        let statement = prepared.statement(self.statement)?;
        let stands = |at: &usize| {
            let is_null = self.nulls[at / 8] >> (at % 8) & 1 == 1;
            !is_null && !u16::try_from(*at).is_ok_and(|at| statement.long.contains(&at))
        };
        let Some(next) = (self.next..self.types.len()).find(stands) else {
            statement.long.clear();
            self.step = UpStep::Rest;
            return Ok(Need::Rest);
        };
        self.next = next;
        let (step, need) = match self.types[next] {
            kind::TINY => (UpStep::Parameter, Need::Pass(1)),
            kind::SHORT | kind::YEAR => (UpStep::Parameter, Need::Pass(2)),
            kind::LONG | kind::INT24 | kind::FLOAT => (UpStep::Parameter, Need::Pass(4)),
            kind::LONGLONG => (UpStep::Parameter, Need::Value(8, text(Shape::Coded(Coding::LittleEndian)))),
            kind::DOUBLE => {
                (UpStep::Parameter, Need::Value(8, text(Shape::Coded(Coding::DoubleLittleEndian))))
            }
            kind::DATE | kind::TIME | kind::DATETIME | kind::TIMESTAMP => (UpStep::DateLength, Need::Counted),
            kind::DECIMAL | kind::VARCHAR | kind::BIT | kind::JSON..=kind::GEOMETRY => {
                (UpStep::Length, Need::Counted)
            }
            // Servers do not agree on how long one is.
            _ => return Err("a parameter of a type that is not known"),
        };
        self.step = step;
        Ok(need)
    }
}

fn number(shown: &[u8]) -> u32 {
    u32::from_le_bytes([shown[0], shown[1], shown[2], shown[3]])
}

/// The length of a parameter. Servers read four bytes of eight, and what no client writes as something else.
fn parameter_length(shown: &[u8]) -> Result<usize, &'static str> {
    match shown {
        [0xfb | 0xff, ..] => Err("a parameter's length is malformed"),
        [0xfe, _, _, _, _, more @ ..] if more != [0; 4] => Err("a parameter that is too long"),
        shown => length(shown).ok_or("a parameter's length is malformed"),
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
pub struct Down {
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
    /// The first byte of the answer to COM_STMT_PREPARE.
    Prepared,
    PreparedOk,
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
    type Context = Shared;

    fn begin(&mut self, shared: &mut Shared, head: &[u8]) -> Result<Need, &'static str> {
        self.length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let (step, need) = match shared.role {
            // Where only what goes up is masked, the answers to COM_STMT_PREPARE count still.
            Role::Prepared if shared.follows && self.length > 0 => (DownStep::Prepared, Need::Bytes(1)),
            _ if self.rules.is_none() || self.length == 0 => (DownStep::Rest, Need::Rest),
            Role::Result => (DownStep::First { result: true }, Need::Bytes(1)),
            Role::Other | Role::Prepared => (DownStep::First { result: false }, Need::Bytes(1)),
            Role::Column => (DownStep::Column, Need::Bytes(self.length)),
            Role::Row { binary } => (DownStep::Row { binary }, Need::Bytes(1)),
            Role::Fetched => return Err("rows of a cursor that is fetched from cannot be masked"),
            Role::Replication => return Err("a replication stream cannot be masked"),
        };
        self.step = step;
        Ok(need)
    }

    fn next(&mut self, shared: &mut Shared, shown: &[u8], _: usize) -> Result<Need, &'static str> {
        let (step, need) = match self.step {
            DownStep::Rest => (DownStep::Rest, Need::Rest),
            DownStep::Prepared if shown[0] == 0 => (DownStep::PreparedOk, Need::Bytes(4 + 2 + 2)),
            DownStep::PreparedOk => {
                let parameters = u16::from_le_bytes([shown[6], shown[7]]);
                shared.prepared.answer(Some((number(shown), parameters)));
                (DownStep::Rest, Need::Rest)
            }
            DownStep::Prepared => {
                shared.prepared.answer(None);
                match shown[0] {
                    0xff => (DownStep::ErrorCode, Need::Bytes(self.length.min(3) - 1)),
                    _ => (DownStep::Rest, Need::Rest),
                }
            }
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
                let (column, character_set) =
                    self.column(shown).ok_or("a column's description is malformed")?;
                if !is_ascii_in(character_set) {
                    return Err("rows are in a character set in which ASCII is not ASCII");
                }
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
    fn column(&self, description: &[u8]) -> Option<(Column, u16)> {
        let mut reader = Reader(description);
        let (_catalog, _schema, _table, _table_itself) =
            (reader.counted()?, reader.counted()?, reader.counted()?, reader.counted()?);
        let (name, itself) = (reader.counted()?, reader.counted()?);
        // How long the rest is.
        reader.take(1)?;
        let character_set = reader.take(2).map(|set| u16::from_le_bytes([set[0], set[1]]))?;
        // How long a value is at most.
        reader.take(4)?;
        let kind = reader.byte()?;
        let rules = self.rules.as_ref()?;
        Some((Column { rule: rules.column(name).or_else(|| rules.column(itself)), kind }, character_set))
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

/// False for the collations of ucs2, utf16, utf16le and utf32, of MySQL and MariaDB: there, an unpadded one is 1024 further, and
/// those of UCA 14 have blocks of 256 for each character set.
fn is_ascii_in(collation: u16) -> bool {
    match collation {
        2560..3328 => false,
        2048.. => true,
        _ => !matches!(collation % 1024, 35 | 54..=56 | 60..=62 | 90 | 101..=124 | 128..=151 | 159..=183),
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
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    #[cfg(test)]
    pub(super) const BLOB: u8 = 252;
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
        | kind::DOUBLE => match (binary, column.kind, whole) {
            (true, kind::DOUBLE, None) => (Shape::Coded(Coding::DoubleLittleEndian), true),
            (true, kind::LONGLONG | kind::LONG, None) => (Shape::Coded(Coding::LittleEndian), true),
            (true, ..) => (Shape::Binary, false),
            (false, ..) => (Shape::Number, true),
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
