//! PostgreSQL's protocol 3 as far as a gateway has to know it: how a connection opens ([`startup`]), how the stored
//! account logs in ([`login`]), where messages begin and end ([`frames`]), what is under way ([`work`]), and how a refusal
//! is said.
//!
//! It does not know SQL. After the login no message is changed, and of each only tag and length are looked at: the
//! work is O(messages), not O(bytes).

mod cancel_key;
mod columns;
pub mod frames;
pub mod login;
pub mod masks;
mod nested;
mod prepared;
pub mod startup;
pub mod statements;
#[cfg(test)]
mod tests;
pub mod work;

pub use cancel_key::{CancelKey, secret_length};
pub use frames::{Ended, Frames};
pub use login::{Allowed, Challenge, Login, LoginFault, Progress, Proof};
pub use masks::Masks;
pub use startup::{Opening, Startup, opening};
pub use statements::Statements;
pub use work::Work;

use super::{Fault, RefusalReason};
use crate::names::Culprit;

/// The ALPN name, for TLS without a request before it and, since PostgreSQL 17, with one.
pub const ALPN: &[u8] = b"postgresql";
/// Asks the server for TLS; it answers with one byte.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// "Yes" to an SSLRequest.
pub const TLS_ACCEPTED: u8 = b'S';
/// "No" to an SSLRequest or a GSSENCRequest; the client goes on or leaves.
pub const TLS_REFUSED: u8 = b'N';

/// Asks the client for a password in clear, which inside TLS is the token.
pub const ASK_PASSWORD: [u8; 9] = *b"R\0\0\0\x08\0\0\0\x03";
/// Ends the session from the frontend's side.
pub const TERMINATE: [u8; 5] = *b"X\0\0\0\x04";

/// Bytes of a password message's text: the longest token that is verified at all.
pub const MAX_PASSWORD: usize = 16 * 1024;

const SECTION: &str = "PostgreSQL, Message Formats";

/// Error codes of PostgreSQL's appendix A that a gateway has a use for.
pub mod sqlstate {
    /// The password is wrong.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// Access is denied.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// A rule of the protocol was broken.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// The connection to the server broke or could not be made.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// The server rejected the connection.
    pub const REJECTED: &str = "08004";
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// Somebody who may ended the session.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Temporarily unavailable.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// Nothing was said for too long.
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
}

impl RefusalReason {
    /// The SQLSTATE that comes nearest.
    pub fn sqlstate(self) -> &'static str {
        match self {
            RefusalReason::NoToken
            | RefusalReason::InvalidToken
            | RefusalReason::ServiceKey
            | RefusalReason::ExpiredToken => sqlstate::INVALID_PASSWORD,
            RefusalReason::Forbidden
            | RefusalReason::TwoTokens
            | RefusalReason::MethodNotAllowed
            | RefusalReason::Misdirected => sqlstate::INVALID_AUTHORIZATION,
            RefusalReason::BadRequest
            | RefusalReason::HeadTooLarge
            | RefusalReason::Unmaskable
            | RefusalReason::UnmaskableAnswer => sqlstate::PROTOCOL_VIOLATION,
            RefusalReason::BadGateway | RefusalReason::BadAnswer | RefusalReason::UpstreamTimeout => {
                sqlstate::CONNECTION_FAILURE
            }
            RefusalReason::Overloaded => sqlstate::TOO_MANY_CONNECTIONS,
            RefusalReason::Draining => sqlstate::ADMIN_SHUTDOWN,
            RefusalReason::IssuerUnavailable => sqlstate::CANNOT_CONNECT_NOW,
        }
    }

    /// One sentence for the person who reads it in a database client.
    pub fn said_to_database_client(self) -> &'static str {
        match self {
            RefusalReason::NoToken => {
                "this gateway takes a token in the place of the password, and none was sent"
            }
            RefusalReason::InvalidToken => "the token in the password field does not verify for this route",
            RefusalReason::ServiceKey => {
                "what stands in the password field is no token and does not verify; use a token of your issuer"
            }
            RefusalReason::ExpiredToken => "the token in the password field has expired; get a new one",
            RefusalReason::Forbidden => "the identity is known, and this route's policy does not permit it",
            RefusalReason::IssuerUnavailable => "the issuer's keys cannot be fetched just now; try again",
            RefusalReason::BadGateway | RefusalReason::BadAnswer | RefusalReason::UpstreamTimeout => {
                "the upstream cannot be reached or does not verify"
            }
            RefusalReason::Draining => "the gateway is going away; connect again",
            RefusalReason::Overloaded => "the gateway is at a limit; try again",
            RefusalReason::BadRequest
            | RefusalReason::HeadTooLarge
            | RefusalReason::TwoTokens
            | RefusalReason::MethodNotAllowed
            | RefusalReason::Misdirected
            | RefusalReason::Unmaskable
            | RefusalReason::UnmaskableAnswer => "the message breaks a rule of the protocol",
        }
    }
}

/// An ErrorResponse of severity FATAL. `detail` is left out when empty. Zero bytes would end a field early and are
/// dropped.
pub fn fatal(sqlstate: &str, message: &str, detail: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + message.len() + detail.len());
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', message), (b'D', detail)]
    {
        if !text.is_empty() {
            body.push(field);
            body.extend(text.bytes().filter(|byte| *byte != 0));
            body.push(0);
        }
    }
    body.push(0);
    message_of(b'E', &body)
}

/// NegotiateProtocolVersion: the newest minor version that is spoken here with this client, and these options are not known.
pub fn negotiate(minor: u16, options: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::from((startup::VERSION_3_0 | u32::from(minor)).to_be_bytes());
    body.extend((options.len() as u32).to_be_bytes());
    for option in options {
        body.extend_from_slice(option);
        body.push(0);
    }
    message_of(b'v', &body)
}

fn message_of(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(5 + body.len());
    message.push(tag);
    message.extend(((body.len() + 4) as u32).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// The text of a PasswordMessage at the front of `bytes`, and how long the message is; `None` while more is needed.
pub fn password(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Fault> {
    match bytes {
        [] => return Ok(None),
        [b'p', ..] => {}
        _ => return Err(client("a message other than the password")),
    }
    let Some(length) = bytes.get(1..5) else { return Ok(None) };
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if !(5..=4 + MAX_PASSWORD + 1).contains(&length) {
        return Err(client("a password message of an impossible length"));
    }
    let Some(body) = bytes.get(5..1 + length) else { return Ok(None) };
    match body.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(Some((text, 1 + length))),
        _ => Err(client("a password that does not end where its message does")),
    }
}

fn client(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Client, rule, section: SECTION }
}
