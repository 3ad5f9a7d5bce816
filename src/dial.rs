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

pub mod plaintext;

use crate::names::Reached;
use crate::policy::Permit;
use crate::protocol::mysql::{self, Agreed, ServerGreeting};
use crate::protocol::postgres;
use crate::tls::handshake::{self, HandshakeFault, Shaken, connect};
use parking_lot::Mutex;
use plaintext::PlaintextUpstream;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// What is known of the protocols that an upstream speaks, and since when.
#[derive(Clone, Copy, Default)]
struct Spoken {
    http1: Option<(bool, Instant)>,
    http2: Option<(bool, Instant)>,
    /// When it was last out of reach.
    unreachable: Option<Instant>,
}

/// How long a "no" is believed; an upstream that learns a protocol is found out after this. A "yes" holds until a dial
/// contradicts it.
const NO_HOLDS: Duration = Duration::from_secs(60);
/// How long clients are not kept waiting for an upstream that was just out of reach.
const UNREACHABLE_HOLDS: Duration = Duration::from_secs(2);
/// How long an upstream that was only asked may take to hear that this was all.
const LEAVE: Duration = Duration::from_secs(1);
/// A silent upstream's TCP connection is given up after this much unacknowledged data time.
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time before the kernel asks whether the peer is still there.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the upstream leg could not be opened. The culprit is the upstream, or the way to it.
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
    pub shaken: Shaken,
    /// Where it leads.
    pub address: Reached,
    /// What a MySQL server said first.
    pub mysql: Option<Agreed>,
}

