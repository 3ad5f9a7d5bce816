//! Framing of replies, independent of how bytes are split. Rows are not parsed.

use super::command;
use super::packets::Packets;
use super::{MAX_PAYLOAD, Reader, SECTION};
use crate::names::Culprit;
use crate::protocol::Fault;
use std::collections::VecDeque;

/// SERVER_MORE_RESULTS_EXISTS.
const MORE_RESULTS: u16 = 8;
/// SERVER_STATUS_CURSOR_EXISTS.
const CURSOR: u16 = 0x40;
/// The first byte of a request for a file of the client's (`LOAD DATA LOCAL`); elsewhere, a NULL.
const LOCAL_INFILE_REQUEST: u8 = 0xfb;
/// CLIENT_DEPRECATE_EOF.
const DEPRECATE_EOF: u32 = 1 << 24;
/// Commands that a client may send before their answers.
pub const MAX_AHEAD: usize = 4096;

/// The server's direction, and what it still owes.
pub struct Replies {
    packets: Packets,
    /// CLIENT_DEPRECATE_EOF was agreed on.
    deprecate_eof: bool,
    /// CLIENT_LOCAL_FILES was.
    local_files: bool,
    awaited: VecDeque<Place>,
    /// The commands whose answers those are.
    commands: VecDeque<u8>,
    /// There were more commands ahead of their answers than are followed.
    lost: bool,
    /// The client is sending a file.
    pub(super) wants_file: bool,
    /// The number of the last packet, of either direction.
    pub(super) sequence: u8,
    /// What the last packet told, for those who watch.
    pub(super) told: Option<PacketKind>,
}

/// Kind of a reply packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// A row.
    Row,
    /// A result without rows is over; so many were changed.
    Changed(u64),
    /// Rows are over.
    Rows,
    /// An error, and its SQLSTATE.
    Error([u8; 5]),
    /// A statement was prepared under this number.
    Prepared(u32),
    /// Anything else.
    Other,
}

/// Role of a packet that begins, for masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first of a result: an error, or how many columns there are.
    Result,
    /// The first of the answer to COM_STMT_PREPARE: an error, or what the statement consists of.
    Prepared,
    /// It describes a column of the rows that follow.
    Column,
    /// A row, or what is behind the last.
    Row {
        /// Of a prepared statement.
        binary: bool,
    },
    /// A row of a cursor, whose columns were described long ago.
    Fetched,
    /// A server's changes.
    Replication,
    /// Anything else.
    Other,
}

/// Where the answer to a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first packet of a result.
    Result,
    /// Packets that describe columns, and the EOF behind them; then rows if there are to be any.
    Columns { left: u64, rows: bool },
    /// Behind the columns, where EOF packets are sent.
    Eof { rows: bool },
    /// Rows, or columns that end as rows do.
    Rows,
    /// What a prepared statement consists of.
    Prepared,
    /// Parameters, then columns.
    Parameters { left: u64, columns: u64 },
    /// Behind the parameters, where EOF packets are sent.
    ParametersEof { columns: u64 },
    /// One packet, whatever it is.
    One,
    /// There is no end.
    Endless,
}

impl Replies {
    /// With the flags of the login.
    pub fn new(capabilities: u32) -> Self {
        Replies {
            packets: Packets::default(),
            deprecate_eof: capabilities & DEPRECATE_EOF != 0,
            local_files: capabilities & super::capability::LOCAL_FILES != 0,
            awaited: VecDeque::new(),
            commands: VecDeque::new(),
            lost: false,
            wants_file: false,
            sequence: 0,
            told: None,
        }
    }

    /// Commands whose answer is awaited, the one that is being answered among them.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// True when there were more commands ahead of their answers than are followed.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// True between two packets: one of our own may stand here.
    pub fn is_between(&self) -> bool {
        self.packets.is_between() && !self.packets.continued
    }

