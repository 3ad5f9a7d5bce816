//! A MySQL session up to its first command.

use super::before_tls::scramble;
use super::dialect::Mysql;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::Database;
use crate::names::{Culprit, SessionId};
use crate::policy::{Identity, Permit};
use crate::protocol::mysql::capability::{LOCAL_FILES, SSL};
use crate::protocol::mysql::response::{ask_password, password};
use crate::protocol::mysql::{
    self, Agreed, Allowed, Greeting, Login, LoginFault, Progress, Response, err, error, packet, write,
};
use crate::protocol::{Fault, RefusalReason};
use crate::session::database::cancels::KillTarget;
use crate::session::database::login::{
    self, DatabaseStart, Established, LoginDialect, LoginEnd, Refusal, UpstreamLogin, send,
};
use crate::session::database::{Masks, Statements};
use crate::session::leg_close::{flush, read};
use crate::session::stage::{Identified, Routed};
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use zeroize::Zeroizing;

/// A session whose login was read.
pub(in crate::session) type MysqlStart = DatabaseStart<MysqlLogin>;

/// A login with a HandshakeResponse.
pub(in crate::session) struct MysqlLogin {
    response: Response,
    /// The number of the client's last packet.
    sequence: u8,
    /// What was agreed on with the upstream, and the payload of its OK.
    upstream: Option<(Agreed, Vec<u8>)>,
}

/// The number of a login behind a request for TLS; without one it is 1.
const SEQUENCE_AFTER_TLS: u8 = 2;
/// Bytes of a subject that an attribute of the connection carries.
const MAX_SUBJECT: usize = 1024;

