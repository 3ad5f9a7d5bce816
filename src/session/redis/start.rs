//! A Redis session up to its first command.

use super::dialect::Redis;
use super::{log_login, login_of, said, verify};
use crate::audit::LoginResult;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::Database;
use crate::names::SessionId;
use crate::policy::{Identity, Permit};
use crate::protocol::redis::{self, Login, OK, RESET, encode_auth, error, view, words};
use crate::protocol::{Fault, RefusalReason};
use crate::session::authorise::{Denial, close_for_refusal};
use crate::session::database::Masks;
use crate::session::database::login::{
    DatabaseStart, Established, LoginDialect, LoginEnd, Refusal, UpstreamLogin,
};
use crate::session::leg_close::{close_leg, end_broken_leg, flush};
use crate::session::stage::{Identified, Routed};
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use zeroize::Zeroizing;

/// A session before its permit.
pub(in crate::session) type RedisStart = DatabaseStart<RedisLogin>;

/// A login with AUTH or HELLO.
pub(in crate::session) struct RedisLogin {
    /// Plaintext from the client, not processed yet.
    plain: Zeroizing<Vec<u8>>,
    /// What the client logged in with; nothing where its certificate was enough.
    command: Login,
    /// Commands that were answered.
    answered: usize,
}

/// Commands that are answered before the permit. Clients send one or two; a person at a prompt meets the deadline first.
const MAX_ANSWERED: usize = 64;
/// Bytes of what an upstream says to a login.
const MAX_REPLY: usize = 4096;

/// How errors begin that are none of the account's.
const NOT_READY: [&[u8]; 3] = [b"LOADING ", b"MASTERDOWN ", b"ERR max number of clients"];

/// Why an upstream's answer to AUTH is no login.
#[derive(Debug, thiserror::Error)]
pub(in crate::session) enum LoginFault {
    /// The upstream refused the account.
    #[error("the upstream refused the stored account")]
    Refused,
    /// The upstream failed for another reason.
    #[error("the upstream is not ready to take a login")]
    NotReady,
    /// Not a reply.
    #[error("the upstream's answer to the login is none")]
    Strange,
}

impl From<LoginFault> for LoginEnd<LoginFault> {
    fn from(fault: LoginFault) -> Self {
        LoginEnd::Fault(fault)
    }
}

/// Begins a session with what the client sent behind its handshake.
pub(in crate::session) fn first(mut routed: Routed) -> Result<Box<RedisStart>, Close> {
    let plain = Zeroizing::new(std::mem::take(&mut routed.early));
    DatabaseStart::new(routed, RedisLogin { plain, command: Login::Other, answered: 0 })
}

impl LoginDialect for RedisLogin {
    type Dialect = Redis;
    type Fault = LoginFault;

    /// Finds out who speaks: by the client's certificate, or by the token in AUTH or HELLO. Whatever else comes first is
    /// answered here.
    async fn identify(
        mut start: Box<RedisStart>,
        trail: &mut Trail,
    ) -> Result<Identified<RedisStart>, Close> {
        if let Some(identity) = start.session.proven_identity()
            && start.login.answered == 0
        {
            return Ok(Identified { start, identity });
        }
        flush(&mut start.leg, trail).await?;
        loop {
            let (command, length) = match words(&start.login.plain) {
                Ok(Some((words, length))) => (Login::of(&words), length),
                Ok(None) => {
                    match start.leg.read(&mut start.login.plain).await {
                        Ok(true) => continue,
                        // With nobody permitted there is nothing that an end could cut.
                        Ok(false) | Err(LegFault::Truncated) => {
                            let close = if start.login.answered > 0 { Close::Refused } else { Close::Done };
                            return Err(leave(start, close).await);
                        }
                        Err(fault) => return Err(end_broken_leg(&mut start.leg, fault, trail).await),
                    }
                }
                Err(fault) => return Err(start.refuse_protocol_fault(&fault, trail).await),
            };
            if start.session.recording().is_some() {
                start.session.client_said(&view(&start.login.plain[..length]));
            }
            start.login.plain.drain(..length);
            if let Some(token) = command.token() {
                start.session.on_database_user(command.user());
                match verify(&start.session, &start.route, token).await {
                    Ok(identity) => {
                        start.login.command = command;
                        return Ok(Identified { start, identity });
                    }
                    Err(denial) => start = answer_denial(start, &denial, trail).await?,
                }
                continue;
            }
            match command {
                Login::Nothing => {}
                Login::Reset => start = answer(start, RESET, trail).await?,
                Login::Quit => {
                    let start = answer(start, OK, trail).await?;
                    trail.explain("the client left before it was permitted");
                    let close = if start.login.answered > 1 { Close::Refused } else { Close::Done };
                    return Err(leave(start, close).await);
                }
                Login::Wrong(words) => start = answer(start, &error(words), trail).await?,
                _ => {
                    let denial = Denial::new(RefusalReason::NoToken, "a command before AUTH");
                    start = answer_denial(start, &denial, trail).await?;
                }
            }
        }
    }

