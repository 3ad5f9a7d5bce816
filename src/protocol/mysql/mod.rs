//! MySQL's protocol as far as a gateway needs it, for MySQL and MariaDB: packets, the greeting, both logins, and where
//! commands begin. Pure.
//!
//! ```text
//!   packet:   | length of the payload: u24, little-endian | sequence: u8 | payload |
//! ```
//! A payload of 2^24 − 1 bytes goes on in the next packet. The server speaks first, so the gateway greets in its place, before
//! it knows which server: it promises only what every server of these last years can do ([`capability::PROMISED`]).
//!
//! Rules are quoted from "MySQL Internals", Client/Server Protocol.

pub mod capability;
mod command;
pub mod commands;
pub mod greeting;
pub mod kill;
pub mod login;
pub mod masks;
mod packets;
mod prepared;
pub mod replies;
pub mod response;
pub mod statements;
#[cfg(test)]
mod tests;

pub use commands::Commands;
pub use greeting::{Agreed, Greeting, ServerGreeting, thread_id};
pub use kill::Kill;
pub use login::{Allowed, Login, LoginFault, Progress};
pub use masks::Masks;
pub use replies::{Replies, Role};
pub use response::Response;
pub use statements::Statements;

use super::{Fault, RefusalReason};
use crate::names::Culprit;

/// Where the rules stand.
const SECTION: &str = "MySQL, Client/Server Protocol";

/// The largest payload of one packet; one that is as long goes on in the next.
pub const MAX_PAYLOAD: usize = 0xff_ffff;
/// Bytes of a packet before the login is over, whoever sends it: a token with group claims, a database, attributes.
pub const MAX_LOGIN_PACKET: usize = 64 * 1024;
/// The length of a packet's head.
pub const HEAD: usize = 4;

/// A packet of the login.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number in the exchange.
    pub sequence: u8,
    /// What it says.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// How long it is, head and all.
    pub fn length(&self) -> usize {
        HEAD + self.payload.len()
    }
}

/// The packet at the front of `bytes`; `None` while more is needed. `speaker` is to blame for what is wrong with it.
pub fn packet(bytes: &[u8], speaker: Culprit) -> Result<Option<Packet<'_>>, Fault> {
    let Some(&[a, b, c, sequence]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if length == 0 || length > MAX_LOGIN_PACKET {
        return Err(Fault { culprit: speaker, rule: "a packet of an impossible length", section: SECTION });
    }
    Ok(bytes.get(HEAD..HEAD + length).map(|payload| Packet { sequence, payload }))
}

/// Appends a packet. The payload is shorter than [`MAX_PAYLOAD`]: the gateway has no more to say.
pub fn write(out: &mut Vec<u8>, sequence: u8, payload: &[u8]) {
    debug_assert!(payload.len() < MAX_PAYLOAD);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
    out.push(sequence);
    out.extend_from_slice(payload);
}

/// Numbers of errors that a gateway has a use for, each with its SQLSTATE.
pub mod error {
    /// Too many connections.
    pub const TOO_MANY: (u16, &str) = (1040, "08004");
    /// A rule of the protocol was broken.
    pub const HANDSHAKE: (u16, &str) = (1043, "08S01");
    /// The user may not, or is not who it says.
    pub const ACCESS_DENIED: (u16, &str) = (1045, "28000");
    /// What is asked for does not exist here.
    pub const UNKNOWN_COMMAND: (u16, &str) = (1047, "08S01");
    /// The server goes away.
    pub const SHUTDOWN: (u16, &str) = (1053, "08S01");
    /// Packets out of order.
    pub const OUT_OF_ORDER: (u16, &str) = (1156, "08S01");
    /// The connection to the server behind could not be made, or broke.
    pub const UPSTREAM: (u16, &str) = (1429, "HY000");
    /// Somebody who may ended the connection.
    pub const KILLED: (u16, &str) = (1927, "70100");
    /// Transport without encryption is not allowed.
    pub const SECURE_TRANSPORT: (u16, &str) = (3159, "HY000");
}

impl RefusalReason {
    /// The error that comes nearest.
    pub fn mysql_error(self) -> (u16, &'static str) {
        match self {
            RefusalReason::NoToken
            | RefusalReason::InvalidToken
            | RefusalReason::ServiceKey
            | RefusalReason::ExpiredToken
            | RefusalReason::Forbidden => error::ACCESS_DENIED,
            RefusalReason::BadGateway
            | RefusalReason::BadAnswer
            | RefusalReason::UpstreamTimeout
            | RefusalReason::IssuerUnavailable => error::UPSTREAM,
            RefusalReason::Overloaded => error::TOO_MANY,
            RefusalReason::Draining => error::SHUTDOWN,
            RefusalReason::TwoTokens
            | RefusalReason::BadRequest
            | RefusalReason::HeadTooLarge
            | RefusalReason::MethodNotAllowed
            | RefusalReason::Misdirected
            | RefusalReason::Unmaskable
            | RefusalReason::UnmaskableAnswer => error::HANDSHAKE,
        }
    }
}

/// An ERR packet. Control characters would break a terminal and are dropped.
pub fn err((number, sqlstate): (u16, &str), sequence: u8, words: &str) -> Vec<u8> {
    err_packet(number, &["#", sqlstate].concat(), sequence, words)
}

/// An ERR packet in place of the greeting. No protocol is agreed on yet, so there is no SQLSTATE: clients would show it as a
/// part of the text.
pub fn err_for_greeting((number, _): (u16, &str), words: &str) -> Vec<u8> {
    err_packet(number, "", 0, words)
}

fn err_packet(number: u16, sqlstate: &str, sequence: u8, words: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(sqlstate.as_bytes());
    payload.extend(words.bytes().filter(|byte| *byte >= b' ').take(MAX_WORDS));
    let mut out = Vec::with_capacity(HEAD + payload.len());
    write(&mut out, sequence, &payload);
    out
}

/// What clients have room for (`MYSQL_ERRMSG_SIZE`).
const MAX_WORDS: usize = 500;

/// Reads fields off the front of a payload.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    /// Up to a zero byte, which is taken as well.
    fn text(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// A length-encoded integer.
    fn number(&mut self) -> Option<u64> {
        let wide = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        match self.byte()? {
            small @ 0..=0xfa => Some(small.into()),
            0xfc => self.take(2).map(wide),
            0xfd => self.take(3).map(wide),
            0xfe => self.take(8).map(wide),
            _ => None,
        }
    }

    /// A text behind its length-encoded length.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// Appends a text behind its length-encoded length.
fn write_counted(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, text.len());
    out.extend_from_slice(text);
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    match number {
        0..=0xfa => out.push(number as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(number as u16).to_le_bytes());
        }
        _ => {
            out.push(0xfd);
            out.extend_from_slice(&(number as u32).to_le_bytes()[..3]);
        }
    }
}
