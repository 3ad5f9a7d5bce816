//! A running MySQL session: everything but COM_CHANGE_USER passes, and its end is said in its own protocol.

use crate::close::Close;
use crate::names::{Culprit, Direction, Side};
use crate::policy::Permit;
use crate::protocol::mysql::{self, Commands, Replies, err, error};
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::connected::{Finish, parting};
use crate::session::ending::End;
use crate::session::leg_close::LegClose;
use crate::session::raw::instant_of;
use crate::session::statements::Statements;
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The traffic of a MySQL route, under the one permit of its connection.
pub(crate) struct Mysql {
    up: Commands,
    down: Replies,
    /// Its number, and its text.
    end: End<((u16, &'static str), &'static str)>,
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

    /// What is still to be said to the client of an end that the relay came to, where that can be said.
    fn last_words(&self, close: Close) -> Option<Vec<u8>> {
        if !self.down.is_between() || self.end.left().is_some() {
            return None;
        }
        let (number, words) = match close {
            Close::Idle => (error::KILLED, "nothing was said for as long as the gateway allows"),
            Close::Drained | Close::LogFull | Close::KeyLimit => (error::SHUTDOWN, GOING_AWAY),
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

    fn leave_if_idle(&mut self) {
        if self.draining && self.down.is_idle() && self.up.is_between() {
            self.end.leave(Close::Done, (error::SHUTDOWN, GOING_AWAY));
        }
    }
}

impl Finish for Mysql {
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        let left = self.end.left();
        let close = match left.unwrap_or(close) {
            // The client said that it leaves. Neither end reads on then: not a session ticket, not the other's close_notify.
            Close::Reset(_) if self.up.is_quit() && self.down.is_idle() => Close::Done,
            close => close,
        };
        if let Some(statements) = &mut self.statements {
            trail.set_statement_lines(statements.end());
        }
        self.fault.iter().for_each(|fault| trail.explain(fault));
        // A leg that cannot take them any more ends without them.
        let told = self.last_words(close).is_some_and(|last| client.queue(&last).is_ok());
        (close, parting(close, left.is_some(), told))
    }
}

impl Traffic for Mysql {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        while self.end.is_open() && !edit.is_done() {
            match self.up.step(edit.rest(), &mut self.down) {
                Ok(taken) => {
                    if let Some(statements) = &mut self.statements {
                        statements.up(&edit.rest()[..taken]);
                    }
                    edit.keep(taken);
                }
                Err(fault) => {
                    self.end.leave(Close::Protocol(Side::Client), (error::UNKNOWN_COMMAND, fault.rule));
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
            if self.down.is_between()
                && let Some((number, words)) = self.end.say()
            {
                edit.insert(&self.words(number, words));
            }
            if self.end.left().is_some() {
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
            self.end.upstream_ended();
        }
        Ok(())
    }

    // COM_QUIT is the client's last packet, and both ends close behind it in whichever way.
    fn tolerates_eof(&self, direction: Direction) -> bool {
        let between = match direction {
            Direction::Up => self.up.is_between(),
            Direction::Down => self.down.is_between(),
        };
        between && (self.up.is_quit() || self.end.left().is_some())
    }

    fn awaits_response(&self) -> bool {
        !self.down.is_idle()
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
        self.end.leave(Close::Expired, (error::KILLED, words));
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_if_idle();
    }
}
