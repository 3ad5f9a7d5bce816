//! Relays that do less, to measure beside: each in a thread of its own whose CPU time the kernel accounts for.
#![allow(dead_code, unreachable_pub, reason = "a module of several benches, each of which uses its own part")]

use crate::common::{NAME, Rig, provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const BUFFER: usize = 64 * 1024;

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of the thread of this name, from the scheduler's own books (nanoseconds).
pub fn cpu(thread: &str) -> Duration {
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
pub fn start<F>(
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

/// Copies between two TLS sessions with tokio-rustls and 64 KiB buffers; checks nobody's identity.
pub fn tls_relay(
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
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                tokio::spawn(async move {
                    tcp.set_nodelay(true).unwrap();
                    let mut near = acceptor.accept(tcp).await.unwrap();
                    let tcp = TcpStream::connect(upstream).await.unwrap();
                    tcp.set_nodelay(true).unwrap();
                    let name = ServerName::try_from("upstream.test").unwrap();
                    let mut far = connector.connect(name, tcp).await.unwrap();
                    // Either end may leave first.
                    let _ = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
                });
            }
        })
    }
}

/// Copies between two TCP connections: the floor under everything.
pub fn plain_relay(
    upstream: SocketAddr,
) -> impl FnOnce(std::net::TcpListener) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + 'static {
    move |listener| {
        Box::pin(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    near.set_nodelay(true).unwrap();
                    let mut far = TcpStream::connect(upstream).await.unwrap();
                    far.set_nodelay(true).unwrap();
                    let _ = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
                });
            }
        })
    }
}
