//! Which statements a session runs, and what becomes of each: the client's messages in their order, and the answers that
//! the server gives in the same order.
//!
//! ```text
//!   up    Query    | Parse Bind Describe Execute Sync |                pending: what waits for its answer, in order
//!   down  C… Z     |  1     2    T or n   C or s  Z   |                an error takes all up to the next Sync with it
//! ```
//!
//! Names are resolved when the server has answered, not when the client has spoken: what an Execute is said to run is what
//! the server runs. Names that are given in SQL (`PREPARE`, `DECLARE`) are not known; what they stand for is in the text
//! that gave them. Values of parameters are never looked at.
//!
//! It only watches: nothing here decides what passes. Memory is bounded by [`MAX_PENDING`], [`MAX_NAMES`] and [`MAX_HELD`],
//! and beyond each of them the lines say what is missing.

mod names;
mod pending;
mod plan;
mod reader;
mod tell;
#[cfg(test)]
mod tests;

use crate::names::Culprit;
use crate::protocol::statement::{Copying, Outcome, Statement, Text, Watch};
use names::{Held, Name, Portal, put};
use pending::{Pending, Progress, What, is_logged};
use plan::{plan_down, plan_up, sqlstate};
use reader::{Message, Reader};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

pub use names::{MAX_HELD, MAX_NAMES};

/// Messages that wait for their answer: about 64 bytes each. A client that pipelines more gets lines without results until
/// all of them are answered.
pub const MAX_PENDING: usize = 8192;

/// Follows both directions of a session from its first statement on.
pub struct Statements {
    up: Reader,
    down: Reader,
    pending: VecDeque<Pending>,
    /// What the front of `pending` has come to.
    progress: Progress,
    prepared: HashMap<Name, Held>,
    portals: HashMap<Name, Portal>,
    held: Rc<Cell<usize>>,
    /// An error came, and the Sync that ends what it takes with it has not been sent.
    skipping: bool,
    beyond: Option<Beyond>,
}

/// More requests are pending than are tracked.
#[derive(Default)]
struct Beyond {
    /// ReadyForQuery messages that are to come for it.
    owed: u64,
    /// Parts of a batch whose Sync is to come.
    unsynced: bool,
}

impl Watch for Statements {
    fn up(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        self.up(bytes, now, say);
    }
    fn down(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        self.down(bytes, now, say);
    }
    fn end(&mut self, say: &mut dyn FnMut(&Statement<'_>)) {
        self.end(say);
    }
}

impl Statements {
    /// Keeps up to `limit` bytes of each statement's text.
    pub fn new(limit: usize) -> Self {
        Statements {
            up: Reader::new(Culprit::Client, plan_up, limit),
            down: Reader::new(Culprit::Upstream, plan_down, limit),
            pending: VecDeque::new(),
            progress: Progress::default(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            held: Rc::default(),
            skipping: false,
            beyond: None,
        }
    }

    /// Bytes that go up, whole messages or parts of them. Each statement whose fate this decides is told to `say`.
    pub fn up(&mut self, mut data: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        while !data.is_empty() {
            let (taken, message) = self.up.step(data);
            data = &data[taken..];
            if let Some(message) = message {
                let message = std::mem::take(message);
                self.sent(message, now, say);
            }
        }
    }

    /// Bytes that go down.
    pub fn down(&mut self, mut data: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        while !data.is_empty() {
            let (taken, message) = self.down.step(data);
            data = &data[taken..];
            if let Some(message) = message {
                match message.tag {
                    b'd' | b'D' | b'N' | b'S' | b'A' => {}
                    _ => {
                        let message = std::mem::take(message);
                        self.answered(&message, now, say);
                        self.down.give_back(message);
                    }
                }
            }
        }
    }

    /// The session is over: tells what was not answered.
    pub fn end(&mut self, say: &mut dyn FnMut(&Statement<'_>)) {
        while let Some(pending) = self.pending.pop_front() {
            let progress = std::mem::take(&mut self.progress);
            let outcome = if progress.sqlstate.is_some() { Outcome::Error } else { Outcome::Unanswered };
            if is_logged(&pending.what) {
                self.tell(&pending.what, outcome, &progress, None, say);
            }
        }
    }

    /// How many messages wait for their answer, and how many bytes of texts are held.
    pub fn size(&self) -> (usize, usize) {
        (self.pending.len(), self.held.get())
    }

    fn sent(&mut self, message: Message, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let Message { tag, raw, texts: [mut first, mut second] } = message;
        let hold = |text: &mut Text| Held::of(std::mem::take(text), &self.held);
        let prepared = raw.first() == Some(&b'S');
        let what = match tag {
            b'Q' => What::Query(hold(&mut first)),
            b'F' => What::FunctionCall(raw.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid))),
            b'P' => What::Parse { text: hold(&mut second), name: first.kept().into() },
            b'B' => What::Bind { portal: first.kept().into(), name: second.kept().into() },
            b'D' => What::Describe { prepared, name: first.kept().into() },
            b'E' => What::Execute { portal: first.kept().into() },
            b'C' => What::Close { prepared, name: first.kept().into() },
            b'S' => What::Sync,
            b'c' | b'f' if !self.pending.is_empty() => What::CopyEnd,
            _ => return,
        };
        if self.skipping {
            // Everything but Sync is passed over, a Query as well.
            if !matches!(what, What::Sync) {
                return self.skip(&what, say);
            }
            self.skipping = false;
        }
        if self.beyond.is_some() || self.pending.len() >= MAX_PENDING {
            return self.lose(&what, say);
        }
        self.pending.push_back(Pending { what, since: now });
    }

