//! The line of a login in a session that may hold several (Redis).

use super::line::Line;
use super::show::who;
use crate::names::{RouteName, SessionId};
use crate::policy::Identity;
use std::fmt;

/// A login whose token was verified, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct LoginLine<'a> {
    /// Which session.
    pub session: SessionId,
    /// The route.
    pub route: &'a RouteName,
    /// Whose token it was.
    pub identity: &'a Identity,
    /// The stored user, where it was permitted.
    pub database_user: Option<&'a str>,
    /// Its outcome.
    pub result: LoginResult,
}

/// Outcome of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// The session speaks for this identity from here on.
    Accepted,
    /// The route's policy says no.
    NotPermitted,
    /// The upstream does not take the account.
    RefusedUpstream,
}

impl LoginResult {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            LoginResult::Accepted => "accepted",
            LoginResult::NotPermitted => "not_permitted",
            LoginResult::RefusedUpstream => "refused_upstream",
        }
    }
}

impl fmt::Display for LoginLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "login", |line| {
            line.session(self.session);
            line.text("route", self.route.0.as_bytes());
            if let Some(user) = self.database_user {
                line.text("database_user", user.as_bytes());
            }
            line.word("result", self.result.name());
            who(line, Some(self.identity));
        })
    }
}
