//! How a leg breaks, and the alert that its peer is owed for it.

use super::record::RecordFault;
use std::io;

// Alert descriptions (RFC 8446 section 6).
const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;

/// How a leg broke. Each names the peer's offence; the leg's owner knows which peer it is.
#[derive(Debug, thiserror::Error)]
pub enum LegFault {
    /// A record broke a rule.
    #[error("{0}")]
    Record(#[from] RecordFault),
    /// A post-handshake message broke a rule.
    #[error("{0}")]
    Message(&'static str),
    /// A post-handshake message cannot be decoded.
    #[error("{0}")]
    Malformed(&'static str),
    /// A post-handshake message has a value that does not exist.
    #[error("{0}")]
    Illegal(&'static str),
    /// The peer sent a fatal alert with this description.
    #[error("fatal alert {0}")]
    Alert(u8),
    /// The connection ended without close_notify.
    #[error("the connection ended without close_notify")]
    Truncated,
    /// The connection was reset or failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS 1.2 reached the record limit of its key and cannot renew it (RFC 5246 has no key update).
    #[error("the key's record limit is reached and TLS 1.2 cannot renew keys")]
    KeyLimit,
}

impl LegFault {
    /// The alert to send for it, if the peer can still be told (RFC 8446 section 6.2).
    pub fn alert(&self) -> Option<u8> {
        match self {
            LegFault::Record(fault) => Some(fault.alert()),
            LegFault::Message(_) => Some(UNEXPECTED_MESSAGE),
            LegFault::Malformed(_) => Some(DECODE_ERROR),
            LegFault::Illegal(_) => Some(ILLEGAL_PARAMETER),
            LegFault::KeyLimit => Some(INTERNAL_ERROR),
            LegFault::Alert(_) | LegFault::Truncated | LegFault::Io(_) => None,
        }
    }
}
