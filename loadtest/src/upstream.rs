//! The far end. The first 16 bytes of a connection say what it does, so one listener serves every scenario:
//! kind (`d` send records, `s` send paced events, `e` echo), three zero bytes, then record size, count, and
//! gap in microseconds, each a big-endian u32.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Every byte of a bulk record; the client checks for it.
pub(crate) const FILL: u8 = 0x5a;

pub(crate) fn order(kind: u8, size: u32, count: u32, gap_us: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[0] = kind;
    head[4..8].copy_from_slice(&size.to_be_bytes());
    head[8..12].copy_from_slice(&count.to_be_bytes());
    head[12..].copy_from_slice(&gap_us.to_be_bytes());
    head
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            tcp.set_nodelay(true)?;
            match acceptor {
                Some(a) => obey(a.accept(tcp).await?).await,
                None => obey(tcp).await,
            }
        });
    }
}

async fn obey<S: AsyncRead + AsyncWrite + Unpin>(mut s: S) -> io::Result<()> {
    let mut head = [0; 16];
    s.read_exact(&mut head).await?;
    let field = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (size, count, gap) = (field(4) as usize, field(8), Duration::from_micros(field(12).into()));
    let mut record = vec![FILL; size];
    match head[0] {
        b'd' => {
            for _ in 0..count {
                s.write_all(&record).await?;
            }
        }
        b's' => {
            let (start, wall) = (Instant::now(), now_ns());
            for n in 0..count {
                // Open loop: the intended time never shifts because an earlier event was late.
                let after = gap * n;
                tokio::time::sleep_until(start + after).await;
                let intended = wall + u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                record[..8].copy_from_slice(&intended.to_be_bytes());
                s.write_all(&record).await?;
                s.flush().await?;
            }
        }
        _ => loop {
            let n = s.read(&mut record).await?;
            if n == 0 {
                break;
            }
            s.write_all(&record[..n]).await?;
            s.flush().await?;
        },
    }
    s.shutdown().await
}
