//! What is done to the peer's process: reloads, its end, its descriptors, its log.

use super::Seen;
use super::bench::{Bench, request};
use crate::client::Connection;
use crate::options::Peer;
use crate::order::{Kind, Order};
use crate::{Outcome, account};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Clients that connect at the same time.
const CONNECTING: usize = 8;

pub(super) async fn reload(bench: &Bench) -> Outcome<Seen> {
    let (count, stop) = (bench.size.of(100), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for client in 0..CONNECTING {
        let (door, stop) = (bench.door.clone(), stop.clone());
        clients.spawn(async move {
            let (mut done, mut failed, mut first) = (0u32, 0u32, None);
            while !stop.load(Relaxed) {
                match request(&door, client).await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        failed += 1;
                        first = first.or(Some(error.to_string()));
                    }
                }
            }
            (done, failed, first)
        });
    }
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.signal(Signal::HUP)?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Relaxed);
    let (mut done, mut failed, mut first) = (0, 0, None);
    while let Some(client) = clients.join_next().await {
        let (more, faults, fault) = client?;
        (done, failed, first) = (done + more, failed + faults, first.or(fault));
    }
    let fault = first.map_or_else(String::new, |fault| format!(" ({fault})"));
    let seen = format!("{count} reloads, {done} connections served, {failed} failed{fault}");
    Ok(Seen { seen, pass: failed == 0 && done > 0 })
}

pub(super) async fn drain(bench: &mut Bench) -> Outcome<Seen> {
    const EVENTS: u32 = 30;
    const EVENT: u32 = 200;
    let count = bench.size.of(1_000);
    let order = Order { kind: Kind::Events, size: EVENT, count: EVENTS, gap_us: 100_000 };
    let mut streams = JoinSet::new();
    let began = Instant::now();
    for n in 0..count {
        let connection = bench.ask(n as usize, &order).await?;
        streams.spawn(read_all(connection));
    }
    tokio::time::sleep_until((began + Duration::from_secs(1)).into()).await;
    // HAProxy finishes what is under way on USR1 and ends at once on TERM.
    bench.signal(if bench.peer == Peer::Haproxy { Signal::USR1 } else { Signal::TERM })?;
    let (mut whole, mut fault) = (0, None);
    while let Some(stream) = streams.join_next().await {
        match stream? {
            Ok(_) => whole += 1,
            Err(error) => fault = Some(error.to_string()),
        }
    }
    let told = Instant::now();
    while bench.running.is_alive() && told.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = !bench.running.is_alive();
    let fault = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
    let how = if ended {
        format!("the process ended {} ms after the last", told.elapsed().as_millis())
    } else {
        "the process stays".into()
    };
    Ok(Seen {
        seen: format!("{whole} of {count} streams whole{fault}; {how}"),
        pass: whole == count && ended,
    })
}

/// Bytes until the clean end.
async fn read_all(connection: Connection) -> io::Result<u64> {
    let Connection::Raw(mut io) = connection else { return Err(io::Error::other("not raw")) };
    let (mut buffer, mut all) = (vec![0; 16 * 1024], 0);
    loop {
        match io.read(&mut buffer).await? {
            0 => return Ok(all),
            more => all += more as u64,
        }
    }
}

pub(super) async fn exhaust_descriptors(bench: &mut Bench) -> Outcome<Seen> {
    // Room for a handful of connections beside what it has open.
    let limit = bench.descriptors()? + 40;
    let pid = i32::try_from(bench.running.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    let order = Order { kind: Kind::Echo, size: 1, count: 1, gap_us: 0 };
    let Connection::Raw(mut live) = bench.ask(0, &order).await? else { return Err("not raw".into()) };
    echo(&mut live).await?;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(bench.door.at()).await?);
    }
    let cpu = || account::cpu_ns(bench.running.pid(), bench.running.threads_end);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (before, began) = (cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = (cpu()? - before) as f64 / began.elapsed().as_nanos() as f64;
    let goes_on =
        tokio::time::timeout(Duration::from_secs(2), echo(&mut live)).await.is_ok_and(|echo| echo.is_ok());
    drop(crowd);
    let freed = Instant::now();
    let back = loop {
        match tokio::time::timeout(Duration::from_secs(2), bench.request(1)).await {
            Ok(Ok(())) => break Some(freed.elapsed()),
            _ if freed.elapsed() > Duration::from_secs(10) => break None,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let recovered = back.map_or_else(
        || "it does not recover".into(),
        |back| format!("it serves again after {} ms", back.as_millis()),
    );
    Ok(Seen {
        seen: format!(
            "the live connection {}; {:.0} % of a core; {recovered}",
            if goes_on { "goes on" } else { "hangs" },
            used * 100.0
        ),
        pass: goes_on && used < 0.5 && back.is_some_and(|back| back <= Duration::from_secs(1)),
    })
}

async fn echo(io: &mut Box<dyn crate::upstream::Stream>) -> io::Result<()> {
    io.write_all(b"x").await?;
    io.flush().await?;
    io.read_exact(&mut [0]).await.map(drop)
}

pub(super) async fn stop_log_reader(bench: &mut Bench) -> Outcome<Seen> {
    let order = Order { kind: Kind::Echo, size: 1, count: 1, gap_us: 0 };
    let Connection::Raw(mut live) = bench.ask(0, &order).await? else { return Err("not raw".into()) };
    echo(&mut live).await?;
    // A pipe takes 64 KiB and so does the buffer behind it; then new work is refused.
    let (began, mut served) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(30) {
        match tokio::time::timeout(Duration::from_secs(2), bench.request(served)).await {
            Ok(Ok(())) => served += 1,
            _ => break,
        }
    }
    let mut not_ready = None;
    let full = Instant::now();
    while full.elapsed() < Duration::from_secs(10) && not_ready.is_none() {
        match ready(bench.admin).await {
            Ok(false) => not_ready = Some(full.elapsed()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let goes_on =
        tokio::time::timeout(Duration::from_secs(2), echo(&mut live)).await.is_ok_and(|echo| echo.is_ok());
    drop(live);
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.signal(Signal::TERM)?;
    let told = Instant::now();
    while bench.running.is_alive() && told.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = (!bench.running.is_alive()).then(|| told.elapsed());
    Ok(Seen {
        seen: format!(
            "{served} requests until it was full; {}; the live stream {}; {}",
            not_ready.map_or_else(
                || "still ready".into(),
                |after| format!("not ready after {:.1} s", after.as_secs_f64())
            ),
            if goes_on { "goes on" } else { "hangs" },
            ended.map_or_else(
                || "TERM is not heeded".into(),
                |after| format!("ended {} ms after TERM", after.as_millis())
            )
        ),
        pass: goes_on && not_ready.is_some() && ended.is_some_and(|after| after <= Duration::from_secs(2)),
    })
}

/// What `/readyz` says; an error where nothing does.
async fn ready(admin: SocketAddr) -> io::Result<bool> {
    let asked = async {
        let mut tcp = TcpStream::connect(admin).await?;
        tcp.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await.map_err(|_| io::Error::other("no answer"))?
}
