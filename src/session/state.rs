//! What the sessions of a worker share, and what is known of one session from its start.

use super::admission::{Admission, Full};
use super::database::cancels::Cancels;
use super::preconnect::PreconnectPool;
use super::recording::{Recording, WorkerRecordings};
use super::registry::{Entry, Facts, Order, Shard};
use crate::audit;
use crate::close::Close;
use crate::gateway::{Gateway, Listener, Route};
use crate::identify::cache::TokenCache;
use crate::metrics::{RouteMetrics, WorkerMetrics};
use crate::names::{IssuerName, Remote, SessionId};
use crate::policy::honeytoken::Honeytoken;
use crate::policy::{Identity, Permit};
use crate::recording::archive::RecordingFault;
use crate::telemetry::SpanContext;
use crate::tls::leg::Leg;
use crate::tls::peer_certificate::PeerCertificate;
use crate::tls::server::ServerVariants;
use arc_swap::{ArcSwap, Cache};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What all sessions of a worker share.
pub struct WorkerState {
    /// Which worker, from 0.
    pub worker: usize,
    /// Counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Tokens that were verified.
    pub tokens: RefCell<TokenCache>,
    /// The worker's live sessions.
    pub live: Arc<Shard>,
    /// Counts the connections of all workers.
    pub admission: Arc<Admission>,
    /// Preconnected upstream connections.
    pub preconnect: Rc<PreconnectPool>,
    /// Database sessions of all workers that can be cancelled.
    pub cancels: Arc<Cancels>,
    /// `None` where nothing is recorded.
    pub recordings: Option<WorkerRecordings>,
    gateway: RefCell<Cache<Arc<ArcSwap<Gateway>>, Arc<Gateway>>>,
    ids: Cell<u64>,
}

impl WorkerState {
    /// `gateway` is the configuration in force, whenever it is asked; `seed` makes the session ids of this worker differ
    /// from everybody else's.
    pub fn new(
        worker: usize,
        metrics: Arc<WorkerMetrics>,
        live: Arc<Shard>,
        admission: Arc<Admission>,
        cancels: Arc<Cancels>,
        gateway: Arc<ArcSwap<Gateway>>,
        seed: u64,
    ) -> Self {
        let tokens = RefCell::new(TokenCache::counting(metrics.clone()));
        let preconnect = Rc::new(PreconnectPool::new(metrics.clone(), admission.clone()));
        let (gateway, ids) = (RefCell::new(Cache::new(gateway)), Cell::new(seed));
        let recordings = None;
        WorkerState {
            worker,
            metrics,
            tokens,
            live,
            admission,
            preconnect,
            cancels,
            recordings,
            gateway,
            ids,
        }
    }

    /// Has the routes recorded that want it.
    pub fn with_recordings(self, recordings: Option<WorkerRecordings>) -> Self {
        WorkerState { recordings, ..self }
    }

    /// The configuration in force. A reload changes it; until then this is one load and a comparison of pointers.
    pub(super) fn with_gateway<R>(&self, use_it: impl FnOnce(&Arc<Gateway>) -> R) -> R {
        use_it(self.gateway.borrow_mut().load())
    }

