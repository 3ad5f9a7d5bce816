//! The operator's HTTP: `/healthz`, `/readyz`, `/metrics`; the live page, its JSON twin under `/api/`, and orders.
//!
//! ```text
//!   guard     Host, method, Origin; the headers of every answer
//!   access    who looks: loopback, a key, a login; view or operate
//!   page      HTML, whole without a script      ┐
//!   api       the same as JSON                  ├▶ live: one snapshot of the registry a second, shared by all who look
//!   recordings  read from their directory, opened by a key for one answer
//!   events    the page's live part, each second ┘
//!   orders    end, drain, revoke: each a line of the log
//!   signals   security events of issuers, which revoke
//! ```
//! `/healthz`, `/readyz` and `/metrics` ask nobody who they are. Connections are few and short-lived, so that nobody on the
//! machine can use up descriptors here that streams need. No secret is on any page.

pub mod access;
mod alarm;
mod api;
mod events;
mod fault;
mod guard;
mod list;
mod live;
mod neighbour;
mod oidc_login;
pub mod orders;
mod page;
pub mod process;
mod recorded_sessions;
mod recordings;
pub mod revoked;
mod rules;
mod sealed_body;
mod settings;
mod signals;
mod tables;
mod token;
mod view;
mod withdrawal;

use crate::audit::{self, OrderLine};
use crate::gateway::Gateway;
use crate::identify::signals::SignalSource;
use crate::metrics::WorkerMetrics;
use crate::names::RouteName;
use crate::net::bounded::{BoundedConnection, BoundedListener, Bounds};
use crate::net::tls_listener::TlsListener;
use crate::session::registry::Registry;
use access::{Access, AccessDenied, Operator};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use fault::Fault;
use list::Query;
use live::{Live, Row, Seen, refresh_counts};
use recordings::RecordingList;
use rules::{Rules, RulesInForce};
pub use settings::Settings;
use signals::SeenEvents;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use view::SessionView;

/// Two scrapers, a few probes and those who look.
const BOUNDS: Bounds =
    Bounds { connections: 64, head: Duration::from_secs(1), silence: Duration::from_secs(10) };

/// State that the admin listener shows.
pub trait AdminState: Send + Sync + 'static {
    /// Whether new connections are served well; the text says why not.
    fn ready(&self) -> Result<(), String>;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// The live sessions.
    fn registry(&self) -> &Registry;
    /// The configuration in force.
    fn gateway(&self) -> Arc<Gateway>;
    /// Each worker's counters.
    fn workers(&self) -> &[Arc<WorkerMetrics>];
    /// When the certificates end that clients are shown: by route, and for a tunnel by `tunnel:` and its name.
    fn certificates(&self) -> Vec<(RouteName, SystemTime)>;
    /// The settings in force; another `Arc` after a reload.
    fn settings(&self) -> Arc<Settings>;
    /// The issuers whose security events are obeyed.
    fn signals(&self) -> Vec<Arc<SignalSource>>;
    /// Enters an order into the log of recordings, where there is one.
    fn enter_order(&self, order: &OrderLine<'_>);
    /// Where recordings are; `None` where nothing is recorded.
    fn recordings(&self) -> Option<PathBuf>;
}

/// What all requests share.
struct Admin {
    state: Arc<dyn AdminState>,
    access: Access,
    live: Arc<Live>,
    recordings: RecordingList,
    rules: RulesInForce,
    seen_events: SeenEvents,
    is_tls: bool,
    /// Where this listens.
    address: SocketAddr,
}

/// Serves the operator on `listener` until the task is dropped.
pub async fn serve(listener: std::net::TcpListener, state: Arc<dyn AdminState>) -> std::io::Result<()> {
    serve_within(listener, state, BOUNDS).await
}

