//! The gateway as a client of the upstream: proves the stored account, and takes what the server says until it is
//! ready for the first statement.
//!
//! SCRAM is done without channel binding: TLS to the upstream is verified by the gateway itself. An upstream that asks
//! for less than SCRAM gets it, inside that TLS.

use super::{CancelKey, message_of};
use crate::protocol::RequireAuth;
use crate::protocol::require_auth::NONE;
use crate::secret::Secret;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::fmt;
use std::sync::Arc;

/// Bytes of one message before the server is ready; notices and settings are far shorter.
const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of all that is kept for the client until then.
const MAX_KEPT: usize = 256 * 1024;
/// Bytes of a server's words that are kept for the log.
const MAX_WORDS: usize = 300;

/// What may be revealed to the server.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// What it may ask for.
    pub require_auth: RequireAuth,
    /// There is TLS, and the server's certificate was verified: it may be told the password itself.
    pub encrypted: bool,
}

/// A login in progress.
pub struct Login {
    user: Box<str>,
    password: Option<Arc<Secret>>,
    allowed: Allowed,
    /// What the client is told instead of the server's cancel secret.
    secret: Box<[u8]>,
    state: State,
    down: Vec<u8>,
    key: Option<CancelKey>,
}

/// The expected next message.
enum State {
    /// How it wants the account proved, or that it does not.
    Started,
    /// The verdict on a password.
    Answered,
    /// Its part of SCRAM.
    Challenged(Box<ScramSha256>),
    /// Nothing: our proof is being made.
    Proving,
    /// Its own proof.
    Proved(Box<ScramSha256>),
    /// The verdict; it has shown that it knows the password as well.
    Agreed,
    /// Its settings, up to ReadyForQuery.
    Accepted,
}

/// Progress of a login.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More must come from the server.
    More,
    /// The proof is to be made, which takes long, and then given to [`Login::prove`].
    Prove(Challenge),
    /// The server waits for the first statement.
    Ready,
}

/// A server's challenge (RFC 5802), whose answer costs as many rounds of hashing as the server says.
pub struct Challenge {
    scram: Box<ScramSha256>,
    said: Vec<u8>,
}

/// It holds the password.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(…)")
    }
}

