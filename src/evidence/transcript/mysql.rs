//! MySQL behind its login: commands with their texts, results with their rows.

use super::body::value;
use super::mysql_values::{binary, number, string};
use super::{Decoder, Item, Limits, TranscriptFault};
use crate::recording::format::frame::Plane;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};

const HEAD: usize = 4;
/// A packet of this length goes on in the next.
const MAX_PAYLOAD: usize = 0xff_ffff;
/// Bytes of a payload over several packets.
const MAX_LONG: usize = 256 << 20;
/// Prepared statements that are remembered.
const MAX_PREPARED: usize = 4096;

const MORE_RESULTS: u16 = 8;

/// One connection.
pub(super) struct Mysql {
    limits: Limits,
    directions: [Direction; 2],
    awaited: VecDeque<Command>,
    reply: Reply,
    prepared: HashMap<u32, Prepared>,
    statements: u64,
}

#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    /// Payload of the packets before, which was full.
    long: Vec<u8>,
}

#[derive(Clone, Default)]
struct Prepared {
    text: String,
    parameters: u16,
    types: Vec<(u8, bool)>,
}

/// A command that is answered.
struct Command {
    code: u8,
    number: u64,
    text: String,
}

#[derive(Default)]
enum Reply {
    /// The first packet of a reply.
    #[default]
    First,
    /// Definitions: of so many columns.
    Columns(u64, ResultSet),
    /// What may be an EOF packet, then rows.
    Rows(ResultSet),
    /// Definitions behind a prepared statement, each group perhaps with an EOF packet.
    Definitions(u64),
}

#[derive(Default)]
struct ResultSet {
    time: u64,
    number: u64,
    is_binary: bool,
    columns: Vec<Column>,
    rows: Vec<Value>,
    count: u64,
    has_begun: bool,
}

struct Column {
    name: String,
    kind: u8,
    is_unsigned: bool,
}

impl Mysql {
    pub(super) fn new(limits: Limits) -> Self {
        Mysql {
            limits,
            directions: Default::default(),
            awaited: VecDeque::new(),
            reply: Reply::First,
            prepared: HashMap::new(),
            statements: 0,
        }
    }

