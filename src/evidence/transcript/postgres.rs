//! PostgreSQL behind its login: statements with their parameters, results with their rows.

use super::body::{Body, value};
use super::postgres_values::shown;
use super::{Decoder, Item, Limits, TranscriptFault};
use crate::recording::format::frame::Plane;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Bytes of a message that is read whole.
const MAX_MESSAGE: usize = 256 << 20;
/// Prepared statements and portals that are remembered.
const MAX_NAMES: usize = 4096;

/// One connection.
pub(super) struct Postgres {
    limits: Limits,
    buffers: [Vec<u8>; 2],
    prepared: HashMap<Vec<u8>, Prepared>,
    portals: HashMap<Vec<u8>, Rc<Portal>>,
    /// Pending requests.
    awaited: VecDeque<Awaited>,
    columns: Columns,
    result: Option<ResultSet>,
    copy: Option<(Plane, u64, Body)>,
    statements: u64,
}

type Columns = Rc<Vec<Column>>;

struct Column {
    name: String,
    oid: u32,
    format: u16,
}

#[derive(Clone, Default)]
struct Prepared {
    text: Rc<str>,
    columns: Columns,
    parameter_types: Vec<u32>,
}

#[derive(Default)]
struct Portal {
    statement: Vec<u8>,
    parameters: Vec<Value>,
    formats: Vec<u16>,
}

/// A message that is answered.
enum Awaited {
    Query(u64),
    Execute(u64, Rc<Portal>),
    DescribeStatement(Vec<u8>),
    DescribePortal,
    Sync,
    Other,
}

struct ResultSet {
    time: u64,
    number: u64,
    columns: Columns,
    rows: Vec<Value>,
    count: u64,
}

