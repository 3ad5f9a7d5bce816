//! The operator's HTTP: `/healthz`, `/readyz`, `/metrics`. Loopback by default, no TLS, no identity.
//!
//! It only tells; nothing can be changed through it. Because a web page in a browser on the same machine can reach
//! loopback, too, the `Host` must be a loopback name or an address literal: a name that an attacker's DNS points
//! here (DNS rebinding) is answered with 421. Connections are few and short-lived, so that nobody on the
//! machine can use up descriptors here that streams need.

pub mod process;

use crate::net::bounded::{BoundedConnection, BoundedListener, Bounds};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Two scrapers, a few probes and somebody who looks.
const BOUNDS: Bounds =
    Bounds { connections: 64, head: Duration::from_secs(1), silence: Duration::from_secs(10) };

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedConnection, SocketAddr) {
        BoundedListener::accept(self).await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        BoundedListener::local_addr(self)
    }
}

/// What the operator may ask.
pub trait AdminState: Send + Sync + 'static {
    /// Whether new connections are served well; the text says why not.
    fn ready(&self) -> Result<(), String>;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Serves the operator on `listener` until the task is dropped.
pub async fn serve(listener: std::net::TcpListener, state: Arc<dyn AdminState>) -> std::io::Result<()> {
    serve_within(listener, state, BOUNDS).await
}

async fn serve_within(
    listener: std::net::TcpListener,
    state: Arc<dyn AdminState>,
    bounds: Bounds,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(BoundedListener::new(listener, bounds), router(state)).await
}

fn router(state: Arc<dyn AdminState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
        .layer(from_fn(guard))
}

async fn ready(State(state): State<Arc<dyn AdminState>>) -> Response {
    match state.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(state): State<Arc<dyn AdminState>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics()).into_response()
}

/// Turns away what no operator sends, and marks every answer.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = [(axum::http::header::ALLOW, "GET, HEAD")];
        (StatusCode::METHOD_NOT_ALLOWED, allow, "only GET and HEAD\n").into_response()
    } else if !request.headers().get(HOST).is_some_and(is_local) {
        let text = "The Host must be localhost or an address.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    } else {
        next.run(request).await
    };
    if response.status() == StatusCode::NOT_FOUND {
        *response.body_mut() = Body::from("there are /healthz, /readyz and /metrics\n");
    }
    for (name, value) in ANSWER_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// True for `localhost` and address literals, with or without a port. An address cannot be rebound.
fn is_local(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((name, "")) => name,
            Some((name, port)) if port.strip_prefix(':').is_some_and(is_port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

const ANSWER_HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[derive(Default)]
    struct Fake {
        draining: AtomicBool,
    }

    impl AdminState for Fake {
        fn ready(&self) -> Result<(), String> {
            if self.draining.load(SeqCst) { Err("draining".into()) } else { Ok(()) }
        }

        fn metrics(&self) -> String {
            "staunch_sessions 7\n".into()
        }
    }

    fn start(state: Arc<Fake>) -> SocketAddr {
        start_within(state, BOUNDS)
    }

    fn start_within(state: Arc<Fake>, bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_within(listener, state, bounds))
        });
        address
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(address: SocketAddr, method: &str, path: &str, host: &str) -> String {
        ask(address, &format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    }

    #[test]
    fn health_readiness_and_metrics_over_loopback() {
        let state = Arc::new(Fake::default());
        let address = start(state.clone());
        let health = get(address, "GET", "/healthz", "localhost");
        assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("\r\n\r\nok\n"), "{health}");
        for (name, value) in ANSWER_HEADERS {
            assert!(health.contains(&format!("{name}: {value}\r\n")), "{name} in {health}");
        }
        assert!(get(address, "GET", "/readyz", "127.0.0.1:9").starts_with("HTTP/1.1 200 "));
        state.draining.store(true, SeqCst);
        let ready = get(address, "GET", "/readyz", "127.0.0.1:9");
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("\r\n\r\ndraining\n"), "{ready}");
        assert!(get(address, "GET", "/healthz", "127.0.0.1:9").starts_with("HTTP/1.1 200 "));
        let metrics = get(address, "GET", "/metrics", "[::1]:9");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\nstaunch_sessions 7\n"), "{metrics}");
        let head = get(address, "HEAD", "/metrics", "localhost");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        let missing = get(address, "GET", "/nothing", "localhost");
        assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("/metrics"), "{missing}");
    }

    #[test]
    fn only_reading_methods_pass() {
        let address = start(Arc::default());
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            let answer = get(address, method, "/metrics", "localhost");
            assert!(
                answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"),
                "{answer}"
            );
            assert!(!answer.contains("staunch_sessions"));
        }
    }

    #[test]
    fn a_rebound_name_learns_nothing() {
        let address = start(Arc::default());
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::1",
            "localhost:x",
        ] {
            let answer = get(address, "GET", "/metrics", host);
            assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
            assert!(!answer.contains("staunch_sessions"), "{host}");
        }
        let answer = ask(address, "GET /metrics HTTP/1.0\r\n\r\n");
        assert!(answer.contains(" 421 "), "{answer}");
    }

    #[test]
    fn connections_of_no_use_end_and_give_way_to_whoever_asks() {
        let head = Duration::from_millis(400);
        let silence = Duration::from_secs(5);
        let address = start_within(Arc::default(), Bounds { connections: 2, head, silence });
        let began = std::time::Instant::now();
        let connect = || TcpStream::connect(address).unwrap();
        // One says nothing, one never comes to the end of its head.
        let (mut silent, mut slow) = (connect(), connect());
        slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n").unwrap();
        let mut trickle = slow.try_clone().unwrap();
        std::thread::spawn(move || {
            while trickle.write_all(b"x: y\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // The third is served at once.
        let health = get(address, "GET", "/healthz", "localhost");
        assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
        assert!(began.elapsed() < head, "it waited for the silent");
        for connection in [&mut silent, &mut slow] {
            connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut rest = String::new();
            // What trickles in after the end makes it a reset.
            let ended = connection.read_to_string(&mut rest);
            let timed_out = ended.as_ref().err().is_some_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!timed_out && !rest.starts_with("HTTP/1.1 200 "), "{ended:?} {rest}");
        }
        assert!(began.elapsed() < silence, "a head may take as long as it likes");
    }

    #[test]
    fn a_connection_that_is_used_lives_on() {
        let silence = Duration::from_millis(500);
        let address = start_within(Arc::default(), Bounds { connections: 1, head: silence, silence });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for _ in 0..5 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
