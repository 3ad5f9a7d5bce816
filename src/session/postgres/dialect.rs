//! A running PostgreSQL session: everything passes.

use super::cancel::cancel_statement;
use crate::names::{Culprit, Direction, SessionId};
use crate::protocol::Edit;
use crate::protocol::postgres::{self, CancelKey, Frames, TERMINATE, Work, fatal, sqlstate};
use crate::session::database::cancels::{CancelEntry, CancelTarget};
use crate::session::database::{ClosingMessage, Dialect, Grant, Masks, Statements, Stop, Until};
use crate::session::trail::Trail;
use std::pin::Pin;
use std::task::{Context, Poll};

/// PostgreSQL's messages in both directions.
pub(crate) struct Postgres {
    up: Frames,
    down: Frames,
    work: Work,
    /// While this lives, the session can be cancelled.
    cancel: Option<CancelEntry<CancelKey, CancelTarget>>,
    /// Watches the statements, where the route wants them in the log.
    statements: Option<Box<Statements<postgres::Statements>>>,
    masks: Option<Box<Masks<postgres::Masks>>>,
}

impl Postgres {
    pub(super) fn new(
        cancel: Option<CancelEntry<CancelKey, CancelTarget>>,
        statements: Option<Box<Statements<postgres::Statements>>>,
        masks: Option<Box<Masks<postgres::Masks>>>,
    ) -> Self {
        let (up, down) = (Frames::new(Culprit::Client), Frames::new(Culprit::Upstream));
        Postgres { up, down, work: Work::default(), cancel, statements, masks }
    }
}

impl Dialect for Postgres {
    const TERMINATE: &'static [u8] = &TERMINATE;

    fn pass_up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>, _: &mut Grant) -> Poll<Result<(), Stop>> {
        let (rest, mut at, mut passed) = (edit.rest(), 0, Ok(()));
        while at < rest.len() {
            match self.up.step(&rest[at..]) {
                Ok((taken, message)) => {
                    at += taken;
                    message.into_iter().for_each(|message| self.work.up(message));
                }
                Err(fault) => {
                    passed = Err(Stop::Fault(fault));
                    break;
                }
            }
        }
        match (&mut self.masks, &mut self.statements) {
            (None, statements) => {
                statements.iter_mut().for_each(|statements| statements.up(&rest[..at]));
                edit.keep(at);
            }
            (Some(masks), None) => masks.pass(Direction::Up, |masks| masks.pass_up(edit, at, None))?,
            (Some(masks), Some(statements)) => {
                // The log has what went up.
                let mut copy = Vec::new();
                let masked = masks.pass(Direction::Up, |masks| masks.pass_up(edit, at, Some(&mut copy)));
                statements.up(&copy);
                masked?;
            }
        }
        Poll::Ready(passed)
    }

    fn pass_down(&mut self, edit: &mut Edit<'_>, until: Until, _: &mut Grant) -> Result<(), Stop> {
        let (rest, mut at, mut passed) = (edit.rest(), 0, Ok(()));
        while at < rest.len() {
            match self.down.step(&rest[at..]) {
                Ok((taken, message)) => {
                    at += taken;
                    message.into_iter().for_each(|message| self.work.down(message));
                }
                Err(fault) => {
                    passed = Err(Stop::Fault(fault));
                    break;
                }
            }
            match until {
                Until::End => {}
                Until::Idle if self.is_idle() => break,
                Until::Boundary if self.down.is_between() => break,
                Until::Idle | Until::Boundary => {}
            }
        }
        if let Some(statements) = &mut self.statements {
            statements.down(&rest[..at]);
        }
        match &mut self.masks {
            None => edit.keep(at),
            Some(masks) => masks.pass(Direction::Down, |masks| masks.pass_down(edit, at))?,
        }
        passed
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
        self.work.is_idle() && self.up.is_between()
    }

    fn awaits_response(&self) -> bool {
        self.work.is_awaited()
    }

    fn has_quit(&self) -> bool {
        self.work.is_terminated()
    }

    fn encode(&self, notice: &ClosingMessage, session: SessionId) -> Vec<u8> {
        let code = match notice {
            ClosingMessage::Expired
            | ClosingMessage::NotPermitted
            | ClosingMessage::GoingAway
            | ClosingMessage::Ended => sqlstate::ADMIN_SHUTDOWN,
            ClosingMessage::Idle => sqlstate::IDLE_SESSION_TIMEOUT,
            ClosingMessage::UpstreamBroke | ClosingMessage::AccountRefused => sqlstate::CONNECTION_FAILURE,
            ClosingMessage::Fault(_) => sqlstate::PROTOCOL_VIOLATION,
            ClosingMessage::LoginsRefused => sqlstate::INVALID_AUTHORIZATION,
        };
        fatal(code, notice.words(), &format!("session {session}"))
    }

    fn finish(&mut self, trail: &mut Trail) {
        if let Some(statements) = &mut self.statements {
            trail.set_statement_lines(statements.end());
        }
        self.masks.iter_mut().for_each(|masks| masks.finish(trail));
    }

    fn cancel_work(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let target = self.cancel.as_ref().and_then(CancelEntry::target)?;
        Some(Box::pin(async move {
            if let Err(fault) = cancel_statement(&target).await {
                tracing::warn!(route = %target.route.name, session = %target.session, %fault, "a statement runs on");
            }
        }))
    }
}
