//! Configuration shared by all workers: immutable, swapped as a whole on reload.

use crate::acme::{Certificate, Challenges};
use crate::credential::{Account, HeaderInjection};
use crate::dial::Upstream;
use crate::identify::certificate::CertificateMapping;
use crate::identify::oidc::Issuers;
use crate::identify::signals::SignalSource;
use crate::identify::slots::Slot;
use crate::mask::{Mode, Rules};
use crate::metrics::MaskCounters;
use crate::names::RouteName;
use crate::policy::Policy;
use crate::policy::honeytoken::Honeytokens;
use crate::protocol::mysql::Greeting;
use crate::protocol::{Masking, RequireAuth};
use crate::recording::settings::RouteRecording;
use crate::telemetry::Tracer;
use crate::tls::server::{ClientCertificates, ServerVariants};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Everything a session needs to know that is not its own.
pub struct Gateway {
    /// Where to listen. Changing it needs a restart; a reload that does is refused.
    pub listeners: Vec<Listener>,
    /// All routes.
    pub routes: Vec<Arc<Route>>,
    /// Who verifies tokens.
    pub issuers: Arc<Issuers>,
    /// Limits that hold for the gateway as a whole.
    pub limits: Limits,
    /// Listener and SNI name (lower case) → index into `routes`. A leading `*.` stands for exactly one label.
    names: HashMap<(usize, String), usize>,
    /// Listener and SNI name (lower case) → tunnel.
    tunnels: HashMap<(usize, String), Arc<Tunnel>>,
    /// Certificates that renew themselves.
    pub acme: AcmeFacts,
    /// Honeytokens.
    pub honeytokens: Honeytokens,
    /// Issuers whose security events are obeyed.
    pub signals: Vec<Arc<SignalSource>>,
    /// Exports spans of what happens; `None`: nobody wants any.
    pub tracer: Option<Arc<Tracer>>,
}

/// Certificates that renew themselves, and the challenges that are answered for them.
#[derive(Default)]
pub struct AcmeFacts {
    /// Challenges under way; `None`: there is no such certificate.
    pub challenges: Option<Arc<Challenges>>,
    /// By route, and for a tunnel by `tunnel:` and its name.
    pub certificates: Vec<(RouteName, Arc<Certificate>)>,
}

impl AcmeFacts {
    /// The first certificate that does not serve, and why.
    pub fn problem(&self, now: SystemTime) -> Option<(&RouteName, String)> {
        self.certificates.iter().find_map(|(route, one)| Some((route, one.problem(now)?)))
    }
}

/// A name on a listener under which `CONNECT route` opens any route.
pub struct Tunnel {
    /// The listener's place in the configuration.
    pub listener: usize,
    /// The SNI name, lower case.
    pub sni: String,
    /// The client leg.
    pub server: ServerVariants,
}

/// What a name leads to.
pub enum Named {
    /// Straight to a route.
    Route(Arc<Route>),
    /// To whichever route is asked for.
    Tunnel(Arc<Tunnel>),
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its place in the configuration, from 0.
    pub number: usize,
    /// Address and port. An IPv6 wildcard is dual stack.
    pub address: SocketAddr,
    /// What it says first, where it serves MySQL's clients: they wait for the server to begin.
    pub mysql: Option<Arc<MysqlListener>>,
    /// PostgreSQL's CancelRequests are taken in clear: nothing else is, and they carry a key of the gateway's own.
    pub cancel_in_clear: bool,
    /// Networks from which a PROXY protocol header (v1 or v2) is required and believed; empty: none, and none is looked for.
    pub proxy_protocol_from: Vec<Network>,
    /// The routes that are reached here, under their names or by the tunnel; `None`: all.
    pub routes: Option<Vec<RouteName>>,
    /// The route of clients that send no name; `None`: they are refused. [`MysqlListener::route`] on listeners that greet.
    pub default_route: Option<RouteName>,
}

impl Listener {
    /// True when the route is reached here.
    pub fn serves(&self, route: &RouteName) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.contains(route))
    }
}

/// What a listener for MySQL's clients has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlListener {
    /// What clients are told before it is known where they want to go.
    pub greeting: Greeting,
    /// The route of clients that send no name.
    pub route: Option<RouteName>,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The base address.
    pub base: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

impl Network {
    /// True when `address` lies in the range. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same(a: &[u8], b: &[u8], bits: usize) -> bool {
            let (whole, part) = (bits / 8, bits % 8);
            a[..whole] == b[..whole] && (part == 0 || (a[whole] ^ b[whole]) >> (8 - part) == 0)
        }
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets(), self.bits as usize),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets(), self.bits as usize),
            _ => false,
        }
    }
}

