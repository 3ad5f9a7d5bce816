//! The shapes of work, each as one connection's life. A connection returns what it moved or why it failed.

use crate::upstream::{FILL, now_ns, order};
use hdrhistogram::Histogram;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the load connects, and how.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) at: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// Connections per loopback source address: below the usual range of 28,000 ephemeral ports.
const PER_SOURCE: usize = 20_000;

impl Door {
    pub(crate) async fn open(&self, number: usize) -> io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        let source = u8::try_from(1 + number / PER_SOURCE).map_err(io::Error::other)?;
        socket.bind(SocketAddr::from(([127, 0, 0, source], 0)))?;
        let tcp = socket.connect(self.at).await?;
        tcp.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = rustls::pki_types::ServerName::try_from("localhost").map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?))
    }
}

/// Reads `count` records of `size`; every byte is checked. Returns the bytes received.
pub(crate) async fn bulk(door: Door, n: usize, size: u32, count: u32) -> io::Result<u64> {
    let mut s = door.open(n).await?;
    s.write_all(&order(b'd', size, count, 0)).await?;
    s.flush().await?;
    let (mut buffer, mut got) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let n = s.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        if buffer[..n].iter().any(|b| *b != FILL) {
            return Err(io::Error::other("a byte arrived changed"));
        }
        got += n as u64;
    }
    if got != u64::from(size) * u64::from(count) {
        return Err(io::Error::other(format!(
            "{got} bytes arrived of {}",
            u64::from(size) * u64::from(count)
        )));
    }
    Ok(got)
}

/// Reads `count` paced events and returns their latencies in nanoseconds from the intended send time.
pub(crate) async fn stream(
    door: Door,
    n: usize,
    size: u32,
    count: u32,
    gap: u32,
) -> io::Result<Histogram<u64>> {
    let mut latency = Histogram::new(3).map_err(io::Error::other)?;
    let mut s = door.open(n).await?;
    s.write_all(&order(b's', size, count, gap)).await?;
    s.flush().await?;
    let mut event = vec![0; size as usize];
    for _ in 0..count {
        s.read_exact(&mut event).await?;
        let mut at = [0; 8];
        at.copy_from_slice(&event[..8]);
        latency.record(now_ns().saturating_sub(u64::from_be_bytes(at))).map_err(io::Error::other)?;
    }
    Ok(latency)
}

/// Opens a connection and proves with one echoed byte that both legs stand.
pub(crate) async fn connect(door: &Door, n: usize) -> io::Result<Box<dyn Stream>> {
    let mut s = door.open(n).await?;
    s.write_all(&order(b'e', 16, 0, 0)).await?;
    s.write_all(&[FILL]).await?;
    s.flush().await?;
    if s.read_u8().await? != FILL {
        return Err(io::Error::other("the echoed byte arrived changed"));
    }
    Ok(s)
}
