//! A running PostgreSQL session: everything passes, and its end is said in its own protocol.

use super::cancel::Entered;
use crate::close::Close;
use crate::names::{Culprit, Direction, Side};
use crate::policy::Permit;
use crate::protocol::postgres::{self, Frames, TERMINATE, Work, fatal, sqlstate};
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::connected::{Finish, parting};
use crate::session::ending::End;
use crate::session::leg_close::LegClose;
use crate::session::raw::instant_of;
use crate::session::statements::Statements;
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The traffic of a PostgreSQL route, under the one permit of its connection.
pub(crate) struct Postgres {
    up: Frames,
    down: Frames,
    work: Work,
    end: End<Vec<u8>>,
    /// The upstream was told, or has ended by itself.
    told_upstream: bool,
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
            told_upstream: false,
            draining: false,
            idle,
            ends: permit.ends().map(instant_of),
            fault: None,
            detail,
            cancel,
            statements,
        }
    }

    fn leave(&mut self, close: Close, sqlstate: &str, words: &str) {
        if self.end.is_open() {
            self.end.leave(close, fatal(sqlstate, words, &self.detail));
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
        while at < data.len() && (self.end.is_open() || !self.down.is_between()) {
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
        !self.end.is_open() && !self.told_upstream && self.up.is_between() && !self.work.is_terminated()
    }

    /// What is still to be said to the client of an end that the relay came to, where that can be said.
    fn last_words(&self, close: Close) -> Option<Vec<u8>> {
        if !self.down.is_between() || self.end.left().is_some() {
            return None;
        }
        let (code, words) = match close {
            Close::Idle => {
                (sqlstate::IDLE_SESSION_TIMEOUT, "nothing was said for as long as the gateway allows")
            }
            Close::Drained | Close::LogFull | Close::KeyLimit => (sqlstate::ADMIN_SHUTDOWN, GOING_AWAY),
            _ if close.culprit() == Culprit::Upstream => {
                (sqlstate::CONNECTION_FAILURE, "the connection between the gateway and the upstream broke")
            }
            _ => return None,
        };
        Some(fatal(code, words, &self.detail))
    }
}

const GOING_AWAY: &str = "the gateway is going away; connect again";

impl Finish for Postgres {
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        let left = self.end.left();
        let close = left.unwrap_or(close);
        if let Some(statements) = &mut self.statements {
            trail.set_statement_lines(statements.end());
        }
        self.fault.iter().for_each(|fault| trail.explain(fault));
        // A leg that cannot take them any more ends without them.
        let told = self.last_words(close).is_some_and(|last| client.queue(&last).is_ok());
        (close, parting(close, left.is_some(), told))
    }

    // A permit that has ended permits no statement to run on, and one that was given up has no reader.
    fn afterwards(&mut self, close: Close) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let given_up = matches!(close, Close::Expired | Close::Idle) && self.work.is_awaited();
        let target = self.cancel.as_ref().filter(|_| given_up).and_then(Entered::target)?;
        Some(Box::pin(async move {
            if let Err(fault) = target.cancel().await {
                tracing::warn!(route = %target.route.name, session = %target.session, %fault, "a statement runs on");
            }
        }))
    }
}

impl Traffic for Postgres {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        let (rest, mut at) = (edit.rest(), 0);
        while self.end.is_open() && at < rest.len() {
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
            self.told_upstream = true;
        }
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        loop {
            if self.down.is_between()
                && let Some(words) = self.end.say()
            {
                edit.insert(&words);
            }
            if self.end.left().is_some() {
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
            Direction::Down => self.end.is_leaving() && self.down.is_between(),
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
        if direction == Direction::Down {
            self.told_upstream |= self.end.is_open();
            self.end.upstream_ended();
        }
        Ok(())
    }

    // Terminate is the client's last message, and both ends close behind it in whichever way.
    fn tolerates_eof(&self, direction: Direction) -> bool {
        let between = match direction {
            Direction::Up => self.up.is_between(),
            Direction::Down => self.down.is_between(),
        };
        between && (self.work.is_terminated() || self.end.left().is_some())
    }

    fn awaits_response(&self) -> bool {
        self.work.is_awaited()
    }

    fn is_over(&self) -> bool {
        self.end.left().is_some()
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.idle)
    }

    fn expires(&self) -> Option<Instant> {
        self.end.due(self.ends)
    }

    fn expire(&mut self, _: Instant) -> Result<(), Close> {
        self.end.patience()?;
        let words = "the permit of this session has ended; connect again with a new token";
        self.leave(Close::Expired, sqlstate::ADMIN_SHUTDOWN, words);
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_if_idle();
    }
}
