//! A Redis session up to its first command.

use super::dialect::Redis;
use super::{log_login, login_of, said, verify};
use crate::audit::LoginResult;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::Route;
use crate::names::Side;
use crate::protocol::redis::{Login, OK, RESET, encode_auth, error, words};
use crate::protocol::{Fault, RefusalReason};
use crate::session::authorise::{Denial, authorise_account, close_for_refusal};
use crate::session::connected::ConnectedTo;
use crate::session::database::{DatabaseTraffic, Grant};
use crate::session::dial::dial;
use crate::session::leg_close::{close_leg, end_broken_leg, flush, leg_fault};
use crate::session::stage::{Authorised, Identified, Routed, Start, Verdict};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A session before its permit.
pub(crate) struct RedisStart {
    session: Rc<Session>,
    route: Arc<Route>,
    leg: Leg,
    /// Plaintext from the client that was not dealt with.
    plain: Zeroizing<Vec<u8>>,
    /// What the client logged in with; nothing where its certificate was enough.
    login: Login,
    /// The stored account that the identity gets; known once it is authorised.
    account: Option<Account>,
    /// Commands that were answered.
    answered: usize,
}

/// Commands that are answered before the permit. Clients send one or two; a person at a prompt meets the deadline first.
const MAX_ANSWERED: usize = 64;
/// Bytes of what an upstream says to a login.
const MAX_REPLY: usize = 4096;

/// How errors begin that are none of the account's.
const NOT_READY: [&[u8]; 3] = [b"LOADING ", b"MASTERDOWN ", b"ERR max number of clients"];

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
enum LoginEnd {
    #[error("the upstream refused the stored account")]
    Refused,
    #[error("the upstream is not ready to take a login")]
    NotReady,
    #[error("the upstream's answer to the login is none")]
    Strange,
    #[error("{0}")]
    Leg(#[from] LegFault),
    #[error("the upstream ended the connection in the middle of the login")]
    Gone,
    #[error("the upstream took too long over the login")]
    Slow,
}

impl RedisStart {
    pub(in crate::session) fn new(routed: Routed) -> Box<Self> {
        let Routed { session, route, leg, early, .. } = routed;
        let plain = Zeroizing::new(early);
        Box::new(RedisStart { session, route, leg, plain, login: Login::Other, account: None, answered: 0 })
    }
}

impl Start for RedisStart {
    type Traffic = DatabaseTraffic<Redis>;

    /// Finds out who speaks: by the client's certificate, or by the token in AUTH or HELLO. Whatever else comes first is
    /// answered here.
    async fn identify(mut self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        if let Some(identity) = self.session.proven_identity()
            && self.answered == 0
        {
            return Ok(Identified { start: self, identity });
        }
        flush(&mut self.leg, trail).await?;
        loop {
            let (login, length) = match words(&self.plain) {
                Ok(Some((words, length))) => (Login::of(&words), length),
                Ok(None) => {
                    match self.leg.read(&mut self.plain).await {
                        Ok(true) => continue,
                        // With nobody permitted there is nothing that an end could cut.
                        Ok(false) | Err(LegFault::Truncated) => {
                            let close = if self.answered > 0 { Close::Refused } else { Close::Done };
                            return Err(self.leave(close).await);
                        }
                        Err(fault) => return Err(end_broken_leg(&mut self.leg, fault, trail).await),
                    }
                }
                Err(fault) => return Err(self.refuse_protocol_fault(&fault, trail).await),
            };
            self.plain.drain(..length);
            if login.token().is_some() {
                let token = login.token().unwrap_or_default();
                match verify(&self.session, &self.route, token).await {
                    Ok(identity) => {
                        self.login = login;
                        return Ok(Identified { start: self, identity });
                    }
                    Err(denial) => self = self.deny(&denial, trail).await?,
                }
                continue;
            }
            match login {
                Login::Nothing => {}
                Login::Reset => self = self.say(RESET, trail).await?,
                Login::Quit => {
                    let mut this = self.say(OK, trail).await?;
                    trail.explain("the client left before it was permitted");
                    let close = if this.answered > 1 { Close::Refused } else { Close::Done };
                    this.plain.clear();
                    return Err(this.leave(close).await);
                }
                Login::Wrong(words) => self = self.say(&error(words), trail).await?,
                _ => {
                    let denial = Denial::new(RefusalReason::NoToken, "a command before AUTH");
                    self = self.deny(&denial, trail).await?;
                }
            }
        }
    }

    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close> {
        let Identified { mut start, identity } = identified;
        match authorise_account(&start.session, &start.route, &identity) {
            Ok((permit, account)) => {
                let name = match &start.login {
                    Login::Hello { name: Some(name), .. } => name.as_slice(),
                    _ => &[],
                };
                trail.set_application_name(name);
                // Who is refused may be somebody else than who comes in afterwards.
                start.session.identified(&identity);
                trail.set_account(&account.user);
                trail.identified();
                start.session.permitted(&permit);
                start.account = Some(account);
                Ok(Ok(Authorised { start, permit }))
            }
            Err(denial) => {
                log_login(&start.session, &start.route, &identity, None, LoginResult::NotPermitted);
                let start = start.deny(&denial, trail).await?;
                match close_for_refusal(denial.why) {
                    Close::Refused => Ok(Err(start)),
                    // Another token would change nothing.
                    close => Err(start.leave(close).await),
                }
            }
        }
    }

