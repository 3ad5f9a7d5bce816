//! What happens at the far ends: an upstream that dies, an issuer that is gone, silent, or broken.

use super::Seen;
use super::bench::Bench;
use crate::Outcome;
use crate::client::Connection;
use crate::options::{Peer, Pq};
use crate::order::{Kind, Order};
use rustix::process::Signal;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// All streams must have ended this long after their upstream.
const END_DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn upstream_dies(bench: &mut Bench) -> Outcome<Seen> {
    let (count, before) = (bench.size.of(1_000), bench.descriptors()?);
    let order = Order { kind: Kind::Events, size: 200, count: 100_000, gap_us: 100_000 };
    let mut streams = JoinSet::new();
    let mut first = Vec::new();
    for n in 0..count {
        let connection = bench.ask(n as usize, &order).await?;
        let (begun, wait) = oneshot::channel();
        first.push(wait);
        streams.spawn(follow(connection, begun));
    }
    for wait in first {
        wait.await.map_err(|_| "a stream ended before its upstream did")?;
    }
    bench.upstream.kill()?;
    let died = Instant::now();
    let (mut clean, mut last) = (0, Duration::ZERO);
    while let Some(stream) = streams.join_next().await {
        let (was_clean, ended) = stream?;
        clean += u32::from(was_clean);
        last = last.max(ended - died);
    }
    // What its last lines take.
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Within ten: a pause of the reactor, a line of the log.
    let left = bench.descriptors()?.saturating_sub(before);
    Ok(Seen {
        seen: format!(
            "{clean} of {count} ended cleanly, the last after {} ms, {left} descriptors left over",
            last.as_millis()
        ),
        pass: clean == 0 && last <= END_DEADLINE && left < 10,
    })
}

/// Whether a stream ended with close_notify, and when.
async fn follow(connection: Connection, begun: oneshot::Sender<()>) -> (bool, Instant) {
    let Connection::Raw(mut io) = connection else { return (true, Instant::now()) };
    let (mut buffer, mut begun) = (vec![0; 4096], Some(begun));
    loop {
        match io.read(&mut buffer).await {
            Ok(0) => return (true, Instant::now()),
            Ok(_) => {
                if let Some(begun) = begun.take() {
                    // Who waited for it has given up; the stream's end tells.
                    let _ = begun.send(());
                }
            }
            Err(_) => return (false, Instant::now()),
        }
    }
}

pub(super) async fn issuer_gone(bench: &mut Bench) -> Outcome<Seen> {
    let count = bench.size.of(300);
    let mut failures = Vec::new();
    // The first request brings the keys where they are fetched when needed.
    bench.request(0).await?;
    let at = bench.pki.stop_issuer()?;
    failures.push(("down", requests(bench, count).await?));
    let silent = TcpListener::bind(at).await?;
    failures.push(("silent", requests(bench, count).await?));
    let acceptor = TlsAcceptor::from(bench.pki.server(Pq::Off.into())?);
    let broken = tokio::spawn(fail(silent, acceptor));
    failures.push(("500", requests(bench, count).await?));
    broken.abort();
    let total: u32 = failures.iter().map(|(_, (failed, _))| failed).sum();
    let seen = failures.iter().map(|(state, (failed, fault))| match fault {
        None => format!("{state}: {failed} of {count} failed"),
        Some(fault) => format!("{state}: {failed} of {count} failed ({fault})"),
    });
    Ok(Seen { seen: seen.collect::<Vec<_>>().join("; "), pass: total == 0 })
}

/// Requests with a known key after a reload: how many failed, and how the first did.
async fn requests(bench: &Bench, count: u32) -> Outcome<(u32, Option<String>)> {
    debug_assert!(bench.peer == Peer::Staunch);
    bench.signal(Signal::HUP)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut failed, mut first) = (0, None);
    for n in 0..count {
        if let Err(error) = bench.request(n as usize).await {
            failed += 1;
            first = first.or(Some(error.to_string()));
        }
    }
    Ok((failed, first))
}

/// An issuer that has lost its mind.
async fn fail(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut io = acceptor.accept(tcp).await?;
            let mut head = [0; 4096];
            _ = io.read(&mut head).await?;
            io.write_all(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )
            .await?;
            io.shutdown().await
        });
    }
}
