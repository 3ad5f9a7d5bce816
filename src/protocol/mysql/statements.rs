//! Which statements a session runs, and what becomes of each. It only watches: nothing here decides what passes.
//!
//! Numbers of prepared statements are the server's, so a statement that is run is the one that the server runs. Values of
//! parameters are never looked at. Memory is bounded by [`MAX_PREPARED`] and [`MAX_HELD`], and by the commands that
//! [`Replies`] follows; beyond, the lines say what is missing.

use super::command;
use super::replies::PacketKind;
use super::{Commands, Reader, Replies};
use crate::protocol::statement::{Kind, Outcome, Shown, Statement, Text, Watch};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// Prepared statements whose texts are remembered.
pub const MAX_PREPARED: usize = 256;
/// Bytes of texts that are held at once, of prepared statements.
pub const MAX_HELD: usize = 1 << 20;
/// Bytes in front of a statement's values: its number.
const NUMBER: usize = 4;
/// A number that stands for the statement that was prepared last (MariaDB).
const LAST_PREPARED: u32 = u32::MAX;

/// Follows both directions of a session from its first command on.
pub struct Statements {
    limit: usize,
    up: Commands,
    down: Replies,
    /// The command that is being sent: its text, or the bytes in front of its values.
    sending: Option<(u8, Text)>,
    /// Commands that wait for their answer, in order.
    pending: VecDeque<Pending>,
    prepared: HashMap<u32, Text>,
    last: u32,
    held: usize,
    /// A rule was broken: the session ends, and nothing more is followed.
    broken: bool,
}

struct Pending {
    what: What,
    since: Instant,
    rows: Option<u64>,
    results: u64,
    sqlstate: Option<[u8; 5]>,
    prepared: Option<u32>,
}

enum What {
    Query(Text),
    Prepare(Text),
    Execute(u32),
    /// No statement, or one that is not whole yet.
    Other,
}

impl Statements {
    /// Keeps at most `limit` bytes of each text. `capabilities`: what the login agreed on.
    pub fn new(limit: usize, capabilities: u32) -> Self {
        Statements {
            limit,
            up: Commands::default(),
            down: Replies::new(capabilities),
            sending: None,
            pending: VecDeque::new(),
            prepared: HashMap::new(),
            last: 0,
            held: 0,
            broken: false,
        }
    }

    /// A command is whole.
    fn sent(&mut self, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let Some((command, mut text)) = self.sending.take() else { return };
        text.end();
        let number = Reader(text.kept()).u32();
        let what = match command {
            command::QUERY => What::Query(masked(text)),
            command::STMT_PREPARE => What::Prepare(masked(text)),
            command::STMT_EXECUTE | command::STMT_BULK_EXECUTE => match number {
                Some(LAST_PREPARED) => What::Execute(self.last),
                number => What::Execute(number.unwrap_or_default()),
            },
            command::STMT_CLOSE => return self.forget(number.unwrap_or_default()),
            _ => return,
        };
        if self.down.is_lost() {
            return self.tell(&what, Outcome::NotFollowed, None, say);
        }
        // It was put there when it began.
        if let Some(pending) = self.pending.back_mut() {
            (pending.what, pending.since) = (what, now);
        }
    }

    fn forget(&mut self, number: u32) {
        if let Some(text) = self.prepared.remove(&number) {
            self.held -= text.kept().len();
        }
    }

    /// A packet of the server's was whole.
    fn answered(&mut self, told: PacketKind, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let Some(front) = self.pending.front_mut() else { return };
        match told {
            PacketKind::Row => *front.rows.get_or_insert(0) += 1,
            PacketKind::Rows => {
                front.rows.get_or_insert(0);
                front.results += 1;
            }
            PacketKind::Changed(rows) => {
                *front.rows.get_or_insert(0) += rows;
                front.results += 1;
            }
            PacketKind::Error(sqlstate) => front.sqlstate = Some(sqlstate),
            PacketKind::Prepared(number) => front.prepared = Some(number),
            PacketKind::Other => {}
        }
        if self.pending.len() <= self.down.awaited() {
            return;
        }
        let Some(done) = self.pending.pop_front() else { return };
        let outcome = if done.sqlstate.is_some() { Outcome::Error } else { Outcome::Done };
        self.tell(&done.what, outcome, Some((&done, now)), say);
        if let (What::Prepare(text), Some(number)) = (done.what, done.prepared) {
            self.last = number;
            self.forget(number);
            if self.prepared.len() < MAX_PREPARED && self.held + text.kept().len() <= MAX_HELD {
                self.held += text.kept().len();
                self.prepared.insert(number, text);
            }
        }
    }

    fn tell(
        &self,
        what: &What,
        outcome: Outcome,
        done: Option<(&Pending, Instant)>,
        say: &mut dyn FnMut(&Statement<'_>),
    ) {
        let (kind, text, number) = match what {
            What::Query(text) => (Kind::Query, Shown::Text(text), None),
            What::Prepare(text) => (Kind::Parse, Shown::Text(text), done.and_then(|(done, _)| done.prepared)),
            What::Execute(number) => {
                let text = self.prepared.get(number).map_or(Shown::NotHeld, Shown::Text);
                (Kind::Execute, text, Some(*number))
            }
            What::Other => return,
        };
        let name = number.map(|number| number.to_string()).unwrap_or_default();
        let mut statement = Statement { name: name.as_bytes(), text, ..Statement::new(kind, outcome) };
        if let Some((done, now)) = done {
            statement.sqlstate = done.sqlstate.as_ref().map_or(&[], |sqlstate| sqlstate);
            statement.results = Some(done.results).filter(|results| *results > 1);
            statement.rows = done.rows;
            statement.took = Some(now.saturating_duration_since(done.since));
        }
        say(&statement);
    }
}

fn masked(mut text: Text) -> Text {
    text.mask_passwords();
    text.mask_identified();
    text
}

impl Watch for Statements {
    fn up(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            let before = self.down.awaited();
            let Ok(taken) = self.up.step(&bytes[at..], &mut self.down) else {
                self.broken = true;
                return;
            };
            let piece = self.up.piece.clone();
            if let Some(command) = piece.begins {
                let keep = match command {
                    command::QUERY | command::STMT_PREPARE => self.limit,
                    _ => NUMBER,
                };
                self.sending = Some((command, Text::new(keep)));
                if self.down.awaited() > before {
                    let (what, since) = (What::Other, now);
                    let pending =
                        Pending { what, since, rows: None, results: 0, sqlstate: None, prepared: None };
                    self.pending.push_back(pending);
                }
            }
            if let Some((_, text)) = &mut self.sending {
                text.push(&bytes[at..][piece.payload]);
            }
            if piece.ends {
                self.sent(now, say);
            }
            at += taken;
        }
    }

    fn down(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            let Ok(taken) = self.down.step(&bytes[at..]) else {
                self.broken = true;
                return;
            };
            at += taken;
            if let Some(told) = self.down.told {
                self.answered(told, now, say);
            }
        }
    }

    fn end(&mut self, say: &mut dyn FnMut(&Statement<'_>)) {
        while let Some(pending) = self.pending.pop_front() {
            self.tell(&pending.what, Outcome::Unanswered, None, say);
        }
    }
}
