//! A MySQL session up to its first command.

use super::before_tls::scramble;
use super::dialect::Mysql;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::Route;
use crate::names::{Culprit, Side};
use crate::policy::Identity;
use crate::protocol::mysql::capability::{LOCAL_FILES, SSL};
use crate::protocol::mysql::response::{ask_password, password};
use crate::protocol::mysql::{
    self, Agreed, Allowed, Greeting, Login, LoginFault, Progress, Response, err, error, packet, write,
};
use crate::protocol::{Fault, RefusalReason};
use crate::session::authorise::{Denial, authorise_account, close_for_refusal, verify_password};
use crate::session::connected::ConnectedTo;
use crate::session::database::cancels::KillTarget;
use crate::session::database::{DatabaseTraffic, Grant, Statements};
use crate::session::dial::dial_with_greeting;
use crate::session::leg_close::{close_leg, flush, leg_fault, read};
use crate::session::stage::{Authorised, Identified, Routed, Start, Verdict};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A session whose login was read.
pub(crate) struct MysqlStart {
    session: Rc<Session>,
    route: Arc<Route>,
    leg: Leg,
    response: Response,
    /// The number of the client's last packet.
    sequence: u8,
    /// The stored account that the identity gets; known once it is authorised.
    account: Option<Account>,
}

/// The number of a login behind a request for TLS; without one it is 1.
const BEHIND_TLS: u8 = 2;
/// Bytes of a subject that an attribute of the connection carries.
const MAX_SUBJECT: usize = 1024;

/// Reads the login inside TLS. Inside a tunnel the client is greeted there: it has been told nothing yet.
pub(in crate::session) async fn first(routed: Routed, trail: &mut Trail) -> Result<Box<MysqlStart>, Close> {
    let Routed { session, route, mut leg, early, .. } = routed;
    let sequence = if session.is_tunnelled() {
        let mut greeting = Vec::new();
        let local_files = route.database.as_ref().is_some_and(|database| database.local_files);
        let greeting_here = Greeting { local_files, ..Greeting::default() };
        let payload = greeting_here.payload(session.id.0 as u32, &scramble()?, false);
        write(&mut greeting, 0, &payload);
        leg.queue(&greeting).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        1
    } else {
        BEHIND_TLS
    };
    flush(&mut leg, trail).await?;
    let mut plain = Zeroizing::new(early);
    let response = next(&mut leg, &mut plain, sequence, trail).await?;
    match response.and_then(|payload| Response::read(&payload)) {
        Ok(response) => {
            let database = response.database.as_deref().unwrap_or_default();
            trail.wants(database, &response.user, response.program());
            Ok(Box::new(MysqlStart { session, route, leg, response, sequence, account: None }))
        }
        Err(fault) => Err(refuse_protocol_fault(leg, &session, &fault, sequence, trail).await),
    }
}

/// Reads one packet's payload, of this number and with nothing behind it.
async fn next(
    leg: &mut Leg,
    plain: &mut Zeroizing<Vec<u8>>,
    sequence: u8,
    trail: &mut Trail,
) -> Result<Result<Zeroizing<Vec<u8>>, Fault>, Close> {
    loop {
        match packet(plain, Culprit::Client) {
            Ok(None) => {
                if !read(leg, plain, trail).await? {
                    trail.explain("the client left in the middle of its login");
                    return Err(Close::Done);
                }
            }
            Ok(Some(found)) if found.sequence != sequence => return Ok(Err(fault("packets out of order"))),
            Ok(Some(found)) if found.length() < plain.len() => {
                return Ok(Err(fault("bytes behind a packet before its answer")));
            }
            Ok(Some(found)) => {
                let payload = Zeroizing::new(found.payload.to_vec());
                plain.clear();
                return Ok(Ok(payload));
            }
            Err(fault) => return Ok(Err(fault)),
        }
    }
}

fn fault(rule: &'static str) -> Fault {
    Fault { culprit: Culprit::Client, rule, section: "MySQL, Connection Phase" }
}

impl Start for MysqlStart {
    type Traffic = DatabaseTraffic<Mysql>;

