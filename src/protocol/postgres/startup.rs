//! The untagged packets that open a connection, and the startup message that goes on upstream.

use super::cancel_key::{CANCEL_LENGTH, CANCEL_REQUEST};
use super::{CancelKey, client};
use crate::protocol::Fault;

/// Protocol 3.0, as PostgreSQL 7.4 and everything since then speaks it.
pub const VERSION_3_0: u32 = 0x0003_0000;
/// The newest minor version, of PostgreSQL 18: in it the secrets of cancel keys have any length. There is no 3.1.
const NEWEST_MINOR: u16 = 2;
/// Bytes of a packet before the login, the limit of PostgreSQL itself (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_PACKET: usize = 10_000;
/// Bytes of a name that PostgreSQL keeps (`NAMEDATALEN` less its zero byte).
pub const MAX_NAME: usize = 63;

const SSL_REQUEST: u32 = 0x04d2_162f;
const GSSENC_REQUEST: u32 = 0x04d2_1630;

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It asks for TLS.
    SslRequest,
    /// It asks for encryption by GSSAPI.
    GssEncRequest,
    /// It wants another session's statement cancelled.
    Cancel(CancelKey),
    /// It begins a session.
    Startup(Startup),
}

/// A startup message: who connects to what, and with which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that was asked for, 0 in all but the newest clients.
    pub minor: u16,
    /// The user that the client names, which goes no further.
    pub user: Vec<u8>,
    /// The database; the user's name where none is given, as PostgreSQL has it.
    pub database: Vec<u8>,
    /// All other parameters in their order.
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Values that the gateway sets in a startup message.
#[derive(Clone, Copy, Debug)]
pub struct Replace<'a> {
    /// The stored user.
    pub user: &'a str,
    /// `application_name`; `None` keeps the client's.
    pub application_name: Option<&'a str>,
    /// A parameter of the operator's own, and its value.
    pub parameter: Option<(&'a str, &'a str)>,
}

/// Reads the packet at the front of `bytes`, and says how long it is; `None` while more is needed.
///
/// ```text
///   | length, itself included: u32 | code or version: u32 | (name 0 value 0)… 0  or  process u32 secret u32 |
/// ```
pub fn opening(bytes: &[u8]) -> Result<Option<(Opening, usize)>, Fault> {
    let Some(length) = number(bytes, 0) else { return Ok(None) };
    let length = length as usize;
    if !(8..=MAX_PACKET).contains(&length) {
        return Err(client("a startup packet of an impossible length"));
    }
    let Some(code) = number(bytes, 4) else { return Ok(None) };
    match (code, length) {
        (SSL_REQUEST, 8) => return Ok(Some((Opening::SslRequest, 8))),
        (GSSENC_REQUEST, 8) => return Ok(Some((Opening::GssEncRequest, 8))),
        (CANCEL_REQUEST, _) if CANCEL_LENGTH.contains(&length) => {}
        (version, _) if version >> 16 == 3 => {}
        (SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST, _) => {
            return Err(client("a request of a wrong length"));
        }
        _ => return Err(client("a version of the protocol that is not 3")),
    }
    let Some(body) = bytes.get(8..length) else { return Ok(None) };
    if code == CANCEL_REQUEST {
        let key = CancelKey::parse(body).ok_or(client("a request of a wrong length"))?;
        return Ok(Some((Opening::Cancel(key), length)));
    }
    Ok(Some((Opening::Startup(Startup::parse(code as u16, body)?), length)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

impl Startup {
    fn parse(minor: u16, mut body: &[u8]) -> Result<Self, Fault> {
        let (mut user, mut database, mut parameters) = (None, None, Vec::new());
        loop {
            let name = text(&mut body)?;
            if name.is_empty() {
                break;
            }
            let value = text(&mut body)?;
            let known = match name {
                b"user" => &mut user,
                b"database" => &mut database,
                _ => {
                    parameters.push((name.to_vec(), value.to_vec()));
                    continue;
                }
            };
            // Which of two counts is a matter of taste, and whoever logs one must not connect the other.
            if known.replace(value.to_vec()).is_some() {
                return Err(client("a startup message that names its user or database twice"));
            }
        }
        if !body.is_empty() {
            return Err(client("bytes behind the end of the startup message"));
        }
        let user = user.filter(|user| !user.is_empty()).ok_or(client("a startup message without a user"))?;
        let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        Ok(Startup { minor, user, database, parameters })
    }

    /// The minor version that is spoken with the client.
    pub fn spoken_minor(&self) -> u16 {
        if self.minor < NEWEST_MINOR { 0 } else { NEWEST_MINOR }
    }

    /// What the client calls itself, empty if it does not.
    pub fn application_name(&self) -> &[u8] {
        self.values(b"application_name").last().unwrap_or_default()
    }

    /// What is said for a parameter, in any spelling, in order: the last counts.
    pub fn values(&self, wanted: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.parameters.iter().filter(move |(name, _)| same(name, wanted)).map(|(_, value)| value.as_slice())
    }

    /// Options of the protocol, which a server that does not know them leaves out and says so.
    pub fn protocol_options(&self) -> impl Iterator<Item = &[u8]> {
        self.parameters.iter().map(|(name, _)| name.as_slice()).filter(|name| is_protocol_option(name))
    }

    /// The startup message for the upstream. `Err`: with what was put in it is longer than a server reads.
    ///
    /// The client's own setting of anything that is replaced is left out in every spelling, since PostgreSQL does not
    /// tell cases apart; what it puts into `options` is read before the parameters and does not outlive them.
    pub fn for_upstream(&self, replace: &Replace<'_>) -> Result<Vec<u8>, Fault> {
        let mut packet = vec![0; 4];
        packet.extend(VERSION_3_0.to_be_bytes());
        put(&mut packet, b"user", replace.user.as_bytes());
        put(&mut packet, b"database", &self.database);
        let replaced = |name: &[u8]| {
            same(name, b"user")
                || same(name, b"database")
                || (replace.application_name.is_some() && same(name, b"application_name"))
                || replace.parameter.is_some_and(|(own, _)| same(name, own.as_bytes()))
                // The client was told that they are not known: what one of them changes could not be followed.
                || is_protocol_option(name)
        };
        for (name, value) in self.parameters.iter().filter(|(name, _)| !replaced(name)) {
            put(&mut packet, name, value);
        }
        if let Some(name) = replace.application_name {
            put(&mut packet, b"application_name", name.as_bytes());
        }
        if let Some((name, value)) = replace.parameter {
            put(&mut packet, name.as_bytes(), value.as_bytes());
        }
        packet.push(0);
        if packet.len() > MAX_PACKET {
            return Err(client("a startup message that is too long with the identity in it"));
        }
        let length = packet.len() as u32;
        packet[..4].copy_from_slice(&length.to_be_bytes());
        Ok(packet)
    }
}

fn is_protocol_option(name: &[u8]) -> bool {
    name.starts_with(b"_pq_.")
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Takes a text and its zero byte off the front.
fn text<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let end = memchr::memchr(0, body).ok_or(client("a startup message whose texts do not end"))?;
    let (text, rest) = body.split_at(end);
    *body = &rest[1..];
    Ok(text)
}

/// Callers' texts hold no zero byte: the client's were cut at them, the configuration's and the identity's are
/// checked where they come from. One that slipped through must not become another parameter.
fn put(packet: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for text in [name, value] {
        packet.extend(text.iter().filter(|byte| **byte != 0));
        packet.push(0);
    }
}

/// An identity as `application_name` takes it: printable ASCII, `?` for the rest, no longer than PostgreSQL keeps.
pub fn as_application_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(MAX_NAME).collect()
}
