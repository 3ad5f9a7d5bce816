//! A PostgreSQL session up to its first statement.

use super::cancel::Cancel;
use super::dialect::Postgres;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::{ApplicationName, Database, Route};
use crate::names::Side;
use crate::protocol::postgres::startup::{Replace, as_application_name};
use crate::protocol::postgres::{
    self, ASK_PASSWORD, Allowed, Challenge, Login, LoginFault, Opening, Progress, Proof, Startup, UNWILLING,
    fatal, only_3_0, opening, password, sqlstate,
};
use crate::protocol::{Fault, RefusalReason};
use crate::session::authorise::{Denial, authorise_account, close_for_refusal, verify_password};
use crate::session::connected::ConnectedTo;
use crate::session::database::cancels::CancelTarget;
use crate::session::database::{DatabaseTraffic, Grant, Statements};
use crate::session::dial::dial;
use crate::session::leg_close::{close_leg, flush, leg_fault, read};
use crate::session::stage::{Authorised, Identified, Routed, Start, Verdict};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use ring::rand::SecureRandom;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A session whose startup message was read.
pub(crate) struct PostgresStart {
    session: Rc<Session>,
    route: Arc<Route>,
    database: Arc<Database>,
    leg: Leg,
    startup: Startup,
    /// Which of the stored accounts the identity gets; known once it is authorised.
    account: Option<Account>,
}

/// Requests for encryption that a client inside a tunnel may make: one of each kind.
const MAX_REFUSED: usize = 2;
/// Bytes of a subject that a setting of the upstream can carry.
const MAX_SUBJECT: usize = 1024;

/// What a client begins with.
pub(in crate::session) enum First {
    /// A session.
    Startup(Box<PostgresStart>),
    /// The wish to cancel what another session runs.
    Cancel(Box<Cancel>),
}

/// Reads the first packet inside TLS: a session, or a CancelRequest.
pub(in crate::session) async fn first(routed: Routed, trail: &mut Trail) -> Result<First, Close> {
    let Routed { session, route, mut leg, early, .. } = routed;
    let Some(database) = route.database.clone() else { return Err(Close::Internal) };
    flush(&mut leg, trail).await?;
    let (mut plain, mut refused) = (early, 0);
    let (opening, length) = loop {
        match opening(&plain) {
            // A client on the near side of a tunnel may ask: it cannot see the encryption that it stands behind.
            Ok(Some((Opening::SslRequest | Opening::GssEncRequest, length)))
                if session.is_tunnelled() && refused < MAX_REFUSED =>
            {
                if plain.len() > length {
                    return Err(refuse_protocol_fault(leg, &session, &EARLY, trail).await);
                }
                plain.clear();
                refused += 1;
                leg.queue(&[UNWILLING]).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
                flush(&mut leg, trail).await?;
            }
            Ok(Some(opening)) => break opening,
            Ok(None) => {
                if !read(&mut leg, &mut plain, trail).await? {
                    return Err(Close::Done);
                }
            }
            Err(fault) => return Err(refuse_protocol_fault(leg, &session, &fault, trail).await),
        }
    };
    if plain.len() > length {
        return Err(refuse_protocol_fault(leg, &session, &EARLY, trail).await);
    }
    match opening {
        Opening::Startup(startup) => {
            trail.set_startup(&startup);
            let start = PostgresStart { session, route, database, leg, startup, account: None };
            Ok(First::Startup(Box::new(start)))
        }
        Opening::Cancel(key) => {
            let cancel = Cancel::find(session, &route, leg, key, trail).await?;
            Ok(First::Cancel(Box::new(cancel)))
        }
        Opening::SslRequest | Opening::GssEncRequest => {
            let rule = "a request for encryption inside TLS";
            Err(refuse_protocol_fault(leg, &session, &Fault { rule, ..EARLY }, trail).await)
        }
    }
}

/// Bytes that wait behind a message that was not answered: whatever they are, nobody has been permitted yet.
const EARLY: Fault = Fault {
    culprit: crate::names::Culprit::Client,
    rule: "bytes behind a message before its answer",
    section: "PostgreSQL, Start-up",
};

impl Start for PostgresStart {
    type Traffic = DatabaseTraffic<Postgres>;

