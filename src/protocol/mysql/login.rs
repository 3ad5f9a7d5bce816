//! The login at a server, with the stored account. Inside TLS only.

use super::greeting::SCRAMBLE;
use super::{Packet, Reader, SECTION};
use crate::names::Culprit;
use crate::protocol::{Fault, RequireAuth};
use crate::secret::Secret;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, VerifyingKey};
use ring::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use std::sync::Arc;
use zeroize::Zeroizing;

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING_SHA2: &[u8] = b"caching_sha2_password";
const ED25519: &[u8] = b"client_ed25519";
const CLEAR: &[u8] = super::response::CLEAR_PASSWORD;

/// What may be revealed to the server.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// The plug-ins that it may ask for.
    pub require_auth: RequireAuth,
    /// There is TLS, and the server's certificate was verified: it may be told the password itself.
    pub encrypted: bool,
}

/// A login in progress.
pub struct Login {
    password: Option<Arc<Secret>>,
    allowed: Allowed,
    plugin: Vec<u8>,
    scramble: Vec<u8>,
    /// Packets that the server has sent: an honest login is over after a few.
    rounds: usize,
}

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// The server refused the account. Its message names the stored user and goes to the log only.
    #[error("the upstream refused the login: {number} {words}")]
    Refused {
        /// The error's number.
        number: u16,
        /// In its words.
        words: String,
    },
    /// It wants a proof that is not known here.
    #[error("the upstream wants {0}, which the gateway cannot do")]
    Plugin(String),
    /// It asks for what the route does not allow.
    #[error("the upstream asks for {0}, which the route's require_auth does not name")]
    NotAllowed(String),
    /// It asks for the password itself, and there is no TLS.
    #[error("the upstream asks for the password in clear, on a connection without TLS")]
    Clear,
    /// It broke a rule.
    #[error("{0}")]
    Broken(#[from] Fault),
}

/// Result of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The gateway's next packet.
    Say(Zeroizing<Vec<u8>>),
    /// Nothing to say; more comes.
    Wait,
    /// It is over: the payload of the OK packet is for the client.
    Done,
}

/// Packets of one login.
const MAX_ROUNDS: usize = 8;

impl Login {
    /// Begins with what the server's greeting asks for.
    pub fn new(password: Option<Arc<Secret>>, allowed: Allowed, plugin: &[u8], scramble: &[u8]) -> Self {
        let permitted = |plugin: &[u8]| allowed.permits(plugin);
        // What is not known or allowed is not begun with; the server names what it wants again.
        let begins = [plugin, NATIVE, CACHING_SHA2, ED25519];
        let plugin = begins.into_iter().find(|plugin| is_known(plugin) && permitted(plugin)).unwrap_or(CLEAR);
        Login { password, plugin: plugin.to_vec(), scramble: scramble.to_vec(), rounds: 0, allowed }
    }

    /// The plug-in that the first packet names, and its proof.
    pub fn first(&self) -> (&[u8], Vec<u8>) {
        (&self.plugin, self.proof())
    }

    fn password(&self) -> &[u8] {
        self.password.as_ref().map_or(&[], |password| password.expose())
    }

    fn proof(&self) -> Vec<u8> {
        match (self.plugin.as_slice(), self.password()) {
            (_, []) => Vec::new(),
            (NATIVE, password) => native(password, &self.scramble),
            (CACHING_SHA2, password) => caching_sha2(password, &self.scramble),
            (ED25519, password) => ed25519(password, &self.scramble),
            _ => Vec::new(),
        }
    }

    /// The password itself. Without TLS whoever listens there would get it: any user of this machine, while the server is
    /// down.
    fn clear(&self) -> Result<Progress, LoginFault> {
        if !self.allowed.encrypted && !self.password().is_empty() {
            return Err(LoginFault::Clear);
        }
        Ok(Progress::Say(Zeroizing::new([self.password(), &[0]].concat())))
    }

    /// Deals with a packet of the server's.
    pub fn feed(&mut self, packet: Packet<'_>) -> Result<Progress, LoginFault> {
        let broken = |rule| Fault { culprit: Culprit::Upstream, rule, section: SECTION };
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(broken("a login without an end").into());
        }
        match packet.payload {
            [0x00, ..] => Ok(Progress::Done),
            [0xff, rest @ ..] => Err(refused(rest)),
            [0xfe, rest @ ..] => {
                let mut reader = Reader(rest);
                let plugin = reader.text().ok_or(broken("a request for a plug-in without its name"))?;
                if (is_known(plugin) || plugin == CLEAR) && !self.allowed.permits(plugin) {
                    return Err(LoginFault::NotAllowed(bounded(plugin)));
                }
                self.plugin = plugin.to_vec();
                // Of 20 bytes with a zero byte behind them, or of ed25519's 32.
                let scramble = match plugin {
                    ED25519 => reader.0,
                    _ => reader.0.get(..SCRAMBLE).unwrap_or(reader.0),
                };
                self.scramble = scramble.to_vec();
                match plugin {
                    // Its certificate was verified: it may know what it would be told by a client of its own.
                    CLEAR => self.clear(),
                    known if is_known(known) => Ok(Progress::Say(Zeroizing::new(self.proof()))),
                    other => Err(LoginFault::Plugin(bounded(other))),
                }
            }
            // caching_sha2_password: 3, the proof was in its cache; 4, it wants the password itself, which TLS hides.
            [0x01, 3] if self.plugin == CACHING_SHA2 => Ok(Progress::Wait),
            [0x01, 4] if self.plugin == CACHING_SHA2 => self.clear(),
            _ => Err(broken("a packet that has no place in a login").into()),
        }
    }
}

impl Allowed {
    fn permits(&self, plugin: &[u8]) -> bool {
        std::str::from_utf8(plugin).is_ok_and(|plugin| self.require_auth.permits(plugin, true))
    }
}

/// A server's words as a line of the log holds them.
fn bounded(words: &[u8]) -> String {
    String::from_utf8_lossy(&words[..words.len().min(MAX_WORDS)]).into_owned()
}

/// Bytes of a server's words that are kept for the log.
const MAX_WORDS: usize = 300;

fn is_known(plugin: &[u8]) -> bool {
    [NATIVE, CACHING_SHA2, ED25519].contains(&plugin)
}

fn refused(error: &[u8]) -> LoginFault {
    let mut reader = Reader(error);
    let number = reader.u16().unwrap_or_default();
    let words = match reader.0 {
        [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
        words => words,
    };
    LoginFault::Refused { number, words: bounded(words) }
}

fn sha1(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn xor(a: &Digest, b: &Digest) -> Vec<u8> {
    a.as_ref().iter().zip(b.as_ref()).map(|(a, b)| a ^ b).collect()
}

/// SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password))).
fn native(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let once = sha1(&[password]);
    let twice = sha1(&[once.as_ref()]);
    xor(&once, &sha1(&[scramble, twice.as_ref()]))
}

/// MariaDB's: the scramble signed with a key whose seed is the password, however long it is (RFC 8032 section 5.1.6 from its
/// second step on).
fn ed25519(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let mut expanded = Zeroizing::new([0; 64]);
    expanded.copy_from_slice(ring::digest::digest(&SHA512, password).as_ref());
    let secret = ExpandedSecretKey::from_bytes(&expanded);
    raw_sign::<Sha512>(&secret, scramble, &VerifyingKey::from(&secret)).to_bytes().to_vec()
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)), scramble).
fn caching_sha2(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let once = sha256(&[password]);
    let twice = sha256(&[once.as_ref()]);
    xor(&once, &sha256(&[twice.as_ref(), scramble]))
}
