//! The first packet of a connection, which the server sends: read from servers, and written in their place.

use super::capability::{LOCAL_FILES, PLUGIN_AUTH, PROMISED, SSL};
use super::{Reader, SECTION};
use crate::names::{Culprit, SessionId};
use crate::protocol::Fault;

/// The greeting that clients of a listener get, before the server that they want is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What the server calls itself. Some clients choose their SQL by it.
    pub version: Box<str>,
    /// The operator gave that version; otherwise an upstream's own is better, where it is known.
    pub is_given: bool,
    /// The collation that the server begins with. Some clients choose their own by it.
    pub charset: u8,
    /// Clients may be asked for files of theirs.
    pub local_files: bool,
}

impl Default for Greeting {
    fn default() -> Self {
        Greeting { version: DEFAULT_VERSION.into(), is_given: false, charset: CHARSET, local_files: false }
    }
}

/// A version that all clients take, and for which none expects what not every server can do.
const DEFAULT_VERSION: &str = "8.0.11-staunch";
/// Bytes of a scramble (`SCRAMBLE_LENGTH`).
pub const SCRAMBLE: usize = 20;
/// utf8mb4_general_ci, which all servers know.
const CHARSET: u8 = 45;
/// SERVER_STATUS_AUTOCOMMIT.
const STATUS: u16 = 2;
/// The plug-in that clients of all kinds begin with; they are asked to switch to another at once.
const PLUGIN: &[u8] = b"mysql_native_password";
/// How MariaDB's servers begin their version so that old replicas take it; clients of MySQL's do not expect it.
const VERSION_PREFIX: &str = "5.5.5-";

impl Greeting {
    /// The payload. `scramble` has no zero bytes; whatever clients make of it is thrown away. `tls`: they are to ask for TLS.
    pub fn payload(&self, thread: u32, scramble: &[u8; SCRAMBLE], tls: bool) -> Vec<u8> {
        let flags = PROMISED | if self.local_files { LOCAL_FILES } else { 0 } | if tls { SSL } else { 0 };
        let mut out = vec![10];
        out.extend_from_slice(self.version.as_bytes());
        out.push(0);
        out.extend_from_slice(&thread.to_le_bytes());
        out.extend_from_slice(&scramble[..8]);
        out.push(0);
        out.extend_from_slice(&flags.to_le_bytes()[..2]);
        out.push(self.charset);
        out.extend_from_slice(&STATUS.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes()[2..]);
        out.push(SCRAMBLE as u8 + 1);
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&scramble[8..]);
        out.push(0);
        out.extend_from_slice(PLUGIN);
        out.push(0);
        out
    }
}

/// What a server said in clear, before TLS. Nothing of it is trusted beyond the login: who changed it on the way can make that
/// fail, and, as without a gateway, choose the version and the collation that clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGreeting {
    /// Its version.
    pub version: Box<[u8]>,
    /// The number of the connection, by which it can be killed.
    pub thread: u32,
    /// The collation that it begins with.
    pub charset: u8,
    /// What it can do.
    pub capabilities: u32,
    /// What passwords are mixed with.
    pub scramble: Vec<u8>,
    /// The plug-in that it begins with.
    pub plugin: Box<[u8]>,
}

/// A server's greeting, and what is agreed on with it: MariaDB goes by the flags of the request for TLS, whatever the login
/// behind it says, so they stand before anything else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// What it said.
    pub greeting: ServerGreeting,
    /// The flags of the connection.
    pub flags: u32,
}

impl ServerGreeting {
    /// Reads a payload. `Err` also for an ERR packet in its place, which tells that the server wants no connection.
    pub fn read(payload: &[u8]) -> Result<Self, Fault> {
        let fault = |rule| Fault { culprit: Culprit::Upstream, rule, section: SECTION };
        if payload.first() == Some(&0xff) {
            return Err(fault("the server does not want the connection"));
        }
        Self::fields(payload).ok_or_else(|| fault("a greeting that is none"))
    }

    fn fields(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.byte()? != 10 {
            return None;
        }
        let version = reader.text()?.into();
        let thread = reader.u32()?;
        let mut scramble = reader.take(8)?.to_vec();
        reader.byte()?;
        let low = reader.u16()?;
        let charset = reader.byte()?;
        reader.u16()?;
        let capabilities = u32::from(low) | u32::from(reader.u16()?) << 16;
        let length = usize::from(reader.byte()?);
        reader.take(10)?;
        // At least 13 bytes, of which the last is zero.
        scramble.extend_from_slice(reader.take(length.saturating_sub(8).max(13))?);
        scramble.truncate(SCRAMBLE);
        let plugin = match capabilities & PLUGIN_AUTH {
            0 => PLUGIN,
            // Some servers leave the last zero byte out.
            _ => reader.0.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        Some(ServerGreeting { version, thread, charset, capabilities, scramble, plugin: plugin.into() })
    }
}

/// The name of a version as a client should see it.
pub fn version(text: &str) -> Option<Box<str>> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    if !plain || !begins || text.len() > 60 {
        return None;
    }
    // As MariaDB's own servers write it.
    let mariadb = text.contains("MariaDB") && !text.starts_with(VERSION_PREFIX);
    Some(if mariadb { format!("{VERSION_PREFIX}{text}").into() } else { text.into() })
}

/// The thread id that the gateway gives a session's client. Clients show it to people and put it into KILL; some read it as a
/// signed number (MariaDB Connector/J 2.7), so that it has 31 bits.
pub fn thread_id(session: SessionId) -> u32 {
    session.0 as u32 & (u32::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_ids_are_the_same_read_as_signed_numbers() {
        for session in [0, 1, 0x8000_0001, 0xe19d_b376, u64::MAX] {
            assert!(i32::try_from(thread_id(SessionId(session))).is_ok(), "{session:x}");
        }
        assert_ne!(thread_id(SessionId(1)), thread_id(SessionId(2)));
    }
}