impl Postgres {
    pub(super) fn new(limits: Limits) -> Self {
        Postgres {
            limits,
            buffers: Default::default(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            awaited: VecDeque::new(),
            columns: Columns::default(),
            result: None,
            copy: None,
            statements: 0,
        }
    }

    fn statement(&mut self, time: u64, text: &str) -> Item {
        self.statements += 1;
        Item::new(time, Some(Plane::Up), "statement").with("number", self.statements).with("text", text)
    }

    fn up(&mut self, time: u64, tag: u8, mut body: &[u8], items: &mut Vec<Item>) -> Option<()> {
        match tag {
            b'Q' => {
                let text = string(&mut body)?;
                let item = self.statement(time, &text);
                items.push(item);
                self.awaited.push_back(Awaited::Query(self.statements));
            }
            b'P' => {
                let (name, text) = (bytes(&mut body)?, string(&mut body)?);
                let types = (0..u16_of(&mut body)?).map_while(|_| u32_of(&mut body)).collect();
                if self.prepared.len() < MAX_NAMES || name.is_empty() {
                    let prepared =
                        Prepared { text: text.into(), parameter_types: types, ..Prepared::default() };
                    self.prepared.insert(name, prepared);
                }
                self.awaited.push_back(Awaited::Other);
            }
            b'B' => {
                let (portal, statement) = (bytes(&mut body)?, bytes(&mut body)?);
                let formats = formats(&mut body)?;
                let types = self.prepared.get(&statement).map_or(&[][..], |one| &one.parameter_types);
                let mut parameters = Vec::new();
                for at in 0..usize::from(u16_of(&mut body)?) {
                    let format = format_of(&formats, at);
                    let sent = field(&mut body)?;
                    let oid = types.get(at).copied().unwrap_or(0);
                    parameters.push(sent.map_or(Value::Null, |sent| self.value(format, oid, sent)));
                }
                let results = self::formats(&mut body)?;
                if self.portals.len() < MAX_NAMES || portal.is_empty() {
                    self.portals.insert(portal, Rc::new(Portal { statement, parameters, formats: results }));
                }
                self.awaited.push_back(Awaited::Other);
            }
            b'E' => {
                let portal = self.portals.get(&bytes(&mut body)?).cloned().unwrap_or_default();
                let text = self.prepared.get(&portal.statement).map(|prepared| prepared.text.clone());
                let mut item = self.statement(time, &text.unwrap_or_default());
                if !portal.parameters.is_empty() {
                    item = item.with("parameters", portal.parameters.clone());
                }
                if !portal.statement.is_empty() {
                    item = item.with("name", value(&portal.statement));
                }
                items.push(item);
                self.awaited.push_back(Awaited::Execute(self.statements, portal));
            }
            b'D' => {
                let (kind, rest) = body.split_first()?;
                body = rest;
                let name = bytes(&mut body)?;
                self.awaited.push_back(match kind {
                    b'S' => Awaited::DescribeStatement(name),
                    _ => Awaited::DescribePortal,
                });
            }
            b'C' => self.awaited.push_back(Awaited::Other),
            b'S' => self.awaited.push_back(Awaited::Sync),
            b'F' => {
                let function = u32_of(&mut body)?;
                let item = self.statement(time, "").with("function", function);
                items.push(item);
                self.awaited.push_back(Awaited::Query(self.statements));
            }
            b'd' => self.copy_data(time, Plane::Up, body),
            b'c' | b'f' => {
                self.end_copy(items);
                if tag == b'f' {
                    let note = string(&mut body)?;
                    items.push(Item::new(time, Some(Plane::Up), "copy_failed").with("note", note));
                }
            }
            b'X' => items.push(Item::new(time, Some(Plane::Up), "terminate")),
            _ => {}
        }
        Some(())
    }

    fn down(&mut self, time: u64, tag: u8, mut body: &[u8], items: &mut Vec<Item>) -> Option<()> {
        match tag {
            b't' => {
                let types = (0..u16_of(&mut body)?).map_while(|_| u32_of(&mut body)).collect();
                if let Some(Awaited::DescribeStatement(name)) = self.awaited.front()
                    && let Some(prepared) = self.prepared.get_mut(name)
                {
                    prepared.parameter_types = types;
                }
            }
            b'T' => {
                let columns = Rc::new(columns(body)?);
                self.skip_to_rows();
                match self.awaited.front() {
                    Some(Awaited::DescribeStatement(name)) => {
                        if let Some(prepared) = self.prepared.get_mut(name) {
                            prepared.columns = columns.clone();
                        }
                        self.awaited.pop_front();
                    }
                    Some(Awaited::DescribePortal) => drop(self.awaited.pop_front()),
                    _ => {
                        let number = self.number();
                        self.result = Some(ResultSet::new(time, number, columns.clone()));
                    }
                }
                self.columns = columns;
            }
            b'n' => {
                self.skip_to_rows();
                drop(self.awaited.pop_front());
            }
            b'1' | b'2' | b'3' => drop(self.awaited.pop_front()),
            b'D' => self.row(time, body)?,
            b'C' | b'I' | b's' => {
                self.end_copy(items);
                self.skip_to_execution();
                let number = self.number();
                let set =
                    self.result.take().unwrap_or_else(|| ResultSet::new(time, number, Columns::default()));
                let item = set.finish();
                items.push(match tag {
                    b'C' => item.with("tag", string(&mut body)?),
                    b'I' => item.with("tag", "empty query"),
                    _ => item.with("tag", "suspended; more rows can be fetched"),
                });
                if matches!(self.awaited.front(), Some(Awaited::Execute(..))) {
                    self.awaited.pop_front();
                }
            }
            b'V' => {
                self.skip_to_execution();
                let shown = field(&mut body)?.map_or(Value::Null, value);
                let item = Item::new(time, Some(Plane::Down), "result").with("number", self.number());
                items.push(item.with("value", shown));
            }
            b'E' => {
                items.extend(self.result.take().map(ResultSet::finish));
                self.end_copy(items);
                self.skip_to_rows();
                let item = Item::new(time, Some(Plane::Down), "error").with("number", self.number());
                items.push(item.with("fields", notice(body)));
            }
            b'N' => items.push(Item::new(time, Some(Plane::Down), "notice").with("fields", notice(body))),
            b'A' => {
                let (_, channel, payload) = (u32_of(&mut body)?, string(&mut body)?, string(&mut body)?);
                let item = Item::new(time, Some(Plane::Down), "notification");
                items.push(item.with("channel", channel).with("payload", payload));
            }
            b'd' => self.copy_data(time, Plane::Down, body),
            b'c' => self.end_copy(items),
            // What was sent ahead of a Sync that an error made void is over with it.
            b'Z' => loop {
                match self.awaited.pop_front() {
                    None | Some(Awaited::Query(_) | Awaited::Sync) => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
        Some(())
    }

    /// Drops what was answered by messages that do not matter, up to something that describes or gives rows.
    fn skip_to_rows(&mut self) {
        while matches!(self.awaited.front(), Some(Awaited::Other)) {
            self.awaited.pop_front();
        }
    }

    fn skip_to_execution(&mut self) {
        let is_void = |front: &Awaited| {
            matches!(front, Awaited::Other | Awaited::DescribeStatement(_) | Awaited::DescribePortal)
        };
        while self.awaited.front().is_some_and(is_void) {
            self.awaited.pop_front();
        }
    }

    /// The number of the statement that is being answered.
    fn number(&self) -> u64 {
        match self.awaited.front() {
            Some(Awaited::Query(number) | Awaited::Execute(number, _)) => *number,
            _ => 0,
        }
    }

    fn value(&self, format: u16, oid: u32, bytes: &[u8]) -> Value {
        match bytes.len() <= self.limits.body {
            true => shown(format, oid, bytes),
            false => json!({ "bytes": bytes.len(), "cut": value(&bytes[..self.limits.body]) }),
        }
    }

    fn row(&mut self, time: u64, mut body: &[u8]) -> Option<()> {
        self.skip_to_execution();
        let number = self.number();
        let formats = match self.awaited.front() {
            Some(Awaited::Execute(_, portal)) => Some(portal.clone()),
            _ => None,
        };
        if self.result.is_none() {
            let prepared = formats.as_ref().and_then(|portal| self.prepared.get(&portal.statement));
            let known =
                prepared.map(|prepared| prepared.columns.clone()).filter(|columns| !columns.is_empty());
            self.result = Some(ResultSet::new(time, number, known.unwrap_or_else(|| self.columns.clone())));
        }
        let columns = self.result.as_ref()?.columns.clone();
        let mut row = Vec::new();
        for at in 0..usize::from(u16_of(&mut body)?) {
            let column = columns.get(at);
            let format = match &formats {
                Some(portal) => format_of(&portal.formats, at),
                None => column.map_or(0, |column| column.format),
            };
            let sent = field(&mut body)?;
            let oid = column.map_or(0, |column| column.oid);
            row.push(sent.map_or(Value::Null, |sent| self.value(format, oid, sent)));
        }
        let limit = self.limits.rows;
        let result = self.result.as_mut()?;
        result.count += 1;
        if result.rows.len() < limit {
            result.rows.push(row.into());
        }
        Some(())
    }

    fn copy_data(&mut self, time: u64, plane: Plane, data: &[u8]) {
        let limits = self.limits;
        self.copy.get_or_insert_with(|| (plane, time, Body::new(limits))).2.push(data);
    }

    fn end_copy(&mut self, items: &mut Vec<Item>) {
        if let Some((plane, time, body)) = self.copy.take() {
            let item = body.describe(Item::new(time, Some(plane), "copy"), "body");
            items.push(item.with("body", value(body.kept())));
        }
    }
}

impl Decoder for Postgres {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let mut buffer = std::mem::take(&mut self.buffers[plane.index()]);
        buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(([tag, length @ ..], _)) = buffer[at..].split_first_chunk::<5>() {
            let length = u32::from_be_bytes(*length) as usize;
            if !(4..=MAX_MESSAGE).contains(&length) || !tag.is_ascii_alphanumeric() {
                return Err(TranscriptFault("not a message of PostgreSQL"));
            }
            let Some(body) = buffer.get(at + 5..at + 1 + length) else { break };
            let told = match plane {
                Plane::Up => self.up(time, *tag, body, items),
                Plane::Down => self.down(time, *tag, body, items),
            };
            told.ok_or(TranscriptFault("a message of PostgreSQL that is shorter than it says"))?;
            at += 1 + length;
        }
        self.buffers[plane.index()] = buffer[at..].to_vec();
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        items.extend(self.result.take().map(|set| set.finish().with("incomplete", true)));
        self.end_copy(items);
    }
}

impl ResultSet {
    fn new(time: u64, number: u64, columns: Columns) -> Self {
        ResultSet { time, number, columns, rows: Vec::new(), count: 0 }
    }

    fn finish(self) -> Item {
        let mut item = Item::new(self.time, Some(Plane::Down), "result").with("number", self.number);
        if !self.columns.is_empty() {
            let names: Vec<Value> = self.columns.iter().map(|column| column.name.as_str().into()).collect();
            item = item.with("columns", names).with("row_count", self.count);
            if self.count > self.rows.len() as u64 {
                item = item.with("rows_cut", true);
            }
            item = item.with("rows", self.rows);
        }
        item
    }
}

fn columns(mut body: &[u8]) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    for _ in 0..u16_of(&mut body)? {
        let name = string(&mut body)?;
        let (described, rest) = body.split_first_chunk::<18>()?;
        body = rest;
        let [_, _, _, _, _, _, o0, o1, o2, o3, .., f0, f1] = *described;
        let (oid, format) = (u32::from_be_bytes([o0, o1, o2, o3]), u16::from_be_bytes([f0, f1]));
        columns.push(Column { name, oid, format });
    }
    Some(columns)
}

/// The fields of an error or a notice.
fn notice(mut body: &[u8]) -> Value {
    let mut fields = Map::new();
    while let Some((code, rest)) = body.split_first().filter(|(code, _)| **code != 0) {
        body = rest;
        let name = match code {
            b'V' => "severity",
            b'C' => "sqlstate",
            b'M' => "message",
            b'D' => "detail",
            b'H' => "hint",
            b'P' => "position",
            _ => "",
        };
        let Some(text) = string(&mut body) else { break };
        if !name.is_empty() {
            fields.insert(name.into(), text.into());
        }
    }
    fields.into()
}

fn bytes(body: &mut &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(0, body)?;
    let found = body[..end].to_vec();
    *body = &body[end + 1..];
    Some(found)
}

fn string(body: &mut &[u8]) -> Option<String> {
    bytes(body).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn u16_of(body: &mut &[u8]) -> Option<u16> {
    let (number, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u16::from_be_bytes(*number))
}

fn u32_of(body: &mut &[u8]) -> Option<u32> {
    let (number, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u32::from_be_bytes(*number))
}

/// A length and its bytes; the inner `None` for NULL.
fn field<'b>(body: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let Ok(length) = usize::try_from(u32_of(body)?.cast_signed()) else { return Some(None) };
    let (found, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(Some(found))
}

fn formats(body: &mut &[u8]) -> Option<Vec<u16>> {
    (0..u16_of(body)?).map(|_| u16_of(body)).collect()
}

/// One format holds for all; none means text.
fn format_of(formats: &[u16], at: usize) -> u16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(at).copied().unwrap_or(0),
    }
}
