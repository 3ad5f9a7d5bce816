//! A gateway in this process, between real TLS peers on loopback.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its own part"
)]

pub mod endings;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use staunch::credential::{Account, HeaderInjection};
use staunch::demo::issuer::Issuer;
use staunch::dial::plaintext::PlaintextUpstream;
use staunch::dial::{Negotiation, Upstream};
use staunch::gateway::{
    Alpn, ApplicationName, Database, Gateway, Limits, Listener, MysqlListener, Route, RouteProtocol,
    Timeouts, Tunnel,
};
use staunch::identify::certificate::{CertificateMapping, KnownIdentities};
use staunch::identify::oidc::{Algorithm, IssuerSettings, Issuers};
use staunch::identify::slots::Slot;
use staunch::identify::subject::SubjectSource;
use staunch::names::{IssuerName, RouteName};
use staunch::policy::{OnExpiry, Policy, Rule};
use staunch::protocol::RequireAuth;
use staunch::protocol::mysql::Greeting;
use staunch::protocol::require_auth::POSTGRES_METHODS;
use staunch::secret::Secret;
use staunch::tls::PostQuantum;
use staunch::tls::client::{ClientSettings, leg_config};
use staunch::tls::server::{
    ClientCertificates, ServerIdentity, ServerSettings, ServerVariants, server_config,
};
use staunch::worker::{Bound, Layout, Workers};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A certificate authority and what it vouches for.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A leaf certificate with its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Leaf { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn leaf(&self, name: &str) -> Leaf {
        self.sign(name, CertificateParams::default())
    }

    /// A leaf that is good until then.
    pub fn leaf_until(&self, name: &str, until: std::time::SystemTime) -> Leaf {
        let mut params = CertificateParams::default();
        params.not_after = until.into();
        self.sign(name, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Leaf { chain: vec![certificate.der().clone()], key }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        roots
    }
}

pub type Version = &'static SupportedProtocolVersion;
pub const TLS12: Version = &rustls::version::TLS12;
pub const TLS13: Version = &rustls::version::TLS13;

/// ring, with AES-128-GCM preferred in TLS 1.3, so that figures compare with those of other gateways.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|s| s.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// What a test wants to be different from the ordinary.
pub struct Wish {
    pub client: Version,
    pub upstream: Version,
    pub records_per_key: u64,
    pub stall: Duration,
    pub idle: Duration,
    pub between_requests: Duration,
    pub response: Option<Duration>,
    pub permit_deadline: Duration,
    pub pin: bool,
    pub alpn: Alpn,
    pub upstream_alpn: Vec<&'static str>,
    pub on_expiry: OnExpiry,
    pub connect: Duration,
    /// TLS with a PostgreSQL upstream begins with the first byte.
    pub direct: bool,
    /// Statements are logged, with so many bytes of their text.
    pub statements: Option<usize>,
    /// The upstream has no TLS.
    pub plaintext: Option<Plaintext>,
    /// Upstream connections to keep ready.
    pub dial_ahead: usize,
    /// A MySQL route's listener does not greet: the way is through the tunnel.
    pub silent: bool,
    /// The listener takes PostgreSQL's CancelRequests in clear.
    pub cancel_in_clear: bool,
}

/// Where an upstream without TLS listens.
pub enum Plaintext {
    /// At the rig's own listener.
    Tcp,
    /// At this path; the test listens there.
    Unix(std::path::PathBuf),
}

impl Default for Wish {
    fn default() -> Self {
        Wish {
            client: TLS13,
            upstream: TLS13,
            records_per_key: 1 << 24,
            stall: Duration::from_secs(120),
            idle: Duration::from_secs(3600),
            between_requests: Duration::from_secs(300),
            response: None,
            permit_deadline: Duration::from_secs(10),
            pin: false,
            alpn: Alpn::Auto,
            upstream_alpn: Vec::new(),
            on_expiry: OnExpiry::Drain,
            connect: Duration::from_secs(5),
            direct: false,
            statements: None,
            plaintext: None,
            dial_ahead: 0,
            silent: false,
            cancel_in_clear: false,
        }
    }
}

/// Shows the gateway's log among a failing test's output.
fn show_logs() {
    static LOG: std::sync::OnceLock<Option<staunch::audit::Guard>> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        staunch::audit::init(
            staunch::audit::Format::Human,
            "info",
            staunch::audit::Room::default(),
            std::io::stderr(),
        )
        .ok()
    });
}

