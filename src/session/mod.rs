//! THE pipeline: what happens to one client connection, from accept to close.
//!
//! ```text
//!   accept ─▶ handshake ─▶ sniff ─▶ identify ─▶ authorise ─▶ dial ─▶ relay ─▶ close
//!             SNI→route             ▲               │ no: answered in the client's own protocol
//!                                   └───────────────┘ (HTTP may try again on the same connection)
//! ```
//! [`run`] is the only place that names every stage. Each stage consumes the one before it ([`stage`]), so none can
//! be skipped; an upstream cannot be dialled without a [`crate::policy::Permit`]. One deadline runs from accept to
//! permitted and is never reset by a stage.

pub mod accepted;
pub mod admission;
mod authorise;
pub mod connected;
mod database;
mod dial;
mod ending;
pub mod http;
mod leg_close;
pub mod live;
pub mod mysql;
pub mod plaintext;
pub mod postgres;
pub mod preconnect;
pub mod raw;
pub mod redis;
pub mod stage;
mod statements;
mod token;
mod trail;
mod tunnel;

use crate::close::{Close, Stage};
use crate::gateway::{Gateway, Listener};
use crate::identify::cache::TokenCache;
use crate::metrics::WorkerMetrics;
use crate::names::{IssuerName, Remote, SessionId};
use crate::policy::Identity;
use accepted::Accepted;
use admission::{Admitted, Full};
use live::Live;
use postgres::cancel::Cancels;
use stage::{Authorised, Connected};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::Instant;
pub use trail::Trail;

/// What all sessions of a worker share.
pub struct Shared {
    /// Which worker, from 0.
    pub worker: usize,
    /// Counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Tokens that were verified.
    pub tokens: RefCell<TokenCache>,
    /// Sessions that can be told to drain.
    pub live: Rc<Live>,
    /// Upstream connections that stand before they are asked for.
    pub preconnect: preconnect::PreconnectPool,
    /// PostgreSQL sessions of all workers that can be cancelled.
    pub cancels: Arc<Cancels>,
    ids: Cell<u64>,
}

impl Shared {
    /// `seed` makes the session ids of this worker differ from everybody else's.
    pub fn new(worker: usize, metrics: Arc<WorkerMetrics>, cancels: Arc<Cancels>, seed: u64) -> Self {
        let (tokens, live) = (RefCell::new(TokenCache::default()), Rc::default());
        let preconnect = preconnect::PreconnectPool::default();
        Shared { worker, metrics, tokens, live, preconnect, cancels, ids: Cell::new(seed) }
    }

    /// The next session id: SplitMix64, which visits every value once. Unique, not secret.
    fn next_id(&self) -> SessionId {
        let state = self.ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.ids.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        SessionId(mixed ^ (mixed >> 31))
    }
}

/// What is known of a session from its start.
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The worker's things.
    pub shared: Rc<Shared>,
    /// The configuration that was in force when it was accepted; a reload does not change it.
    pub gateway: Arc<Gateway>,
    /// The listener that accepted it.
    pub listener: Listener,
    /// The client's address; the one that the PROXY protocol told where it is believed.
    pub remote: Remote,
    proven_identity: OnceCell<Arc<Identity>>,
    /// True where the client came through a tunnel, whose identity it has.
    tunnelled: bool,
    /// The limit that leaves it no room: it may only hear so.
    crowded: Option<Full>,
    first_identity: OnceCell<Arc<Identity>>,
    last_identity: RefCell<Option<Arc<Identity>>>,
    other_identities: RefCell<HashSet<(IssuerName, Arc<str>)>>,
}

/// Different identities of one session that are counted; a connection that carries more is told apart by its requests.
const MAX_IDENTITIES: usize = 10_000;

impl Session {
    /// True inside a tunnel: the identity that opened it is the only one.
    pub fn is_tunnelled(&self) -> bool {
        self.tunnelled
    }

    /// The identity that the connection itself proved: by the client's certificate, if the route maps certificates and one
    /// was shown, or by the token that opened the tunnel.
    pub fn proven_identity(&self) -> Option<Arc<Identity>> {
        self.proven_identity.get().cloned()
    }