    fn describe(&self, trail: &mut Trail) {
        trail.set_application_name(match &self.command {
            Login::Hello { name: Some(name), .. } => name,
            _ => &[],
        });
    }

    async fn on_denied(
        start: Box<RedisStart>,
        denial: Denial,
        identity: &Identity,
        trail: &mut Trail,
    ) -> Result<Box<RedisStart>, Close> {
        log_login(&start.session, &start.route, identity, None, LoginResult::NotPermitted);
        let start = answer_denial(start, &denial, trail).await?;
        match close_for_refusal(denial.why) {
            Close::Refused => Ok(start),
            // Another token would change nothing.
            close => Err(leave(start, close).await),
        }
    }

    fn prepare(&mut self, _: &Database, _: &Account, _: &Permit) -> Result<Application, Fault> {
        Ok(Application::None)
    }

    async fn log_in(&mut self, upstream: UpstreamLogin<'_>) -> Result<(), LoginEnd<LoginFault>> {
        let UpstreamLogin { leg, input, account, .. } = upstream;
        let (user, password) = login_of(account);
        let mut command = Zeroizing::new(Vec::new());
        encode_auth(user, password, &mut command);
        leg.queue(&command)?;
        leg.flush().await?;
        loop {
            if let Some(end) = memchr::memchr(b'\n', input) {
                let line: Vec<u8> = input.drain(..=end).collect();
                return match line.as_slice() {
                    OK => Ok(()),
                    [b'-', words @ ..] if NOT_READY.iter().any(|kind| words.starts_with(kind)) => {
                        Err(LoginFault::NotReady.into())
                    }
                    [b'-', ..] => Err(LoginFault::Refused.into()),
                    _ => Err(LoginFault::Strange.into()),
                };
            }
            if input.len() > MAX_REPLY {
                return Err(LoginFault::Strange.into());
            }
            if !leg.read(input).await? {
                return Err(LoginEnd::Gone);
            }
        }
    }

    fn establish(
        start: &mut RedisStart,
        permit: &Permit,
        account: &Account,
        _: &Leg,
    ) -> Result<Established<Redis>, Close> {
        let DatabaseStart { session, route, login, .. } = start;
        let masks = Masks::new(session, route, redis::Masks::new);
        let Some(mut dialect) = Redis::new(masks) else { return Err(Close::Internal) };
        log_login(session, route, permit.identity(), Some(&account.user), LoginResult::Accepted);
        let (mut down, mut up) = (Vec::new(), Vec::new());
        match &login.command {
            Login::Auth { .. } => down.extend_from_slice(OK),
            // The upstream answers it, in its own words.
            Login::Hello { .. } => {
                login.command.encode(None, &mut up);
                dialect.expect_reply();
            }
            _ => {}
        }
        Ok(Established { dialect, down, up, waiting: std::mem::take(&mut *login.plain) })
    }

    fn encode(&mut self, refusal: Refusal<'_, LoginFault>, session: SessionId) -> Vec<u8> {
        let words = match refusal {
            Refusal::Denied(denial) => return error(said(denial)),
            Refusal::Malformed(fault) => return error(&format!("ERR Protocol error: {}", fault.rule)),
            Refusal::Unreachable(words) | Refusal::Broken(words) => words.to_owned(),
            Refusal::Login { fault: LoginFault::NotReady, upstream } => {
                format!("the upstream {upstream} is not ready; try again")
            }
            Refusal::Login { fault: LoginFault::Refused | LoginFault::Strange, upstream } => {
                format!("the upstream {upstream} does not let the gateway in")
            }
        };
        error(&format!("ERR {words} (session {session})"))
    }
}

/// Answers a command that is no login, or none that is good. Ends the session after too many.
async fn answer(
    mut start: Box<RedisStart>,
    reply: &[u8],
    trail: &mut Trail,
) -> Result<Box<RedisStart>, Close> {
    start.send(reply, trail).await?;
    start.login.answered += 1;
    if start.login.answered < MAX_ANSWERED {
        return Ok(start);
    }
    trail.explain("too many commands before a token that is good");
    Err(leave(start, Close::Refused).await)
}

async fn answer_denial(
    start: Box<RedisStart>,
    denial: &Denial,
    trail: &mut Trail,
) -> Result<Box<RedisStart>, Close> {
    trail.explain(&denial.detail);
    start.session.counters().refused(denial.why.code());
    answer(start, &error(said(denial)), trail).await
}

/// Ends a session that has no upstream leg.
async fn leave(start: Box<RedisStart>, close: Close) -> Close {
    close_leg(start.leg, true).await;
    close
}
