//! Where the load connects, how, and as whom.

use super::Connection;
use super::answer::Http1;
use crate::Outcome;
use crate::options::{Common, Protocol};
use crate::order::Order;
use crate::pki::{self, HTTP, Pki, RAW};
use crate::upstream::{Stream, WINDOW};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// Where the load connects, and how.
pub(crate) struct Door {
    at: SocketAddr,
    raw: Option<Arc<ClientConfig>>,
    http1: Option<Arc<ClientConfig>>,
    http2: Option<Arc<ClientConfig>>,
    raw_name: String,
    http_name: String,
    tokens: Vec<String>,
    /// What a target is asked for instead of an order.
    path: Option<String>,
}

/// Connections per loopback source address: below the usual range of 28,000 ephemeral ports.
const PER_SOURCE: usize = 20_000;
/// How long a connection may take to stand: a peer that hangs must not hang the run.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

impl Door {
    /// A door to a peer of this run.
    pub(crate) fn to_peer(
        at: SocketAddr,
        pki: &Pki,
        common: &Common,
        bare: bool,
        people: u32,
    ) -> Outcome<Door> {
        let config = |alpn: &[&[u8]]| (!bare).then(|| pki.client(&common.secure, alpn)).transpose();
        Ok(Door {
            at,
            raw: config(&[])?,
            http1: config(&[b"http/1.1"])?,
            http2: config(&[b"h2"])?,
            raw_name: RAW.into(),
            http_name: HTTP.into(),
            tokens: pki.tokens(people),
            path: None,
        })
    }

    /// A door to somebody's gateway.
    pub(crate) fn to_target(target: &str, common: &Common) -> Outcome<Door> {
        let at = target.to_socket_addrs().map_err(|e| format!("--target {target}: {e}"))?.next();
        let at = at.ok_or_else(|| format!("--target {target}: no address"))?;
        let host = target.rsplit_once(':').map_or(target, |(host, _)| host).trim_matches(['[', ']']);
        let name = common.sni.clone().unwrap_or_else(|| host.into());
        let config = |alpn: &[&[u8]]| pki::foreign(common.ca.as_deref(), &common.secure, alpn).map(Some);
        let tokens = match &common.token {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
                vec![text.trim().to_owned()]
            }
            None => Vec::new(),
        };
        Ok(Door {
            at,
            raw: config(&[])?,
            http1: config(&[b"http/1.1"])?,
            http2: config(&[b"h2"])?,
            raw_name: name.clone(),
            http_name: name,
            tokens,
            path: common.path.clone(),
        })
    }

    /// The token of somebody, in turn.
    pub(crate) fn token(&self, n: usize) -> Option<&str> {
        self.tokens.get(n % self.tokens.len().max(1)).map(String::as_str)
    }

    /// True when the upstream is this program's own and obeys orders.
    pub(crate) fn orders(&self) -> bool {
        self.path.is_none()
    }

    /// Its route.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// How TLS is spoken and the name that is asked for; `None`: it is not.
    fn tls(&self, protocol: Protocol) -> io::Result<Option<(Arc<ClientConfig>, ServerName<'static>)>> {
        let (config, name) = match protocol {
            Protocol::Raw => (&self.raw, &self.raw_name),
            Protocol::Http1 => (&self.http1, &self.http_name),
            Protocol::Http2 | Protocol::Grpc => (&self.http2, &self.http_name),
        };
        let Some(config) = config else { return Ok(None) };
        Ok(Some((config.clone(), ServerName::try_from(name.clone()).map_err(io::Error::other)?)))
    }

    /// What a client says first.
    pub(crate) fn hello(&self, protocol: Protocol) -> io::Result<Vec<u8>> {
        let (config, name) = self
            .tls(protocol)?
            .ok_or_else(|| io::Error::other("without TLS there is no handshake to ask for"))?;
        let mut hello = Vec::new();
        rustls::ClientConnection::new(config, name).map_err(io::Error::other)?.write_tls(&mut hello)?;
        Ok(hello)
    }

    async fn io(&self, number: usize, protocol: Protocol) -> io::Result<Box<dyn Stream>> {
        let socket = if self.at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // The first address is the kernel's own choice, and a port that it chooses on connecting may still be in TIME_WAIT
        // towards another run's peer; one that is bound before may not, and is searched for among all.
        if let (SocketAddr::V4(at), further @ 1..) = (self.at, number / PER_SOURCE)
            && at.ip().is_loopback()
        {
            let source = u8::try_from(1 + further).map_err(io::Error::other)?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from(([127, 0, 0, source], 0)))?;
        }
        let tcp = socket.connect(self.at).await?;
        tcp.set_nodelay(true)?;
        let Some((config, name)) = self.tls(protocol)? else { return Ok(Box::new(tcp)) };
        Ok(Box::new(TlsConnector::from(config).connect(name, tcp).await?))
    }

    /// Opens connection `number` of the run.
    pub(crate) async fn open(&self, number: usize, protocol: Protocol) -> io::Result<Connection> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let io = self.io(number, protocol).await?;
            Ok(match protocol {
                Protocol::Raw => Connection::Raw(io),
                Protocol::Http1 => Connection::Http1(Http1::new(io)),
                Protocol::Http2 | Protocol::Grpc => {
                    let (send, connection) = h2::client::Builder::new()
                        .initial_window_size(WINDOW)
                        .initial_connection_window_size(16 * WINDOW)
                        .enable_push(false)
                        .handshake(io)
                        .await
                        .map_err(io::Error::other)?;
                    // Its end is seen by the streams on it.
                    tokio::spawn(connection);
                    Connection::Http2(send, protocol == Protocol::Grpc)
                }
            })
        });
        opened.await.map_err(|_| io::Error::other("no connection within 20 s"))?
    }

    fn path_of(&self, order: &Order) -> String {
        self.path.clone().unwrap_or_else(|| order.path())
    }

    pub(super) fn head(
        &self,
        method: &str,
        order: &Order,
        token: Option<&str>,
        length: Option<u64>,
    ) -> String {
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", self.path_of(order), self.http_name);
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(length) = length {
            head += &format!("Content-Length: {length}\r\n");
        }
        head + "Accept: */*\r\nUser-Agent: staunch-load\r\n\r\n"
    }

    pub(super) fn request(
        &self,
        order: &Order,
        token: Option<&str>,
        grpc: bool,
        get: bool,
    ) -> io::Result<http::Request<()>> {
        let mut request = http::Request::builder()
            .method(if get { "GET" } else { "POST" })
            .uri(format!("https://{}{}", self.http_name, self.path_of(order)))
            .header("user-agent", "staunch-load");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if grpc {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        request.body(()).map_err(io::Error::other)
    }
}