    /// True when every command was answered.
    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty() && !self.lost && self.is_between()
    }

    /// The number of the packet that may stand here. Servers number what nobody asked for with 0.
    pub fn next_sequence(&self) -> u8 {
        if self.is_idle() { 0 } else { self.sequence.wrapping_add(1) }
    }

    pub(super) fn expect(&mut self, command: u8) {
        let place = match command {
            command::QUIT | command::STMT_CLOSE | command::STMT_SEND_LONG_DATA => return,
            command::QUERY | command::STMT_EXECUTE | command::STMT_BULK_EXECUTE | command::PROCESS_INFO => {
                Place::Result
            }
            command::STMT_PREPARE => Place::Prepared,
            command::STMT_FETCH | command::FIELD_LIST => Place::Rows,
            command::BINLOG_DUMP | command::BINLOG_DUMP_GTID => Place::Endless,
            command::STATISTICS => Place::One,
            _ => Place::One,
        };
        match self.awaited.len() {
            // Once one was not queued, every answer behind it would be taken for another command's.
            _ if self.lost => {}
            MAX_AHEAD => self.lost = true,
            _ => {
                self.awaited.push_back(place);
                self.commands.push_back(command);
            }
        }
    }

    /// What the packet is that begins here.
    pub fn role(&self) -> Role {
        match (self.awaited.front(), self.commands.front()) {
            (Some(Place::Result), _) => Role::Result,
            (Some(Place::Prepared), _) => Role::Prepared,
            (Some(Place::Columns { rows: true, .. }), _) => Role::Column,
            (Some(Place::Rows), Some(&command::STMT_FETCH)) => Role::Fetched,
            (Some(Place::Rows), Some(&(command::STMT_EXECUTE | command::STMT_BULK_EXECUTE))) => {
                Role::Row { binary: true }
            }
            (Some(Place::Rows), Some(&command::FIELD_LIST)) => Role::Other,
            (Some(Place::Rows), _) => Role::Row { binary: false },
            (Some(Place::Endless), _) => Role::Replication,
            _ => Role::Other,
        }
    }

    /// True when as many commands wait for their answers as are followed: no more is to go up before one is answered.
    pub fn is_full(&self) -> bool {
        self.awaited.len() >= MAX_AHEAD
    }

    /// Goes on to the end of the packet at the front of `data`, or of `data`; returns how many bytes that is. `Err`: before the
    /// payload of what must not pass.
    pub fn step(&mut self, data: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        self.told = None;
        if !self.packets.read_head(data, &mut at) {
            return Ok(at);
        }
        let begins = self.packets.length > 0 && self.packets.told().is_empty() && !self.packets.continued;
        if begins && data.get(at) == Some(&LOCAL_INFILE_REQUEST) {
            self.check_file_request()?;
        }
        if self.packets.read_payload(data, &mut at) {
            self.sequence = self.packets.sequence();
            // A server reads a file to its end before it answers; what comes after an answer is a command again.
            self.wants_file = false;
            let whole = !std::mem::replace(&mut self.packets.continued, self.packets.length == MAX_PAYLOAD);
            if whole {
                self.answer();
            }
        }
        Ok(at)
    }

    /// A packet begins as the request for a file of the client's does.
    fn check_file_request(&self) -> Result<(), Fault> {
        match self.awaited.front() {
            Some(Place::Result) if self.local_files => Ok(()),
            // A client that has asked for nothing would take it for the answer to what it asks for next.
            Some(Place::Result) => {
                Err(upstream("a request for a file of the client's, which was not agreed on"))
            }
            None if !self.lost => {
                Err(upstream("a request for a file of the client's, which nothing asked for"))
            }
            _ => Ok(()),
        }
    }

    /// A packet came; of one that goes on in others, the first.
    fn answer(&mut self) {
        let Some(&place) = self.awaited.front() else { return };
        self.told = Some(self.tell(place));
        let next = self.after(place);
        match next {
            Some(next) => self.awaited[0] = next,
            None => {
                self.awaited.pop_front();
                self.commands.pop_front();
            }
        }
    }

    fn tell(&self, place: Place) -> PacketKind {
        let told = self.packets.told();
        match (place, told.first()) {
            (Place::Endless, _) => PacketKind::Other,
            (_, Some(0xff)) => PacketKind::Error(match told.get(3..9) {
                Some([b'#', sqlstate @ ..]) => sqlstate.try_into().unwrap_or(*b"HY000"),
                _ => *b"HY000",
            }),
            (Place::Result, Some(0x00)) => {
                PacketKind::Changed(Reader(&told[1..]).number().unwrap_or_default())
            }
            (Place::Rows, Some(0xfe)) if self.is_end() => PacketKind::Rows,
            (Place::Rows, _) => PacketKind::Row,
            (Place::Prepared, Some(0x00)) => {
                PacketKind::Prepared(Reader(&told[1..]).u32().unwrap_or_default())
            }
            _ => PacketKind::Other,
        }
    }

    /// True for the packet behind rows. With EOF deprecated an OK packet takes its place, with EOF's first byte.
    fn is_end(&self) -> bool {
        let length = self.packets.length;
        self.packets.told().first() == Some(&0xfe)
            && (length < 9 || (self.deprecate_eof && length < MAX_PAYLOAD))
    }

    /// Where the answer is behind the packet at hand; `None`: at its end.
    fn after(&mut self, place: Place) -> Option<Place> {
        let told = self.packets.told();
        let first = told.first().copied().unwrap_or_default();
        let is_end = self.is_end();
        match place {
            Place::Endless => Some(Place::Endless),
            _ if first == 0xff => None,
            Place::One => None,
            Place::Result => match first {
                0x00 => more(ok_status(told)),
                LOCAL_INFILE_REQUEST if self.local_files => {
                    self.wants_file = true;
                    Some(Place::Result)
                }
                _ if is_end => more(self.end_status()),
                _ => {
                    let left = Reader(told).number().unwrap_or_default();
                    Some(Place::Columns { left, rows: true })
                }
            },
            Place::Columns { left, rows } if left > 1 => Some(Place::Columns { left: left - 1, rows }),
            Place::Columns { rows, .. } if !self.deprecate_eof => Some(Place::Eof { rows }),
            Place::Columns { rows, .. } => rows.then_some(Place::Rows),
            // A cursor stays open, and its rows are fetched by commands of their own.
            Place::Eof { .. } if self.end_status() & CURSOR != 0 => more(self.end_status()),
            Place::Eof { rows } => rows.then_some(Place::Rows),
            Place::Rows if is_end => more(self.end_status()),
            Place::Rows => Some(Place::Rows),
            Place::Prepared => {
                let mut reader = Reader(told);
                reader.take(5)?;
                let (columns, parameters) = (reader.u16()?.into(), reader.u16()?.into());
                match parameters {
                    0 => described(columns),
                    left => Some(Place::Parameters { left, columns }),
                }
            }
            Place::Parameters { left, columns } if left > 1 => {
                Some(Place::Parameters { left: left - 1, columns })
            }
            Place::Parameters { columns, .. } if self.deprecate_eof => described(columns),
            Place::Parameters { columns, .. } => Some(Place::ParametersEof { columns }),
            Place::ParametersEof { columns } => described(columns),
        }
    }

    /// The status of an EOF packet, or of the OK packet in its place.
    fn end_status(&self) -> u16 {
        let told = self.packets.told();
        match self.deprecate_eof {
            true => ok_status(told),
            false => told.get(3..5).map_or(0, |status| u16::from_le_bytes([status[0], status[1]])),
        }
    }
}

fn upstream(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Upstream, rule, section: SECTION }
}

/// Columns of a statement that was only prepared.
fn described(columns: u64) -> Option<Place> {
    (columns > 0).then_some(Place::Columns { left: columns, rows: false })
}

/// Another result follows, or none.
fn more(status: u16) -> Option<Place> {
    (status & MORE_RESULTS != 0).then_some(Place::Result)
}

fn ok_status(told: &[u8]) -> u16 {
    let status = |mut reader: Reader<'_>| {
        reader.byte()?;
        reader.number()?;
        reader.number()?;
        reader.u16()
    };
    status(Reader(told)).unwrap_or_default()
}