/// A gateway with one route, and both peers' means to reach it.
pub struct Rig {
    pub authority: Authority,
    pub upstream: TcpListener,
    pub gateway: SocketAddr,
    pub workers: Workers,
    pub acceptor: TlsAcceptor,
    pub client: Arc<ClientConfig>,
}

/// The route's name on the wire.
pub const NAME: &str = "route.test";
/// The listener's tunnel on the wire.
pub const TUNNEL: &str = "tunnel.test";
/// Whom tokens must be for.
pub const AUDIENCE: &str = "staunch";

impl Rig {
    /// A raw route for the client certificate `ann.test`.
    pub async fn raw(wish: Wish) -> Rig {
        let machines = IssuerName("machines".into());
        let allow =
            Rule { issuer: Some(machines.clone()), subjects: vec!["ann.test".into()], ..Rule::default() };
        Self::start(wish, Issuers::new(Vec::new()).unwrap(), allow, |route| {
            route.protocol = RouteProtocol::Raw;
            route.client_certificates = ClientCertificates::Required;
            route.certificate_identity = Some(CertificateMapping {
                authority: machines,
                subject_from: vec![SubjectSource::Dns],
                groups: Vec::new(),
                known: KnownIdentities::default(),
            });
        })
        .await
    }

    /// The same, which allows the token group `agents` besides.
    pub async fn raw_for_both(wish: Wish, issuer: &Issuer, authority: CertificateDer<'static>) -> Rig {
        let (issuers, allow) = Self::believing(issuer, authority);
        Self::start(wish, issuers, allow, |route| {
            route.protocol = RouteProtocol::Raw;
            route.client_certificates = ClientCertificates::Required;
        })
        .await
    }

    /// An HTTP route for tokens of `issuer` in the group `agents`, which puts `Bearer stored-key` in.
    pub async fn http(wish: Wish, issuer: &Issuer, authority: CertificateDer<'static>) -> Rig {
        let (issuers, allow) = Self::believing(issuer, authority);
        Self::start(wish, issuers, allow, |route| {
            route.slots = vec![Slot::Bearer, Slot::Token, Slot::XApiKey, Slot::ApiKey];
            route.inject = vec![HeaderInjection {
                name: "authorization".into(),
                value: Arc::new(Secret::new(b"Bearer stored-key".to_vec())),
            }];
        })
        .await
    }

    /// Believes `issuer`, and allows its group `agents`.
    fn believing(issuer: &Issuer, authority: CertificateDer<'static>) -> (Arc<Issuers>, Rule) {
        let corp = IssuerName("corp".into());
        let issuers = Issuers::new(vec![IssuerSettings {
            name: corp.clone(),
            url: issuer.url().into(),
            audience: vec![AUDIENCE.into()],
            algorithms: vec![Algorithm::Es256],
            groups_claim: "groups".into(),
            azp: Vec::new(),
            ca: Some(vec![authority]),
            jwks_hosts: Vec::new(),
        }])
        .unwrap();
        issuers.start(&tokio::runtime::Handle::current());
        (issuers, Rule { issuer: Some(corp), groups: vec!["agents".into()], ..Rule::default() })
    }

    /// A PostgreSQL route for tokens of `issuer` in the group `agents`, which logs in as `svc`.
    pub async fn postgres(wish: Wish, issuer: &Issuer, authority: CertificateDer<'static>) -> Rig {
        let (issuers, allow) = Self::believing(issuer, authority);
        let statements = wish.statements;
        Self::start(wish, issuers, allow, |route| {
            route.protocol = RouteProtocol::Postgres;
            route.database = Some(Arc::new(Database {
                accounts: vec![Account {
                    user: "svc".into(),
                    password: Some(Arc::new(Secret::new(b"stored-password".to_vec()))),
                    issuer: None,
                    groups: Vec::new(),
                    subjects: Vec::new(),
                }],
                takes_tokens: true,
                application_name: ApplicationName::Identity,
                identity_guc: Some("staunch.subject".into()),
                require_auth: RequireAuth::parse("scram-sha-256,md5,password,none", &POSTGRES_METHODS)
                    .unwrap(),
                proofs: Arc::new(tokio::sync::Semaphore::new(2)),
                local_files: false,
                statements,
            }));
        })
        .await
    }

