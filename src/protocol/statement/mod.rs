//! Statements of database clients as a log shows them: a text cut at a limit, without passwords, and what became of it.
//!
//! It reads no SQL. A statement's text may hold values that its writer put into it; only what follows the word PASSWORD is
//! known for a secret, and masked. Values that a protocol carries beside the text are never gathered.

mod mask;
mod text;

pub use mask::{MASK, mask_identified, mask_passwords};
pub use text::Text;

use std::time::{Duration, Instant};

/// Follows both directions of a session, and tells of each statement when it is over.
pub trait Watch {
    /// These bytes go up.
    fn up(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>));
    /// These bytes go down.
    fn down(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>));
    /// The session is over: tells what was not answered.
    fn end(&mut self, say: &mut dyn FnMut(&Statement<'_>));
}

/// What a client asked for, and what became of it. Borrowed for one call.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// How it was asked.
    pub kind: Kind,
    /// The name of a prepared statement; empty without one.
    pub name: &'a [u8],
    /// The name of a portal; empty without one.
    pub portal: &'a [u8],
    /// The text, as far as it was kept.
    pub text: Shown<'a>,
    /// Its outcome.
    pub outcome: Outcome,
    /// The SQLSTATE of its error; empty without one.
    pub sqlstate: &'a [u8],
    /// What the server calls that which it has done (`SELECT 3`): the last, if there are several; empty without one.
    pub tag: &'a [u8],
    /// How many results a text of several statements had; at least 2, or `None`.
    pub results: Option<u64>,
    /// Rows that the server counts, of all results.
    pub rows: Option<u64>,
    /// The bulk transfer that it began.
    pub copy: Option<Copying>,
    /// The function that was called without SQL.
    pub function: Option<u32>,
    /// From the whole statement to its result; `None` without a result.
    pub took: Option<Duration>,
}

impl Statement<'_> {
    /// A statement of which nothing is known but its kind and its outcome.
    pub fn new(kind: Kind, outcome: Outcome) -> Self {
        Statement {
            kind,
            name: b"",
            portal: b"",
            text: Shown::None,
            outcome,
            sqlstate: b"",
            tag: b"",
            results: None,
            rows: None,
            copy: None,
            function: None,
            took: None,
        }
    }
}

/// A statement's text in its line.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// It has none, or what it refers to is not known.
    None,
    /// As much as was kept.
    Text(&'a Text),
    /// It was not kept: a limit of the session's was reached.
    NotHeld,
}

/// How a statement is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text to be run.
    Query,
    /// A text to be prepared.
    Parse,
    /// Values for a prepared statement; told only when it fails.
    Bind,
    /// What a statement or a portal looks like; told only when it fails.
    Describe,
    /// A prepared statement to be run.
    Execute,
    /// A statement or a portal to be forgotten; told only when it fails.
    Close,
    /// The end of a batch, and of its transaction; told only when it fails.
    Sync,
    /// A function to be called by its number.
    FunctionCall,
}

impl Kind {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Query => "query",
            Kind::Parse => "parse",
            Kind::Bind => "bind",
            Kind::Describe => "describe",
            Kind::Execute => "execute",
            Kind::Close => "close",
            Kind::Sync => "sync",
            Kind::FunctionCall => "function_call",
        }
    }
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has done it.
    Done,
    /// The server has sent as many rows as were asked for, and has more.
    Suspended,
    /// The server refused it, or gave up.
    Error,
    /// The server passed it over, since an error came before it.
    Skipped,
    /// The session ended first.
    Unanswered,
    /// Too many were under way to tell which answer is whose.
    NotFollowed,
}

impl Outcome {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Suspended => "suspended",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
            Outcome::Unanswered => "unanswered",
            Outcome::NotFollowed => "not_followed",
        }
    }
}

/// Which way a bulk transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// To the server.
    In,
    /// From the server.
    Out,
    /// Both ways: replication.
    Both,
}

impl Copying {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Copying::In => "in",
            Copying::Out => "out",
            Copying::Both => "both",
        }
    }
}