    /// More is under way than is followed. Names may come to stand for something else meanwhile, and count no more.
    fn lose(&mut self, what: &What, say: &mut dyn FnMut(&Statement<'_>)) {
        self.prepared.clear();
        self.portals.clear();
        let beyond = self.beyond.get_or_insert_default();
        beyond.unsynced = !what.ends_with_ready();
        beyond.owed += u64::from(what.ends_with_ready());
        if is_logged(what) {
            self.tell(what, Outcome::NotFollowed, &Progress::default(), None, say);
        }
    }

    fn skip(&mut self, what: &What, say: &mut dyn FnMut(&Statement<'_>)) {
        if is_logged(what) {
            self.tell(what, Outcome::Skipped, &Progress::default(), None, say);
        }
    }

    fn answered(&mut self, message: &Message, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        // The end of a COPY that an error ended before.
        while let Some(Pending { what: What::CopyEnd, .. }) = self.pending.front() {
            self.pending.pop_front();
        }
        let Some(Pending { what, .. }) = self.pending.front() else {
            if message.tag == b'Z' {
                self.ready_beyond();
            }
            return;
        };
        match (message.tag, what) {
            (b'1', What::Parse { .. })
            | (b'2', What::Bind { .. })
            | (b'3', What::Close { .. })
            | (b'T' | b'n', What::Describe { .. }) => self.finish(Outcome::Done, now, say),
            (b's', What::Execute { .. }) => self.finish(Outcome::Suspended, now, say),
            (b'C' | b'I', What::Query(_) | What::Execute { .. }) => {
                let executed = matches!(what, What::Execute { .. });
                self.result(message.texts[0].kept());
                if executed {
                    self.finish(Outcome::Done, now, say);
                }
            }
            (b'G', What::Query(_) | What::Execute { .. }) => self.copies(Copying::In),
            (b'H', What::Query(_) | What::Execute { .. }) => self.copies(Copying::Out),
            (b'W', What::Query(_) | What::Execute { .. }) => self.copies(Copying::Both),
            (b'E', What::Query(_) | What::FunctionCall(_)) => {
                self.copy_ends(true);
                self.progress.sqlstate = Some(sqlstate(&message.raw));
            }
            (b'E', What::Sync) => {
                let failed = Progress { sqlstate: Some(sqlstate(&message.raw)), ..Progress::default() };
                self.tell(&What::Sync, Outcome::Error, &failed, None, say);
            }
            (b'E', _) => {
                self.copy_ends(true);
                self.progress.sqlstate = Some(sqlstate(&message.raw));
                self.finish(Outcome::Error, now, say);
                self.skip_to_sync(say);
            }
            (b'Z', _) => self.ready(message.raw.first() == Some(&b'I'), now, say),
            _ => {}
        }
    }

    fn copies(&mut self, copying: Copying) {
        self.progress.copy = Some(copying);
        self.progress.takes_data = copying != Copying::Out;
    }

    /// One result of the front.
    fn result(&mut self, tag: &[u8]) {
        self.copy_ends(false);
        self.progress.results += 1;
        let count = tag.rsplit(|byte| *byte == b' ').next().filter(|_| tag.contains(&b' '));
        let count = count.and_then(|count| str::from_utf8(count).ok()?.parse::<u64>().ok());
        if let Some(count) = count {
            self.progress.rows = Some(self.progress.rows.unwrap_or(0).saturating_add(count));
        }
        self.progress.tag.clear();
        self.progress.tag.extend_from_slice(tag);
        // From here on a name may stand for what it was given for in SQL.
        match tag {
            b"PREPARE" => self.prepared.clear(),
            b"DECLARE CURSOR" => self.portals.clear(),
            _ => {}
        }
    }

    /// The statement at the front is done with the data of its COPY. What the client sent up to the end of the data was
    /// swallowed, a Sync behind Execute among it.
    fn copy_ends(&mut self, failed: bool) {
        if !std::mem::take(&mut self.progress.takes_data) {
            return;
        }
        match self.pending.iter().position(|pending| matches!(pending.what, What::CopyEnd)) {
            Some(end) => drop(self.pending.drain(1..=end)),
            None if failed => self.pending.truncate(1),
            None => {}
        }
    }

    /// An error: all up to the next Sync is passed over.
    fn skip_to_sync(&mut self, say: &mut dyn FnMut(&Statement<'_>)) {
        while let Some(pending) = self.pending.pop_front() {
            if let What::Sync = pending.what {
                return self.pending.push_front(pending);
            }
            self.skip(&pending.what, say);
        }
        match &mut self.beyond {
            // What was lost already may hold the Sync; its answer is counted.
            Some(beyond) if beyond.owed > 0 => {}
            _ => self.skipping = true,
        }
    }

    /// The front has its answer.
    fn finish(&mut self, outcome: Outcome, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        let Some(Pending { what, since }) = self.pending.pop_front() else { return };
        let progress = std::mem::take(&mut self.progress);
        let took = now.saturating_duration_since(since);
        if outcome == Outcome::Error || is_logged(&what) {
            self.tell(&what, outcome, &progress, Some(took), say);
        }
        if outcome == Outcome::Done && self.beyond.is_none() {
            match what {
                What::Parse { name, text } => put(&mut self.prepared, name, text),
                What::Bind { portal, name } => {
                    let text = self.prepared.get(&name).cloned().unwrap_or_default();
                    put(&mut self.portals, portal, Portal { name, text });
                }
                What::Close { prepared: true, name } => drop(self.prepared.remove(&name)),
                What::Close { prepared: false, name } => drop(self.portals.remove(&name)),
                _ => {}
            }
        }
    }

    /// The server waits for the client, outside of a transaction or inside.
    fn ready(&mut self, idle: bool, now: Instant, say: &mut dyn FnMut(&Statement<'_>)) {
        if !self.pending.iter().any(|pending| pending.what.ends_with_ready()) {
            // It answers something that was lost, and with it all that stood before.
            self.end(say);
            return self.ready_beyond();
        }
        while let Some(pending) = self.pending.front() {
            let failed = self.progress.sqlstate.is_some();
            let outcome = if failed { Outcome::Error } else { Outcome::Done };
            match pending.what {
                What::Query(_) | What::FunctionCall(_) => {
                    self.finish(outcome, now, say);
                    break;
                }
                What::Sync => {
                    self.pending.pop_front();
                    break;
                }
                // Nothing that keeps to the protocol comes here.
                _ => self.finish(Outcome::Unanswered, now, say),
            }
        }
        if idle {
            // None outlives its transaction.
            self.portals.clear();
        }
        if self.pending.is_empty() {
            // A burst's memory is given back.
            self.pending.shrink_to(MAX_IDLE_PENDING);
        }
    }

    fn ready_beyond(&mut self) {
        if let Some(beyond) = &mut self.beyond {
            beyond.owed = beyond.owed.saturating_sub(1);
            if beyond.owed == 0 && !beyond.unsynced {
                self.beyond = None;
            }
        }
    }
}

/// Pending messages for which room is kept between batches.
const MAX_IDLE_PENDING: usize = 32;
