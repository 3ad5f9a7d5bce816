//! The line of an order that an operator, or an issuer by its signals, gives.

use super::line::Line;
use crate::names::SessionId;
use crate::policy::revocation::Target;
use std::fmt;
use std::time::SystemTime;

/// An operator's order, or a refused one.
#[derive(Clone, Copy, Debug)]
pub struct OrderLine<'a> {
    /// What was ordered.
    pub order: OrderKind,
    /// Who ordered it: `loopback`, `key`, `issuer:NAME` or the operator's subject.
    pub operator: &'a str,
    /// From where.
    pub remote: Option<std::net::SocketAddr>,
    /// The session that was meant.
    pub session: Option<SessionId>,
    /// Whom a revocation names.
    pub target: Option<&'a Target>,
    /// Until when a revocation stands.
    pub until: Option<SystemTime>,
    /// Live sessions that were ended.
    pub sessions: Option<usize>,
    /// Why, in the operator's words.
    pub reason: Option<&'a str>,
}

/// What was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// To end one session.
    End,
    /// To let one session finish what is under way.
    Drain,
    /// To have one session authorised again.
    Reauthorise,
    /// To shut somebody out.
    Revoke,
    /// To let somebody in again: a revocation is taken back.
    Withdraw,
    /// Somebody with an auditor's key read what was said in a recorded session.
    Transcript,
    /// An operator logged in.
    Login,
    /// A refused log-in or order.
    Refused,
}

impl OrderKind {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            OrderKind::End => "end",
            OrderKind::Drain => "drain",
            OrderKind::Reauthorise => "reauthorise",
            OrderKind::Revoke => "revoke",
            OrderKind::Withdraw => "withdraw",
            OrderKind::Transcript => "transcript",
            OrderKind::Login => "login",
            OrderKind::Refused => "refused",
        }
    }
}

impl fmt::Display for OrderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "order", |line| {
            line.word("order", self.order.name());
            line.text("operator", self.operator.as_bytes());
            if let Some(remote) = self.remote {
                line.address("remote", remote);
            }
            if let Some(session) = self.session {
                line.session(session);
            }
            if let Some(target) = self.target {
                line.maybe_text("subject", target.subject.as_deref());
                line.maybe_text("issuer", target.issuer.as_deref());
                line.maybe_text("group", target.group.as_deref());
                line.maybe_text("token_id", target.token_id.as_deref());
                line.maybe_text("serial", target.serial.as_deref());
                line.maybe_text("email", target.email.as_deref());
                line.maybe_text("session_id", target.session_id.as_deref());
            }
            if let Some(until) = self.until {
                line.text("until", super::rfc3339(until).as_bytes());
            }
            if let Some(sessions) = self.sessions {
                line.number("sessions", sessions as u64);
            }
            line.maybe_text("reason", self.reason);
        })
    }
}
