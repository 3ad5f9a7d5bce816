//! A running PostgreSQL session: everything passes, and its end is said in its own protocol.

use super::cancel::{Entered, Target};
use crate::close::Close;
use crate::names::{Culprit, Direction, Side};
use crate::policy::Permit;
use crate::protocol::postgres::{self, Frames, TERMINATE, Work, fatal, sqlstate};
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::raw::instant_of;
use crate::session::statements::Statements;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The traffic of a PostgreSQL route, under the one permit of its connection.
pub struct Postgres {
    up: Frames,
    down: Frames,
    work: Work,
    end: End,
    /// The gateway is going away.
    draining: bool,
    idle: Duration,
    /// When the permit ends.
    ends: Option<Instant>,
    fault: Option<Fault>,
    /// Said to the client beside each reason: which session it was.
    detail: String,
    /// While this lives, the session can be cancelled.
    cancel: Option<Entered>,
    /// Watches the statements, where the route wants them in the log.
    statements: Option<Box<Statements<postgres::Statements>>>,
}

/// How far the session's end is.
enum End {
    /// Not in sight.
    Open,
    /// The client is to be told as soon as no message of the upstream's is under way, and then it is over.
    Leaving { close: Close, words: Vec<u8>, until: Instant, told_upstream: bool },
    /// The client was told, or the upstream has ended.
    Left { close: Close, until: Instant, told_upstream: bool },
}

/// How long the rest of a message may take that stands before the last words, and the last words themselves.
const PATIENCE: Duration = Duration::from_secs(1);

impl Postgres {
    /// `idle` is how long nothing may move, `detail` what the client is told beside the reason of an end.
    pub(super) fn new(
        permit: &Permit,
        idle: Duration,
        detail: String,
        cancel: Option<Entered>,
        statements: Option<Box<Statements<postgres::Statements>>>,
    ) -> Self {
        Postgres {
            up: Frames::new(Culprit::Client),
            down: Frames::new(Culprit::Upstream),
            work: Work::default(),
            end: End::Open,
            draining: false,
            idle,
            ends: permit.ends().map(instant_of),
            fault: None,
            detail,
            cancel,
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

    /// The first rule that a peer broke.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What to cancel if the session ends now: an upstream goes on with a statement whose client is gone.
    pub fn unfinished(&self) -> Option<Target> {
        self.cancel.as_ref().filter(|_| self.work.is_awaited()).and_then(Entered::target)
    }

    /// What is still to be said to the client of an end that the relay came to, where that can be said.
    pub fn last_words(&self, close: Close) -> Option<Vec<u8>> {
        if !self.down.is_between() || self.left().is_some() {
            return None;
        }
        let (code, words) = match close {
            Close::Idle => {
                (sqlstate::IDLE_SESSION_TIMEOUT, "nothing was said for as long as the gateway allows")
            }
            Close::Drained | Close::KeyLimit => (sqlstate::ADMIN_SHUTDOWN, GOING_AWAY),
            _ if close.culprit() == Culprit::Upstream => {
                (sqlstate::CONNECTION_FAILURE, "the connection between the gateway and the upstream broke")
            }
            _ => return None,
        };
        Some(fatal(code, words, &self.detail))
    }

    fn leave(&mut self, close: Close, sqlstate: &str, words: &str) {
        if let End::Open = self.end {
            let words = fatal(sqlstate, words, &self.detail);
            let until = Instant::now() + PATIENCE;
            self.end = End::Leaving { close, words, until, told_upstream: false };
        }
    }

    fn leave_if_idle(&mut self) {
        if self.draining && self.work.is_idle() && self.up.is_between() {
            self.leave(Close::Done, sqlstate::ADMIN_SHUTDOWN, GOING_AWAY);
        }
    }

    /// Follows what comes down, up to where the client is to be told of an end. Returns how many bytes that is.
    fn follow_down(&mut self, data: &[u8]) -> (usize, Option<Fault>) {
        let (mut at, mut fault) = (0, None);
        while at < data.len() && (matches!(self.end, End::Open) || !self.down.is_between()) {
            match self.down.step(&data[at..]) {
                Ok((taken, message)) => {
                    at += taken;
                    if let Some(message) = message {
                        self.work.down(message);
                        self.leave_if_idle();
                    }
                }
                Err(broken) => {
                    fault = Some(broken);
                    break;
                }
            }
        }
        if let Some(statements) = &mut self.statements {
            statements.down(&data[..at]);
        }
        (at, fault)
    }

    /// True where a Terminate of our own may stand.
    fn may_tell_upstream(&self) -> bool {
        match self.end {
            End::Leaving { told_upstream, .. } | End::Left { told_upstream, .. } => {
                !told_upstream && self.up.is_between() && !self.work.is_terminated()
            }
            End::Open => false,
        }
    }
}

const GOING_AWAY: &str = "the gateway is going away; connect again";

impl Traffic for Postgres {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        let (rest, mut at) = (edit.rest(), 0);
        while matches!(self.end, End::Open) && at < rest.len() {
            match self.up.step(&rest[at..]) {
                Ok((taken, message)) => {
                    at += taken;
                    message.into_iter().for_each(|message| self.work.up(message));
                }
                Err(fault) => {
                    self.leave(Close::Protocol(Side::Client), sqlstate::PROTOCOL_VIOLATION, fault.rule);
                    self.fault = Some(fault);
                }
            }
        }
        if let Some(statements) = &mut self.statements {
            statements.up(&rest[..at]);
        }
        edit.keep(at);
        // What a client says after its end is for nobody.
        edit.skip(edit.rest().len());
        if self.may_tell_upstream() {
            edit.insert(&TERMINATE);
            if let End::Leaving { told_upstream, .. } | End::Left { told_upstream, .. } = &mut self.end {
                *told_upstream = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        loop {
            if let End::Leaving { close, words, until, told_upstream } = &self.end
                && self.down.is_between()
            {
                edit.insert(words);
                self.end = End::Left { close: *close, until: *until, told_upstream: *told_upstream };
            }
            if let End::Left { .. } = self.end {
                edit.skip(edit.rest().len());
            }
            if edit.is_done() {
                return Ok(());
            }
            let (taken, fault) = self.follow_down(edit.rest());
            edit.keep(taken);
            if fault.is_some() {
                self.fault = fault;
                return Err(Close::Protocol(Side::Upstream));
            }
        }
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.may_tell_upstream(),
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
            self.end =
                End::Left { close: Close::Done, until: Instant::now() + PATIENCE, told_upstream: true };
        }
        Ok(())
    }

    // Terminate is the client's last message, and both ends close behind it in whichever way.
    fn may_vanish(&self, direction: Direction) -> bool {
        let between = match direction {
            Direction::Up => self.up.is_between(),
            Direction::Down => self.down.is_between(),
        };
        between && (self.work.is_terminated() || self.left().is_some())
    }

    fn owes_answer(&self) -> bool {
        self.work.is_awaited()
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
                self.leave(Close::Expired, sqlstate::ADMIN_SHUTDOWN, words);
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