impl Dialled {
    /// Ends a connection that nothing was sent on: the handshake's last flight goes out, and a clean end.
    pub async fn leave(self) {
        let mut leg = self.shaken.leg;
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

    /// The first of `wanted` that the upstream speaks; asks it where that is not known. With the upstream out of
    /// reach it is the first of `wanted`, so that the client can be told in a protocol that it understands. Without TLS
    /// there is no way to ask, and what the route allows is what the upstream was said to speak.
    pub async fn choose(&self, wanted: &[Application], timeout: Duration) -> Option<Application> {
        if self.is_plaintext() {
            return wanted.first().copied();
        }
        let mut asking = None;
        for &application in wanted {
            if self.known(application).is_none() && asking.is_none() {
                asking = Some(self.asking.lock().await);
            }
            match self.known(application) {
                Some(true) => return Some(application),
                Some(false) => continue,
                None if self.is_unreachable() => return Some(application),
                None => {}
            }
            match self.open(application, None, timeout, u64::MAX).await {
                Ok(dialled) => {
                    dialled.leave().await;
                    return Some(application);
                }
                Err(DialFault::Alpn(..)) => continue,
                Err(_) => {
                    self.spoken.lock().unreachable = Some(Instant::now());
                    return wanted.first().copied();
                }
            }
        }
        None
    }

    fn is_unreachable(&self) -> bool {
        self.spoken.lock().unreachable.is_some_and(|since| since.elapsed() < UNREACHABLE_HOLDS)
    }

    fn known(&self, application: Application) -> Option<bool> {
        let spoken = self.spoken.lock();
        let entry = match application {
            Application::None | Application::Postgres | Application::Mysql(_) => return Some(true),
            Application::Http1 => spoken.http1,
            Application::Http2 => spoken.http2,
        };
        entry.filter(|(yes, since)| *yes || since.elapsed() < NO_HOLDS).map(|(yes, _)| yes)
    }

    fn learn(&self, application: Application, yes: bool) {
        let mut spoken = self.spoken.lock();
        match application {
            Application::None | Application::Postgres | Application::Mysql(_) => {}
            Application::Http1 => spoken.http1 = Some((yes, Instant::now())),
            Application::Http2 => spoken.http2 = Some((yes, Instant::now())),
        }
    }

    async fn open(
        &self,
        application: Application,
        at: Option<SocketAddr>,
        timeout: Duration,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let opened = match &self.kind {
            Kind::Tls(tls) => {
                let opening = self.open_unbounded(tls, application, at, records_per_key);
                tokio::time::timeout(timeout, opening).await
            }
            Kind::Plaintext(address) => {
                tokio::time::timeout(timeout, open_plaintext(address, application)).await
            }
        };
        opened.map_err(|_| DialFault::Timeout(timeout))?
    }

    async fn open_unbounded(
        &self,
        tls: &Tls,
        application: Application,
        at: Option<SocketAddr>,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let (mut tcp, address) = match at {
            Some(address) => (connect_to(address).await?, address),
            None => tls.connect().await?,
        };
        if self.negotiation == Negotiation::Request {
            ask_for_tls(&mut tcp, address).await?;
        }
        let mysql = read_greeting(&mut tcp, &address.into(), application).await?;
        if let Some(Agreed { greeting, flags }) = &mysql {
            if greeting.capabilities & mysql::capability::SSL == 0 {
                return Err(DialFault::NoTls(address));
            }
            let mut request = Vec::new();
            mysql::write(&mut request, 1, &mysql::response::tls_request(*flags));
            tcp.write_all(&request).await.map_err(|error| DialFault::Connect(address, error))?;
        }
        let config = match application {
            Application::None | Application::Mysql(_) => &tls.plain,
            Application::Http1 => &tls.http1,
            Application::Http2 => &tls.http2,
            Application::Postgres => &tls.postgresql,
        };
        let shaken = connect(tcp, config.clone(), tls.server_name.clone(), records_per_key).await;
        let shaken = shaken.map_err(|fault| {
            if let HandshakeFault::Tls(rustls::Error::AlertReceived(
                AlertDescription::NoApplicationProtocol,
            )) = &fault
            {
                self.learn(application, false);
                return DialFault::Alpn(address, application.name());
            }
            DialFault::Tls(address, fault)
        })?;
        // A server without ALPN speaks HTTP/1.1 if it speaks HTTP (RFC 9113 section 3.3 wants ALPN for HTTP/2), and
        // PostgreSQL if it was asked for TLS in PostgreSQL's way; without that way it must name it.
        let agreed = shaken.facts.alpn.as_deref();
        let may_be_silent = match application {
            Application::None | Application::Http1 | Application::Mysql(_) => true,
            Application::Http2 => false,
            Application::Postgres => self.negotiation == Negotiation::Request,
        };
        let speaks = agreed == Some(application.name()) || (agreed.is_none() && may_be_silent);
        self.learn(application, speaks);
        if !speaks {
            return Err(DialFault::Alpn(address, application.name()));
        }
        Ok(Dialled { shaken, address: address.into(), mysql })
    }
}

impl Tls {
    async fn connect(&self) -> Result<(TcpStream, SocketAddr), DialFault> {
        let resolve = |error| DialFault::Resolve(self.host.clone(), error);
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(resolve)?;
        let mut last = resolve(io::ErrorKind::NotFound.into());
        for address in addresses {
            match connect_to(address).await {
                Ok(tcp) => return Ok((tcp, address)),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }
}

async fn connect_to(address: SocketAddr) -> Result<TcpStream, DialFault> {
    let connect = |error| DialFault::Connect(address, error);
    let tcp = TcpStream::connect(address).await.map_err(connect)?;
    set_options(&tcp).map_err(connect)?;
    Ok(tcp)
}

async fn open_plaintext(address: &PlaintextUpstream, application: Application) -> Result<Dialled, DialFault> {
    let (mut tcp, address) = address.connect().await?;
    let mut mysql = read_greeting(&mut tcp, &address, application).await?;
    if let Some(agreed) = &mut mysql {
        agreed.flags &= !mysql::capability::SSL;
    }
    Ok(Dialled { shaken: handshake::none(tcp), address, mysql })
}

/// Reads exactly the bytes of a MySQL server's greeting: whatever else came in clear is left to the handshake, which fails on
/// it. `None` for all other protocols.
async fn read_greeting(
    tcp: &mut TcpStream,
    address: &Reached,
    application: Application,
) -> Result<Option<Agreed>, DialFault> {
    let Application::Mysql(wanted) = application else { return Ok(None) };
    let broken = |fault: &dyn std::fmt::Display| DialFault::Greeting(address.clone(), fault.to_string());
    let mut packet = vec![0; mysql::HEAD];
    tcp.read_exact(&mut packet).await.map_err(|error| broken(&error))?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    if length > mysql::MAX_LOGIN_PACKET {
        return Err(broken(&"a greeting of an impossible length"));
    }
    let mut payload = vec![0; length];
    tcp.read_exact(&mut payload).await.map_err(|error| broken(&error))?;
    let greeting = ServerGreeting::read(&payload).map_err(|fault| broken(&fault))?;
    let flags = mysql::capability::for_upstream(wanted, greeting.capabilities);
    let flags = flags.ok_or_else(|| broken(&"it cannot do what clients were promised"))?;
    Ok(Some(Agreed { greeting, flags }))
}

/// Reads exactly one byte: whatever else came in clear is left to the handshake, which fails on it (CVE-2021-23222).
async fn ask_for_tls(tcp: &mut TcpStream, address: SocketAddr) -> Result<(), DialFault> {
    let broken = |error| DialFault::Connect(address, error);
    tcp.write_all(&postgres::SSL_REQUEST).await.map_err(broken)?;
    match tcp.read_u8().await.map_err(broken)? {
        postgres::TLS_WILLING => Ok(()),
        _ => Err(DialFault::NoTls(address)),
    }
}

/// What every connection of the data path wants of its socket.
pub fn set_options(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))
}
