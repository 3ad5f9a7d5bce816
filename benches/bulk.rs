//! CPU per GiB of a raw route, beside two relays that do less: `cargo bench --bench bulk`.
//!
//! Each system moves the same bytes in turn, several rounds in one run; what counts is the CPU time of its own thread
//! as the kernel accounts for it, and the ratio between systems. Times from different runs do not compare.

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

const GIB: f64 = (1u64 << 30) as f64;
const ROUNDS: usize = 5;

fn main() {
    // Cargo passes --bench; a test run of all targets passes --test and only wants to know that it starts.
    let quick = std::env::args().any(|argument| argument == "--test");
    let bytes = if quick { 1 << 20 } else { 1 << 30 };
    let rounds = if quick { 1 } else { ROUNDS };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (proxy_core, load_core) = (cores.first().copied(), cores.last().copied());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Workers pin themselves to the first core when asked to.
        let rig = Rig::raw(Wish { pin: true, ..Wish::default() }).await;
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
                let before = cpu(thread);
                download(&rig, *address, *thread == "relay-plain", bytes).await;
                cost.push((cpu(thread) - before).as_secs_f64() * GIB / bytes as f64);
            }
        }
        let medians: Vec<f64> = costs.iter_mut().map(|cost| median(cost)).collect();
        println!("{:<12} {:>12} {:>10}", "system", "CPU s/GiB", "ratio");
        for ((name, ..), cost) in systems.iter().zip(&medians) {
            println!("{name:<12} {cost:>12.3} {:>10.2}", cost / medians[1]);
        }
    });
}

/// Moves `bytes` from the upstream to a client through the relay at `address`.
async fn download(rig: &Rig, address: SocketAddr, plain: bool, bytes: usize) {
    let send = async {
        let (tcp, _) = rig.upstream.accept().await.unwrap();
        if plain {
            pour(tcp, bytes).await
        } else {
            pour(rig.acceptor.accept(tcp).await.unwrap(), bytes).await
        }
    };
    let receive = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        if plain {
            drain(tcp, bytes).await
        } else {
            let name = ServerName::try_from(NAME).unwrap();
            drain(TlsConnector::from(rig.client.clone()).connect(name, tcp).await.unwrap(), bytes).await
        }
    };
    tokio::join!(send, receive);
}

async fn pour(mut to: impl AsyncWriteExt + Unpin, bytes: usize) {
    let block = vec![0x5a; 16 * 1024];
    for _ in 0..bytes / block.len() {
        to.write_all(&block).await.unwrap();
    }
    to.flush().await.unwrap();
    to.shutdown().await.unwrap();
}

async fn drain(mut from: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: usize) {
    let (mut buffer, mut got) = (vec![0; 256 * 1024], 0);
    while got < bytes {
        match from.read(&mut buffer).await.unwrap() {
            0 => panic!("{got} of {bytes} bytes came"),
            n => got += n,
        }
    }
    from.shutdown().await.unwrap();
}
