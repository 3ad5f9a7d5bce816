//! Bulk COPY by a client of the tool's own, the same bytes on whatever route.

use super::server::OPEN;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Asks a server for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Bytes of a write, and with it of a record: what libpq and the server send at a time.
const WRITE: usize = 8192;
const READ: usize = 64 * 1024;

/// Which way the rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Out,
    In,
}

/// How a client gets in.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) at: SocketAddr,
    pub(super) name: &'static str,
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// The token; `None` on the raw route, where TLS begins at once and the server asks for nothing.
    pub(super) token: Option<String>,
}

/// Copies rows of `row` bytes on a connection that is logged in, about `mib` MiB of messages, and ends it. Returns how many
/// bytes of messages went.
pub(super) async fn copy(
    mut io: TlsStream<TcpStream>,
    direction: Direction,
    mib: u32,
    row: u32,
) -> io::Result<u64> {
    let total = u64::from(mib) << 20;
    let moved = match direction {
        Direction::Out => {
            // A row is a message of its own: a head of five bytes, and the line's end.
            let rows = total / u64::from(row + 6);
            query(
                &mut io,
                &format!("copy (select repeat('x', {row}) from generate_series(1, {rows})) to stdout"),
            )
            .await?;
            let (moved, told) = drain(&mut io).await?;
            if told != rows {
                return Err(io::Error::other(format!("{told} rows arrived of {rows}")));
            }
            moved
        }
        Direction::In => {
            query(&mut io, "create temporary table bulk (line text)").await?;
            drain(&mut io).await?;
            // Rows are read and dropped: what is measured is the way there.
            query(&mut io, "copy bulk from stdin where false").await?;
            wait_for(&mut io, b'G').await?;
            let line = [vec![b'x'; row as usize], b"\n".to_vec()].concat();
            let lines = (WRITE - 5) / line.len();
            let record = message(b'd', &line.repeat(lines.max(1)));
            let mut moved = 0;
            while moved < total {
                io.write_all(&record).await?;
                io.flush().await?;
                moved += record.len() as u64;
            }
            io.write_all(&message(b'c', b"")).await?;
            io.flush().await?;
            drain(&mut io).await?;
            moved
        }
    };
    io.write_all(b"X\0\0\0\x04").await?;
    io.flush().await?;
    // The server only closes.
    while io.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
    Ok(moved)
}

/// A connection that may begin.
pub(super) async fn log_in(entry: &Entry) -> io::Result<TlsStream<TcpStream>> {
    let mut tcp = TcpStream::connect(entry.at).await?;
    tcp.set_nodelay(true)?;
    if entry.token.is_some() {
        ask_for_tls(&mut tcp).await?;
    }
    let name = entry.name.try_into().map_err(io::Error::other)?;
    let mut io = TlsConnector::from(entry.tls.clone()).connect(name, tcp).await?;
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    for text in ["user", OPEN, "database", "postgres", "application_name", "staunch-load", ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    io.write_all(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()).await?;
    io.flush().await?;
    if let Some(token) = &entry.token {
        wait_for(&mut io, b'R').await?;
        io.write_all(&message(b'p', &[token.as_bytes(), b"\0"].concat())).await?;
        io.flush().await?;
    }
    wait_for(&mut io, b'Z').await?;
    Ok(io)
}

async fn ask_for_tls(tcp: &mut TcpStream) -> io::Result<()> {
    tcp.write_all(&SSL_REQUEST).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(()),
        other => Err(io::Error::other(format!("the answer to SSLRequest is {other}"))),
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

async fn query(io: &mut (impl AsyncWrite + Unpin), sql: &str) -> io::Result<()> {
    io.write_all(&message(b'Q', &[sql.as_bytes(), b"\0"].concat())).await?;
    io.flush().await
}

/// Reads messages up to one of this kind.
async fn wait_for(io: &mut (impl AsyncRead + Unpin), wanted: u8) -> io::Result<()> {
    loop {
        let tag = io.read_u8().await?;
        let length = io.read_u32().await?.saturating_sub(4) as usize;
        let mut body = vec![0; length.min(READ)];
        io.read_exact(&mut body).await?;
        if tag == b'E' {
            return Err(io::Error::other(format!("the server says {}", String::from_utf8_lossy(&body))));
        }
        if tag == wanted {
            return Ok(());
        }
    }
}

/// Reads up to ReadyForQuery. Returns how many bytes that were, and how many CopyData messages.
async fn drain(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(u64, u64)> {
    let mut buffer = vec![0; READ];
    let (mut moved, mut rows, mut head, mut have, mut left) = (0, 0, [0; 5], 0, 0_usize);
    let mut ready = false;
    loop {
        let n = io.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        moved += n as u64;
        let mut at = 0;
        while at < n {
            let body = left.min(n - at);
            (at, left) = (at + body, left - body);
            if ready && left == 0 {
                return Ok((moved, rows));
            }
            let part = (5 - have).min(n - at);
            if left > 0 || part == 0 {
                continue;
            }
            head[have..have + part].copy_from_slice(&buffer[at..at + part]);
            (at, have) = (at + part, have + part);
            if have == 5 {
                have = 0;
                left = (u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize).saturating_sub(4);
                match head[0] {
                    b'd' => rows += 1,
                    b'E' => {
                        let said = String::from_utf8_lossy(&buffer[at..n]).into_owned();
                        return Err(io::Error::other(format!("the server says {said}")));
                    }
                    _ => ready = head[0] == b'Z',
                }
            }
        }
    }
}

/// Copies bytes. With `asks` it asks the server for TLS on each connection first, so that a raw route reaches a server that
/// waits to be asked. Serves for as long as it is polled.
pub(super) async fn forward(listener: TcpListener, server: SocketAddr, asks: bool) -> io::Result<()> {
    loop {
        let (mut near, _) = listener.accept().await?;
        // A connection that fails is seen by the client's end of it.
        tokio::spawn(async move {
            let mut far = TcpStream::connect(server).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            if asks {
                ask_for_tls(&mut far).await?;
            }
            tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, READ, READ).await
        });
    }
}