    /// A MySQL route for tokens of `issuer` in the group `agents`, which logs in as `svc`.
    pub async fn mysql(wish: Wish, issuer: &Issuer, authority: CertificateDer<'static>) -> Rig {
        let (issuers, allow) = Self::believing(issuer, authority);
        Self::start(wish, issuers, allow, |route| {
            route.protocol = RouteProtocol::Mysql;
            route.database = Some(Arc::new(Database {
                accounts: vec![Account {
                    user: "svc".into(),
                    password: Some(Arc::new(Secret::new(b"stored-password".to_vec()))),
                    issuer: None,
                    groups: Vec::new(),
                    subjects: Vec::new(),
                }],
                takes_tokens: true,
                application_name: ApplicationName::Client,
                identity_guc: None,
                require_auth: RequireAuth::default(),
                proofs: Arc::new(tokio::sync::Semaphore::new(2)),
                local_files: false,
                statements: None,
            }));
        })
        .await
    }

    /// A Redis route for tokens of `issuer` in the group `agents`, which logs in as `svc`.
    pub async fn redis(wish: Wish, issuer: &Issuer, authority: CertificateDer<'static>) -> Rig {
        let (issuers, allow) = Self::believing(issuer, authority);
        Self::start(wish, issuers, allow, |route| {
            route.protocol = RouteProtocol::Redis;
            route.database = Some(Arc::new(Database {
                accounts: vec![Account {
                    user: "svc".into(),
                    password: Some(Arc::new(Secret::new(b"stored-password".to_vec()))),
                    issuer: None,
                    groups: Vec::new(),
                    subjects: Vec::new(),
                }],
                takes_tokens: true,
                application_name: ApplicationName::Client,
                identity_guc: None,
                require_auth: RequireAuth::default(),
                proofs: Arc::new(tokio::sync::Semaphore::new(2)),
                local_files: false,
                statements: None,
            }));
        })
        .await
    }

    async fn start(wish: Wish, issuers: Arc<Issuers>, allow: Rule, change: impl FnOnce(&mut Route)) -> Rig {
        show_logs();
        let authority = Authority::new();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = leg_config(ClientSettings {
            roots: authority.roots(),
            pin: None,
            certificate: None,
            pq: PostQuantum::Prefer,
        })
        .unwrap();
        let port = upstream.local_addr().unwrap().port();
        let plaintext = wish.plaintext.map(|plaintext| match plaintext {
            Plaintext::Tcp => format!("tcp://127.0.0.1:{port}"),
            Plaintext::Unix(path) => format!("unix:{}", path.display()),
        });
        let name = ServerName::try_from("upstream.test").unwrap();
        let make_server = |name, client_certificates| {
            let leaf = authority.leaf(name);
            let server = server_config(ServerSettings {
                identity: ServerIdentity::Fixed { chain: leaf.chain, key: leaf.key },
                pq: PostQuantum::Prefer,
                client_certificates,
                client_ca: vec![authority.certificate()],
                client_crl: Vec::new(),
                expired_crl: Default::default(),
            });
            ServerVariants::new(server.unwrap(), Box::new(|| None))
        };
        let mut route = Route {
            masks: None,
            name: RouteName("route".into()),
            sni: vec![NAME.into()],
            hosts: Some(vec![NAME.into()]),
            protocol: RouteProtocol::Http,
            alpn: wish.alpn,
            server: None,
            client_certificates: ClientCertificates::None,
            certificate_identity: None,
            slots: Vec::new(),
            upstream: match plaintext {
                Some(address) => Upstream::plaintext(PlaintextUpstream::parse(&address).unwrap()),
                None => Upstream::new("127.0.0.1".into(), port, name, tls, false),
            },
            dial_ahead: wish.dial_ahead,
            authority: Some("upstream.test".into()),
            policy: Policy { rules: vec![allow], on_expiry: wish.on_expiry },
            inject: Vec::new(),
            database: None,
            recording: None,
            timeouts: Timeouts {
                connect: wish.connect,
                between_requests: wish.between_requests,
                response: wish.response,
                idle: wish.idle,
                stall: wish.stall,
            },
        };
        change(&mut route);
        if route.protocol == RouteProtocol::Postgres && !wish.direct {
            route.upstream = route.upstream.negotiating(Negotiation::Request);
        }
        route.server = Some(make_server(NAME, route.client_certificates));
        let greets = route.protocol == RouteProtocol::Mysql && !wish.silent;
        let listener = Listener {
            number: 0,
            address: "127.0.0.1:0".parse().unwrap(),
            mysql: greets.then(|| Arc::new(MysqlListener { greeting: Greeting::default(), route: None })),
            cancel_in_clear: wish.cancel_in_clear,
            proxy_protocol_from: Vec::new(),
            routes: None,
            default_route: None,
        };
        let limits = Limits {
            permit_deadline: wish.permit_deadline,
            connections: 10_000,
            connections_per_address: 0,
            half_open: 0,
            half_open_per_address: 0,
            drain: Duration::from_secs(5),
            head: 32 * 1024,
            fields: 100,
            streams: 100,
            resets: 100,
            resets_per_second: 33,
            records_per_key: wish.records_per_key,
        };
        let server = make_server(TUNNEL, ClientCertificates::None);
        let tunnel = Tunnel { listener: 0, sni: TUNNEL.into(), server };
        let gateway = Gateway::new(vec![listener.clone()], vec![route], issuers, limits);
        let gateway = gateway.with_tunnels(vec![tunnel]);
        let layout = Layout { count: 1, pin: wish.pin, busy_poll: Duration::ZERO };
        let bound = Bound::bind(&[listener], layout).unwrap();
        let address = bound.addresses()[0];
        let workers = Workers::start(bound, layout, Arc::new(ArcSwap::from_pointee(gateway)), None).unwrap();
        let leaf = authority.leaf("upstream.test");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[wish.upstream])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        config.ignore_client_order = true;
        config.alpn_protocols = wish.upstream_alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client = Self::client_config(&authority, "ann.test", wish.client);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Rig { authority, upstream, gateway: address, workers, acceptor, client }
    }

    pub fn client_config(authority: &Authority, name: &str, version: Version) -> Arc<ClientConfig> {
        Self::client_config_with(authority, authority.leaf(name), version)
    }

    pub fn client_config_with(authority: &Authority, leaf: Leaf, version: Version) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(leaf.chain, leaf.key)
            .unwrap();
        Arc::new(config)
    }

    /// Connects a client, and accepts what the gateway opens for it.
    pub async fn pair(&self) -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>) {
        let (client, upstream) = tokio::join!(self.connect(self.client.clone()), self.accept());
        (client.unwrap(), upstream)
    }

    pub async fn connect(&self, config: Arc<ClientConfig>) -> std::io::Result<client::TlsStream<TcpStream>> {
        self.connect_to(NAME, config).await
    }

    pub async fn connect_to(
        &self,
        name: &'static str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.gateway).await?;
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(config).connect(name, tcp).await
    }

    /// The next connection that completes its handshake; a gateway that only asks may end it before.
    pub async fn accept(&self) -> server::TlsStream<TcpStream> {
        loop {
            let (tcp, _) = self.upstream.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(tcp).await {
                return stream;
            }
        }
    }
}

