//! The login of a database session, until both legs are established.
//!
//! ```text
//!   client                      gateway                                          upstream
//!     certificate or token ───▶ LoginDialect::identify, authorise
//!                               prepare, dial, LoginDialect::log_in ───────────▶   stored account
//!     logged in            ◀─── LoginDialect::establish                ◀────────
//! ```
//! Who is refused, how that is counted, what the log says and how the legs end stands here, once. A dialect reads the
//! client's messages, logs in upstream and encodes what clients are told.

use super::dialect::{Dialect, Grant};
use super::traffic::DatabaseTraffic;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::{Database, Route};
use crate::names::{SessionId, Side};
use crate::policy::{Identity, Permit};
use crate::protocol::mysql::Agreed;
use crate::protocol::{Fault, RefusalReason};
use crate::session::authorise::{Denial, authorise_account, close_for_refusal, verify_password};
use crate::session::connected::ConnectedTo;
use crate::session::dial::dial_with_greeting;
use crate::session::leg_close::{close_leg, flush, leg_fault};
use crate::session::stage::{Authorised, Identified, Routed, Start, Verdict};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// A database session that is not permitted yet, with what its dialect knows of the client's login.
pub(in crate::session) struct DatabaseStart<L> {
    pub(in crate::session) session: Rc<Session>,
    pub(in crate::session) route: Arc<Route>,
    pub(in crate::session) database: Arc<Database>,
    pub(in crate::session) leg: Leg,
    pub(in crate::session) login: L,
    /// The stored account that the identity gets; known once it is authorised.
    account: Option<Account>,
}

/// A database's login as its protocol has it, on both legs.
///
/// Called in this order: `identify` and, where that came to an identity, `check`; refused there, `on_denied`. Permitted:
/// `describe`, `prepare`, `log_in` and `establish`, once each. `encode` gives the message that goes down instead of whatever comes
/// next; the leg ends behind it.
pub(in crate::session) trait LoginDialect: Sized {
    /// What follows the messages once both legs stand.
    type Dialect: Dialect;
    /// Why the upstream login failed, in the protocol's terms.
    type Fault: std::error::Error;

    /// Identifies the client by certificate, tunnel, or token.
    async fn identify(
        start: Box<DatabaseStart<Self>>,
        trail: &mut Trail,
    ) -> Result<Identified<DatabaseStart<Self>>, Close>;

    /// Why a permitted identity cannot be served.
    fn check(&self, _: &Database, _: &Identity) -> Result<(), &'static str> {
        Ok(())
    }

    /// Takes note of what a permitted client calls itself, where only its login says so.
    fn describe(&self, _: &mut Trail) {}

    /// Tells a client that its identity is not permitted. `Ok` where it may try another.
    async fn on_denied(
        start: Box<DatabaseStart<Self>>,
        denial: Denial,
        _: &Identity,
        trail: &mut Trail,
    ) -> Result<Box<DatabaseStart<Self>>, Close> {
        Err(start.deny(denial, trail).await)
    }

    /// Makes ready what the upstream will be told, before it is dialled. `Err` is the client's fault.
    fn prepare(
        &mut self,
        database: &Database,
        account: &Account,
        permit: &Permit,
    ) -> Result<Application, Fault>;

    /// Logs in upstream as the stored account.
    async fn log_in(&mut self, upstream: UpstreamLogin<'_>) -> Result<(), LoginEnd<Self::Fault>>;

    /// Makes the traffic's dialect, and says what is left to say in both directions.
    fn establish(
        start: &mut DatabaseStart<Self>,
        permit: &Permit,
        account: &Account,
        upstream: &Leg,
    ) -> Result<Established<Self::Dialect>, Close>;

    /// Encodes the message by which a client hears that it gets no session.
    fn encode(&mut self, refusal: Refusal<'_, Self::Fault>, session: SessionId) -> Vec<u8>;
}

/// What a login upstream is made with.
pub(in crate::session) struct UpstreamLogin<'a> {
    pub(in crate::session) leg: &'a mut Leg,
    /// Plaintext from the upstream, not processed yet.
    pub(in crate::session) input: &'a mut Vec<u8>,
    pub(in crate::session) route: &'a Route,
    pub(in crate::session) database: &'a Database,
    pub(in crate::session) account: &'a Account,
    pub(in crate::session) identity: &'a Identity,
    /// What a MySQL server said first.
    pub(in crate::session) agreed: Option<Agreed>,
}

/// Both sides are logged in.
pub(in crate::session) struct Established<D> {
    pub(in crate::session) dialect: D,
    /// For the client.
    pub(in crate::session) down: Vec<u8>,
    /// For the upstream.
    pub(in crate::session) up: Vec<u8>,
    /// Plaintext from the client, not processed yet.
    pub(in crate::session) waiting: Vec<u8>,
}

