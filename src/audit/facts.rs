//! What the lines say. Borrowed for one call; no field can hold a token or a secret.

use crate::close::Close;
use crate::names::{Reached, Remote, RequestId, RouteName, SessionId};
use crate::policy::Identity;
use crate::protocol::{Ended, Kind, RefusalReason};
use std::net::SocketAddr;
use std::time::Duration;

/// A session begins.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Which session.
    pub session: SessionId,
    /// The client's address, from the PROXY protocol where that is believed.
    pub remote: Remote,
    /// The address that accepted it.
    pub listener: SocketAddr,
    /// The name that the client asked for.
    pub sni: Option<&'a str>,
    /// The route that the name stands for.
    pub route: Option<&'a RouteName>,
    /// The worker that serves it.
    pub worker: usize,
    /// The route's upstream has no TLS.
    pub plaintext_upstream: bool,
    /// It came through a tunnel.
    pub tunnel: bool,
    /// What a database client connects to.
    pub database: Option<DatabaseFacts<'a>>,
}

/// A database session's terms.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseFacts<'a> {
    /// The stored user, once it is known.
    pub user: Option<&'a str>,
    /// The database; empty where a login names none.
    pub database: &'a [u8],
    /// The user that the client names, which counts for nothing; empty if it names none.
    pub client_user: &'a [u8],
    /// What the client calls itself; empty if it does not.
    pub application: &'a [u8],
    /// How many lines of statements there are, where the route wants them; only at the session's end.
    pub statements: Option<u64>,
}

/// What stands for the version of TLS on an upstream leg that has none: the key that allows it, to be found by.
pub const NO_TLS: &str = "none (unsafe_plaintext_upstream)";

/// One TLS connection of a session, or the upstream leg of one whose upstream has no TLS.
#[derive(Clone, Debug)]
pub struct LegFacts<'a> {
    /// Address of the other end.
    pub peer: Reached,
    /// `TLSv1.3`, `TLSv1.2`, [`NO_TLS`].
    pub version: &'static str,
    /// The cipher suite's name, or `none`.
    pub cipher: &'static str,
    /// The key exchange group's name, where there was one.
    pub group: Option<&'a str>,
    /// The handshake resumed an earlier session.
    pub resumed: bool,
    /// The application protocol that was agreed on.
    pub alpn: Option<&'a [u8]>,
    /// SHA-256 of the peer's certificate.
    pub certificate_sha256: Option<[u8; 32]>,
    /// How the peer's certificate was verified.
    pub verified: Verified,
}

/// How a peer's certificate was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verified {
    /// None was asked for.
    NotAsked,
    /// One was asked for and none was shown.
    NotShown,
    /// There is no TLS, and nobody proved anything.
    NotAtAll,
    /// Its chain, its time and, on the upstream leg, its name.
    Chain,
    /// The same, and its key is the pinned one.
    ChainAndPin,
}

impl Verified {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Verified::NotAsked => "not_asked",
            Verified::NotShown => "not_shown",
            Verified::NotAtAll => "not_at_all",
            Verified::Chain => "chain",
            Verified::ChainAndPin => "chain_and_pin",
        }
    }
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// It was sent on.
    Permitted {
        /// Which line of the route's `allow` said yes.
        rule: usize,
    },
    /// It was answered by the gateway.
    Refused {
        /// As told to the client.
        why: RefusalReason,
        /// For the operator: what exactly was wrong.
        detail: Option<&'a str>,
    },
}

/// A request is over.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Which request of which session.
    pub id: RequestId,
    /// The client's address, of which only refusals are counted; it stands in the session's lines.
    pub remote: Remote,
    /// The route.
    pub route: &'a RouteName,
    /// `1.1` or `2`.
    pub http: &'static str,
    /// The method, as sent.
    pub method: &'a [u8],
    /// The target without its query.
    pub path: &'a [u8],
    /// `Host` or `:authority`.
    pub authority: &'a [u8],
    /// What kind of exchange.
    pub kind: Kind,
    /// The status that went down, if any did.
    pub status: Option<u16>,
    /// Body bytes up.
    pub up: u64,
    /// Body bytes down.
    pub down: u64,
    /// From the head to the response's first byte.
    pub first_byte: Option<Duration>,
    /// From the head to the end.
    pub duration: Duration,
    /// Who asked.
    pub identity: Option<&'a Identity>,
    /// Its outcome.
    pub verdict: Verdict<'a>,
    /// How it ended.
    pub ended: Ended,
    /// What masks found in its bodies, as `down:card=1,email=2`; `None`: nothing, or the route has none.
    pub masked: Option<&'a str>,
}

/// How long the stages of a session took; `None` where it did not come so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageTimes {
    /// The client's TLS handshake.
    pub handshake: Option<Duration>,
    /// From the handshake to the first identity.
    pub identify: Option<Duration>,
    /// Reaching the upstream, its handshake included.
    pub dial: Option<Duration>,
    /// From accept to close.
    pub total: Duration,
}

/// A session is over.
#[derive(Clone, Debug)]
pub struct Closed<'a> {
    /// Which session.
    pub session: SessionId,
    /// The client's address.
    pub remote: Remote,
    /// Why it ended; names the culprit.
    pub reason: Close,
    /// What exactly was wrong, in words.
    pub detail: Option<&'a str>,
    /// The first identity that spoke.
    pub identity: Option<&'a Identity>,
    /// How many different identities spoke.
    pub identities: usize,
    /// The route.
    pub route: Option<&'a RouteName>,
    /// It came through a tunnel.
    pub tunnel: bool,
    /// The client leg, if its handshake was complete.
    pub client: Option<LegFacts<'a>>,
    /// The upstream leg, if its handshake was complete.
    pub upstream: Option<LegFacts<'a>>,
    /// Payload bytes up.
    pub up: u64,
    /// Payload bytes down.
    pub down: u64,
    /// HTTP requests, refused ones included.
    pub requests: u64,
    /// Values that masks found.
    pub masked: u64,
    /// What a database client connected to.
    pub database: Option<DatabaseFacts<'a>>,
    /// The upstream connection was dialled before it was asked for.
    pub dialled_ahead: bool,
    /// Where the time went.
    pub spent: StageTimes,
}
