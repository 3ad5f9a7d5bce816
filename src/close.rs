//! Why a session ended: one enum, each reason with its culprit.

use crate::names::{Culprit, Side};

/// The reason in the closing log line and the `staunch_sessions_closed_total` metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// Both sides ended cleanly.
    Done,
    /// The first byte was not TLS: refused. The text names what it looked like.
    NotTls(Plaintext),
    /// The deadline from accept to permitted ran out in this stage.
    Deadline(Stage),
    /// The TLS handshake of a leg failed.
    Handshake(Side),
    /// The client named no route (no SNI, or a name that no route has).
    NoRoute,
    /// The certificate of the client's name has not been issued yet.
    NoCertificate,
    /// The client's first bytes do not fit the route's protocol.
    WrongProtocol,
    /// The identity could not be established, or the policy said no.
    Refused,
    /// Requests were refused because the issuer's keys could not be had.
    IssuerUnavailable,
    /// The upstream could not be reached or its certificate does not verify.
    Dial,
    /// A peer broke a rule of TLS after the handshake.
    Record(Side),
    /// A peer broke a rule of the route's protocol.
    Protocol(Side),
    /// A leg ended without close_notify: what was sent may have been cut.
    Truncated(Side),
    /// A leg was reset.
    Reset(Side),
    /// A leg sent a fatal alert.
    Alert(Side),
    /// Nothing moved for as long as the route allows.
    Idle,
    /// The peer stopped reading for as long as the route allows.
    Stalled(Side),
    /// The permit ended (`on_expiry` cut or grace).
    Expired,
    /// The identity was revoked.
    Revoked,
    /// An operator ended it.
    Operator,
    /// The drain deadline ran out.
    Drained,
    /// A limit of connections was reached.
    Limit,
    /// The log takes nothing any more, and evidence goes before service (`log.when_full`).
    LogFull,
    /// Too many connections waited for their permit, and this was the oldest of the address with the most.
    Evicted,
    /// A leg reached the AEAD limit of TLS 1.2, which cannot renew its keys.
    KeyLimit,
    /// The session could not be recorded any further, and its route demands it (`record = "strict"`).
    Recording,
    /// The route masks, and what passed could not be masked any more: compressed, framed in an unknown way, nested too deep.
    Unmaskable,
    /// A fault of the gateway itself.
    Internal,
}

/// What a connection that is not TLS looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plaintext {
    /// A plaintext HTTP/1.x request.
    Http,
    /// The HTTP/2 preface in clear.
    Http2,
    /// A PostgreSQL startup or SSLRequest.
    Postgres,
    /// A PostgreSQL CancelRequest in clear, as clients before libpq 17 send it. It is acted on only where the listener says
    /// so: what it carries could be read on the way.
    PostgresCancel,
    /// A login of MySQL's without TLS, or what is none.
    Mysql,
    /// An SSH banner.
    Ssh,
    /// An SSLv2-style or pre-TLS-1.0 hello.
    OldTls,
    /// Anything else.
    Other,
}

/// Stages of a session, which are also function, module and metric names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The connection was accepted.
    Accept,
    /// The client's TLS handshake.
    Handshake,
    /// The first plaintext bytes.
    Sniff,
    /// Who speaks.
    Identify,
    /// Whether they may.
    Authorise,
    /// The upstream connection and its TLS handshake.
    Dial,
    /// Bytes move.
    Relay,
    /// The end.
    Close,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 8] = [
        Stage::Accept,
        Stage::Handshake,
        Stage::Sniff,
        Stage::Identify,
        Stage::Authorise,
        Stage::Dial,
        Stage::Relay,
        Stage::Close,
    ];

    /// The word used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Accept => "accept",
            Stage::Handshake => "handshake",
            Stage::Sniff => "sniff",
            Stage::Identify => "identify",
            Stage::Authorise => "authorise",
            Stage::Dial => "dial",
            Stage::Relay => "relay",
            Stage::Close => "close",
        }
    }
}