/// Why an upstream login failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::session) enum LoginEnd<F: std::error::Error> {
    /// No common method, or the upstream refused.
    #[error("{0}")]
    Fault(F),
    /// The upstream took the account and ended the session all the same, in words that are for the client.
    #[error("{0}")]
    Ended(F),
    /// The upstream leg broke.
    #[error("{0}")]
    Leg(#[from] LegFault),
    /// It ended.
    #[error("the upstream ended the connection in the middle of the login")]
    Gone,
    /// The upstream login timed out.
    #[error("the upstream took too long over the login")]
    Slow,
}

/// Why a client's login is refused.
pub(in crate::session) enum Refusal<'a, F> {
    /// Access is denied.
    Denied(&'a Denial),
    /// It broke this rule.
    Malformed(&'a Fault),
    /// The upstream cannot be reached, in these words.
    Unreachable(&'a str),
    /// The connection to the upstream broke before it was ready, in these words.
    Broken(&'a str),
    /// The upstream does not let the gateway in. Nothing that it says of the stored account goes to the client.
    Login {
        /// Why.
        fault: &'a F,
        /// The upstream's authority.
        upstream: &'a str,
    },
}

impl Denial {
    /// The sentence for a database's client.
    pub(in crate::session) fn said_to_database_client(&self) -> &str {
        self.words.as_deref().unwrap_or(self.why.said_to_database_client())
    }
}

impl<L: LoginDialect> Start for DatabaseStart<L> {
    type Traffic = DatabaseTraffic<L::Dialect>;

    async fn identify(self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        L::identify(self, trail).await
    }

    /// Asks the policy, and chooses the account.
    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close> {
        let Identified { mut start, identity } = identified;
        let permitted = authorise_account(&start.session, &start.route, &identity);
        let checked = permitted.and_then(|permitted| match start.login.check(&start.database, &identity) {
            Ok(()) => Ok(permitted),
            Err(detail) => Err(Denial::new(RefusalReason::Forbidden, detail).of(&identity)),
        });
        match checked {
            Ok((permit, account)) => {
                start.login.describe(trail);
                trail.set_account(&account.user);
                trail.record_identity();
                start.session.permitted(&permit);
                start.account = Some(account);
                Ok(Ok(Authorised { start, permit }))
            }
            Err(denial) => L::on_denied(start, denial, &identity, trail).await.map(Err),
        }
    }

    /// Opens the upstream leg and logs in there.
    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<Self::Traffic>>, Close> {
        let Authorised { mut start, permit } = authorised;
        let Some(account) = start.account.take() else { return Err(Close::Internal) };
        let application = match start.login.prepare(&start.database, &account, &permit) {
            Ok(application) => application,
            Err(fault) => return Err(start.refuse_protocol_fault(&fault, trail).await),
        };
        // One time for all of it: connecting, TLS and the login.
        let limit = start.route.timeouts.connect.saturating_sub(start.session.spent_connecting.get());
        let deadline = Instant::now() + limit;
        let dialled = dial_with_greeting(&start.route, &start.session, &permit, application, trail).await;
        let authority = start.route.upstream.authority();
        let Ok((mut upstream, mut input, agreed)) = dialled else {
            let words = format!("the upstream {authority} cannot be reached or does not verify");
            return Err(start.refuse_upstream(Refusal::Unreachable(&words)).await);
        };
        let logging_in = start.login.log_in(UpstreamLogin {
            leg: &mut upstream,
            input: &mut input,
            route: &start.route,
            database: &start.database,
            account: &account,
            identity: permit.identity(),
            agreed,
        });
        let logged_in = timeout_at(deadline, logging_in).await;
        if let Err(end) = logged_in.unwrap_or(Err(LoginEnd::Slow)) {
            close_leg(upstream, false).await;
            return Err(start.not_logged_in(&end, &authority, trail).await);
        }
        let Established { dialect, down, up, waiting } =
            L::establish(&mut start, &permit, &account, &upstream)?;
        start.leg.queue(&down).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        let Self { session, route, leg, .. } = *start;
        Ok(Box::new(ConnectedTo {
            client: leg,
            upstream,
            early: input,
            stall: route.timeouts.stall,
            traffic: DatabaseTraffic::new(dialect, Grant::new(session, route, permit, account)),
            first: up,
            // The gateway's own words, in place of the client's login.
            first_bytes: 0,
            waiting,
        }))
    }
}

impl<L: LoginDialect> DatabaseStart<L> {
    /// A session on its route, its client leg included; `early` of [`Routed`] is the dialect's.
    pub(in crate::session) fn new(routed: Routed, login: L) -> Result<Box<Self>, Close> {
        let Routed { session, route, leg, .. } = routed;
        let Some(database) = route.database.clone() else { return Err(Close::Internal) };
        Ok(Box::new(DatabaseStart { session, route, database, leg, login, account: None }))
    }

    /// Refuses a client without a certificate on a route that only maps certificates.
    pub(in crate::session) async fn expect_token(
        self: Box<Self>,
        trail: &mut Trail,
    ) -> Result<Box<Self>, Close> {
        if self.database.takes_tokens {
            return Ok(self);
        }
        let words = "this route knows clients by certificate, and none that it knows was shown";
        Err(self.deny(Denial::saying(RefusalReason::Forbidden, words), trail).await)
    }

    /// Finds out who sent this token.
    pub(in crate::session) async fn identify_token(
        self: Box<Self>,
        token: &[u8],
        trail: &mut Trail,
    ) -> Result<Identified<Self>, Close> {
        match verify_password(&self.session, token, RefusalReason::NoToken).await {
            Ok(identity) => Ok(Identified { start: self, identity }),
            Err(denial) => Err(self.deny(denial, trail).await),
        }
    }

    /// Sends the client a message.
    pub(in crate::session) async fn send(&mut self, message: &[u8], trail: &mut Trail) -> Result<(), Close> {
        send(&mut self.leg, message, trail).await
    }

    /// Sends a refusal, and closes the leg.
    pub(in crate::session) async fn deny(self: Box<Self>, denial: Denial, trail: &mut Trail) -> Close {
        trail.explain(&denial.detail);
        denial.identity.iter().for_each(|identity| self.session.identified(identity));
        self.session.counters().refused(denial.why.code());
        self.end_with(Refusal::Denied(&denial)).await;
        close_for_refusal(denial.why)
    }

    /// Refuses a client that broke a rule, and ends the leg.
    pub(in crate::session) async fn refuse_protocol_fault(
        mut self: Box<Self>,
        fault: &Fault,
        trail: &mut Trail,
    ) -> Close {
        let message = self.login.encode(Refusal::Malformed(fault), self.session.id);
        let Self { leg, session, .. } = *self;
        refuse_protocol_fault(leg, &session, fault, &message, trail).await
    }

    /// Tells the client that the login upstream came to nothing.
    async fn not_logged_in(
        self: Box<Self>,
        end: &LoginEnd<L::Fault>,
        upstream: &str,
        trail: &mut Trail,
    ) -> Close {
        tracing::warn!(route = %self.route.name, session = %self.session.id, fault = %end, "login failed");
        trail.explain(end);
        match end {
            LoginEnd::Ended(fault) => {
                self.end_with(Refusal::Login { fault, upstream }).await;
                Close::Dial
            }
            LoginEnd::Fault(fault) => self.refuse_upstream(Refusal::Login { fault, upstream }).await,
            LoginEnd::Leg(_) | LoginEnd::Gone | LoginEnd::Slow => {
                let words = format!("the connection to the upstream {upstream} broke before it was ready");
                self.refuse_upstream(Refusal::Broken(&words)).await
            }
        }
    }

    /// Tells the client that there is no upstream for it.
    async fn refuse_upstream(self: Box<Self>, refusal: Refusal<'_, L::Fault>) -> Close {
        self.session.counters().refused(RefusalReason::BadGateway.code());
        self.end_with(refusal).await;
        Close::Dial
    }

    async fn end_with(mut self: Box<Self>, refusal: Refusal<'_, L::Fault>) {
        let message = self.login.encode(refusal, self.session.id);
        end_leg_with(self.leg, &message).await;
    }
}

/// Refuses a client that broke a rule with this message, and ends the leg.
pub(in crate::session) async fn refuse_protocol_fault(
    leg: Leg,
    session: &Session,
    fault: &Fault,
    message: &[u8],
    trail: &mut Trail,
) -> Close {
    trail.explain(fault);
    session.counters().refused(RefusalReason::BadRequest.code());
    end_leg_with(leg, message).await;
    Close::Protocol(Side::Client)
}

/// Sends a message.
pub(in crate::session) async fn send(leg: &mut Leg, message: &[u8], trail: &mut Trail) -> Result<(), Close> {
    leg.queue(message).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
    flush(leg, trail).await
}

async fn end_leg_with(mut leg: Leg, message: &[u8]) {
    // A leg that cannot take it any more ends without it.
    let _ = leg.queue(message);
    close_leg(leg, true).await;
}