    fn up(&mut self, time: u64, sequence: u8, payload: &[u8], items: &mut Vec<Item>) {
        let Some((code, body)) = payload.split_first() else { return };
        // What the server asked for within a reply: the content of a file, a password.
        if sequence != 0 {
            let item = Item::new(time, Some(Plane::Up), "data").with("bytes", payload.len());
            return items.push(item);
        }
        self.statements += 1;
        let item = Item::new(time, Some(Plane::Up), "statement").with("number", self.statements);
        let (name, mut text) = (command_name(*code), String::new());
        let item = item.with("command", name);
        let id = body.first_chunk().map_or(0, |id| u32::from_le_bytes(*id));
        let item = match code {
            0x03 | 0x16 => {
                text = String::from_utf8_lossy(&body[..body.len().min(self.limits.body)]).into_owned();
                let item = item.with("text", text.clone());
                if body.len() > self.limits.body { item.with("text_cut", true) } else { item }
            }
            0x02 => item.with("text", String::from_utf8_lossy(body)),
            0x17 => {
                let prepared = self.prepared.entry(id).or_default();
                let parameters = prepared.parameters(body);
                let mut item = item.with("text", prepared.text.clone());
                if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
                    item = item.with("parameters", parameters);
                }
                item
            }
            0x18 | 0x19 | 0x1a | 0x1c => item.with("statement", id),
            _ if body.is_empty() => item,
            _ => item.with("body", value(&body[..body.len().min(self.limits.body)])),
        };
        items.push(item);
        if *code == 0x19 {
            self.prepared.remove(&id);
        }
        // These have no answer: QUIT, STMT_SEND_LONG_DATA, STMT_CLOSE.
        if !matches!(code, 0x01 | 0x18 | 0x19) {
            self.awaited.push_back(Command { code: *code, number: self.statements, text });
        }
    }

    fn down(&mut self, time: u64, payload: &[u8], items: &mut Vec<Item>) -> Result<(), TranscriptFault> {
        const CUT: TranscriptFault = TranscriptFault("a packet of MySQL that is shorter than it says");
        let is_eof = payload.len() == 5 && payload[0] == 0xfe;
        match std::mem::take(&mut self.reply) {
            Reply::First => self.first(time, payload, items).ok_or(CUT)?,
            Reply::Columns(left, mut set) => {
                set.columns.push(Column::parse(payload).ok_or(CUT)?);
                self.reply = if left > 1 { Reply::Columns(left - 1, set) } else { Reply::Rows(set) };
            }
            Reply::Rows(mut set) => {
                let is_end = payload.first() == Some(&0xfe) && payload.len() < MAX_PAYLOAD;
                if is_eof && !set.has_begun && set.count == 0 && !set.columns.is_empty() {
                    set.has_begun = true;
                    self.reply = Reply::Rows(set);
                } else if payload.first() == Some(&0xff) {
                    items.push(set.finish());
                    self.error(time, payload, items);
                } else if is_eof {
                    let status = u16::from_le_bytes([payload[3], payload[4]]);
                    items.push(set.finish());
                    self.end_reply(status);
                } else if is_end {
                    let status = ok_status(&payload[1..]).ok_or(CUT)?.2;
                    items.push(set.finish());
                    self.end_reply(status);
                } else {
                    set.has_begun = true;
                    let row = set.row(payload).ok_or(CUT)?;
                    set.count += 1;
                    if set.rows.len() < self.limits.rows && !set.columns.is_empty() {
                        set.rows.push(row);
                    }
                    self.reply = Reply::Rows(set);
                }
            }
            Reply::Definitions(left) => match (is_eof, left) {
                (true, 0) => {}
                (true, left) => self.reply = Reply::Definitions(left),
                (false, 1..) => self.reply = Reply::Definitions(left - 1),
                // No EOF packet came: this is the reply to what was asked next.
                (false, 0) => self.first(time, payload, items).ok_or(CUT)?,
            },
        }
        Ok(())
    }

    /// The first packet of a reply.
    fn first(&mut self, time: u64, payload: &[u8], items: &mut Vec<Item>) -> Option<()> {
        let command = self.awaited.front();
        let (code, number) = command.map_or((0x03, 0), |command| (command.code, command.number));
        let item = Item::new(time, Some(Plane::Down), "result").with("number", number);
        match (payload.first()?, code) {
            (0xff, _) => self.error(time, payload, items),
            (0, 0x16) => {
                let (id, rest) = payload[1..].split_first_chunk::<4>()?;
                let [c0, c1, p0, p1, ..] = *rest else { return None };
                let (columns, parameters) = (u16::from_le_bytes([c0, c1]), u16::from_le_bytes([p0, p1]));
                let id = u32::from_le_bytes(*id);
                let text = self.awaited.pop_front().map(|command| command.text).unwrap_or_default();
                if self.prepared.len() < MAX_PREPARED {
                    self.prepared.insert(id, Prepared { text, parameters, types: Vec::new() });
                }
                items
                    .push(item.with("statement", id).with("parameters", parameters).with("columns", columns));
                let definitions = u64::from(columns) + u64::from(parameters);
                if definitions > 0 {
                    self.reply = Reply::Definitions(definitions);
                }
            }
            // STMT_FETCH and FIELD_LIST begin with what they give.
            (first, 0x1c | 0x04) if *first != 0xfe => {
                let set = ResultSet { time, number, has_begun: true, ..ResultSet::default() };
                self.reply = Reply::Rows(ResultSet { count: 1, ..set });
            }
            // A text, not a packet of a known form.
            (_, 0x09) => {
                items.push(item.with("text", String::from_utf8_lossy(payload)));
                self.awaited.pop_front();
            }
            (0 | 0xfe, _) if payload.len() >= 7 || payload[0] == 0 => {
                let (affected, last, status) = ok_status(&payload[1..])?;
                let mut item = item.with("affected_rows", affected);
                if last > 0 {
                    item = item.with("last_insert_id", last);
                }
                items.push(item);
                self.end_reply(status);
            }
            (0xfe, _) => {
                items.push(item);
                self.awaited.pop_front();
            }
            (0xfb, 0x03) => {
                let name = String::from_utf8_lossy(&payload[1..]).into_owned();
                items.push(Item::new(time, Some(Plane::Down), "local_file").with("name", name));
            }
            _ => {
                let mut rest = payload;
                let columns = super::mysql_values::number(&mut rest)??;
                let set = ResultSet { time, number, is_binary: code == 0x17, ..ResultSet::default() };
                self.reply = Reply::Columns(columns, set);
            }
        }
        Some(())
    }

    fn end_reply(&mut self, status: u16) {
        if status & MORE_RESULTS == 0 {
            self.awaited.pop_front();
        }
    }

    fn error(&mut self, time: u64, payload: &[u8], items: &mut Vec<Item>) {
        let number = self.awaited.pop_front().map_or(0, |command| command.number);
        let item = Item::new(time, Some(Plane::Down), "error").with("number", number);
        let code =
            payload.get(1..3).and_then(|b| b.first_chunk()).map_or(0, |code| u16::from_le_bytes(*code));
        let rest = payload.get(3..).unwrap_or_default();
        let (state, message) = match rest.split_first_chunk::<6>() {
            Some(([b'#', state @ ..], message)) => (&state[..], message),
            _ => (&b""[..], rest),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        items.push(
            item.with("fields", json!({ "code": code, "sqlstate": text(state), "message": text(message) })),
        );
    }
}

