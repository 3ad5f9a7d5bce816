//! Reaching the upstream: needs a permit, verifies always, never downgrades.
//!
//! The client's handshake settles on an application protocol before anyone is permitted, so the gateway must know
//! beforehand what the upstream speaks. It asks: [`Upstream::choose`] makes a TLS handshake that offers exactly the
//! protocol in question, sends nothing on it, and remembers the answer until a later dial contradicts it.
//!
//! An upstream without TLS ([`plaintext`]) is another kind from the configuration on; none ever becomes one.
//!
//! A PostgreSQL server wants to be asked for TLS first ([`Negotiation::Request`]). Nothing but its one-byte answer is
//! read in clear, and a "no" ends the dial.

mod alpn_probe;
mod connect;
pub mod plaintext;

use crate::names::Reached;
use crate::policy::Permit;
use crate::protocol::mysql::Agreed;
use crate::protocol::postgres;
use crate::tls::handshake::{Established, HandshakeFault};
use alpn_probe::Spoken;
use parking_lot::Mutex;
use plaintext::PlaintextUpstream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// ALPN name of HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// A route's upstream.
pub struct Upstream {
    kind: Kind,
    negotiation: Negotiation,
    spoken: Mutex<Spoken>,
    /// Held by whoever asks the upstream; the others wait for the answer instead of asking as well.
    asking: tokio::sync::Mutex<()>,
}

/// Whether there is TLS is no property that could be switched off: either an upstream has what it takes, or it has not.
enum Kind {
    Tls(Box<Tls>),
    Plaintext(PlaintextUpstream),
}

/// What it takes to reach an upstream with TLS.
struct Tls {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    pinned: bool,
    plain: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    postgresql: Arc<ClientConfig>,
}

/// How TLS with an upstream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Negotiation {
    /// With the first byte.
    #[default]
    Direct,
    /// After an SSLRequest that the server agrees to (PostgreSQL).
    Request,
    /// After the server's greeting and a request that needs no answer (MySQL): [`Application::Mysql`] says it.
    Greeting,
}

/// How long an upstream that was only asked may take to hear that this was all.
const LEAVE: Duration = Duration::from_secs(1);
/// A silent upstream's TCP connection is given up after this much unacknowledged data time.
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time before the kernel asks whether the peer is still there.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// RefusalReason the upstream leg could not be opened. The culprit is the upstream, or the way to it.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    /// The name does not resolve.
    #[error("{0} does not resolve: {1}")]
    Resolve(String, io::Error),
    /// No address of it accepts a connection.
    #[error("{0} does not accept a connection: {1}")]
    Connect(SocketAddr, io::Error),
    /// The socket of this machine does not accept a connection.
    #[error("{0} does not accept a connection: {1}")]
    Unix(Reached, io::Error),
    /// The handshake failed: not TLS, not verified, nothing in common.
    #[error("TLS with {0} failed: {1}")]
    Tls(SocketAddr, HandshakeFault),
    /// It took longer than the route allows.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// It was asked for TLS and does not want it.
    #[error("{0} does not offer TLS")]
    NoTls(SocketAddr),
    /// It did not begin as a MySQL server does.
    #[error("{0} does not greet as a MySQL server that serves: {1}")]
    Greeting(Reached, String),
    /// The upstream agreed to another protocol than the one that the client speaks.
    #[error("{0} does not speak {1} any more")]
    Alpn(SocketAddr, &'static str),
}

/// A fresh upstream leg.
pub struct Dialled {
    /// The connection, with what was agreed.
    pub established: Established,
    /// Where it leads.
    pub address: Reached,
    /// What a MySQL server said first.
    pub mysql: Option<Agreed>,
}

impl Dialled {
    /// Ends a connection that nothing was sent on: the handshake's last flight goes out, and a clean end.
    pub async fn leave(self) {
        let mut leg = self.established.leg;
        // What the upstream makes of it is its own affair.
        let _ = leg.queue_close();
        let _ = tokio::time::timeout(LEAVE, leg.flush()).await;
    }
}

/// The protocol that both legs are to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Application {
    /// Nothing negotiated.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// `postgresql`.
    Postgres,
    /// Nothing negotiated by TLS; these flags are wanted of a MySQL server.
    Mysql(u32),
}

impl Application {
    /// The ALPN name, if one is negotiated.
    pub fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Application::None | Application::Mysql(_) => None,
            Application::Http1 => Some(HTTP11),
            Application::Http2 => Some(H2),
            Application::Postgres => Some(postgres::ALPN),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Application::None | Application::Mysql(_) => "without ALPN",
            Application::Http1 => "http/1.1",
            Application::Http2 => "h2",
            Application::Postgres => "postgresql",
        }
    }
}

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
        let tls = Tls { host, port, server_name, pinned, plain: tls, http1, http2, postgresql };
        Self::of(Kind::Tls(Box::new(tls)))
    }

    /// An upstream without TLS. The caller has the operator's word that it is wanted so.
    pub fn plaintext(address: PlaintextUpstream) -> Self {
        Self::of(Kind::Plaintext(address))
    }

    fn of(kind: Kind) -> Self {
        let (spoken, asking) = (Mutex::default(), Default::default());
        Upstream { kind, negotiation: Negotiation::Direct, spoken, asking }
    }

    /// The same upstream, with TLS begun in this way.
    pub fn negotiating(self, negotiation: Negotiation) -> Self {
        Upstream { negotiation, ..self }
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

    /// Where a leg of this upstream's leads: what [`Upstream::dial_again`] takes.
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
        timeout: Duration,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        self.open(application, None, timeout, records_per_key).await
    }

    /// Opens a leg to one address of this upstream, where a session of the same permit leads already.
    pub async fn dial_again(
        &self,
        _permit: &Permit,
        application: Application,
        address: impl Into<Reached>,
        timeout: Duration,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let address = match address.into() {
            Reached::Tcp(address) => Some(address),
            // The only one that it has.
            Reached::Unix(_) => None,
        };
        self.open(application, address, timeout, records_per_key).await
    }
}

/// What every connection of the data path wants of its socket.
pub fn set_options(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))
}
