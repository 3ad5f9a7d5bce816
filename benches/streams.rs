//! CPU of many slow streams of small records, beside two relays that do less: `cargo bench --bench streams`.
//!
//! What a gateway in front of language models does most of the day: hundreds of streams, each with a few records of
//! about a hundred bytes a second. Each system serves the same streams in turn; what counts is the CPU time of its
//! thread per record, and the ratio.

#[path = "../tests/common/mod.rs"]
mod common;
mod peers;

use common::{NAME, Rig, Wish};
use peers::{cpu, median, plain_relay, start, tls_relay};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const STREAMS: usize = 400;
const PERIOD: Duration = Duration::from_millis(40);
const RECORD: usize = 120;
const ROUNDS: usize = 3;

fn main() {
    // Cargo passes --bench; a test run of all targets passes --test and only wants to know that it starts.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (streams, records, rounds) = if quick { (4, 5, 1) } else { (STREAMS, 100, ROUNDS) };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (proxy_core, load_core) = (cores.first().copied(), cores.last().copied());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let rig = std::rc::Rc::new(Rig::raw(Wish { pin: true, ..Wish::default() }).await);
        let upstream = rig.upstream.local_addr().unwrap();
        let tls = start("relay-tls", proxy_core, tls_relay(&rig, upstream));
        let plain = start("relay-plain", proxy_core, plain_relay(upstream));
        let systems = [
            ("staunch", "worker-0", rig.gateway),
            ("tls copy", "relay-tls", tls),
            ("plain copy", "relay-plain", plain),
        ];
        load_core.map(core_affinity::set_for_current);
        // Threads name themselves when they begin to run.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut costs = vec![Vec::new(); systems.len()];
        for _ in 0..rounds {
            for (cost, (_, thread, address)) in costs.iter_mut().zip(&systems) {
                let spent = serve(&rig, thread, *address, *thread == "relay-plain", streams, records).await;
                cost.push(spent.as_secs_f64() * 1e6 / (streams * records) as f64);
            }
        }
        let medians: Vec<f64> = costs.iter_mut().map(|cost| median(cost)).collect();
        println!("{:<12} {:>14} {:>10}", "system", "CPU us/record", "ratio");
        for ((name, ..), cost) in systems.iter().zip(&medians) {
            println!("{name:<12} {cost:>14.2} {:>10.2}", cost / medians[1]);
        }
    });
}

/// Opens the streams, lets them run, and returns what the relay's thread spent meanwhile.
async fn serve(
    rig: &Rig,
    thread: &str,
    address: SocketAddr,
    plain: bool,
    streams: usize,
    records: usize,
) -> Duration {
    let mut tasks = Vec::new();
    let (go, _) = tokio::sync::broadcast::channel::<()>(1);
    for n in 0..streams {
        let (client, upstream) = tokio::join!(TcpStream::connect(address), async {
            if plain { Some(rig.upstream.accept().await.unwrap().0) } else { None }
        });
        let client = client.unwrap();
        client.set_nodelay(true).unwrap();
        let offset = PERIOD * n as u32 / streams as u32;
        if let Some(upstream) = upstream {
            upstream.set_nodelay(true).unwrap();
            tasks.push(tokio::task::spawn_local(send(upstream, go.subscribe(), offset, records)));
            tasks.push(tokio::task::spawn_local(receive(client, records)));
        } else {
            let name = ServerName::try_from(NAME).unwrap();
            let (client, upstream) =
                tokio::join!(TlsConnector::from(rig.client.clone()).connect(name, client), rig.accept());
            tasks.push(tokio::task::spawn_local(send(upstream, go.subscribe(), offset, records)));
            tasks.push(tokio::task::spawn_local(receive(client.unwrap(), records)));
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = cpu(thread);
    go.send(()).unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    cpu(thread) - before
}

async fn send(
    mut to: impl AsyncWriteExt + Unpin + 'static,
    mut go: tokio::sync::broadcast::Receiver<()>,
    offset: Duration,
    records: usize,
) {
    go.recv().await.unwrap();
    tokio::time::sleep(offset).await;
    let mut tick = tokio::time::interval(PERIOD);
    for _ in 0..records {
        tick.tick().await;
        to.write_all(&[0x5a; RECORD]).await.unwrap();
        to.flush().await.unwrap();
    }
    to.shutdown().await.unwrap();
}

async fn receive(mut from: impl AsyncReadExt + AsyncWriteExt + Unpin + 'static, records: usize) {
    let (mut buffer, mut got) = (vec![0; 4096], 0);
    while got < records * RECORD {
        match from.read(&mut buffer).await.unwrap() {
            0 => panic!("{got} bytes came"),
            n => got += n,
        }
    }
    from.shutdown().await.unwrap();
}
