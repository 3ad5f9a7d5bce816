//! The client's response to the greeting: SSLRequest or HandshakeResponse.

use super::capability::{
    CONNECT_ATTRS, CONNECT_WITH_DB, LOCAL_FILES, LONG_PASSWORD, PLUGIN_AUTH, PLUGIN_AUTH_LENENC, PROMISED,
    PROTOCOL_41, SECURE_CONNECTION, SSL, other_framing,
};
use super::{Reader, SECTION, write_counted};
use crate::names::Culprit;
use crate::protocol::Fault;
use std::fmt;
use zeroize::Zeroizing;

/// The plug-in with which a client sends a password as it is: the token, here.
pub const CLEAR_PASSWORD: &[u8] = b"mysql_clear_password";

/// A client's HandshakeResponse41.
#[derive(PartialEq, Eq)]
pub struct Response {
    /// What it wants, of what it was promised.
    capabilities: u32,
    max_packet: u32,
    charset: u8,
    /// The user name that the client claims.
    pub user: Box<[u8]>,
    /// The database that it wants, if it names one.
    pub database: Option<Box<[u8]>>,
    /// The token, if it was sent at once.
    token: Option<Zeroizing<Vec<u8>>>,
    attributes: Vec<Attribute>,
    /// It wants packets of another form than it was promised.
    other_framing: Option<&'static str>,
}

/// A connection attribute: its name and its value.
type Attribute = (Box<[u8]>, Box<[u8]>);

/// It may hold a token.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// What stands in clear before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The request for TLS.
    Tls,
    /// A login in clear.
    Login,
}

/// Bytes of a request for TLS.
const REQUEST: usize = 32;
/// Connection attributes that are passed on; servers keep 64 KiB of them by default, and log when there are more.
const MAX_ATTRIBUTES: usize = 32;

/// What a client's first payload is, in clear.
pub fn first(payload: &[u8]) -> Result<First, Fault> {
    let flags = Reader(payload).u32().ok_or(fault("an answer to the greeting that is too short"))?;
    match (flags & PROTOCOL_41, flags & SSL, payload.len()) {
        (0, ..) => Err(fault("a client of before MySQL 4.1")),
        (_, 0, _) => Ok(First::Login),
        (_, _, REQUEST) => Ok(First::Tls),
        _ => Err(fault("a request for TLS of another length than 32 bytes")),
    }
}

fn fault(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Client, rule, section: SECTION }
}

