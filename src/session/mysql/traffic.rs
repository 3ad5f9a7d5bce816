//! A running MySQL session: everything but COM_CHANGE_USER passes, and its end is said in its own protocol.

use crate::close::Close;
use crate::names::{Culprit, Direction, Side};
use crate::policy::Permit;
use crate::protocol::mysql::{self, Commands, Replies, err, error};
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::raw::instant_of;
use crate::session::statements::Statements;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The traffic of a MySQL route, under the one permit of its connection.
pub struct Mysql {
    up: Commands,
    down: Replies,
    end: End,
    /// The gateway is going away.
    draining: bool,
    idle: Duration,
    /// When the permit ends.
    ends: Option<Instant>,
    fault: Option<Fault>,
    /// Said to the client beside each reason: which session it was.
    detail: String,
    /// Watches the statements, where the route wants them in the log.
    statements: Option<Box<Statements<mysql::Statements>>>,
}

/// How far the session's end is.
enum End {
    /// Not in sight.
    Open,
    /// The client is to be told as soon as no packet of the upstream's is under way, and then it is over.
    Leaving { close: Close, number: (u16, &'static str), words: &'static str, until: Instant },
    /// The client was told, or the upstream has ended.
    Left { close: Close, until: Instant },
}

/// How long the rest of a packet may take that stands before the last words, and the last words themselves.
const PATIENCE: Duration = Duration::from_secs(1);
const GOING_AWAY: &str = "the gateway is going away; connect again";

impl Mysql {
    /// `idle` is how long nothing may move, `detail` what the client is told beside the reason of an end.
    pub(super) fn new(
        permit: &Permit,
        idle: Duration,
        detail: String,
        capabilities: u32,
        statements: Option<Box<Statements<mysql::Statements>>>,
    ) -> Self {
        Mysql {
            up: Commands::default(),
            down: Replies::new(capabilities),
            end: End::Open,
            draining: false,
            idle,
            ends: permit.ends().map(instant_of),
            fault: None,
            detail,
            statements,
        }
    }

    /// The session is over: tells of statements that were not answered. Returns how many lines of statements there were.
    pub fn end_statements(&mut self) -> Option<u64> {
        self.statements.as_mut().map(|statements| statements.end())
    }

    /// Why the session ended, where it ended here.
    pub fn left(&self) -> Option<Close> {
        match self.end {
            End::Left { close, .. } => Some(close),
            End::Open | End::Leaving { .. } => None,
        }
    }

    /// True when the client said that it leaves, and was answered all that it asked for.
    pub fn has_quit(&self) -> bool {
        self.up.is_quit() && self.down.is_idle()
    }

    /// The first rule that a peer broke.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What is still to be said to the client of an end that the relay came to, where that can be said.
    pub fn last_words(&self, close: Close) -> Option<Vec<u8>> {
        if !self.down.is_between() || self.left().is_some() {
            return None;
        }
        let (number, words) = match close {
            Close::Idle => (error::KILLED, "nothing was said for as long as the gateway allows"),
            Close::Drained | Close::KeyLimit => (error::SHUTDOWN, GOING_AWAY),
            _ if close.culprit() == Culprit::Upstream => {
                (error::UPSTREAM, "the connection between the gateway and the upstream broke")
            }
            _ => return None,
        };
        Some(self.words(number, words))
    }

    fn words(&self, number: (u16, &str), words: &str) -> Vec<u8> {
        err(number, self.down.next_sequence(), &format!("{words} ({})", self.detail))
    }

    fn leave(&mut self, close: Close, number: (u16, &'static str), words: &'static str) {
        if let End::Open = self.end {
            self.end = End::Leaving { close, number, words, until: Instant::now() + PATIENCE };
        }
    }

    fn leave_if_idle(&mut self) {
        if self.draining && self.down.is_idle() && self.up.is_between() {
            self.leave(Close::Done, error::SHUTDOWN, GOING_AWAY);
        }
    }
}

impl Traffic for Mysql {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        while matches!(self.end, End::Open) && !edit.is_done() {
            match self.up.step(edit.rest(), &mut self.down) {
                Ok(taken) => {
                    if let Some(statements) = &mut self.statements {
                        statements.up(&edit.rest()[..taken]);
                    }
                    edit.keep(taken);
                }
                Err(fault) => {
                    self.leave(Close::Protocol(Side::Client), error::UNKNOWN_COMMAND, fault.rule);
                    self.fault = Some(fault);
                }
            }
        }
        // What a client says after its end is for nobody.
        edit.skip(edit.rest().len());
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        loop {
            if let End::Leaving { close, number, words, until } = self.end
                && self.down.is_between()
            {
                edit.insert(&self.words(number, words));
                self.end = End::Left { close, until };
            }
            if let End::Left { .. } = self.end {
                edit.skip(edit.rest().len());
            }
            if edit.is_done() {
                return Ok(());
            }
            let taken = self.down.step(edit.rest());
            if let Some(statements) = &mut self.statements {
                statements.down(&edit.rest()[..taken]);
            }
            edit.keep(taken);
            self.leave_if_idle();
        }
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => false,
            Direction::Down => matches!(self.end, End::Leaving { .. }) && self.down.is_between(),
        }
    }

    fn ended(&mut self, direction: Direction) -> Result<(), Close> {
        let (between, side) = match direction {
            Direction::Up => (self.up.is_between(), Side::Client),
            Direction::Down => (self.down.is_between(), Side::Upstream),
        };
        if !between {
            return Err(Close::Truncated(side));
        }
        // The upstream has said all; a client that goes on would talk to nobody.
        if let (Direction::Down, End::Open) = (direction, &self.end) {
            self.end = End::Left { close: Close::Done, until: Instant::now() + PATIENCE };
        }
        Ok(())
    }

    // COM_QUIT is the client's last packet, and both ends close behind it in whichever way.
    fn may_vanish(&self, direction: Direction) -> bool {
        let between = match direction {
            Direction::Up => self.up.is_between(),
            Direction::Down => self.down.is_between(),
        };
        between && (self.up.is_quit() || self.left().is_some())
    }

    fn owes_answer(&self) -> bool {
        !self.down.is_idle()
    }

    fn is_over(&self) -> bool {
        self.left().is_some()
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.idle)
    }

    fn expires(&self) -> Option<Instant> {
        match self.end {
            End::Open => self.ends,
            End::Leaving { until, .. } | End::Left { until, .. } => Some(until),
        }
    }

    fn expire(&mut self, _: Instant) -> Result<(), Close> {
        match self.end {
            End::Open => {
                let words = "the permit of this session has ended; connect again with a new token";
                self.leave(Close::Expired, error::KILLED, words);
                Ok(())
            }
            // Whoever reads so slowly is not waited for.
            End::Leaving { close, .. } | End::Left { close, .. } => Err(close),
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_if_idle();
    }
}