/// Which protocol a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteProtocol {
    /// HTTP/1.1, HTTP/2, gRPC, server-sent events, WebSocket: a permit per request.
    Http,
    /// Opaque bytes after a client certificate: a permit per connection.
    Raw,
    /// PostgreSQL: the token in the password field, or a client certificate; a permit per connection.
    Postgres,
    /// MySQL and MariaDB: the token as a password in clear inside TLS, or a client certificate; a permit per connection. Only
    /// on listeners that greet.
    Mysql,
    /// Redis: the token in the place of the password of AUTH or HELLO, or a client certificate; a permit per connection,
    /// and a new one with each later AUTH.
    Redis,
}

impl RouteProtocol {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            RouteProtocol::Http => "http",
            RouteProtocol::Raw => "raw",
            RouteProtocol::Postgres => "postgres",
            RouteProtocol::Mysql => "mysql",
            RouteProtocol::Redis => "redis",
        }
    }

    /// True where an account logs in upstream.
    pub fn is_database(self) -> bool {
        matches!(self, RouteProtocol::Postgres | RouteProtocol::Mysql | RouteProtocol::Redis)
    }
}

/// Application protocols that an HTTP route may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Whatever the upstream turns out to speak: `h2` and `http/1.1`, or only one of them.
    Auto,
    /// Only `http/1.1`.
    Http1,
    /// Only `h2`.
    Http2,
}

impl Alpn {
    /// True when `http/1.1` may be settled on.
    pub fn http1(self) -> bool {
        self != Alpn::Http2
    }

    /// True when `h2` may be settled on.
    pub fn http2(self) -> bool {
        self != Alpn::Http1
    }
}

/// A name → upstream, with its protocol, policy and credential.
pub struct Route {
    /// The configured name.
    pub name: RouteName,
    /// SNI names, lower case; `*.example.com` stands for one label. None: only a tunnel leads to it.
    pub sni: Vec<String>,
    /// What `Host` and `:authority` may name, lower case and without port: the SNI names and more. `None`: anything.
    pub hosts: Option<Vec<String>>,
    /// Which protocol.
    pub protocol: RouteProtocol,
    /// Which application protocols to offer.
    pub alpn: Alpn,
    /// The client leg, for each application protocol; `None` where only a tunnel leads to the route.
    pub server: Option<ServerVariants>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// How a client certificate becomes an identity; `None`: it does not, it is only required.
    pub certificate_identity: Option<CertificateMapping>,
    /// Where tokens are looked for; empty: tokens are not accepted.
    pub slots: Vec<Slot>,
    /// Where it goes.
    pub upstream: Upstream,
    /// Connections to it that each worker keeps ready while there are sessions.
    pub dial_ahead: usize,
    /// Replaces `Host` / `:authority`; `None` keeps the client's.
    pub authority: Option<String>,
    /// The access rules.
    pub policy: Policy,
    /// Headers that the gateway sets.
    pub inject: Vec<HeaderInjection>,
    /// What a route of a database has besides; `None` for all others.
    pub database: Option<Arc<Database>>,
    /// How its sessions are recorded; `None`: they are not.
    pub recording: Option<RouteRecording>,
    /// What is masked in its bodies; `None`: nothing is looked at.
    pub masks: Option<Box<RouteMasks>>,
    /// This route's timeouts.
    pub timeouts: Timeouts,
}

/// What is masked on a route.
#[derive(Debug)]
pub struct RouteMasks {
    /// On the way up.
    pub up: Option<RouteMask>,
    /// On the way down.
    pub down: Option<RouteMask>,
}

/// What is masked in one direction.
#[derive(Debug)]
pub struct RouteMask {
    /// The rules.
    pub rules: Arc<Rules>,
    /// How many values each found.
    pub counters: MaskCounters,
}

impl RouteMasks {
    /// The rules of both directions. `keep_spans`: where values are overwritten is wanted too.
    pub fn masking(&self, keep_spans: bool) -> Masking {
        let rules = |mask: &Option<RouteMask>| mask.as_ref().map(|mask| mask.rules.clone());
        Masking { up: rules(&self.up), down: rules(&self.down), keep_spans }
    }

    /// True where something is overwritten, not only counted.
    pub fn changes(&self) -> bool {
        self.up.iter().chain(&self.down).any(|mask| mask.rules.mode == Mode::Mask)
    }
}

/// What a route of a database has besides.
#[derive(Clone, Debug)]
pub struct Database {
    /// Stored accounts; the first that fits an identity is the one that it gets.
    pub accounts: Vec<Account>,
    /// False where no rule names an issuer of tokens: there is no use in asking for one.
    pub takes_tokens: bool,
    /// What stands in `application_name`.
    pub application_name: ApplicationName,
    /// The setting that carries the identity's subject, such as `staunch.subject`.
    pub identity_guc: Option<Box<str>>,
    /// Which proofs the upstream may ask for.
    pub require_auth: RequireAuth,
    /// Held while a proof is made that takes long (SCRAM): as many at a time as one upstream may keep busy.
    pub proofs: Arc<Semaphore>,
    /// MySQL: the upstream may ask clients for files of theirs.
    pub local_files: bool,
    /// Statements are logged, with at most so many bytes of their text; `None`: they are not.
    pub statements: Option<usize>,
}