    /// The next session id: SplitMix64, which visits every value once. Unique, not secret.
    pub(super) fn next_id(&self) -> SessionId {
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
    /// What it shares with the worker's other sessions.
    pub shared: Rc<WorkerState>,
    /// The configuration that was in force when it was accepted: its route, legs and limits come from it. Who is permitted is
    /// asked of the one that is in force then (`WorkerState::with_gateway`).
    pub gateway: Arc<Gateway>,
    /// The listener that accepted it.
    pub listener: Listener,
    /// The client's address; the one that the PROXY protocol told where it is believed.
    pub remote: Remote,
    /// The limit that it exceeds: it is only refused.
    pub(super) limit_reached: Option<Full>,
    /// What the question for the upstream's application protocols took of the time to connect.
    pub(super) spent_connecting: Cell<Duration>,
    /// True where the client came through a tunnel, whose identity it has.
    pub(super) tunnelled: bool,
    entry: Arc<Entry>,
    /// The client's certificate, where it showed one that verified.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    recording: OnceCell<Recording>,
    /// Its span, where traces are exported. In a box: most gateways export none, and a connection's memory counts.
    pub(super) span: Option<Box<SpanContext>>,
    proven_identity: RefCell<Option<Arc<Identity>>>,
    first_identity: OnceCell<Arc<Identity>>,
    last_permitted: RefCell<Option<Arc<Identity>>>,
    other_identities: RefCell<HashSet<(IssuerName, Arc<str>)>>,
    /// It has raised its alarm.
    is_alarmed: Cell<bool>,
}

/// Different identities of one session that are counted; a connection that carries more is told apart by its requests.
const MAX_IDENTITIES: usize = 10_000;

/// What a session begins with, before it is known who speaks.
pub(super) struct Origin {
    pub(super) id: SessionId,
    pub(super) shared: Rc<WorkerState>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) listener: Listener,
    pub(super) remote: Remote,
    pub(super) limit_reached: Option<Full>,
    pub(super) entry: Arc<Entry>,
}

impl Session {
    pub(super) fn new(origin: Origin, tunnelled: bool, certificate: Option<Arc<PeerCertificate>>) -> Self {
        let Origin { id, shared, gateway, listener, remote, limit_reached, entry } = origin;
        let (proven_identity, first_identity) = (RefCell::default(), OnceCell::new());
        let (last_permitted, other_identities) = (RefCell::default(), RefCell::default());
        entry.facts.lock().tunnel = tunnelled;
        let span = gateway.tracer.as_ref().map(|tracer| Box::new(tracer.session()));
        Session {
            id,
            shared,
            gateway,
            listener,
            remote,
            limit_reached,
            spent_connecting: Cell::default(),
            tunnelled,
            entry,
            certificate,
            recording: OnceCell::new(),
            span,
            proven_identity,
            first_identity,
            last_permitted,
            other_identities,
            is_alarmed: Cell::new(false),
        }
    }

    /// The counters of its route.
    pub(super) fn counters(&self) -> &Arc<RouteMetrics> {
        self.entry.counters.get().unwrap_or_else(|| self.shared.metrics.unrouted())
    }

    /// True inside a tunnel: the identity that opened it is the only one.
    pub fn is_tunnelled(&self) -> bool {
        self.tunnelled
    }

    /// The identity that the connection itself proved: by the client's certificate, if the route maps certificates and one
    /// was shown, or by the token that opened the tunnel.
    pub fn proven_identity(&self) -> Option<Arc<Identity>> {
        self.proven_identity.borrow().clone()
    }

    /// The connection has proven whose it is, or by the configuration in force it has not.
    pub(super) fn set_proven_identity(&self, identity: Option<Arc<Identity>>) {
        *self.proven_identity.borrow_mut() = identity;
    }

    /// The first identity that was permitted, or refused by name.
    pub(super) fn first_identity(&self) -> Option<&Arc<Identity>> {
        self.first_identity.get()
    }

