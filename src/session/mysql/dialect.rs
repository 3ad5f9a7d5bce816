//! A running MySQL session: everything but COM_CHANGE_USER passes.

use super::kill::translate;
use crate::names::{Direction, SessionId};
use crate::protocol::Edit;
use crate::protocol::mysql::{self, Commands, Replies, err, error};
use crate::session::database::cancels::{CancelEntry, KillTarget};
use crate::session::database::{ClosingMessage, Dialect, Grant, Masks, Statements, Stop, Until};
use crate::session::trail::Trail;
use std::task::{Context, Poll};

/// MySQL's packets in both directions.
pub(crate) struct Mysql {
    up: Commands,
    down: Replies,
    /// While this lives, its own identity can kill the session by the number that its client knows.
    _kill: Option<CancelEntry<u32, KillTarget>>,
    /// Watches the statements, where the route wants them in the log.
    statements: Option<Box<Statements<mysql::Statements>>>,
    masks: Option<Box<Masks<mysql::Masks>>>,
}

impl Mysql {
    /// `capabilities`: what both legs agreed on.
    pub(super) fn new(
        capabilities: u32,
        kill: Option<CancelEntry<u32, KillTarget>>,
        statements: Option<Box<Statements<mysql::Statements>>>,
        masks: Option<Box<Masks<mysql::Masks>>>,
    ) -> Self {
        let (up, down) = (Commands::default(), Replies::new(capabilities));
        Mysql { up, down, _kill: kill, statements, masks }
    }
}

impl Dialect for Mysql {
    // COM_QUIT has no answer, and servers take the end of the connection for one.
    const TERMINATE: &'static [u8] = &[];

    fn pass_up(
        &mut self,
        _: &mut Context<'_>,
        edit: &mut Edit<'_>,
        grant: &mut Grant,
    ) -> Poll<Result<(), Stop>> {
        while !edit.is_done() {
            if self.down.is_full() {
                return Poll::Pending;
            }
            let translated =
                if self.up.is_between_commands(&self.down) { translate(edit, grant) } else { None };
            let is_command = self.up.is_at_command(&self.down);
            match self.up.step(edit.rest(), &mut self.down) {
                Ok(taken) => match (translated, &mut self.masks, &mut self.statements) {
                    (Some((length, packet)), _, statements) if length == taken => {
                        statements.iter_mut().for_each(|statements| statements.up(&edit.rest()[..taken]));
                        edit.skip(taken);
                        edit.insert(&packet);
                    }
                    (_, None, statements) => {
                        statements.iter_mut().for_each(|statements| statements.up(&edit.rest()[..taken]));
                        edit.keep(taken);
                    }
                    (_, Some(masks), statements) => {
                        // The log has what went up.
                        let mut copy = statements.is_some().then(Vec::new);
                        let masked = masks.pass(Direction::Up, |masks| {
                            masks.pass_up(edit, taken, is_command, copy.as_mut())
                        });
                        if let (Some(statements), Some(copy)) = (statements, copy) {
                            statements.up(&copy);
                        }
                        masked?;
                    }
                },
                Err(fault) => return Poll::Ready(Err(Stop::Fault(fault))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn pass_down(&mut self, edit: &mut Edit<'_>, until: Until, _: &mut Grant) -> Result<(), Stop> {
        while !edit.is_done() {
            let role = self.down.role();
            let taken = self.down.step(edit.rest()).map_err(Stop::Fault)?;
            if let Some(statements) = &mut self.statements {
                statements.down(&edit.rest()[..taken]);
            }
            match &mut self.masks {
                None => edit.keep(taken),
                Some(masks) => masks.pass(Direction::Down, |masks| masks.pass_down(edit, taken, role))?,
            }
            match until {
                Until::End => {}
                Until::Idle if self.is_idle() => break,
                Until::Boundary if self.down.is_between() => break,
                Until::Idle | Until::Boundary => {}
            }
        }
        Ok(())
    }

    fn is_between(&self, direction: Direction) -> bool {
        let holds = self.masks.as_ref().is_some_and(|masks| masks.is_holding(direction));
        !holds
            && match direction {
                Direction::Up => self.up.is_between(),
                Direction::Down => self.down.is_between(),
            }
    }

    fn is_idle(&self) -> bool {
        self.down.is_idle() && self.up.is_between()
    }

    fn awaits_response(&self) -> bool {
        !self.down.is_idle()
    }

    fn has_quit(&self) -> bool {
        self.up.is_quit()
    }

    fn encode(&self, notice: &ClosingMessage, session: SessionId) -> Vec<u8> {
        let number = match notice {
            ClosingMessage::Expired | ClosingMessage::NotPermitted | ClosingMessage::Idle => error::KILLED,
            ClosingMessage::GoingAway | ClosingMessage::Ended => error::SHUTDOWN,
            ClosingMessage::UpstreamBroke | ClosingMessage::AccountRefused => error::UPSTREAM,
            ClosingMessage::Fault(_) => error::UNKNOWN_COMMAND,
            ClosingMessage::LoginsRefused => error::ACCESS_DENIED,
        };
        err(number, self.down.next_sequence(), &format!("{} (session {session})", notice.words()))
    }

    fn finish(&mut self, trail: &mut Trail) {
        if let Some(statements) = &mut self.statements {
            trail.set_statement_lines(statements.end());
        }
        self.masks.iter_mut().for_each(|masks| masks.finish(trail));
    }
}
