//! The line of a statement.

use super::line::Line;
use super::show::who;
use crate::names::{RouteName, SessionId};
use crate::policy::Identity;
use crate::protocol::statement::{Shown, Statement};
use std::fmt;

/// Outcome of a database statement.
#[derive(Clone, Copy, Debug)]
pub struct StatementLine<'a> {
    /// Which session.
    pub session: SessionId,
    /// Counted from 1 within the session, without gaps.
    pub number: u64,
    /// The route.
    pub route: &'a RouteName,
    /// Who asked.
    pub identity: &'a Identity,
    /// What was asked for, and what became of it.
    pub statement: &'a Statement<'a>,
}

impl fmt::Display for StatementLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = self.statement;
        Line::write(f, "statement", |line| {
            line.session(self.session);
            line.number("statement", self.number);
            line.text("route", self.route.0.as_bytes());
            line.word("kind", statement.kind.name());
            for (name, value) in [("name", statement.name), ("portal", statement.portal)] {
                if !value.is_empty() {
                    line.text(name, value);
                }
            }
            match statement.text {
                Shown::None => {}
                Shown::Text(text) => {
                    // It was cut where the route says.
                    line.whole_text("text", text.kept(), text.is_cut());
                    if text.is_cut() {
                        line.boolean("cut", true);
                        line.number("text_bytes", text.whole());
                    }
                }
                Shown::NotHeld => line.boolean("text_held", false),
            }
            if let Some(function) = statement.function {
                line.number("function", function.into());
            }
            if let Some(copy) = statement.copy {
                line.word("copy", copy.name());
            }
            line.word("result", statement.outcome.name());
            for (name, value) in [("sqlstate", statement.sqlstate), ("tag", statement.tag)] {
                if !value.is_empty() {
                    line.text(name, value);
                }
            }
            for (name, value) in [("results", statement.results), ("rows", statement.rows)] {
                if let Some(value) = value {
                    line.number(name, value);
                }
            }
            line.maybe_time("duration_us", statement.took);
            who(line, Some(self.identity));
        })
    }
}
