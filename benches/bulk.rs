//! CPU per GiB of a raw route, beside two relays that do less: `cargo bench --bench bulk`.
//!
//! Each system moves the same bytes in turn, several rounds in one run; what counts is the CPU time of its own thread
//! as the kernel accounts for it, and the ratio between systems. Times from different runs do not compare.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{NAME, Rig, Wish, provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const GIB: f64 = (1u64 << 30) as f64;
const ROUNDS: usize = 5;
const BUFFER: usize = 64 * 1024;

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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of the thread of this name, from the scheduler's own books (nanoseconds).
fn cpu(thread: &str) -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == thread {
            let nanoseconds = read("schedstat").split(' ').next().and_then(|n| n.parse().ok());
            return Duration::from_nanos(nanoseconds.expect("schedstat"));
        }
    }
    panic!("no thread {thread}");
}

/// Runs one relay in a thread of its own, which accepts in a loop.
fn start<F>(
    name: &str,
    core: Option<core_affinity::CoreId>,
    serve: impl FnOnce(std::net::TcpListener) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()>,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let body = move || {
        core.map(core_affinity::set_for_current);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(listener));
    };
    std::thread::Builder::new().name(name.into()).spawn(body).unwrap();
    address
}

fn tls_relay(
    rig: &Rig,
    upstream: SocketAddr,
) -> impl FnOnce(std::net::TcpListener) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + 'static {
    let leaf = rig.authority.leaf(NAME);
    let versions = &[&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let server = server.with_no_client_auth().with_single_cert(leaf.chain, leaf.key).unwrap();
    let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let client = client.with_root_certificates(rig.authority.roots()).with_no_client_auth();
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
    move |listener| {
        Box::pin(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut near = acceptor.accept(tcp).await.unwrap();
                let tcp = TcpStream::connect(upstream).await.unwrap();
                let name = ServerName::try_from("upstream.test").unwrap();
                let mut far = connector.connect(name, tcp).await.unwrap();
                // Either end may leave first.
                let _ = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
            }
        })
    }
}

fn plain_relay(
    upstream: SocketAddr,
) -> impl FnOnce(std::net::TcpListener) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + 'static {
    move |listener| {
        Box::pin(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(upstream).await.unwrap();
                let _ = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
            }
        })
    }
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
