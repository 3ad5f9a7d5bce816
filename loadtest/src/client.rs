//! The near end: connections, and what is asked on them.

use crate::Outcome;
use crate::options::{Common, Protocol};
use crate::order::{Order, Receipt, Style};
use crate::pki::{self, HTTP, Pki, RAW};
use crate::upstream::{Stream, WINDOW, put};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

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

    /// Where it leads.
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
        if let SocketAddr::V4(at) = self.at
            && at.ip().is_loopback()
        {
            let source = u8::try_from(1 + number / PER_SOURCE).map_err(io::Error::other)?;
            // Ports of the run before, still in TIME_WAIT, may be taken again.
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
        let opened = tokio::time::timeout(PATIENCE, async {
            let io = self.io(number, protocol).await?;
            Ok(match protocol {
                Protocol::Raw => Connection::Raw(io),
                Protocol::Http1 => Connection::Http1(Http1 { io, buffer: BytesMut::new() }),
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
}

/// An open connection.
pub(crate) enum Connection {
    Raw(Box<dyn Stream>),
    Http1(Http1),
    Http2(SendRequest<Bytes>, bool),
}

/// HTTP/1.1, as far as the load speaks it.
pub(crate) struct Http1 {
    io: Box<dyn Stream>,
    buffer: BytesMut,
}

/// What is left of an answer.
pub(crate) enum Body<'a> {
    /// Until the end.
    Raw(&'a mut Box<dyn Stream>, BytesMut),
    /// So many bytes.
    Length(&'a mut Http1, u64),
    /// Chunk by chunk; `true` when the last has come.
    Chunked(&'a mut Http1, bool),
    Http2(h2::RecvStream, bool),
}

/// How much is read at a time.
const READ: usize = 64 * 1024;

impl Connection {
    /// How events stand on this connection.
    pub(crate) fn style(&self) -> Style {
        match self {
            Connection::Http1(_) | Connection::Http2(_, false) => Style::Sse,
            Connection::Raw(_) | Connection::Http2(_, true) => Style::Framed,
        }
    }

    /// Another handle to the same connection, where streams share one.
    pub(crate) fn share(&self) -> Option<Connection> {
        match self {
            Connection::Http2(send, grpc) => Some(Connection::Http2(send.clone(), *grpc)),
            _ => None,
        }
    }

    /// Asks, and waits for the head of the answer. An answer that is not 200 is an error.
    pub(crate) async fn ask(&mut self, door: &Door, order: &Order, who: usize) -> io::Result<Body<'_>> {
        let token = door.token(who);
        match self {
            Connection::Raw(io) => {
                io.write_all(&order.head()).await?;
                io.flush().await?;
                Ok(Body::Raw(io, BytesMut::with_capacity(READ)))
            }
            Connection::Http1(http) => {
                http.send(&door.head("GET", order, token, None)).await?;
                http.answer().await
            }
            Connection::Http2(send, grpc) => {
                let request = door.request(order, token, *grpc, !*grpc)?;
                *send = send.clone().ready().await.map_err(io::Error::other)?;
                let (answer, _) = send.send_request(request, true).map_err(io::Error::other)?;
                let answer = answer.await.map_err(io::Error::other)?;
                status(answer.status().as_u16())?;
                let grpc = answer.headers().get("content-type").is_some_and(|t| t == "application/grpc");
                Ok(Body::Http2(answer.into_body(), grpc))
            }
        }
    }

    /// Sends the records of an order, and compares what the upstream says it got.
    pub(crate) async fn upload(&mut self, door: &Door, order: &Order, who: usize) -> io::Result<()> {
        let token = door.token(who);
        let mut record = crate::order::record(order.size);
        let answer = match self {
            Connection::Raw(io) => {
                io.write_all(&order.head()).await?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    io.write_all(&record).await?;
                }
                io.flush().await?;
                Body::Raw(io, BytesMut::new()).all().await?
            }
            Connection::Http1(http) => {
                http.io.write_all(door.head("POST", order, token, Some(order.bytes())).as_bytes()).await?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    http.io.write_all(&record).await?;
                }
                http.io.flush().await?;
                http.answer().await?.all().await?
            }
            Connection::Http2(send, grpc) => {
                let request = door.request(order, token, *grpc, false)?;
                *send = send.clone().ready().await.map_err(io::Error::other)?;
                let (answer, mut body) = send.send_request(request, false).map_err(io::Error::other)?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    let last = n + 1 == order.count;
                    put(&mut body, Bytes::copy_from_slice(&record), last).await.map_err(io::Error::other)?;
                }
                let answer = answer.await.map_err(io::Error::other)?;
                status(answer.status().as_u16())?;
                Body::Http2(answer.into_body(), false).all().await?
            }
        };
        let (got, sent) = (String::from_utf8_lossy(&answer), Receipt::expected(order));
        if got != sent {
            return Err(io::Error::other(format!("the upstream got {got:?} and not {sent:?}")));
        }
        Ok(())
    }
}

impl Door {
    fn head(&self, method: &str, order: &Order, token: Option<&str>, length: Option<u64>) -> String {
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", self.path_of(order), self.http_name);
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(length) = length {
            head += &format!("Content-Length: {length}\r\n");
        }
        head + "Accept: */*\r\nUser-Agent: staunch-load\r\n\r\n"
    }

    fn request(
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

fn status(code: u16) -> io::Result<()> {
    if code == 200 { Ok(()) } else { Err(io::Error::other(format!("the answer is {code}, not 200"))) }
}

impl Http1 {
    async fn send(&mut self, head: &str) -> io::Result<()> {
        self.io.write_all(head.as_bytes()).await?;
        self.io.flush().await
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ);
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes everything up to and with `mark`.
    async fn until(&mut self, mark: &[u8]) -> io::Result<BytesMut> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                return Ok(self.buffer.split_to(at + mark.len()));
            }
            self.more().await?;
        }
    }

    async fn answer(&mut self) -> io::Result<Body<'_>> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let code = head.get(9..12).and_then(|code| code.parse().ok());
        status(code.ok_or_else(|| io::Error::other("no status line"))?)?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("transfer-encoding:").is_some_and(|value| value == "chunked") {
            return Ok(Body::Chunked(self, false));
        }
        let length = field("content-length:").and_then(|value| value.parse().ok());
        let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        Ok(Body::Length(self, length))
    }
}