impl Response {
    /// Reads a payload. What stands behind its fields means nothing, and goes nowhere.
    pub fn read(payload: &[u8]) -> Result<Self, Fault> {
        let response = Self::fields(payload).ok_or(fault("a login that is malformed"))?;
        // The server masks such flags, and the client goes by its own: both would wait for ever.
        if let Some(rule) = response.other_framing {
            return Err(fault(rule));
        }
        let mut names: Vec<Vec<u8>> = response.attributes.iter().map(|(name, _)| as_sql(name)).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(fault("a connection attribute that is sent twice"));
        }
        if names.iter().any(|name| name == SUBJECT) {
            return Err(fault("a connection attribute of the gateway's own, staunch_subject"));
        }
        Ok(response)
    }

    pub(super) fn fields(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let sent = reader.u32()?;
        if sent & PROTOCOL_41 == 0 {
            return None;
        }
        let (max_packet, charset) = (reader.u32()?, reader.byte()?);
        let filler = reader.take(23)?;
        // MariaDB's own extensions stand there for a client that does not say it is one of MySQL's.
        let extends = sent & LONG_PASSWORD == 0 && filler[19..] != [0; 4];
        let extended = extends.then_some("a client with extensions of MariaDB's that were not offered");
        let user = reader.text()?.into();
        let proof = match sent {
            _ if sent & PLUGIN_AUTH_LENENC != 0 => reader.counted()?,
            _ if sent & SECURE_CONNECTION != 0 => {
                let length = reader.byte()?;
                reader.take(length.into())?
            }
            _ => reader.text()?,
        };
        let database = match sent & CONNECT_WITH_DB {
            0 => &[],
            _ => reader.text()?,
        };
        // Some clients leave the last zero byte out where nothing follows.
        let plugin = match sent & PLUGIN_AUTH {
            0 => &[],
            _ => match reader.text() {
                Some(name) => name,
                None => std::mem::take(&mut reader.0),
            },
        };
        let mut attributes = Vec::new();
        if sent & CONNECT_ATTRS != 0 && !reader.0.is_empty() {
            let mut pairs = Reader(reader.counted()?);
            while !pairs.0.is_empty() {
                let (name, value) = (pairs.counted()?, pairs.counted()?);
                attributes.push((name.into(), value.into()));
            }
        }
        let clear = plugin == CLEAR_PASSWORD && !proof.is_empty();
        Some(Response {
            capabilities: sent & (PROMISED | LOCAL_FILES),
            max_packet,
            charset,
            user,
            database: (!database.is_empty()).then(|| database.into()),
            token: clear.then(|| Zeroizing::new(password(proof).to_vec())),
            attributes,
            other_framing: other_framing(sent).or(extended),
        })
    }

    /// The flags that are wanted of a server, a database only if there is one.
    pub fn wanted(&self) -> u32 {
        match self.database {
            Some(_) => self.capabilities | CONNECT_WITH_DB,
            None => self.capabilities & !CONNECT_WITH_DB,
        }
    }

    /// The token, if it was sent at once.
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_ref().map(|token| token.as_slice())
    }

    /// What the client calls itself; empty if it does not.
    pub fn program(&self) -> &[u8] {
        let named = |name: &[u8]| self.attributes.iter().find(|(known, _)| **known == *name);
        named(b"program_name").or_else(|| named(b"_client_name")).map_or(&[], |(_, value)| value)
    }

    /// The login at a server: with these flags, as the stored user, with this proof, and with the identity's subject among the
    /// attributes.
    pub fn for_upstream(
        &self,
        flags: u32,
        user: &str,
        plugin: &[u8],
        proof: &[u8],
        subject: &str,
    ) -> Vec<u8> {
        let mut out = head(flags, self.max_packet, self.charset);
        out.extend_from_slice(user.as_bytes());
        out.push(0);
        if flags & PLUGIN_AUTH_LENENC != 0 {
            write_counted(&mut out, proof);
        } else {
            // Proofs are hashes of 20 or 32 bytes.
            out.push(proof.len() as u8);
            out.extend_from_slice(proof);
        }
        if flags & CONNECT_WITH_DB != 0 {
            out.extend_from_slice(self.database.as_deref().unwrap_or_default());
            out.push(0);
        }
        out.extend_from_slice(plugin);
        out.push(0);
        if flags & CONNECT_ATTRS != 0 {
            let mut pairs = Vec::new();
            let own: (&[u8], &[u8]) = (SUBJECT, subject.as_bytes());
            let theirs = self.attributes.iter().map(|(name, value)| (&**name, &**value));
            // A server cuts what is too long behind the last that fits, so its own comes first.
            for (name, value) in [own].into_iter().chain(theirs.take(MAX_ATTRIBUTES)) {
                write_counted(&mut pairs, name);
                write_counted(&mut pairs, value);
            }
            write_counted(&mut out, &pairs);
        }
        out
    }
}

/// A name as SQL compares it: in either case, and without blanks behind it.
fn as_sql(name: &[u8]) -> Vec<u8> {
    // What is not ASCII may fold to it: the width, accents and case of a name are the collation's affair.
    let text = String::from_utf8_lossy(name);
    let folded = text.trim_end().chars().filter(|c| !c.is_control() && !is_ignorable(*c));
    folded.flat_map(char::to_lowercase).collect::<String>().trim_end().as_bytes().to_vec()
}

/// Characters that collations of Unicode pass over.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The connection attribute that tells a server whom the gateway speaks for.
const SUBJECT: &[u8] = b"staunch_subject";

/// The request for TLS to a server.
pub fn tls_request(flags: u32) -> Vec<u8> {
    head(flags, super::MAX_PAYLOAD as u32, 45)
}

fn head(flags: u32, max_packet: u32, charset: u8) -> Vec<u8> {
    let mut out = Vec::from(flags.to_le_bytes());
    out.extend_from_slice(&max_packet.to_le_bytes());
    out.push(charset);
    out.extend_from_slice(&[0; 23]);
    out
}

/// The payload that asks a client to send its password as it is.
pub fn ask_password() -> Vec<u8> {
    [&[0xfe], CLEAR_PASSWORD, &[0]].concat()
}

/// A password as it was sent, without the zero byte behind it.
pub fn password(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(&[0]).unwrap_or(payload)
}