impl Decoder for Mysql {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let direction = &mut self.directions[plane.index()];
        let (mut buffer, mut long) =
            (std::mem::take(&mut direction.buffer), std::mem::take(&mut direction.long));
        buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(([l0, l1, l2, sequence], rest)) = buffer[at..].split_first_chunk::<HEAD>() {
            let length = u32::from_le_bytes([*l0, *l1, *l2, 0]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            at += HEAD + length;
            if long.len() + length > MAX_LONG {
                return Err(TranscriptFault("a packet of more than 256 MiB"));
            }
            if length == MAX_PAYLOAD {
                long.extend_from_slice(payload);
                continue;
            }
            // The number of a command that goes on over packets is that of its last.
            let whole = if long.is_empty() { payload } else { &[&long, payload].concat()[..] };
            match plane {
                Plane::Up if !long.is_empty() => self.up(time, 0, whole, items),
                Plane::Up => self.up(time, *sequence, whole, items),
                Plane::Down => self.down(time, whole, items)?,
            }
            long.clear();
        }
        let direction = &mut self.directions[plane.index()];
        (direction.buffer, direction.long) = (buffer[at..].to_vec(), long);
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        if let Reply::Rows(set) = std::mem::take(&mut self.reply) {
            items.push(set.finish().with("incomplete", true));
        }
    }
}

impl Prepared {
    /// Parameters of an execution: a map of NULLs, types where they are sent anew, values.
    fn parameters(&mut self, body: &[u8]) -> Option<Vec<Value>> {
        let count = usize::from(self.parameters);
        let rest = body.get(9..)?;
        if count == 0 {
            return Some(Vec::new());
        }
        let (nulls, rest) = rest.split_at_checked(count.div_ceil(8))?;
        let (is_new, mut rest) = rest.split_first()?;
        if *is_new == 1 {
            let (types, values) = rest.split_at_checked(count * 2)?;
            rest = values;
            self.types = types.chunks_exact(2).map(|pair| (pair[0], pair[1] & 0x80 != 0)).collect();
        }
        let mut parameters = Vec::new();
        for at in 0..count {
            let (kind, is_unsigned) = self.types.get(at).copied()?;
            parameters.push(match nulls[at / 8] >> (at % 8) & 1 {
                1 => Value::Null,
                _ => binary(&mut rest, kind, is_unsigned)?,
            });
        }
        Some(parameters)
    }
}

impl Column {
    fn parse(mut payload: &[u8]) -> Option<Self> {
        // Catalogue, schema, table, original table; then the name, the original name, fixed fields.
        for _ in 0..4 {
            string(&mut payload)?;
        }
        let name = String::from_utf8_lossy(string(&mut payload)??).into_owned();
        string(&mut payload)?;
        let _length = number(&mut payload)?;
        let [_, _, _, _, _, _, kind, f0, f1, ..] = *payload else { return None };
        Some(Column { name, kind, is_unsigned: u16::from_le_bytes([f0, f1]) & 0x20 != 0 })
    }
}

impl ResultSet {
    fn row(&self, mut payload: &[u8]) -> Option<Value> {
        let mut row = Vec::new();
        if !self.is_binary {
            for _ in &self.columns {
                row.push(string(&mut payload)?.map_or(Value::Null, value));
            }
            return Some(row.into());
        }
        let (nulls, mut rest) = payload.get(1..)?.split_at_checked((self.columns.len() + 9) / 8)?;
        for (at, column) in self.columns.iter().enumerate() {
            let bit = at + 2;
            row.push(match nulls[bit / 8] >> (bit % 8) & 1 {
                1 => Value::Null,
                _ => binary(&mut rest, column.kind, column.is_unsigned)?,
            });
        }
        Some(row.into())
    }

    fn finish(self) -> Item {
        let names: Vec<Value> = self.columns.iter().map(|column| column.name.as_str().into()).collect();
        let mut item = Item::new(self.time, Some(Plane::Down), "result").with("number", self.number);
        item = item.with("columns", names).with("row_count", self.count);
        if self.count > self.rows.len() as u64 {
            item = item.with("rows_cut", true);
        }
        item.with("rows", self.rows)
    }
}

/// Affected rows, the last inserted id and the status flags of an OK packet behind its first byte.
fn ok_status(mut body: &[u8]) -> Option<(u64, u64, u16)> {
    let (affected, last) = (number(&mut body)??, number(&mut body)??);
    let status = body.first_chunk().map_or(0, |status| u16::from_le_bytes(*status));
    Some((affected, last, status))
}

fn command_name(code: u8) -> String {
    let name = match code {
        0x01 => "quit",
        0x02 => "use",
        0x03 => "query",
        0x04 => "field list",
        0x09 => "statistics",
        0x0a => "process list",
        0x0c => "kill",
        0x0e => "ping",
        0x11 => "change user",
        0x16 => "prepare",
        0x17 => "execute",
        0x18 => "long data",
        0x19 => "close statement",
        0x1a => "reset statement",
        0x1b => "set option",
        0x1c => "fetch",
        0x1f => "reset connection",
        0xfa => "bulk execute",
        _ => return format!("command {code:#04x}"),
    };
    name.to_owned()
}