impl Plaintext {
    /// The word used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Plaintext::Http => "http",
            Plaintext::Http2 => "http2",
            Plaintext::Postgres => "postgres",
            Plaintext::PostgresCancel => "postgres_cancel",
            Plaintext::Mysql => "mysql",
            Plaintext::Ssh => "ssh",
            Plaintext::OldTls => "old_tls",
            Plaintext::Other => "other",
        }
    }
}

impl Close {
    /// Every reason once, each with one of the sides, stages or looks that it may have.
    pub const ALL: [Close; 28] = [
        Close::Done,
        Close::NotTls(Plaintext::Http),
        Close::Deadline(Stage::Dial),
        Close::Handshake(Side::Client),
        Close::NoRoute,
        Close::NoCertificate,
        Close::WrongProtocol,
        Close::Refused,
        Close::IssuerUnavailable,
        Close::Dial,
        Close::Record(Side::Client),
        Close::Protocol(Side::Client),
        Close::Truncated(Side::Client),
        Close::Reset(Side::Client),
        Close::Alert(Side::Client),
        Close::Idle,
        Close::Stalled(Side::Client),
        Close::Expired,
        Close::Revoked,
        Close::Operator,
        Close::Drained,
        Close::Limit,
        Close::LogFull,
        Close::Evicted,
        Close::KeyLimit,
        Close::Recording,
        Close::Unmaskable,
        Close::Internal,
    ];

    /// The word used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Close::Done => "done",
            Close::NotTls(_) => "not_tls",
            Close::Deadline(_) => "deadline",
            Close::Handshake(_) => "handshake",
            Close::NoRoute => "no_route",
            Close::NoCertificate => "no_certificate",
            Close::WrongProtocol => "wrong_protocol",
            Close::Refused => "refused",
            Close::IssuerUnavailable => "issuer_unavailable",
            Close::Dial => "dial",
            Close::Record(_) => "record",
            Close::Protocol(_) => "protocol",
            Close::Truncated(_) => "truncated",
            Close::Reset(_) => "reset",
            Close::Alert(_) => "alert",
            Close::Idle => "idle",
            Close::Stalled(_) => "stalled",
            Close::Expired => "expired",
            Close::Revoked => "revoked",
            Close::Operator => "operator",
            Close::Drained => "drained",
            Close::Limit => "limit",
            Close::LogFull => "log_full",
            Close::Evicted => "evicted",
            Close::KeyLimit => "key_limit",
            Close::Recording => "recording",
            Close::Unmaskable => "unmaskable",
            Close::Internal => "internal",
        }
    }

    /// Who caused it.
    pub fn culprit(self) -> Culprit {
        match self {
            Close::Done => Culprit::Nobody,
            Close::NotTls(_)
            | Close::Deadline(_)
            | Close::NoRoute
            | Close::WrongProtocol
            | Close::Refused
            | Close::Expired
            | Close::Revoked => Culprit::Client,
            Close::Dial => Culprit::Upstream,
            Close::Handshake(side)
            | Close::Record(side)
            | Close::Protocol(side)
            | Close::Truncated(side)
            | Close::Reset(side)
            | Close::Alert(side)
            | Close::Stalled(side) => side.into(),
            Close::Idle
            | Close::NoCertificate
            | Close::Operator
            | Close::Drained
            | Close::Limit
            | Close::IssuerUnavailable
            | Close::LogFull
            | Close::Evicted
            | Close::KeyLimit
            | Close::Recording
            | Close::Unmaskable
            | Close::Internal => Culprit::Gateway,
        }
    }

    /// What the reason alone does not tell: the stage, or what the plaintext looked like.
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Close::NotTls(kind) => Some(kind.name()),
            Close::Deadline(stage) => Some(stage.name()),
            _ => None,
        }
    }
}
