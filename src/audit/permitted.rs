//! The line that gives a live session its name: who was permitted, as soon as it is.

use super::line::Line;
use super::show::who;
use crate::names::{RouteName, SessionId};
use crate::policy::Identity;
use std::fmt;

/// Somebody was permitted to use a session, or somebody else than before.
#[derive(Clone, Copy, Debug)]
pub struct PermittedLine<'a> {
    /// Which session.
    pub session: SessionId,
    /// The route.
    pub route: &'a RouteName,
    /// Who.
    pub identity: &'a Identity,
    /// The line of `allow` that said yes, from 0.
    pub rule: usize,
}

impl fmt::Display for PermittedLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "session permitted", |line| {
            line.session(self.session);
            line.text("route", self.route.0.as_bytes());
            line.number("rule", self.rule as u64);
            who(line, Some(self.identity));
        })
    }
}
