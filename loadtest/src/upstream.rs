//! The far end. One listener serves every shape: what comes first says whether it is HTTP/2, HTTP/1.1 or raw bytes.

use crate::order::{self, HEAD, Kind, Order, Receipt, Sizes, Style, now_ns};
use crate::pace::Clock;
use bytes::{Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Both halves of a connection, whatever is below.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What all connections share.
struct Site {
    clock: Arc<Clock>,
    /// Streams so far: each has its own sizes.
    streams: AtomicU64,
}

/// Serves for as long as it is polled. A connection that fails is seen and counted by the client's end of it.
pub(crate) async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let site = Arc::new(Site { clock: Clock::start()?, streams: AtomicU64::new(0) });
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, site) = (acceptor.clone(), site.clone());
        tokio::spawn(async move { greet(tcp, acceptor, &site).await });
    }
}

async fn greet(tcp: TcpStream, acceptor: Option<TlsAcceptor>, site: &Arc<Site>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut io: Box<dyn Stream> = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(tcp).await?),
        None => Box::new(tcp),
    };
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    while buffer.len() < 4 {
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    match &buffer[..4] {
        b"PRI " => http2(Started { before: buffer, io }, site).await,
        b"GET " | b"POST" => http1(io, buffer, site).await,
        _ => raw(io, buffer, site).await,
    }
}

/// A connection of which something was read already.
struct Started {
    before: BytesMut,
    io: Box<dyn Stream>,
}

impl AsyncRead for Started {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.before.len().min(buf.remaining());
        buf.put_slice(&self.before.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Started {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Sends events of an order one by one, each at its moment. The moment never shifts because an earlier one was late.
struct Pace {
    clock: Arc<Clock>,
    order: Order,
    sizes: Sizes,
    style: Style,
    start: Instant,
    wall: u64,
    n: u32,
    event: Vec<u8>,
}

impl Pace {
    fn new(order: Order, style: Style, site: &Site) -> Self {
        let sizes = Sizes::new(order.size, site.streams.fetch_add(1, Relaxed));
        Pace {
            clock: site.clock.clone(),
            order,
            sizes,
            style,
            start: Instant::now(),
            wall: now_ns(),
            n: 0,
            event: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<&[u8]> {
        if self.n == self.order.count {
            return None;
        }
        let after = Duration::from_micros(self.order.gap_us.into()) * self.n;
        self.n += 1;
        if !after.is_zero() {
            // Fails only where the kernel takes no timer; the stream ends early then, which its reader counts.
            self.clock.until(self.start + after).await.ok()?;
        }
        let intended = self.wall + u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        order::event(self.style, self.sizes.next(), intended, &mut self.event);
        Some(&self.event)
    }
}

async fn raw(mut io: Box<dyn Stream>, mut buffer: BytesMut, site: &Site) -> io::Result<()> {
    while buffer.len() < HEAD {
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    let head = buffer.split_to(HEAD);
    let order = head.first_chunk().and_then(Order::from_head).ok_or_else(|| io::Error::other("no order"))?;
    match order.kind {
        Kind::Down => {
            let mut record = order::record(order.size);
            for n in 0..order.count {
                order::number(&mut record, n);
                io.write_all(&record).await?;
            }
        }
        Kind::Up | Kind::UpHashed => {
            let mut receipt = Receipt::new(&order);
            loop {
                receipt.take(&buffer);
                buffer.clear();
                if receipt.bytes() >= order.bytes() || io.read_buf(&mut buffer).await? == 0 {
                    break;
                }
            }
            io.write_all(receipt.text().as_bytes()).await?;
        }
        Kind::Echo => loop {
            if !buffer.is_empty() {
                io.write_all(&buffer).await?;
                io.flush().await?;
                buffer.clear();
            }
            if io.read_buf(&mut buffer).await? == 0 {
                break;
            }
        },
        Kind::Events => {
            let mut pace = Pace::new(order, Style::Framed, site);
            while let Some(event) = pace.next().await {
                io.write_all(event).await?;
                io.flush().await?;
            }
        }
    }
    io.flush().await?;
    io.shutdown().await
}

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;

async fn http1(mut io: Box<dyn Stream>, mut buffer: BytesMut, site: &Site) -> io::Result<()> {
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > MAX_HEAD || io.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer.split_to(end)).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let Some(order) = Order::from_path(path) else {
            io.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
            io.flush().await?;
            continue;
        };
        match order.kind {
            Kind::Up | Kind::UpHashed => {
                let length = head
                    .lines()
                    .filter_map(|line| line.split_once(':'))
                    .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                    .and_then(|(_, value)| value.trim().parse::<u64>().ok())
                    .ok_or_else(|| io::Error::other("an upload without Content-Length"))?;
                let (mut left, mut receipt) = (length, Receipt::new(&order));
                while left > 0 {
                    if buffer.is_empty() && io.read_buf(&mut buffer).await? == 0 {
                        return Ok(());
                    }
                    let taken = left.min(buffer.len() as u64);
                    receipt.take(&buffer.split_to(taken as usize));
                    left -= taken;
                }
                let body = receipt.text();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                io.write_all(answer.as_bytes()).await?;
            }
            Kind::Down | Kind::Echo => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", order.bytes());
                let mut record = order::record(order.size);
                if order.count == 1 {
                    order::number(&mut record, 0);
                    io.write_all(&[head.as_bytes(), &record].concat()).await?;
                } else {
                    io.write_all(head.as_bytes()).await?;
                    for n in 0..order.count {
                        order::number(&mut record, n);
                        io.write_all(&record).await?;
                    }
                }
            }
            Kind::Events => {
                io.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                )
                .await?;
                let mut pace = Pace::new(order, Style::Sse, site);
                let mut chunk = Vec::new();
                while let Some(event) = pace.next().await {
                    chunk.clear();
                    chunk.extend_from_slice(format!("{:x}\r\n", event.len()).as_bytes());
                    chunk.extend_from_slice(event);
                    chunk.extend_from_slice(b"\r\n");
                    io.write_all(&chunk).await?;
                    io.flush().await?;
                }
                io.write_all(b"0\r\n\r\n").await?;
            }
        }
        io.flush().await?;
    }
}

/// Bytes that a client may send on a stream and a connection before it has to wait.
pub(crate) const WINDOW: u32 = 1 << 20;

async fn http2(io: Started, site: &Arc<Site>) -> io::Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(16 * WINDOW)
        .max_concurrent_streams(10_000)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(io::Error::other)?;
        let site = site.clone();
        tokio::spawn(async move { exchange(request, respond, &site).await });
    }
    Ok(())
}