    /// Opens the upstream leg and logs in there.
    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<DatabaseTraffic<Redis>>>, Close> {
        let Authorised { mut start, permit } = authorised;
        let Some(account) = start.account.take() else { return Err(Close::Internal) };
        let Some(mut dialect) = Redis::new() else { return Err(Close::Internal) };
        let dialled = dial(&start.route, &start.session, &permit, Application::None, trail).await;
        let (mut upstream, mut input) = match dialled {
            Ok(upstream) => upstream,
            Err(_) => {
                let words =
                    format!("the upstream {} cannot be reached or does not verify", start.authority());
                return Err(start.not_dialled(&words).await);
            }
        };
        let limit = start.route.timeouts.connect;
        let logged_in = timeout(limit, log_in(&mut upstream, &account, &mut input)).await;
        if let Err(end) = logged_in.unwrap_or(Err(LoginEnd::Slow)) {
            let (route, session) = (&start.route.name, start.session.id);
            tracing::warn!(route = %route, session = %session, fault = %end, "login failed");
            trail.explain(&end);
            close_leg(upstream, false).await;
            let upstream = start.authority();
            let words = match end {
                LoginEnd::Refused | LoginEnd::Strange => {
                    format!("the upstream {upstream} does not let the gateway in")
                }
                LoginEnd::NotReady => format!("the upstream {upstream} is not ready; try again"),
                _ => format!("the connection to the upstream {upstream} broke before it was ready"),
            };
            return Err(start.not_dialled(&words).await);
        }
        let (identity, user) = (permit.identity(), Some(&*account.user));
        log_login(&start.session, &start.route, identity, user, LoginResult::Accepted);
        let mut first = Vec::new();
        match &start.login {
            Login::Auth { .. } => {
                start.leg.queue(OK).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
            }
            // The upstream answers it, in its own words.
            Login::Hello { .. } => {
                start.login.encode(None, &mut first);
                dialect.expect_reply();
            }
            _ => {}
        }
        Ok(Box::new(ConnectedTo {
            client: start.leg,
            upstream,
            early: input,
            stall: start.route.timeouts.stall,
            traffic: DatabaseTraffic::new(dialect, Grant::new(start.session, start.route, permit, account)),
            first,
            waiting: std::mem::take(&mut *start.plain),
        }))
    }
}

impl RedisStart {
    fn authority(&self) -> String {
        self.route.upstream.authority()
    }

    /// Tells the client that there is no upstream for it. Nothing that the upstream says of the stored account goes to
    /// the client.
    async fn not_dialled(mut self: Box<Self>, words: &str) -> Close {
        self.session.shared.metrics.refused(RefusalReason::BadGateway.code());
        let words = format!("ERR {words} (session {})", self.session.id);
        // A leg that cannot take it any more ends without it.
        let _ = self.leg.queue(&error(&words));
        close_leg(self.leg, true).await;
        Close::Dial
    }

    async fn say(mut self: Box<Self>, reply: &[u8], trail: &mut Trail) -> Result<Box<Self>, Close> {
        self.leg.queue(reply).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        flush(&mut self.leg, trail).await?;
        self.answered += 1;
        if self.answered < MAX_ANSWERED {
            return Ok(self);
        }
        trail.explain("too many commands before a token that is good");
        Err(self.leave(Close::Refused).await)
    }

    async fn deny(self: Box<Self>, denial: &Denial, trail: &mut Trail) -> Result<Box<Self>, Close> {
        trail.explain(&denial.detail);
        self.session.shared.metrics.refused(denial.why.code());
        self.say(&error(said(denial)), trail).await
    }

    async fn refuse_protocol_fault(mut self: Box<Self>, fault: &Fault, trail: &mut Trail) -> Close {
        trail.explain(fault);
        self.session.shared.metrics.refused(RefusalReason::BadRequest.code());
        // A leg that cannot take it any more ends without it.
        let _ = self.leg.queue(&error(&format!("ERR Protocol error: {}", fault.rule)));
        self.leave(Close::Protocol(Side::Client)).await
    }

    /// Ends a session that never got to an upstream.
    async fn leave(self: Box<Self>, close: Close) -> Close {
        close_leg(self.leg, true).await;
        close
    }
}

async fn log_in(upstream: &mut Leg, account: &Account, input: &mut Vec<u8>) -> Result<(), LoginEnd> {
    let (user, password) = login_of(account);
    let mut command = Zeroizing::new(Vec::new());
    encode_auth(user, password, &mut command);
    upstream.queue(&command)?;
    upstream.flush().await?;
    loop {
        if let Some(end) = memchr::memchr(b'\n', input) {
            let line: Vec<u8> = input.drain(..=end).collect();
            return match line.as_slice() {
                OK => Ok(()),
                [b'-', words @ ..] if NOT_READY.iter().any(|kind| words.starts_with(kind)) => {
                    Err(LoginEnd::NotReady)
                }
                [b'-', ..] => Err(LoginEnd::Refused),
                _ => Err(LoginEnd::Strange),
            };
        }
        if input.len() > MAX_REPLY {
            return Err(LoginEnd::Strange);
        }
        if !upstream.read(input).await? {
            return Err(LoginEnd::Gone);
        }
    }
}