async fn serve_within(
    listener: std::net::TcpListener,
    state: Arc<dyn AdminState>,
    bounds: Bounds,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let settings = state.settings();
    let (tls, key) = (settings.tls.clone(), settings.key.clone());
    let has_rules = !settings.operate.rules.is_empty() || !settings.view.rules.is_empty();
    let is_tls = tls.is_some();
    let admin = Arc::new(Admin {
        state: state.clone(),
        access: Access::new(key, has_rules, is_tls),
        live: Arc::default(),
        recordings: RecordingList::default(),
        rules: RulesInForce::new(settings),
        seen_events: SeenEvents::default(),
        is_tls,
        address: listener.local_addr()?,
    });
    let polls = signals::poll::run(admin.clone());
    let service = router(admin).into_make_service_with_connect_info::<Peer>();
    let listener = BoundedListener::new(listener, bounds);
    let served = async {
        match tls {
            None => axum::serve(listener, service).await,
            Some(first) => {
                let config = move || state.settings().tls.clone().unwrap_or_else(|| first.clone());
                axum::serve(TlsListener::new(listener, config), service).await
            }
        }
    };
    tokio::select! {
        served = served => served,
        () = polls => Ok(()),
    }
}

fn router(admin: Arc<Admin>) -> Router {
    let api = Router::new()
        .route("/api", get(api::index))
        .route("/api/sessions", get(api::sessions))
        .route("/api/sessions/{id}", get(api::session))
        .route("/api/sessions/{id}/activity", get(api::activity))
        .route("/api/sessions/{id}/{order}", post(api::order))
        .route("/api/refusals", get(api::refusals))
        .route("/api/routes", get(api::routes))
        .route("/api/certificates", get(api::certificates))
        .route("/api/revocations", get(api::revocations))
        .route("/api/revocations/{id}", get(api::revocation).delete(api::withdraw))
        .route("/api/revoke", post(api::revoke))
        .route("/api/recordings", get(api::recordings))
        .route("/api/recordings/{id}", get(api::recording))
        .route("/api/recordings/{id}/transcript", post(api::transcript))
        .route("/api/metrics-summary", get(api::metrics_summary));
    let pages = page::router().route("/events", get(events::events));
    let known = api.merge(pages).layer(from_fn_with_state(admin.clone(), authenticate));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        // What is pushed there is signed.
        .route("/api/events/caep", post(signals::push))
        .merge(page::open_router())
        .merge(known)
        .layer(DefaultBodyLimit::max(fault::MAX_BODY))
        .layer(from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.state.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    // Loopback and those who are told to be public are asked nothing, as scrapers have it.
    let peer = peer_of(&request);
    if admin.is_tls && !admin.rules().settings.is_public && !peer.address.ip().to_canonical().is_loopback() {
        let headers = request.headers().clone();
        if let Err(stranger) = admin.operator(&headers, &peer).await {
            return Fault::from(stranger).into_response();
        }
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.state.metrics()).into_response()
}

/// The caller of a request.
#[derive(Clone, Debug)]
struct Caller {
    operator: Operator,
    peer: Peer,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Caller>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// Requires a viewer. Browsers are redirected to the log-in, programs get an error.
async fn authenticate(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let peer = peer_of(&request);
    let headers = request.headers().clone();
    match admin.operator(&headers, &peer).await {
        Ok(operator) => {
            request.extensions_mut().insert(Caller { operator, peer });
            next.run(request).await
        }
        Err(stranger) => {
            let is_page = !request.uri().path().starts_with("/api") && request.uri().path() != "/events";
            match is_page && admin.access.has_login() {
                true => page::to_login(stranger),
                false => Fault::from(stranger).into_response(),
            }
        }
    }
}

/// A connection's other end.
#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    /// Whether it belongs to root or to the gateway's user; asked once.
    is_own: Arc<OnceLock<bool>>,
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        Peer { address, is_own: Arc::default() }
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Peer::new(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Peer::new(*stream.remote_addr())
    }
}

fn peer_of(request: &Request) -> Peer {
    let known = request.extensions().get::<ConnectInfo<Peer>>();
    known.map_or_else(|| Peer::new(SocketAddr::from(([0, 0, 0, 0], 0))), |ConnectInfo(peer)| peer.clone())
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedConnection, SocketAddr) {
        BoundedListener::accept(self).await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        BoundedListener::local_addr(self)
    }
}