async fn exchange(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    site: &Site,
) -> Result<(), h2::Error> {
    let Some(order) = Order::from_path(request.uri().path()) else {
        let missing = http::Response::builder().status(404).body(()).expect("a plain head is valid");
        respond.send_response(missing, true)?;
        return Ok(());
    };
    // Bulk has no messages, whoever asks for it.
    let grpc = order.kind == Kind::Events
        && request
            .headers()
            .get("content-type")
            .is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
    let kind = if grpc { "application/grpc" } else { "application/octet-stream" };
    let head =
        http::Response::builder().header("content-type", kind).body(()).expect("a plain head is valid");
    let mut body = request.into_body();
    match order.kind {
        Kind::Up | Kind::UpHashed => {
            let mut receipt = Receipt::new(&order);
            while let Some(data) = body.data().await {
                let data = data?;
                receipt.take(&data);
                body.flow_control().release_capacity(data.len())?;
            }
            respond.send_response(head, false)?.send_data(Bytes::from(receipt.text()), true)
        }
        Kind::Down | Kind::Echo => {
            let mut send = respond.send_response(head, order.count == 0)?;
            let mut record = order::record(order.size);
            for n in 0..order.count {
                order::number(&mut record, n);
                put(&mut send, Bytes::copy_from_slice(&record), n + 1 == order.count).await?;
            }
            Ok(())
        }
        Kind::Events => {
            let mut send = respond.send_response(head, false)?;
            let style = if grpc { Style::Framed } else { Style::Sse };
            let mut pace = Pace::new(order, style, site);
            while let Some(event) = pace.next().await {
                let event = Bytes::copy_from_slice(event);
                put(&mut send, event, false).await?;
            }
            if grpc {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                return send.send_trailers(trailers);
            }
            send.send_data(Bytes::new(), true)
        }
    }
}

/// Sends all of `data`, when the peer has room for it.
pub(crate) async fn put(
    send: &mut h2::SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::CANCEL.into()),
        };
        let part = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        send.send_data(part, end)?;
    }
    Ok(())
}