/// Reads the login inside TLS. Inside a tunnel the client is greeted there: it has been told nothing yet.
pub(in crate::session) async fn first(
    mut routed: Routed,
    trail: &mut Trail,
) -> Result<Box<MysqlStart>, Close> {
    let sequence = if routed.session.is_tunnelled() {
        let mut greeting = Vec::new();
        let local_files = routed.route.database.as_ref().is_some_and(|database| database.local_files);
        let greeting_here = Greeting { local_files, ..Greeting::default() };
        let payload = greeting_here.payload(mysql::thread_id(routed.session.id), &scramble()?, false);
        write(&mut greeting, 0, &payload);
        send(&mut routed.leg, &greeting, trail).await?;
        1
    } else {
        flush(&mut routed.leg, trail).await?;
        SEQUENCE_AFTER_TLS
    };
    let mut plain = Zeroizing::new(std::mem::take(&mut routed.early));
    let response = next(&mut routed.leg, &mut plain, sequence, trail).await?;
    match response.and_then(|payload| Response::read(&payload)) {
        Ok(response) => {
            let database = response.database.as_deref().unwrap_or_default();
            trail.set_database(database, &response.user, response.program());
            DatabaseStart::new(routed, MysqlLogin { response, sequence, upstream: None })
        }
        Err(fault) => {
            let Routed { session, leg, .. } = routed;
            let message = encode(error::HANDSHAKE, sequence, fault.rule, session.id);
            Err(login::refuse_protocol_fault(leg, &session, &fault, &message, trail).await)
        }
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

impl LoginDialect for MysqlLogin {
    type Dialect = Mysql;
    type Fault = LoginFault;

    /// Identifies the client by certificate, tunnel, or token.
    async fn identify(start: Box<MysqlStart>, trail: &mut Trail) -> Result<Identified<MysqlStart>, Close> {
        if let Some(identity) = start.session.proven_identity() {
            return Ok(Identified { start, identity });
        }
        let mut start = start.expect_token(trail).await?;
        if let Some(token) = start.login.response.token() {
            let token = Zeroizing::new(token.to_vec());
            return start.identify_token(&token, trail).await;
        }
        let mut question = Vec::new();
        write(&mut question, start.login.sequence.wrapping_add(1), &ask_password());
        start.send(&question, trail).await?;
        start.login.sequence = start.login.sequence.wrapping_add(2);
        let mut plain = Zeroizing::new(Vec::new());
        match next(&mut start.leg, &mut plain, start.login.sequence, trail).await? {
            Ok(payload) => start.identify_token(password(&payload), trail).await,
            Err(fault) => Err(start.refuse_protocol_fault(&fault, trail).await),
        }
    }

    fn prepare(&mut self, database: &Database, _: &Account, _: &Permit) -> Result<Application, Fault> {
        let refused = if database.local_files { 0 } else { LOCAL_FILES };
        Ok(Application::Mysql(self.response.wanted() & !refused))
    }

    async fn log_in(&mut self, upstream: UpstreamLogin<'_>) -> Result<(), LoginEnd<LoginFault>> {
        let UpstreamLogin { leg, input, database, account, identity, agreed, .. } = upstream;
        let Some(agreed) = agreed else { return Err(LoginFault::Broken(NO_GREETING).into()) };
        let Agreed { greeting, flags } = &agreed;
        let allowed = Allowed { require_auth: database.require_auth.clone(), encrypted: flags & SSL != 0 };
        let mut login = Login::new(account.password.clone(), allowed, &greeting.plugin, &greeting.scramble);
        let (plugin, proof) = login.first();
        let subject = shown_subject(identity);
        let mut payload =
            Zeroizing::new(self.response.for_upstream(*flags, &account.user, plugin, &proof, &subject));
        let mut sequence = if flags & SSL == 0 { 1 } else { SEQUENCE_AFTER_TLS };
        loop {
            let mut out = Zeroizing::new(Vec::new());
            write(&mut out, sequence, &payload);
            leg.queue(&out)?;
            leg.flush().await?;
            payload = loop {
                let Some(found) = packet(input, Culprit::Upstream).map_err(LoginFault::from)? else {
                    if !leg.read(input).await? {
                        return Err(LoginEnd::Gone);
                    }
                    continue;
                };
                let progress = login.feed(found)?;
                let (length, ok) = (found.length(), found.payload.to_vec());
                sequence = found.sequence.wrapping_add(1);
                input.drain(..length);
                match progress {
                    Progress::Done => {
                        self.upstream = Some((agreed, ok));
                        return Ok(());
                    }
                    Progress::Wait => {}
                    Progress::Say(payload) => break payload,
                }
            };
        }
    }

    fn establish(
        start: &mut MysqlStart,
        permit: &Permit,
        _: &Account,
        _: &Leg,
    ) -> Result<Established<Mysql>, Close> {
        let DatabaseStart { session, route, login, .. } = start;
        let Some((agreed, ok)) = login.upstream.take() else { return Err(Close::Internal) };
        let mut down = Vec::new();
        write(&mut down, login.sequence.wrapping_add(1), &ok);
        let cancels = &session.shared.cancels;
        cancels.note_greeting(&route.name, &agreed.greeting);
        let target = KillTarget::new(permit.identity(), agreed.greeting.thread);
        let kill = cancels.mysql.enter(&route.name, mysql::thread_id(session.id), target);
        let watch = |limit| mysql::Statements::new(limit, agreed.flags);
        let statements = Statements::new(session, route, permit, watch);
        let masks = Masks::new(session, route, mysql::Masks::new);
        let dialect = Mysql::new(agreed.flags, kill, statements, masks);
        Ok(Established { dialect, down, up: Vec::new(), waiting: Vec::new() })
    }

    fn encode(&mut self, refusal: Refusal<'_, LoginFault>, session: SessionId) -> Vec<u8> {
        let (number, words) = match refusal {
            Refusal::Denied(denial) => {
                (denial.why.mysql_error(), denial.said_to_database_client().to_owned())
            }
            Refusal::Malformed(fault) => (error::HANDSHAKE, fault.rule.to_owned()),
            Refusal::Unreachable(words) => (RefusalReason::BadGateway.mysql_error(), words.to_owned()),
            Refusal::Broken(words) => (error::UPSTREAM, words.to_owned()),
            Refusal::Login { fault: LoginFault::Refused { number, .. }, upstream } => match number {
                // The database that the client asked for is its own affair, and so is that there is no room.
                1044 | 1049 => (
                    (*number, "42000"),
                    format!("the upstream {upstream} has no such database for this account"),
                ),
                1040 | 1203 => (error::TOO_MANY, format!("the upstream {upstream} has too many connections")),
                _ => (error::UPSTREAM, format!("the upstream {upstream} does not let the gateway in")),
            },
            Refusal::Login { upstream, .. } => {
                (error::UPSTREAM, format!("the gateway and the upstream {upstream} cannot agree on a login"))
            }
        };
        encode(number, self.sequence, &words, session)
    }
}

const NO_GREETING: Fault =
    Fault { culprit: Culprit::Upstream, rule: "no greeting", section: "MySQL, Connection Phase" };

impl From<LoginFault> for LoginEnd<LoginFault> {
    fn from(fault: LoginFault) -> Self {
        LoginEnd::Fault(fault)
    }
}

/// A subject as an attribute of the connection shows it.
fn shown_subject(identity: &Identity) -> String {
    let fits = identity.subject.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_SUBJECT);
    fits.map(|(_, c)| c).filter(|c| !c.is_control()).collect()
}

/// The ERR packet behind the client's packet of this number.
fn encode(number: (u16, &str), sequence: u8, words: &str, session: SessionId) -> Vec<u8> {
    err(number, sequence.wrapping_add(1), &format!("{words} (session {session})"))
}