    /// Counts a permit, and has a line in the log when it is somebody else's than the one before.
    pub(super) fn permitted(&self, permit: &Permit) {
        self.counters().permitted();
        let identity = permit.identity();
        let mut last = self.last_permitted.borrow_mut();
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, identity)) {
            return;
        }
        let is_same =
            |last: &Arc<Identity>| last.issuer == identity.issuer && last.subject == identity.subject;
        if !last.as_ref().is_some_and(is_same) {
            let (session, route, rule) = (self.id, permit.route(), permit.rule());
            let line = audit::PermittedLine { session, route, identity, rule };
            audit::permitted(&line);
            self.fact(|| audit::json_line(&line));
        }
        *last = Some(identity.clone());
        self.identified(identity);
        // Whoever revoked it since it was asked for did not find it here.
        if self.shared.live.revocations().cover(identity, SystemTime::now) {
            self.shared.live.order(self.id, Order::End(Close::Revoked));
        }
    }

    /// Takes note of who was permitted or refused: the first is named in the closing line, the others are counted.
    pub(super) fn identified(&self, identity: &Arc<Identity>) {
        self.entry.facts.lock().set_identity(identity);
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

    /// Holds what is said on the client leg for the route's recording, where it has one.
    /// `server`: what the client leg's handshake was made with.
    pub(super) fn start_recording(&self, route: &Route, server: Option<&ServerVariants>, leg: &mut Leg) {
        let Some(how) = &route.recording else { return };
        if let Some(worker) = &self.shared.recordings {
            let own = server.and_then(ServerVariants::leaf);
            let _ = self.recording.set(Recording::start(worker, self.id, how, own, leg));
        }
    }

    /// Its recording; `None` where the route has none.
    pub(super) fn recording(&self) -> Option<&Recording> {
        self.recording.get()
    }

    /// Begins the recording, where the route has one. `Err`: the session must not go on.
    pub(super) fn begin_recording(&self, route: &Route) -> Result<(), RecordingFault> {
        match (self.recording.get(), &route.recording) {
            (Some(recording), _) => {
                recording.begin(|| audit::json_line(&self.opened(&self.entry.facts.lock())))
            }
            // A reload has the route recorded that was not; what is new begins with a new connection.
            (None, Some(_)) => Err(RecordingFault::NotRecords),
            (None, None) => Ok(()),
        }
    }

    /// Has the recording take what the client said before the relay, as it is to hold it.
    pub(super) fn client_said(&self, plaintext: &[u8]) {
        // What is not taken breaks the recording, and the session does not get to the relay.
        let _ = self.recording.get().map(|recording| recording.client_said(plaintext));
    }

    /// What the opening line says.
    pub(super) fn opened<'a>(&self, facts: &'a Facts) -> audit::Opened<'a> {
        audit::Opened {
            session: self.id,
            remote: self.remote,
            listener: self.listener.address,
            sni: facts.sni.as_deref(),
            route: facts.route.as_ref().map(|route| &route.name),
            worker: self.shared.worker,
            plaintext_upstream: facts.route.as_ref().is_some_and(|route| route.upstream.is_plaintext()),
            tunnel: facts.tunnel,
            database: facts.database(),
        }
    }

    /// Has the recording take a line of the log.
    pub(super) fn fact(&self, line: impl FnOnce() -> String) {
        if let Some(recording) = self.recording.get() {
            recording.fact(line);
        }
    }

    /// Raises the alarm where the user that a database client names is a honeytoken.
    pub(super) fn on_database_user(&self, user: &[u8]) {
        if let Some(honeytoken) = self.gateway.honeytokens.by_database_user(user) {
            self.raise_alarm(honeytoken, None);
        }
    }

    /// Handles a honeytoken: one alarm per session, and the session's end where configured.
    pub(super) fn raise_alarm(&self, honeytoken: &Honeytoken, identity: Option<&Identity>) {
        if !self.is_alarmed.replace(true) {
            self.shared.metrics.alarm();
            let (session, remote, cut) = (self.id, self.remote, honeytoken.cuts);
            let line = audit::AlarmLine {
                honeytoken: &honeytoken.name,
                session: Some(session),
                remote,
                identity,
                cut,
            };
            self.fact(|| audit::json_line(&line));
            if audit::admit_alarm(self.remote) {
                audit::alarm(&line);
            }
        }
        if honeytoken.cuts {
            self.shared.live.order(self.id, Order::End(Close::Revoked));
        }
    }

    /// How many different identities there were.
    pub(super) fn identities(&self) -> usize {
        usize::from(self.first_identity.get().is_some()) + self.other_identities.borrow().len()
    }
}