/// Proofs that are made at a time for one route; an upstream says how long each takes.
pub const PROOFS_AT_ONCE: usize = 2;

/// What the upstream is told as `application_name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationName {
    /// The identity's subject.
    Identity,
    /// What the client says.
    Client,
}

/// Timeouts of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Upstream name resolution, connect and TLS handshake together. Default 5 s.
    pub connect: Duration,
    /// HTTP: no request under way. Default 5 min.
    pub between_requests: Duration,
    /// HTTP: from a whole request to the beginning of its answer; `None`: as long as `idle`. Default `None`.
    pub response: Option<Duration>,
    /// Raw and tunnels: no byte either way. Default 1 h. Does not count while a response is awaited.
    pub idle: Duration,
    /// A peer that does not read while there is something to send. Default 2 min.
    pub stall: Duration,
}

/// Limits of the gateway as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept to permitted, never reset. Default 10 s.
    pub permit_deadline: Duration,
    /// Client connections in all. Default (descriptors − 512) / 2.
    pub connections: usize,
    /// Client connections per source address; 0: no limit. Default 0.
    pub connections_per_address: usize,
    /// Connections that are not permitted yet, in all; 0: no limit. Default a quarter of `connections`.
    pub half_open: usize,
    /// Connections that are not permitted yet, per source address. Default 256.
    pub half_open_per_address: usize,
    /// From TERM to exit. Default 30 s.
    pub drain: Duration,
    /// Bytes of a request head. Default 32 KiB.
    pub head: usize,
    /// Fields of a request head. Default 100.
    pub fields: usize,
    /// Concurrent HTTP/2 streams of a connection. Default 100.
    pub streams: u32,
    /// HTTP/2 streams of a connection that may be reset as soon as they were begun, at once. Default 100.
    pub resets: u32,
    /// Such resets that are forgiven each second. Default 33.
    pub resets_per_second: u32,
    /// Records sealed or opened under one key before it is renewed (TLS 1.3) or the leg closed (TLS 1.2). Default 2^24 for AES-GCM.
    pub records_per_key: u64,
}

impl Gateway {
    /// Puts the parts together. On one listener, no two routes have the same name; the configuration has checked that.
    pub fn new(listeners: Vec<Listener>, routes: Vec<Route>, issuers: Arc<Issuers>, limits: Limits) -> Self {
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        let mut names = HashMap::new();
        for listener in &listeners {
            for (index, route) in routes.iter().enumerate().filter(|(_, route)| listener.serves(&route.name))
            {
                names.extend(route.sni.iter().map(|name| ((listener.number, name.clone()), index)));
            }
        }
        let (tunnels, acme) = (HashMap::new(), AcmeFacts::default());
        Gateway {
            honeytokens: Honeytokens::default(),
            signals: Vec::new(),
            tracer: None,
            listeners,
            routes,
            issuers,
            limits,
            names,
            tunnels,
            acme,
        }
    }

    /// The same gateway with tunnels. On one listener, no tunnel has the name of another or of a route.
    pub fn with_tunnels(self, tunnels: Vec<Tunnel>) -> Self {
        let tunnels = tunnels.into_iter().map(|t| ((t.listener, t.sni.clone()), Arc::new(t))).collect();
        Gateway { tunnels, ..self }
    }

    /// True when some route speaks PostgreSQL, whose clients ask for TLS before they name a route.
    pub fn expects_postgres(&self) -> bool {
        self.routes.iter().any(|route| route.protocol == RouteProtocol::Postgres)
    }

    /// What a client's SNI names: a tunnel of the listener, else a route, by its exact name before a wildcard of one label.
    pub fn named(&self, listener: usize, sni: &str) -> Option<Named> {
        let sni = sni.strip_suffix('.').unwrap_or(sni).to_ascii_lowercase();
        let at = (listener, sni);
        if let Some(tunnel) = self.tunnels.get(&at) {
            return Some(Named::Tunnel(tunnel.clone()));
        }
        let index = self.names.get(&at).or_else(|| {
            let (_, parent) = at.1.split_once('.')?;
            self.names.get(&(listener, format!("*.{parent}")))
        })?;
        Some(Named::Route(self.routes[*index].clone()))
    }

    /// The route of this name.
    pub fn called(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| &*route.name.0 == name)
    }
}