/// Two are never the same: each has a nonce of its own.
impl PartialEq for Challenge {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Challenge {}

impl Challenge {
    /// Makes the proof: milliseconds, or as long as `MAX_ITERATIONS` take. Not on a worker's thread.
    pub fn answer(mut self) -> Result<Proof, LoginFault> {
        // Its own error texts repeat what the server sent.
        let fits = self.scram.update(&self.said);
        fits.map_err(|_| LoginFault::Protocol("a SCRAM challenge that does not fit"))?;
        Ok(Proof(self.scram))
    }
}

/// The answer to a [`Challenge`].
pub struct Proof(Box<ScramSha256>);

/// Rounds of hashing that a server may ask for (RFC 7677 says 4,096 at least; servers are set to some 100,000 at most).
const MAX_ITERATIONS: u32 = 1_000_000;

/// The rounds that a server's first message asks for (`r=…,s=…,i=4096`).
fn iterations(said: &[u8]) -> Option<u32> {
    let attribute = said.split(|byte| *byte == b',').find_map(|one| one.strip_prefix(b"i="))?;
    std::str::from_utf8(attribute).ok()?.parse().ok()
}

/// Why a login failed. No text holds the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// The server does not take the account.
    #[error("the upstream refuses the stored account: {0}")]
    Refused(ServerError),
    /// The server takes the account and does not go on, for example because there is no such database. The client is
    /// told in the server's words.
    #[error("the upstream refuses the session: {0}")]
    Ended(ServerError),
    /// It asks for a proof that the gateway does not have.
    #[error("the upstream asks for authentication of kind {0}, which is not supported")]
    Method(u32),
    /// It asks for what the route does not allow.
    #[error("the upstream {0}, which the route's require_auth does not allow")]
    NotAllowed(&'static str),
    /// It asks for the password itself, and there is no TLS.
    #[error("the upstream asks for the password in clear, on a connection without TLS")]
    Clear,
    /// It offers nothing but other mechanisms.
    #[error("the upstream does not offer SCRAM-SHA-256")]
    Mechanism,
    /// There is no password for this account.
    #[error("the upstream asks for a password, and the account has none")]
    NoPassword,
    /// The server's proof does not verify.
    #[error("the upstream does not prove that it knows the password (SCRAM)")]
    Unproven,
    /// It broke a rule.
    #[error("the upstream sends {0}")]
    Protocol(&'static str),
}

/// An ErrorResponse of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    /// The primary message, cut.
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl Login {
    /// The startup message with `user` was sent. `secret` is what the client gets to cancel with.
    pub fn new(user: &str, password: Option<Arc<Secret>>, allowed: Allowed, secret: Box<[u8]>) -> Self {
        let state = State::Started;
        Login { user: user.into(), password, allowed, secret, state, down: Vec::new(), key: None }
    }

    /// Takes the answer to the challenge at which [`Login::feed`] stopped, and appends what is to be sent to the server.
    pub fn prove(&mut self, proof: Proof, reply: &mut Vec<u8>) {
        reply.extend(message_of(b'p', proof.0.message()));
        self.state = State::Proved(proof.0);
    }

    /// Deals with what the server sent and takes it off `input`; appends to `reply` what is to be sent to it. Once
    /// [`Progress::Ready`] or a fault came back it must not be called again.
    pub fn feed(&mut self, input: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<Progress, LoginFault> {
        let (mut at, mut progress) = (0, Progress::More);
        while let (Progress::More, [tag, a, b, c, d, rest @ ..]) = (&progress, &input[at..]) {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if !(4..=MAX_MESSAGE).contains(&length) {
                return Err(LoginFault::Protocol("a message of an impossible length"));
            }
            let Some(body) = rest.get(..length - 4) else { break };
            progress = self.message(*tag, body, reply)?;
            at += 1 + length;
        }
        input.drain(..at);
        Ok(progress)
    }

    /// What the client is to get: AuthenticationOk and what the server said behind it.
    pub fn into_parts(self) -> (Vec<u8>, Option<CancelKey>) {
        (self.down, self.key)
    }

    fn message(&mut self, tag: u8, body: &[u8], reply: &mut Vec<u8>) -> Result<Progress, LoginFault> {
        if !matches!(self.state, State::Accepted) {
            return self.before_verdict(tag, body, reply);
        }
        match (tag, body) {
            (b'K', _) => {
                let wrong = LoginFault::Protocol("a cancel key of a wrong length");
                let key = CancelKey::parse(body).ok_or(wrong)?;
                let own = CancelKey { secret: self.secret.clone(), ..key };
                self.pass_on(tag, &own.payload())?;
                self.key = Some(key);
            }
            (b'S' | b'N', _) => self.pass_on(tag, body)?,
            (b'Z', [_]) => {
                self.pass_on(tag, body)?;
                return Ok(Progress::Ready);
            }
            (b'E', _) => {
                self.pass_on(tag, body)?;
                return Err(LoginFault::Ended(ServerError::parse(body)));
            }
            _ => return Err(LoginFault::Protocol("a message that cannot stand before ReadyForQuery")),
        }
        Ok(Progress::More)
    }

    fn before_verdict(&mut self, tag: u8, body: &[u8], reply: &mut Vec<u8>) -> Result<Progress, LoginFault> {
        match (tag, body) {
            (b'R', [a, b, c, d, rest @ ..]) => {
                return self.authentication(u32::from_be_bytes([*a, *b, *c, *d]), rest, reply);
            }
            (b'E', _) => return Err(LoginFault::Refused(ServerError::parse(body))),
            // Which options of the client's the server does not know.
            (b'v', _) if matches!(self.state, State::Started) && self.down.is_empty() => {
                self.pass_on(tag, body)?;
            }
            // Not for a client whose connection was not accepted.
            (b'N', _) => {}
            _ => return Err(LoginFault::Protocol("a message that cannot stand in a login")),
        }
        Ok(Progress::More)
    }

    /// True where the server may ask for this.
    fn check_allowed(&self, method: &str, asked: &'static str) -> Result<(), LoginFault> {
        match self.allowed.require_auth.permits(method, self.password.is_some()) {
            true => Ok(()),
            false => Err(LoginFault::NotAllowed(asked)),
        }
    }

    fn authentication(
        &mut self,
        kind: u32,
        rest: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Progress, LoginFault> {
        let out_of_order = LoginFault::Protocol("a step of the authentication out of order");
        match (kind, std::mem::replace(&mut self.state, State::Answered)) {
            (OK, state @ (State::Started | State::Answered | State::Agreed)) => {
                if matches!(state, State::Started) {
                    self.check_allowed(NONE, "asks for no proof of the account")?;
                }
                self.state = State::Accepted;
                self.pass_on(b'R', &OK.to_be_bytes())?;
            }
            // Accepting without its own proof, it may be anybody who was handed the exchange.
            (OK, _) => return Err(LoginFault::Unproven),
            (CLEARTEXT, State::Started) => {
                self.check_allowed("password", "asks for the password itself")?;
                // Any user of this machine may listen there while the server is down.
                if !self.allowed.encrypted {
                    return Err(LoginFault::Clear);
                }
                answer(reply, self.password()?.expose());
            }
            (MD5, State::Started) => {
                self.check_allowed("md5", "asks for md5")?;
                let salt = rest.try_into().map_err(|_| LoginFault::Protocol("a salt of a wrong length"))?;
                let hash = md5_hash(self.user.as_bytes(), self.password()?.expose(), salt);
                answer(reply, hash.as_bytes());
            }
            (SASL, State::Started) => {
                self.check_allowed("scram-sha-256", "asks for SCRAM-SHA-256")?;
                if !rest.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(LoginFault::Mechanism);
                }
                let scram = ScramSha256::new(self.password()?.expose(), ChannelBinding::unsupported());
                let mut body = SCRAM_SHA_256.as_bytes().to_vec();
                body.push(0);
                body.extend((scram.message().len() as u32).to_be_bytes());
                body.extend_from_slice(scram.message());
                reply.extend(message_of(b'p', &body));
                self.state = State::Challenged(Box::new(scram));
            }
            (SASL_CONTINUE, State::Challenged(scram)) => {
                if iterations(rest).is_none_or(|rounds| rounds > MAX_ITERATIONS) {
                    return Err(LoginFault::Protocol("a SCRAM challenge of too many iterations, or of none"));
                }
                self.state = State::Proving;
                return Ok(Progress::Prove(Challenge { scram, said: rest.to_vec() }));
            }
            (SASL_FINAL, State::Proved(mut scram)) => {
                scram.finish(rest).map_err(|_| LoginFault::Unproven)?;
                self.state = State::Agreed;
            }
            (CLEARTEXT | MD5 | SASL | SASL_CONTINUE | SASL_FINAL, _) => return Err(out_of_order),
            (other, _) => return Err(LoginFault::Method(other)),
        }
        Ok(Progress::More)
    }

    fn password(&self) -> Result<&Secret, LoginFault> {
        self.password.as_deref().ok_or(LoginFault::NoPassword)
    }

    fn pass_on(&mut self, tag: u8, body: &[u8]) -> Result<(), LoginFault> {
        if self.down.len() + body.len() > MAX_KEPT {
            return Err(LoginFault::Protocol("too much before ReadyForQuery"));
        }
        self.down.extend(message_of(tag, body));
        Ok(())
    }
}

/// A PasswordMessage, written where it is wiped after it was sent: no copy of the password is left behind.
fn answer(reply: &mut Vec<u8>, text: &[u8]) {
    reply.reserve_exact(6 + text.len());
    reply.push(b'p');
    reply.extend(((text.len() + 5) as u32).to_be_bytes());
    reply.extend_from_slice(text);
    reply.push(0);
}

const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

impl ServerError {
    /// Reads the fields that say what is wrong; whatever else is in it is left out.
    fn parse(body: &[u8]) -> Self {
        let field = |wanted: u8| {
            let text = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&wanted));
            let text = text.map_or(&[][..], |field| &field[1..]);
            String::from_utf8_lossy(&text[..text.len().min(MAX_WORDS)]).into_owned()
        };
        ServerError { code: field(b'C'), message: field(b'M') }
    }
}