    /// Finds out who speaks: by the client's certificate, or by the token in the password field.
    async fn identify(mut self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        let options: Vec<&[u8]> = self.startup.protocol_options().collect();
        if self.startup.minor > 0 || !options.is_empty() {
            let told = only_3_0(&options);
            self.say(&told, trail).await?;
        }
        if let Some(identity) = self.session.proven_identity() {
            return Ok(Identified { start: self, identity });
        }
        if !self.database.takes_tokens {
            let words = "this route knows clients by certificate, and none that it knows was shown";
            let denial = Denial::saying(RefusalReason::Forbidden, words);
            return Err(self.deny(denial, trail).await);
        }
        self.say(&ASK_PASSWORD, trail).await?;
        let mut plain = Zeroizing::new(Vec::new());
        let verdict = loop {
            match password(&plain) {
                Ok(None) => {
                    if !read(&mut self.leg, &mut plain, trail).await? {
                        trail.explain("the client left when it was asked for a password");
                        return Err(Close::Done);
                    }
                }
                Ok(Some((_, length))) if plain.len() > length => {
                    return Err(refuse_protocol_fault(self.leg, &self.session, &EARLY, trail).await);
                }
                Ok(Some((token, _))) => {
                    break verify_password(&self.session, token, RefusalReason::NoToken).await;
                }
                Err(fault) => return Err(refuse_protocol_fault(self.leg, &self.session, &fault, trail).await),
            }
        };
        match verdict {
            Ok(identity) => Ok(Identified { start: self, identity }),
            Err(denial) => Err(self.deny(denial, trail).await),
        }
    }

    /// Asks the policy, and chooses the account.
    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close> {
        let Identified { mut start, identity } = identified;
        let (permit, account) = match authorise_account(&start.session, &start.route, &identity) {
            Ok(authorised) => authorised,
            Err(denial) => return Err(start.deny(denial, trail).await),
        };
        let subject = &identity.subject;
        let carried = subject.len() <= MAX_SUBJECT && !subject.contains(|c: char| c.is_control());
        if start.database.identity_guc.is_some() && !carried {
            let detail = "the subject is too long for identity_guc, or holds control characters";
            return Err(start.deny(Denial::new(RefusalReason::Forbidden, detail).of(&identity), trail).await);
        }
        trail.set_account(&account.user);
        start.account = Some(account);
        trail.identified();
        start.session.permitted(&permit);
        Ok(Ok(Authorised { start, permit }))
    }

    /// Opens the upstream leg and logs in there.
    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<DatabaseTraffic<Postgres>>>, Close> {
        let Authorised { mut start, permit } = authorised;
        let subject = permit.identity().subject.clone();
        let Some(account) = start.account.take() else { return Err(Close::Internal) };
        let application_name = match start.database.application_name {
            ApplicationName::Identity => Some(as_application_name(&subject)),
            ApplicationName::Client => None,
        };
        let replace = Replace {
            user: &account.user,
            application_name: application_name.as_deref(),
            parameter: start.database.identity_guc.as_deref().map(|name| (name, &*subject)),
        };
        let packet = match start.startup.for_upstream(&replace) {
            Ok(packet) => packet,
            Err(fault) => return Err(refuse_protocol_fault(start.leg, &start.session, &fault, trail).await),
        };
        let dialled = dial(&start.route, &start.session, &permit, Application::Postgres, trail).await;
        let (mut upstream, early) = match dialled {
            Ok(upstream) => upstream,
            Err(detail) => {
                let words =
                    format!("the upstream {} cannot be reached or does not verify", start.authority());
                let denial = Denial { words: Some(words), ..Denial::new(RefusalReason::BadGateway, detail) };
                start.deny(denial, trail).await;
                return Err(Close::Dial);
            }
        };
        let secret = match random() {
            Some(secret) => secret,
            None => return Err(Close::Internal),
        };
        let allowed = Allowed {
            require_auth: start.database.require_auth.clone(),
            encrypted: !start.route.upstream.is_plaintext(),
        };
        let mut login = Login::new(&account.user, account.password.clone(), allowed, secret);
        let mut input = early;
        let limit = start.route.timeouts.connect;
        let logged_in =
            timeout(limit, log_in(&mut upstream, &mut login, &packet, &mut input, &start.database.proofs))
                .await;
        let fault = match logged_in {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault),
            Err(_) => Some(LoginEnd::Slow),
        };
        if let Some(fault) = fault {
            close_leg(upstream, false).await;
            return Err(start.not_logged_in(&fault, login, trail).await);
        }
        let (down, key) = login.into_parts();
        if let Err(fault) = start.leg.queue(&down) {
            return Err(leg_fault(trail, Side::Client, fault));
        }
        let entered = match (key, start.route.upstream.reached(&upstream.tcp)) {
            (Some(key), Ok(address)) => {
                let own = crate::protocol::postgres::CancelKey { secret, ..key };
                let route = start.route.clone();
                let target =
                    CancelTarget { session: start.session.id, permit: permit.clone(), route, address, key };
                start.session.shared.cancels.postgres.enter(&start.route.name, own, target)
            }
            _ => None,
        };
        let statements = Statements::new(start.session.id, &start.route, &permit, postgres::Statements::new);
        Ok(Box::new(ConnectedTo {
            client: start.leg,
            upstream,
            early: input,
            stall: start.route.timeouts.stall,
            traffic: DatabaseTraffic::new(
                Postgres::new(entered, statements),
                Grant::new(start.session, start.route, permit, account),
            ),
            first: Vec::new(),
            waiting: Vec::new(),
        }))
    }
}