    /// Finds out who speaks: by the client's certificate, by the tunnel, or by the token.
    async fn identify(mut self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        if let Some(identity) = self.session.proven_identity() {
            return Ok(Identified { start: self, identity });
        }
        if !self.route.database.as_ref().is_some_and(|database| database.takes_tokens) {
            let words = "this route knows clients by certificate, and none that it knows was shown";
            let denial = Denial::saying(RefusalReason::Forbidden, words);
            return Err(self.deny(denial, trail).await);
        }
        let verdict = match self.response.token() {
            Some(token) => verify_password(&self.session, token, RefusalReason::NoToken).await,
            None => {
                let mut question = Vec::new();
                write(&mut question, self.sequence.wrapping_add(1), &ask_password());
                self.leg.queue(&question).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
                flush(&mut self.leg, trail).await?;
                self.sequence = self.sequence.wrapping_add(2);
                let mut plain = Zeroizing::new(Vec::new());
                match next(&mut self.leg, &mut plain, self.sequence, trail).await? {
                    Ok(payload) => {
                        verify_password(&self.session, password(&payload), RefusalReason::NoToken).await
                    }
                    Err(fault) => {
                        let Self { leg, session, sequence, .. } = *self;
                        return Err(refuse_protocol_fault(leg, &session, &fault, sequence, trail).await);
                    }
                }
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
            Ok(permitted) => permitted,
            Err(denial) => return Err(start.deny(denial, trail).await),
        };
        trail.set_account(&account.user);
        trail.identified();
        start.session.permitted(&permit);
        start.account = Some(account);
        Ok(Ok(Authorised { start, permit }))
    }

    /// Opens the upstream leg and logs in there.
    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<DatabaseTraffic<Mysql>>>, Close> {
        let Authorised { mut start, permit } = authorised;
        let Some(account) = start.account.take() else { return Err(Close::Internal) };
        let authority = start.route.upstream.authority();
        let local_files = start.route.database.as_ref().is_some_and(|database| database.local_files);
        let refused = if local_files { 0 } else { LOCAL_FILES };
        let application = Application::Mysql(start.response.wanted() & !refused);
        let dialled = dial_with_greeting(&start.route, &start.session, &permit, application, trail).await;
        let (mut upstream, mut input, agreed) = match dialled {
            Ok((upstream, early, Some(agreed))) => (upstream, early, agreed),
            Ok((_, _, None)) => return Err(Close::Internal),
            Err(_) => {
                let words = format!("the upstream {authority} cannot be reached or does not verify");
                start.deny(Denial::saying(RefusalReason::BadGateway, &words), trail).await;
                return Err(Close::Dial);
            }
        };
        let subject = shown_subject(permit.identity());
        let logging_in = start.log_in(&account, &mut upstream, &agreed, &subject, &mut input);
        let limit = start.route.timeouts.connect;
        let ok = match timeout(limit, logging_in).await.unwrap_or(Err(LoginEnd::Slow)) {
            Ok(ok) => ok,
            Err(end) => {
                close_leg(upstream, false).await;
                return Err(start.not_logged_in(&end, &authority, trail).await);
            }
        };
        let mut last = Vec::new();
        write(&mut last, start.sequence.wrapping_add(1), &ok);
        start.leg.queue(&last).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        let cancels = &start.session.shared.cancels;
        cancels.note_version(&start.route.name, &agreed.greeting.version);
        let shown = start.session.id.0 as u32;
        let target = KillTarget::new(permit.identity(), agreed.greeting.thread);
        let kill = cancels.mysql.enter(&start.route.name, shown, target);
        let watch = |limit| mysql::Statements::new(limit, agreed.flags);
        let statements = Statements::new(start.session.id, &start.route, &permit, watch);
        Ok(Box::new(ConnectedTo {
            client: start.leg,
            upstream,
            early: input,
            stall: start.route.timeouts.stall,
            traffic: DatabaseTraffic::new(
                Mysql::new(agreed.flags, kill, statements),
                Grant::new(start.session, start.route, permit, account),
            ),
            first: Vec::new(),
            waiting: Vec::new(),
        }))
    }
}

impl MysqlStart {
    /// Returns the payload of the upstream's OK, which is for the client.
    async fn log_in(
        &self,
        account: &Account,
        upstream: &mut Leg,
        Agreed { greeting, flags }: &Agreed,
        subject: &str,
        input: &mut Vec<u8>,
    ) -> Result<Vec<u8>, LoginEnd> {
        let require_auth = self.route.database.as_ref().map(|database| database.require_auth.clone());
        let encrypted = flags & SSL != 0;
        let allowed = Allowed { require_auth: require_auth.unwrap_or_default(), encrypted };
        let mut login = Login::new(account.password.clone(), allowed, &greeting.plugin, &greeting.scramble);
        let (plugin, proof) = login.first();
        let mut payload =
            Zeroizing::new(self.response.for_upstream(*flags, &account.user, plugin, &proof, subject));
        let mut sequence = if flags & SSL == 0 { 1 } else { BEHIND_TLS };
        loop {
            let mut out = Zeroizing::new(Vec::new());
            write(&mut out, sequence, &payload);
            upstream.queue(&out)?;
            upstream.flush().await?;
            payload = loop {
                let Some(found) = packet(input, Culprit::Upstream)? else {
                    if !upstream.read(input).await? {
                        return Err(LoginEnd::Gone);
                    }
                    continue;
                };
                let progress = login.feed(found)?;
                let (length, ok) = (found.length(), found.payload.to_vec());
                sequence = found.sequence.wrapping_add(1);
                input.drain(..length);
                match progress {
                    Progress::Done => return Ok(ok),
                    Progress::Wait => {}
                    Progress::Say(payload) => break payload,
                }
            };
        }
    }