impl Body<'_> {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Body::Raw(io, buffer) => {
                buffer.reserve(READ);
                let n = io.read_buf(buffer).await?;
                Ok((n > 0).then(|| buffer.split().freeze()))
            }
            Body::Length(_, 0) | Body::Chunked(_, true) => Ok(None),
            Body::Length(http, left) => {
                if http.buffer.is_empty() {
                    http.more().await?;
                }
                let taken = http.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(Some(http.buffer.split_to(taken).freeze()))
            }
            Body::Chunked(http, over) => {
                let line = http.until(b"\r\n").await?;
                let line = String::from_utf8_lossy(&line);
                let length = usize::from_str_radix(line.trim(), 16)
                    .map_err(|_| io::Error::other(format!("a chunk of length {line:?}")))?;
                while http.buffer.len() < length + 2 {
                    http.more().await?;
                }
                let chunk = http.buffer.split_to(length + 2).freeze();
                *over = length == 0;
                Ok((length > 0).then(|| chunk.slice(..length)))
            }
            Body::Http2(body, grpc) => {
                if let Some(data) = body.data().await {
                    let data = data.map_err(io::Error::other)?;
                    body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
                    return Ok(Some(data));
                }
                if *grpc {
                    let trailers = body.trailers().await.map_err(io::Error::other)?;
                    if trailers.as_ref().and_then(|t| t.get("grpc-status")).is_none_or(|s| s != "0") {
                        return Err(io::Error::other("a gRPC answer without status 0"));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Everything that is left.
    pub(crate) async fn all(mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}