    /// Takes note of who was permitted: the first is named in the closing line, the others are counted.
    fn identified(&self, identity: &Arc<Identity>) {
        let mut last = self.last_identity.borrow_mut();
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, identity)) {
            return;
        }
        *last = Some(identity.clone());
        let mut all = self.other_identities.borrow_mut();
        match self.first_identity.get() {
            None => drop(self.first_identity.set(identity.clone())),
            Some(first) if first.issuer == identity.issuer && first.subject == identity.subject => {}
            Some(_) if all.len() < MAX_IDENTITIES => {
                all.insert((identity.issuer.clone(), identity.subject.clone()));
            }
            Some(_) => {}
        }
    }

    fn identities(&self) -> usize {
        usize::from(self.first_identity.get().is_some()) + self.other_identities.borrow().len()
    }
}

/// A connection fresh from the listener.
pub struct Arrival {
    /// The socket.
    pub tcp: TcpStream,
    /// Who connected.
    pub remote: Remote,
    /// Where.
    pub listener: Listener,
    /// When.
    pub at: Instant,
    /// Its share of the connection counts.
    pub admitted: Admitted,
}

/// Runs one session from accept to close; `counted` is dropped at its end.
///
/// A session that goes on keeps nothing of the stages behind it: they stand on the heap and are given back.
pub fn run<C: 'static>(
    shared: Rc<Shared>,
    gateway: Arc<Gateway>,
    arrival: Arrival,
    counted: C,
) -> impl Future<Output = ()> {
    shared.metrics.session_opened();
    let id = shared.next_id();
    let ticket = shared.live.enter(id);
    let deadline = arrival.at + gateway.limits.permit_deadline;
    let trail = Box::new(Trail::new(arrival.at, arrival.remote));
    let Arrival { tcp, remote, listener, admitted, .. } = arrival;
    let crowded = admitted.crowded();
    let accepted = Box::new(Accepted { id, shared: shared.clone(), gateway, listener, remote, tcp, crowded });
    go_through(shared, accepted, ticket, admitted, trail, deadline, counted)
}

async fn go_through<C>(
    shared: Rc<Shared>,
    accepted: Box<Accepted>,
    ticket: live::Ticket,
    mut admitted: Admitted,
    mut trail: Box<Trail>,
    deadline: Instant,
    _counted: C,
) {
    let id = ticket.id();
    let permitted = Box::pin(tokio::time::timeout_at(deadline, to_permitted(accepted, &mut trail))).await;
    let ended = match permitted {
        Err(_) => Err(Close::Deadline(trail.stage)),
        Ok(Err(close)) => Err(close),
        Ok(Ok(authorised)) => {
            admitted.permitted();
            shared.metrics.permitted();
            trail.stage = Stage::Dial;
            Box::pin(authorised.dial(&mut trail)).await
        }
    };
    let close = match ended {
        Err(close) => close,
        Ok(connected) => {
            trail.stage = Stage::Relay;
            relay(connected, &ticket, &mut trail).await
        }
    };
    shared.metrics.session_closed(close);
    trail.write(id, close, &shared);
}

/// accept → handshake → sniff → identify → authorise, all under one deadline.
async fn to_permitted(accepted: Box<Accepted>, trail: &mut Trail) -> Result<Authorised, Close> {
    trail.stage = Stage::Handshake;
    let secured = accepted.handshake(trail).await?;
    trail.stage = Stage::Sniff;
    let mut sniffed = secured.sniff(trail).await?;
    loop {
        trail.stage = Stage::Identify;
        let identified = sniffed.identify(trail).await?;
        trail.stage = Stage::Authorise;
        match identified.authorise(trail).await? {
            Ok(authorised) => return Ok(authorised),
            // Refused and told so; an HTTP client may come with a better request.
            Err(again) => sniffed = again,
        }
    }
}

async fn relay(connected: Connected, ticket: &live::Ticket, trail: &mut Trail) -> Close {
    match connected {
        Connected::Http(connected) => Box::pin(connected.relay(ticket, trail)).await,
        Connected::Raw(connected) => Box::pin(connected.relay(ticket, trail)).await,
        Connected::Postgres(connected) => Box::pin(connected.relay(ticket, trail)).await,
        Connected::Mysql(connected) => Box::pin(connected.relay(ticket, trail)).await,
        Connected::Redis(connected) => Box::pin(connected.relay(ticket, trail)).await,
        Connected::Done => Close::Done,
    }
}
