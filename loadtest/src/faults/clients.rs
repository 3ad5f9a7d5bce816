//! What clients do: half-open connections, stalls, pauses, splits.

use super::Seen;
use super::bench::Bench;
use crate::Outcome;
use crate::client::Connection;
use crate::options::Protocol;
use crate::order::{Kind, Order, Sizes};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// PostgreSQL's request for TLS.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
/// A half-open connection must be gone after this.
const HALF_OPEN_LIFETIME: Duration = Duration::from_secs(11);

pub(super) async fn half_open(bench: &Bench) -> Outcome<Seen> {
    let (count, before) = (bench.size.of(10_000), bench.rss_kib()?);
    let hello = bench.door.hello(Protocol::Http1)?;
    let (mut held, mut good, mut asked, mut first_fault) = (JoinSet::new(), 0, 0, None);
    let mut most = before;
    for n in 0..count {
        if let Ok(mut tcp) = connect_from(bench.door.at(), n % 40).await {
            let part = [&[][..], &hello[..hello.len() / 2], SSL_REQUEST][n as usize % 3];
            // Who is turned away at once is gone.
            let _ = tcp.write_all(part).await;
            held.spawn(until_end(tcp));
        }
        if n % (count / 100).max(1) == 0 {
            asked += 1;
            match bench.request(n as usize).await {
                Ok(()) => good += 1,
                Err(error) => first_fault = first_fault.or(Some(error)),
            }
            most = most.max(bench.rss_kib()?);
        }
    }
    let (opened, mut last, mut stays) = (held.len(), Duration::ZERO, 0);
    while let Some(ended) = held.join_next().await {
        match ended? {
            Some(lived) => last = last.max(lived),
            None => stays += 1,
        }
    }
    let each = (most - before) as f64 / f64::from(count);
    let fault = first_fault.map_or_else(String::new, |error| format!(" ({error})"));
    Ok(Seen {
        seen: format!(
            "{good} of {asked} good requests served{fault}; {} of {opened} gone, the last after {:.1} s; {each:.1} KiB each",
            opened - stays,
            last.as_secs_f64()
        ),
        pass: good == asked && stays == 0 && last <= HALF_OPEN_LIFETIME && each <= 24.0,
    })
}

async fn connect_from(at: SocketAddr, address: u32) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let last = u8::try_from(address + 1).map_err(io::Error::other)?;
    socket.bind(SocketAddr::from(([127, 0, 1, last], 0)))?;
    socket.connect(at).await
}

/// How long it lived; `None`: it stays.
async fn until_end(mut tcp: TcpStream) -> Option<Duration> {
    let (begun, mut nothing) = (Instant::now(), [0; 256]);
    let end = async { while matches!(tcp.read(&mut nothing).await, Ok(1..)) {} };
    tokio::time::timeout(HALF_OPEN_LIFETIME + Duration::from_secs(2), end).await.ok()?;
    Some(begun.elapsed())
}

pub(super) async fn stop_reading(bench: &Bench) -> Outcome<Seen> {
    // What all share, such as the buffers of workers, is there before anybody is counted.
    bench.request(0).await?;
    drop(bench.ask(0, &GIBIBYTE).await?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (count, before) = (bench.size.of(1_000), bench.rss_kib()?);
    let mut held = Vec::new();
    for n in 0..count {
        held.push(bench.ask(n as usize, &GIBIBYTE).await?);
    }
    let mut most = 0;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        most = most.max(bench.rss_kib()?);
    }
    let grown = most.saturating_sub(before);
    let live = bench.request(0).await;
    let others = live
        .as_ref()
        .map_or_else(|error| format!("another client: {error}"), |()| "another client is served".into());
    Ok(Seen {
        seen: format!("{:.1} KiB each; {others}", grown as f64 / f64::from(count)),
        pass: grown <= u64::from(count) * 64 + SHARED_KIB && live.is_ok(),
    })
}

/// A download that nobody takes to its end.
const GIBIBYTE: Order = Order { kind: Kind::Down, size: 16 * 1024, count: 65_536, gap_us: 0 };
/// What the allocator and the kernel's rounding may add, however few clients there are.
const SHARED_KIB: u64 = 4 * 1024;

pub(super) async fn pause(bench: &Bench) -> Outcome<Seen> {
    const SIZE: u32 = 16 * 1024;
    let order = Order { kind: Kind::Down, size: SIZE, count: 2048, gap_us: 0 };
    let (pause, mut readers) = (bench.size.seconds(40), JoinSet::new());
    for n in 0..16 {
        let connection = bench.ask(n, &order).await?;
        readers.spawn(async move {
            let Connection::Raw(mut io) = connection else { return Err(io::Error::other("not raw")) };
            let mut all = vec![0; SIZE as usize];
            io.read_exact(&mut all).await?;
            tokio::time::sleep(pause).await;
            let mut rest = 0;
            loop {
                match io.read(&mut all).await? {
                    0 => return Ok(rest + u64::from(SIZE)),
                    more => rest += more as u64,
                }
            }
        });
    }
    let (mut whole, mut fault) = (0, None);
    while let Some(read) = readers.join_next().await {
        match read? {
            Ok(bytes) if bytes == order.bytes() => whole += 1,
            Ok(bytes) => fault = Some(format!("{bytes} bytes of {}", order.bytes())),
            Err(error) => fault = Some(error.to_string()),
        }
    }
    let fault = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
    Ok(Seen { seen: format!("{whole} of 16 whole{fault}"), pass: whole == 16 })
}

pub(super) async fn split(bench: &Bench) -> Outcome<Seen> {
    let (count, began) = (bench.size.of(10_000), Instant::now());
    let (mut same, mut fault) = (0, None);
    for seed in 0..count {
        match echo(bench, seed).await {
            Ok(true) => same += 1,
            Ok(false) => fault = Some(format!("seed {seed} came back otherwise")),
            Err(error) => fault = Some(format!("seed {seed}: {error}")),
        }
    }
    let fault = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
    let seen = format!("{same} of {count} equal{fault}, {:.0} s", began.elapsed().as_secs_f64());
    Ok(Seen { seen, pass: same == count })
}

async fn echo(bench: &Bench, seed: u32) -> io::Result<bool> {
    let mut dice = Sizes::new(0, seed.into());
    let order = Order { kind: Kind::Echo, size: 1, count: 1, gap_us: 0 };
    let Connection::Raw(io) = bench.ask(seed as usize % 1_000, &order).await? else {
        return Err(io::Error::other("not raw"));
    };
    let data: Vec<u8> = (0..2_000u32).map(|n| (n.wrapping_mul(seed | 1) >> 7) as u8).collect();
    let (mut read, mut write) = tokio::io::split(io);
    let sent = data.clone();
    let up = async {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            // Half of the pieces are single bytes.
            let size = dice.next() % 97;
            let (piece, after) = rest.split_at(if size < 48 { 1 } else { size }.min(rest.len()));
            write.write_all(piece).await?;
            write.flush().await?;
            rest = after;
        }
        Ok::<_, io::Error>(())
    };
    let mut back = vec![0; data.len()];
    let (sent, read) = tokio::join!(up, read.read_exact(&mut back));
    sent.and(read.map(|_| back == data))
}