impl PostgresStart {
    fn authority(&self) -> String {
        self.route.upstream.authority()
    }

    /// Tells the client that the upstream does not let the gateway in. Nothing that the upstream says of the stored
    /// account goes to the client.
    async fn not_logged_in(mut self: Box<Self>, end: &LoginEnd, login: Login, trail: &mut Trail) -> Close {
        tracing::warn!(route = %self.route.name, session = %self.session.id, fault = %end, "login failed");
        trail.explain(end);
        let upstream = self.authority();
        let (code, words) = match end {
            // It was accepted, and the upstream's own words about the session stand in what goes down.
            LoginEnd::Fault(LoginFault::Ended(_)) => {
                // A leg that cannot take them any more ends without them.
                let _ = self.leg.queue(&login.into_parts().0);
                close_leg(self.leg, true).await;
                return Close::Dial;
            }
            LoginEnd::Fault(LoginFault::Refused(error)) => {
                let code = match error.code.get(..2) {
                    Some("53" | "57") if error.code.len() == 5 => error.code.as_str(),
                    _ => sqlstate::REJECTED,
                };
                (code, format!("the upstream {upstream} does not let the gateway in"))
            }
            LoginEnd::Fault(_) => (
                sqlstate::REJECTED,
                format!("the gateway and the upstream {upstream} cannot agree on a login"),
            ),
            LoginEnd::Leg(_) | LoginEnd::Gone | LoginEnd::Slow => (
                sqlstate::CONNECTION_FAILURE,
                format!("the connection to the upstream {upstream} broke before it was ready"),
            ),
        };
        self.session.shared.metrics.refused(RefusalReason::BadGateway.code());
        refuse(self.leg, &self.session, code, &words).await;
        Close::Dial
    }

    async fn say(&mut self, message: &[u8], trail: &mut Trail) -> Result<(), Close> {
        self.leg.queue(message).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        flush(&mut self.leg, trail).await
    }

    async fn deny(self, denial: Denial, trail: &mut Trail) -> Close {
        trail.explain(&denial.detail);
        denial.identity.iter().for_each(|identity| self.session.identified(identity));
        self.session.shared.metrics.refused(denial.why.code());
        let words = denial.words.as_deref().unwrap_or(denial.why.said_to_database_client());
        refuse(self.leg, &self.session, denial.why.sqlstate(), words).await;
        close_for_refusal(denial.why)
    }
}

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
enum LoginEnd {
    #[error("{0}")]
    Fault(#[from] LoginFault),
    #[error("{0}")]
    Leg(#[from] LegFault),
    #[error("the upstream ended the connection in the middle of the login")]
    Gone,
    #[error("the upstream took too long over the login")]
    Slow,
}

async fn log_in(
    upstream: &mut Leg,
    login: &mut Login,
    packet: &[u8],
    input: &mut Vec<u8>,
    proofs: &Semaphore,
) -> Result<(), LoginEnd> {
    upstream.queue(packet)?;
    upstream.flush().await?;
    loop {
        let mut reply = Zeroizing::new(Vec::new());
        let mut progress = login.feed(input, &mut reply)?;
        if let Progress::Prove(challenge) = progress {
            login.prove(prove(challenge, proofs).await?, &mut reply);
            progress = Progress::More;
        }
        upstream.queue(&reply)?;
        upstream.flush().await?;
        if progress == Progress::Ready {
            return Ok(());
        }
        if !upstream.read(input).await? {
            return Err(LoginEnd::Gone);
        }
    }
}

/// Makes a proof on a thread of its own: the others of this worker are not to wait for its milliseconds.
async fn prove(challenge: Challenge, proofs: &Semaphore) -> Result<Proof, LoginFault> {
    let turn = proofs.acquire().await;
    let made = tokio::task::spawn_blocking(move || challenge.answer()).await;
    drop(turn);
    made.unwrap_or(Err(LoginFault::Protocol("a SCRAM challenge that could not be answered")))
}

fn random() -> Option<u32> {
    let mut bytes = [0; 4];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u32::from_ne_bytes(bytes))
}

async fn refuse_protocol_fault(leg: Leg, session: &Session, fault: &Fault, trail: &mut Trail) -> Close {
    trail.explain(fault);
    session.shared.metrics.refused(RefusalReason::BadRequest.code());
    refuse(leg, session, sqlstate::PROTOCOL_VIOLATION, fault.rule).await;
    Close::Protocol(Side::Client)
}

/// Says why in an ErrorResponse, and ends the leg.
async fn refuse(mut leg: Leg, session: &Session, sqlstate: &str, words: &str) {
    // A leg that cannot take it any more ends without it.
    let _ = leg.queue(&fatal(sqlstate, words, &format!("session {}", session.id)));
    close_leg(leg, true).await;
}
