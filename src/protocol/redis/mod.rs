//! Redis' RESP as far as a gateway has to know it: where commands begin and end ([`commands`]), which of them log in
//! ([`command`]), where replies begin and end ([`replies`]), what is under way ([`work`]), and how a refusal is said.
//!
//! It does not know what commands do. Of each only its name and lengths are looked at, of replies only types and
//! lengths: the work is O(frames), not O(bytes). AUTH, HELLO and RESET are the exception: they never pass as they came.
//!
//! An answer of the gateway's own stands where the upstream's would, whatever was pipelined before it and whatever mode
//! the connection is in, because a *mark* goes up in the place of the command: a command that no upstream knows, with a
//! name that nobody can guess. The upstream's error about it comes down at the right place and is replaced there.

pub mod command;
pub mod commands;
pub mod masks;
pub mod replies;
#[cfg(test)]
mod tests;
pub mod work;

pub use command::{Login, Words, view, words};
pub use commands::{Commands, Passed};
pub use masks::{Masks, Payload};
pub use replies::{Answer, LoginOf, Replies, Verdict};
pub use work::Work;

use super::{Fault, RefusalReason};
use crate::names::Culprit;

const SECTION: &str = "Redis serialization protocol";

/// The reply to a login that went well.
pub const OK: &[u8] = b"+OK\r\n";
/// The reply to RESET.
pub const RESET: &[u8] = b"+RESET\r\n";
/// The user that a password without a name belongs to.
pub const DEFAULT_USER: &str = "default";

impl RefusalReason {
    /// The error that a Redis client is given: its kind, which clients tell apart, and a sentence.
    pub fn said_to_redis_client(self) -> &'static str {
        match self {
            RefusalReason::NoToken => {
                "NOAUTH this gateway takes a token in the place of the password; send AUTH first"
            }
            RefusalReason::InvalidToken => {
                "WRONGPASS the token in the place of the password does not verify for this route"
            }
            RefusalReason::ServiceKey => {
                "WRONGPASS the token in the place of the password is none; use a token of your issuer"
            }
            RefusalReason::ExpiredToken => "WRONGPASS the token has expired; get a new one",
            RefusalReason::Forbidden => {
                "NOPERM the identity is known, and this route's policy does not permit it"
            }
            RefusalReason::IssuerUnavailable => "ERR the issuer's keys cannot be fetched just now; try again",
            RefusalReason::BadGateway | RefusalReason::BadAnswer | RefusalReason::UpstreamTimeout => {
                "ERR the upstream cannot be reached or does not verify"
            }
            RefusalReason::Draining => "ERR the gateway is going away; connect again",
            RefusalReason::Overloaded => "ERR the gateway is at a limit; try again",
            RefusalReason::BadRequest
            | RefusalReason::HeadTooLarge
            | RefusalReason::TwoTokens
            | RefusalReason::MethodNotAllowed
            | RefusalReason::Misdirected
            | RefusalReason::Unmaskable
            | RefusalReason::UnmaskableAnswer => {
                "ERR Protocol error: the command breaks a rule of the protocol"
            }
        }
    }
}

/// An error reply. Line ends would end it early and are dropped.
pub fn error(words: &str) -> Vec<u8> {
    let mut reply = Vec::with_capacity(words.len() + 3);
    reply.push(b'-');
    reply.extend(words.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    reply.extend_from_slice(b"\r\n");
    reply
}

/// Appends a command.
pub fn encode(words: &[&[u8]], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

/// Appends the login of a stored account. Without a name of its own it is in the form that every version knows.
pub fn encode_auth(user: &str, password: &[u8], into: &mut Vec<u8>) {
    match user {
        DEFAULT_USER => encode(&[b"AUTH", password], into),
        user => encode(&[b"AUTH", user.as_bytes(), password], into),
    }
}

/// A length or count as the protocol writes it: no sign but a minus, no zeros in front.
fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.len() <= 18;
    if !plain || negative && digits == b"0" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

fn client(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Client, rule, section: SECTION }
}

fn upstream(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Upstream, rule, section: SECTION }
}
