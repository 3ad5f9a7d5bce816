//! A route's upstream.

use super::application::{Application, H2, HTTP11, Negotiation};
use super::fault::DialFault;
use super::known_protocols::KnownProtocols;
use super::plaintext::PlaintextUpstream;
use super::socket::ConnectDeadline;
use crate::names::Reached;
use crate::policy::Permit;
use crate::protocol::mysql::Agreed;
use crate::protocol::postgres;
use crate::tls::handshake::Established;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A route's upstream.
pub struct Upstream {
    pub(super) kind: Kind,
    pub(super) negotiation: Negotiation,
    pub(super) known: Mutex<KnownProtocols>,
    /// Held by the session that probes the upstream; the others wait for its result.
    pub(super) probe: tokio::sync::Mutex<()>,
}

/// TLS cannot be switched off: an upstream either has its TLS settings or is plaintext by construction.
pub(super) enum Kind {
    Tls(Box<Tls>),
    Plaintext(PlaintextUpstream),
}

/// TLS settings of an upstream.
pub(super) struct Tls {
    pub(super) host: String,
    pub(super) port: u16,
    /// How old the addresses of `host` may be.
    pub(super) dns_ttl: Duration,
    pub(super) server_name: ServerName<'static>,
    pinned: bool,
    pub(super) plain: Arc<ClientConfig>,
    pub(super) http1: Arc<ClientConfig>,
    pub(super) http2: Arc<ClientConfig>,
    pub(super) postgresql: Arc<ClientConfig>,
}

/// A fresh upstream leg.
pub struct Dialled {
    /// The connection, with what was agreed.
    pub established: Established,
    /// Its route.
    pub address: Reached,
    /// What a MySQL server said first.
    pub mysql: Option<Agreed>,
}

impl Dialled {
    /// Closes a connection that nothing was sent on: flushes the handshake's last flight, sends close_notify.
    pub async fn close_unused(self) {
        let mut leg = self.established.leg;
        // Nothing was asked, so nothing is lost if it fails.
        let _ = leg.queue_close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, leg.flush()).await;
    }
}

/// How long the close of a connection that nothing was sent on may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How old the addresses of a name may be unless configured: the time for which one connection after the other asks nobody.
pub const DEFAULT_DNS_TTL: Duration = Duration::from_secs(10);

impl Upstream {
    /// `host` and `port` are where to connect, `server_name` what is sent as SNI and verified in the certificate;
    /// `pinned` says whether `tls` compares the key as well.
    pub fn new(
        host: String,
        port: u16,
        server_name: ServerName<'static>,
        tls: Arc<ClientConfig>,
        pinned: bool,
    ) -> Self {
        let with = |protocol: &[u8]| {
            let mut config = (*tls).clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let (http1, http2, postgresql) = (with(HTTP11), with(H2), with(postgres::ALPN));
        let dns_ttl = DEFAULT_DNS_TTL;
        let tls = Tls { host, port, dns_ttl, server_name, pinned, plain: tls, http1, http2, postgresql };
        Self::of(Kind::Tls(Box::new(tls)))
    }

    /// An upstream without TLS. The caller has the operator's word that it is wanted so.
    pub fn plaintext(address: PlaintextUpstream) -> Self {
        Self::of(Kind::Plaintext(address))
    }

    fn of(kind: Kind) -> Self {
        let (known, probe) = (Mutex::default(), Default::default());
        Upstream { kind, negotiation: Negotiation::Direct, known, probe }
    }

    /// The same upstream, with TLS begun in this way.
    pub fn negotiating(self, negotiation: Negotiation) -> Self {
        Upstream { negotiation, ..self }
    }

    /// The same upstream, whose name is looked up again after `ttl`.
    pub fn with_dns_ttl(mut self, ttl: Duration) -> Self {
        if let Kind::Tls(tls) = &mut self.kind {
            tls.dns_ttl = ttl;
        }
        self
    }

    /// True when a key is pinned in addition to the chain and the name.
    pub fn is_pinned(&self) -> bool {
        matches!(&self.kind, Kind::Tls(tls) if tls.pinned)
    }

    /// True when there is no TLS on the upstream leg.
    pub fn is_plaintext(&self) -> bool {
        matches!(self.kind, Kind::Plaintext(_))
    }

    /// `host:port`, as configured; with the scheme where there is no TLS.
    pub fn authority(&self) -> String {
        match &self.kind {
            Kind::Tls(tls) => format!("{}:{}", tls.host, tls.port),
            Kind::Plaintext(address) => address.to_string(),
        }
    }

    /// Where a leg of this upstream's leads: what [`Upstream::dial_same_address`] takes.
    pub fn reached(&self, tcp: &TcpStream) -> io::Result<Reached> {
        match &self.kind {
            Kind::Tls(_) => tcp.peer_addr().map(Reached::Tcp),
            Kind::Plaintext(address) => Ok(address.reached()),
        }
    }

    /// Opens a leg for what `permit` allows.
    pub async fn dial(
        &self,
        _permit: &Permit,
        application: Application,
        deadline: ConnectDeadline,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        self.open(application, None, deadline, records_per_key).await
    }

    /// Opens a leg to one address of this upstream, where a session of the same permit leads already.
    pub async fn dial_same_address(
        &self,
        _permit: &Permit,
        application: Application,
        address: impl Into<Reached>,
        deadline: ConnectDeadline,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let address = match address.into() {
            Reached::Tcp(address) => Some(address),
            // The only one that it has.
            Reached::Unix(_) => None,
        };
        self.open(application, address, deadline, records_per_key).await
    }
}