/// A gateway with one route for tokens, and an issuer for it.
pub struct Http {
    pub rig: Rig,
    pub issuer: Issuer,
}

impl Http {
    pub async fn start(wish: Wish) -> Http {
        let (issuer, certificate) = Self::believe();
        Http { rig: Rig::http(wish, &issuer, certificate).await, issuer }
    }

    /// The same with a PostgreSQL route.
    pub async fn postgres(wish: Wish) -> Http {
        let (issuer, certificate) = Self::believe();
        Http { rig: Rig::postgres(wish, &issuer, certificate).await, issuer }
    }

    /// The same with a raw route, to which only the tunnel leads.
    pub async fn raw(wish: Wish) -> Http {
        let (issuer, certificate) = Self::believe();
        let (issuers, allow) = Rig::believing(&issuer, certificate);
        let rig = Rig::start(wish, issuers, allow, |route| route.protocol = RouteProtocol::Raw).await;
        Http { rig, issuer }
    }

    /// The same with a MySQL route.
    pub async fn mysql(wish: Wish) -> Http {
        let (issuer, certificate) = Self::believe();
        Http { rig: Rig::mysql(wish, &issuer, certificate).await, issuer }
    }

    /// The same with a Redis route.
    pub async fn redis(wish: Wish) -> Http {
        let (issuer, certificate) = Self::believe();
        Http { rig: Rig::redis(wish, &issuer, certificate).await, issuer }
    }

    /// An issuer, and the authority of its certificate.
    pub fn believe() -> (Issuer, CertificateDer<'static>) {
        use rustls::pki_types::pem::PemObject;
        let ca = staunch::demo::ca::Ca::new("issuer authority").unwrap();
        let issuer = Issuer::start(ca.leaf(&["127.0.0.1"]).unwrap(), AUDIENCE, Vec::new()).unwrap();
        let certificate = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        (issuer, certificate)
    }

    /// A token for somebody who may, good for this many seconds.
    pub fn token(&self, lifetime: u64) -> String {
        self.issuer.token("ann", &["agents".into()], Duration::from_secs(lifetime))
    }

    pub async fn connect(&self, alpn: &str) -> client::TlsStream<TcpStream> {
        let mut config = (*self.rig.client).clone();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        self.rig.connect(Arc::new(config)).await.unwrap()
    }
}