/// One page of the list of sessions.
struct PageOfSessions {
    query: Query,
    seen: Arc<Seen>,
    rows: Vec<Row>,
    matching: usize,
}

impl PageOfSessions {
    fn views(&self) -> Vec<SessionView> {
        let now = SystemTime::now();
        self.rows.iter().map(|row| SessionView::new(row, now)).collect()
    }
}

impl Admin {
    /// The rules in force.
    fn rules(&self) -> Arc<Rules> {
        self.rules.of(self.state.settings(), &self.access)
    }

    /// Who sends a request: by key, by login, by token, or from loopback.
    async fn operator(&self, headers: &HeaderMap, peer: &Peer) -> Result<Operator, AccessDenied> {
        let rules = self.rules();
        let is_own = || {
            let asked = || neighbour::is_own(peer.address, self.address);
            rules.settings.is_shared_loopback || *peer.is_own.get_or_init(asked)
        };
        match self.access.operator(headers, peer.address, is_own) {
            Err(AccessDenied::BadKey) if !rules.tokens.is_empty() => {
                let token = access::bearer(headers).ok_or(AccessDenied::BadKey)?;
                self.token_operator(token, peer.address).await.map(|(operator, _)| operator)
            }
            // A login outlives neither the proof that it began with, nor the rule that let it in.
            Ok(Operator { identity: Some(identity), login, .. }) => {
                let judged = rules.tokens.judge(self.state.registry().revocations(), &identity);
                judged.map(|(operator, _)| Operator { login, ..operator })
            }
            known => known,
        }
    }

    /// Whom a token proves, and until when.
    async fn token_operator(
        &self,
        token: &[u8],
        remote: SocketAddr,
    ) -> Result<(Operator, SystemTime), AccessDenied> {
        let (gateway, registry) = (self.state.gateway(), self.state.registry());
        self.check_honeytoken(&gateway, token, remote)?;
        let rules = self.rules();
        let identity = rules.tokens.identity(&gateway.issuers, token).await?;
        self.check_honey_identity(&gateway, &identity, remote)?;
        rules.tokens.judge(registry.revocations(), &identity)
    }

    /// The sessions of at most a second ago.
    async fn seen(&self) -> Arc<Seen> {
        self.live.sessions(&self.state, AdminState::registry, self.state.workers()).await
    }

    /// The sessions that a query asks for, up to date.
    async fn page_of_sessions(&self, text: &str) -> Result<PageOfSessions, Fault> {
        let query = Query::parse(text).map_err(Fault::bad_request)?;
        let seen = self.seen().await;
        let (wanted, all) = (query.clone(), seen.clone());
        let choose = move || wanted.choose(&all.rows);
        let chosen = tokio::task::spawn_blocking(choose).await;
        let (mut rows, matching) = chosen.expect("a choice has no faults");
        refresh_counts(&mut rows).await;
        Ok(PageOfSessions { query, seen, rows, matching })
    }

    /// Writes that an order was given: into the log, and into that of the recordings.
    fn note_order(&self, order: &OrderLine<'_>) {
        audit::order(order);
        self.state.enter_order(order);
    }

    /// Names of issuers and certificate authorities.
    fn issuer_names(&self) -> Vec<Arc<str>> {
        let gateway = self.state.gateway();
        let issuers = gateway.issuers.key_ages().into_iter().map(|(name, _)| name.0);
        let mappings = gateway.routes.iter().filter_map(|route| route.certificate_identity.as_ref());
        let mut all: Vec<_> = issuers.chain(mappings.map(|mapping| mapping.authority.0.clone())).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Writes the revocations that stand where they outlive the process. False: nowhere is configured.
    fn keep(&self, registry: &Registry) -> Result<bool, Fault> {
        let rules = self.rules();
        let Some(path) = &rules.settings.revocations else { return Ok(false) };
        revoked::write(path, registry.revocations()).map(|()| true).map_err(|error| {
            tracing::error!(path = %path.display(), %error, "revocations cannot be kept");
            let message = "the revocation is in force, but cannot be written down: a restart forgets it";
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message)
        })
    }
}

#[cfg(test)]
mod tests;
