//! Vocabulary: newtypes for what must not be passed for something else.
//!
//! Nothing here does I/O or knows a protocol.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// The address of the other end of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote(pub SocketAddr);

/// Where an upstream was reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reached {
    /// An address of TCP's.
    Tcp(SocketAddr),
    /// A socket of this machine.
    Unix(Arc<Path>),
}

impl From<SocketAddr> for Reached {
    fn from(address: SocketAddr) -> Self {
        Reached::Tcp(address)
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reached::Tcp(address) => address.fmt(f),
            Reached::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The address of our end of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local(pub SocketAddr);

/// One of the two TLS connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The leg between the client and the gateway.
    Client,
    /// The leg between the gateway and the service.
    Upstream,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
}

/// Who caused a fault. Every error and close reason names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// The client broke a rule or left.
    Client,
    /// The service behind the gateway broke a rule, could not be reached or left.
    Upstream,
    /// The gateway itself: a limit, its configuration, its machine.
    Gateway,
    /// Nobody: an ordinary end.
    Nobody,
}

impl Culprit {
    /// The word used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Culprit::Client => "client",
            Culprit::Upstream => "upstream",
            Culprit::Gateway => "gateway",
            Culprit::Nobody => "nobody",
        }
    }
}

impl From<Side> for Culprit {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Culprit::Client,
            Side::Upstream => Culprit::Upstream,
        }
    }
}

/// A route's configured name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(pub Arc<str>);

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured issuer's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerName(pub Arc<str>);

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one session in logs, recordings and metrics: 64 random bits, shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one request: the session and the request's place in it, `<session>-<n>`.
///
/// Sent upstream as `X-Request-Id` and shown to the client in a refusal, so that all three logs agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The session that carries the request.
    pub session: SessionId,
    /// HTTP/1.1: counted from 1. HTTP/2: the stream identifier.
    pub number: u32,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