    /// Tells the client that the upstream does not let the gateway in. Nothing that the upstream says of the stored
    /// account goes to the client.
    async fn not_logged_in(self: Box<Self>, end: &LoginEnd, upstream: &str, trail: &mut Trail) -> Close {
        tracing::warn!(route = %self.route.name, session = %self.session.id, fault = %end, "login failed");
        trail.explain(end);
        let (number, words) = match end {
            // The database that the client asked for is its own affair, and so is that there is no room.
            LoginEnd::Login(LoginFault::Refused { number: number @ (1044 | 1049), .. }) => {
                ((*number, "42000"), format!("the upstream {upstream} has no such database for this account"))
            }
            LoginEnd::Login(LoginFault::Refused { number: 1040 | 1203, .. }) => {
                (error::TOO_MANY, format!("the upstream {upstream} has too many connections"))
            }
            LoginEnd::Login(LoginFault::Refused { .. }) => {
                (error::UPSTREAM, format!("the upstream {upstream} does not let the gateway in"))
            }
            LoginEnd::Login(_) | LoginEnd::Broken(_) => {
                (error::UPSTREAM, format!("the gateway and the upstream {upstream} cannot agree on a login"))
            }
            LoginEnd::Leg(_) | LoginEnd::Gone | LoginEnd::Slow => (
                error::UPSTREAM,
                format!("the connection to the upstream {upstream} broke before it was ready"),
            ),
        };
        self.session.shared.metrics.refused(RefusalReason::BadGateway.code());
        refuse(self.leg, &self.session, number, self.sequence, &words).await;
        Close::Dial
    }

    async fn deny(self, denial: Denial, trail: &mut Trail) -> Close {
        trail.explain(&denial.detail);
        denial.identity.iter().for_each(|identity| self.session.identified(identity));
        self.session.shared.metrics.refused(denial.why.code());
        let words = denial.words.as_deref().unwrap_or(denial.why.said_to_database_client());
        refuse(self.leg, &self.session, denial.why.mysql_error(), self.sequence, words).await;
        close_for_refusal(denial.why)
    }
}

/// A subject as an attribute of the connection shows it.
fn shown_subject(identity: &Identity) -> String {
    let fits = identity.subject.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_SUBJECT);
    fits.map(|(_, c)| c).filter(|c| !c.is_control()).collect()
}

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
enum LoginEnd {
    #[error("{0}")]
    Login(#[from] LoginFault),
    #[error("{0}")]
    Broken(#[from] Fault),
    #[error("{0}")]
    Leg(#[from] LegFault),
    #[error("the upstream ended the connection in the middle of the login")]
    Gone,
    #[error("the upstream took too long over the login")]
    Slow,
}

async fn refuse_protocol_fault(
    leg: Leg,
    session: &Session,
    fault: &Fault,
    sequence: u8,
    trail: &mut Trail,
) -> Close {
    trail.explain(fault);
    session.shared.metrics.refused(RefusalReason::BadRequest.code());
    refuse(leg, session, error::HANDSHAKE, sequence, fault.rule).await;
    Close::Protocol(Side::Client)
}

/// Says why in an ERR packet behind the client's packet of this number, and ends the leg.
async fn refuse(mut leg: Leg, session: &Session, number: (u16, &str), sequence: u8, words: &str) {
    let words = format!("{words} (session {})", session.id);
    // A leg that cannot take it any more ends without it.
    let _ = leg.queue(&err(number, sequence.wrapping_add(1), &words));
    close_leg(leg, true).await;
}
