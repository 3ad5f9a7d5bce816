//! A PostgreSQL session up to its first statement.

use super::cancel::Cancel;
use super::dialect::Postgres;
use super::proof::prove;
use crate::close::Close;
use crate::credential::Account;
use crate::dial::Application;
use crate::gateway::{ApplicationName, Database};
use crate::names::{Culprit, SessionId};
use crate::policy::{Identity, Permit};
use crate::protocol::postgres::startup::{Replace, as_application_name};
use crate::protocol::postgres::{
    self, ASK_PASSWORD, Allowed, CancelKey, Login, LoginFault, Opening, Progress, Startup, TLS_REFUSED,
    fatal, negotiate, opening, password, secret_length, sqlstate,
};
use crate::protocol::{Fault, RefusalReason};
use crate::session::database::cancels::CancelTarget;
use crate::session::database::login::{
    self, DatabaseStart, Established, LoginDialect, LoginEnd, Refusal, UpstreamLogin, send,
};
use crate::session::database::{Masks, Statements};
use crate::session::leg_close::{flush, read};
use crate::session::stage::{Identified, Routed};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

/// A session whose startup message was read.
pub(in crate::session) type PostgresStart = DatabaseStart<PostgresLogin>;

/// A login with a startup message and a password.
pub(in crate::session) struct PostgresLogin {
    startup: Startup,
    /// The secret half of the key by which the client may cancel.
    secret: Box<[u8]>,
    /// What the upstream is told first.
    packet: Vec<u8>,
    /// The login there; its answers for the client are in it.
    upstream: Option<Login>,
}

/// Requests for encryption that a client inside a tunnel may make: one of each kind.
const MAX_REFUSED: usize = 2;
/// Bytes of a subject that a setting of the upstream can carry.
const MAX_SUBJECT: usize = 1024;

/// What a client begins with.
pub(in crate::session) enum First {
    /// A session.
    Startup(Box<PostgresStart>),
    /// A CancelRequest: ends what another session runs.
    Cancel(Box<Cancel>),
}

/// Reads the first packet inside TLS: a session, or a CancelRequest.
pub(in crate::session) async fn first(mut routed: Routed, trail: &mut Trail) -> Result<First, Close> {
    flush(&mut routed.leg, trail).await?;
    let (mut plain, mut refused) = (std::mem::take(&mut routed.early), 0);
    let (opening, length) = loop {
        match opening(&plain) {
            // A client on the near side of a tunnel may ask: it cannot see the encryption that it stands behind.
            Ok(Some((Opening::SslRequest | Opening::GssEncRequest, length)))
                if routed.session.is_tunnelled() && refused < MAX_REFUSED =>
            {
                if plain.len() > length {
                    return Err(
                        refuse_protocol_fault(routed.leg, &routed.session, &UNEXPECTED_BYTES, trail).await
                    );
                }
                plain.clear();
                refused += 1;
                send(&mut routed.leg, &[TLS_REFUSED], trail).await?;
            }
            Ok(Some(opening)) => break opening,
            Ok(None) => {
                if !read(&mut routed.leg, &mut plain, trail).await? {
                    return Err(Close::Done);
                }
            }
            Err(fault) => return Err(refuse_protocol_fault(routed.leg, &routed.session, &fault, trail).await),
        }
    };
    if plain.len() > length {
        return Err(refuse_protocol_fault(routed.leg, &routed.session, &UNEXPECTED_BYTES, trail).await);
    }
    match opening {
        Opening::Startup(startup) => {
            trail.set_startup(&startup);
            let Some(secret) = random(secret_length(startup.spoken_minor())) else {
                return Err(Close::Internal);
            };
            let login = PostgresLogin { startup, secret, packet: Vec::new(), upstream: None };
            Ok(First::Startup(DatabaseStart::new(routed, login)?))
        }
        Opening::Cancel(key) => {
            let Routed { session, route, leg, .. } = routed;
            let cancel = Cancel::find(session, &route, leg, key, trail).await?;
            Ok(First::Cancel(Box::new(cancel)))
        }
        Opening::SslRequest | Opening::GssEncRequest => {
            let fault = Fault { rule: "a request for encryption inside TLS", ..UNEXPECTED_BYTES };
            Err(refuse_protocol_fault(routed.leg, &routed.session, &fault, trail).await)
        }
    }
}

/// Bytes that wait behind a message that was not answered: whatever they are, nobody has been permitted yet.
const UNEXPECTED_BYTES: Fault = Fault {
    culprit: Culprit::Client,
    rule: "bytes behind a message before its answer",
    section: "PostgreSQL, Start-up",
};

impl LoginDialect for PostgresLogin {
    type Dialect = Postgres;
    type Fault = LoginFault;

    /// Identifies the client by certificate, or by the token in the password field.
    async fn identify(
        mut start: Box<PostgresStart>,
        trail: &mut Trail,
    ) -> Result<Identified<PostgresStart>, Close> {
        let startup = &start.login.startup;
        let options: Vec<&[u8]> = startup.protocol_options().collect();
        let spoken = startup.spoken_minor();
        if startup.minor != spoken || !options.is_empty() {
            let negotiated = negotiate(spoken, &options);
            start.send(&negotiated, trail).await?;
        }
        if let Some(identity) = start.session.proven_identity() {
            return Ok(Identified { start, identity });
        }
        let mut start = start.expect_token(trail).await?;
        start.send(&ASK_PASSWORD, trail).await?;
        let mut plain = Zeroizing::new(Vec::new());
        loop {
            match password(&plain) {
                Ok(None) => {
                    if !read(&mut start.leg, &mut plain, trail).await? {
                        trail.explain("the client left when it was asked for a password");
                        return Err(Close::Done);
                    }
                }
                Ok(Some((_, length))) if plain.len() > length => {
                    return Err(start.refuse_protocol_fault(&UNEXPECTED_BYTES, trail).await);
                }
                Ok(Some((token, _))) => return start.identify_token(token, trail).await,
                Err(fault) => return Err(start.refuse_protocol_fault(&fault, trail).await),
            }
        }
    }

