//! Facts of one session, as its stages write them.

use crate::audit;
use crate::close::Stage;
use crate::gateway::Route;
use crate::names::{Reached, Remote};
use crate::policy::Identity;
use crate::tls::handshake;
use std::sync::Arc;

/// A session's facts so far.
#[derive(Clone)]
pub struct Facts {
    /// The stage it is in.
    pub stage: Stage,
    /// The client's address; the one that the PROXY protocol told where it is believed.
    pub remote: Remote,
    /// The name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// True inside a tunnel.
    pub tunnel: bool,
    /// Its route.
    pub route: Option<Arc<Route>>,
    /// The last identity that was permitted or refused.
    pub identity: Option<Arc<Identity>>,
    /// The 64 identities before: requests of theirs may be in flight.
    pub earlier: Vec<Arc<Identity>>,
    /// The client leg.
    pub client: Option<handshake::Facts>,
    /// The upstream leg, and the address that it reached.
    pub upstream: Option<(handshake::Facts, Reached)>,
    /// The upstream connection stood before it was asked for.
    pub dialled_ahead: bool,
    /// What a database client wants to connect to, and as whom it does.
    pub database: Option<Box<Connecting>>,
}

/// What a database client wants to connect to, and as whom it does.
#[derive(Clone)]
pub struct Connecting {
    /// The database.
    pub database: Box<[u8]>,
    /// As whom the client says it comes.
    pub client_user: Box<[u8]>,
    /// What it calls itself.
    pub application: Box<[u8]>,
    /// The stored user, once it is known.
    pub user: Option<Box<str>>,
    /// Lines of statements that there were, once the session is over.
    pub statements: Option<u64>,
}

impl Facts {
    /// A database session's terms, as lines of the log have them.
    pub(in crate::session) fn database(&self) -> Option<audit::DatabaseFacts<'_>> {
        let Connecting { database, client_user, application, user, statements } =
            &**self.database.as_ref()?;
        let (user, statements) = (user.as_deref(), *statements);
        Some(audit::DatabaseFacts { user, database, client_user, application, statements })
    }

    pub(super) fn new(remote: Remote) -> Self {
        Facts {
            stage: Stage::Accept,
            remote,
            sni: None,
            tunnel: false,
            route: None,
            identity: None,
            earlier: Vec::new(),
            client: None,
            upstream: None,
            dialled_ahead: false,
            database: None,
        }
    }

    /// All identities of the session.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.identity.iter().chain(&self.earlier)
    }

    /// Sets the identity, perhaps another than before.
    pub(in crate::session) fn set_identity(&mut self, identity: &Arc<Identity>) {
        self.earlier.retain(|known| !Arc::ptr_eq(known, identity));
        let before = self.identity.replace(identity.clone());
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, identity)) {
            if self.earlier.len() >= EARLIER_IDENTITIES {
                self.earlier.remove(0);
            }
            self.earlier.push(before);
        }
    }
}

/// Identities of one session that revocations look for, besides the last. A connection that carries more at a time is a
/// proxy of the client's own.
const EARLIER_IDENTITIES: usize = 64;
