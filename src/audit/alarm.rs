//! The alarm line of a honeytoken.

use super::line::Line;
use super::show::who;
use crate::names::{Remote, SessionId};
use crate::policy::Identity;
use std::fmt;

/// A honeytoken was shown.
#[derive(Clone, Copy, Debug)]
pub struct AlarmLine<'a> {
    /// Its configured name.
    pub honeytoken: &'a str,
    /// In which session; `None`: at the operator's listener.
    pub session: Option<SessionId>,
    /// From where.
    pub remote: Remote,
    /// Whom it proves, where it is an identity.
    pub identity: Option<&'a Identity>,
    /// The session is cut.
    pub cut: bool,
}

impl fmt::Display for AlarmLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "alarm", |line| {
            if let Some(session) = self.session {
                line.session(session);
            }
            line.text("honeytoken", self.honeytoken.as_bytes());
            line.address("remote", self.remote.0);
            line.word("action", if self.cut { "cut" } else { "watch" });
            who(line, self.identity);
        })
    }
}