    fn check(&self, database: &Database, identity: &Identity) -> Result<(), &'static str> {
        let subject = &identity.subject;
        let carried = subject.len() <= MAX_SUBJECT && !subject.contains(|c: char| c.is_control());
        match database.identity_guc.is_some() && !carried {
            true => Err("the subject is too long for identity_guc, or holds control characters"),
            false => Ok(()),
        }
    }

    fn prepare(
        &mut self,
        database: &Database,
        account: &Account,
        permit: &Permit,
    ) -> Result<Application, Fault> {
        let subject = &permit.identity().subject;
        let application_name = match database.application_name {
            ApplicationName::Identity => Some(as_application_name(subject)),
            ApplicationName::Client => None,
        };
        self.packet = self.startup.for_upstream(&Replace {
            user: &account.user,
            application_name: application_name.as_deref(),
            parameter: database.identity_guc.as_deref().map(|name| (name, &**subject)),
        })?;
        Ok(Application::Postgres)
    }

    async fn log_in(&mut self, upstream: UpstreamLogin<'_>) -> Result<(), LoginEnd<LoginFault>> {
        let UpstreamLogin { leg, input, route, database, account, .. } = upstream;
        let allowed = Allowed {
            require_auth: database.require_auth.clone(),
            encrypted: !route.upstream.is_plaintext(),
        };
        let login = Login::new(&account.user, account.password.clone(), allowed, self.secret.clone());
        let login = self.upstream.insert(login);
        leg.queue(&self.packet)?;
        leg.flush().await?;
        loop {
            let mut reply = Zeroizing::new(Vec::new());
            let mut progress = login.feed(input, &mut reply)?;
            if let Progress::Prove(challenge) = progress {
                login.prove(prove(challenge, &database.proofs).await?, &mut reply);
                progress = Progress::More;
            }
            leg.queue(&reply)?;
            leg.flush().await?;
            if progress == Progress::Ready {
                return Ok(());
            }
            if !leg.read(input).await? {
                return Err(LoginEnd::Gone);
            }
        }
    }

    fn establish(
        start: &mut PostgresStart,
        permit: &Permit,
        _: &Account,
        upstream: &Leg,
    ) -> Result<Established<Postgres>, Close> {
        let DatabaseStart { session, route, login, .. } = start;
        let Some(logged_in) = login.upstream.take() else { return Err(Close::Internal) };
        let (down, key) = logged_in.into_parts();
        let cancel = match (key, route.upstream.reached(&upstream.tcp)) {
            (Some(key), Ok(address)) => {
                let own = CancelKey { process: key.process, secret: login.secret.clone() };
                let (permit, at) = (permit.clone(), route.clone());
                let target = CancelTarget { session: session.id, permit, route: at, address, key };
                session.shared.cancels.postgres.enter(&route.name, own, target)
            }
            _ => None,
        };
        let statements = Statements::new(session, route, permit, postgres::Statements::new);
        let masks = Masks::new(session, route, postgres::Masks::new);
        let dialect = Postgres::new(cancel, statements, masks);
        Ok(Established { dialect, down, up: Vec::new(), waiting: Vec::new() })
    }

    fn encode(&mut self, refusal: Refusal<'_, LoginFault>, session: SessionId) -> Vec<u8> {
        let (code, words) = match refusal {
            Refusal::Denied(denial) => (denial.why.sqlstate(), denial.said_to_database_client().to_owned()),
            Refusal::Malformed(fault) => return malformed(fault, session),
            Refusal::Unreachable(words) => (RefusalReason::BadGateway.sqlstate(), words.to_owned()),
            Refusal::Broken(words) => (sqlstate::CONNECTION_FAILURE, words.to_owned()),
            Refusal::Login { fault: LoginFault::Ended(_), .. } => {
                return self.upstream.take().map(|login| login.into_parts().0).unwrap_or_default();
            }
            Refusal::Login { fault: LoginFault::Refused(error), upstream } => {
                let code = match error.code.get(..2) {
                    Some("53" | "57") if error.code.len() == 5 => error.code.as_str(),
                    _ => sqlstate::REJECTED,
                };
                (code, format!("the upstream {upstream} does not let the gateway in"))
            }
            Refusal::Login { upstream, .. } => (
                sqlstate::REJECTED,
                format!("the gateway and the upstream {upstream} cannot agree on a login"),
            ),
        };
        fatal(code, &words, &format!("session {session}"))
    }
}

impl From<LoginFault> for LoginEnd<LoginFault> {
    fn from(fault: LoginFault) -> Self {
        match fault {
            LoginFault::Ended(_) => LoginEnd::Ended(fault),
            fault => LoginEnd::Fault(fault),
        }
    }
}

fn random(length: usize) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; length].into_boxed_slice();
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

fn malformed(fault: &Fault, session: SessionId) -> Vec<u8> {
    fatal(sqlstate::PROTOCOL_VIOLATION, fault.rule, &format!("session {session}"))
}

async fn refuse_protocol_fault(leg: Leg, session: &Session, fault: &Fault, trail: &mut Trail) -> Close {
    login::refuse_protocol_fault(leg, session, fault, &malformed(fault, session.id), trail).await
}
