use super::guard::ANSWER_HEADERS;
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

struct Fake {
    draining: AtomicBool,
    registry: Registry,
    settings: Arc<Settings>,
}

impl Default for Fake {
    fn default() -> Self {
        Fake { draining: AtomicBool::new(false), registry: Registry::new(1), settings: Arc::default() }
    }
}

impl AdminState for Fake {
    fn ready(&self) -> Result<(), String> {
        if self.draining.load(SeqCst) { Err("draining".into()) } else { Ok(()) }
    }

    fn metrics(&self) -> String {
        "staunch_sessions 7\n".into()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn gateway(&self) -> Arc<Gateway> {
        unreachable!("these tests ask for no route")
    }

    fn workers(&self) -> &[Arc<WorkerMetrics>] {
        &[]
    }

    fn certificates(&self) -> Vec<(RouteName, SystemTime)> {
        Vec::new()
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.clone()
    }

    fn signals(&self) -> Vec<Arc<SignalSource>> {
        Vec::new()
    }

    fn enter_order(&self, _: &OrderLine<'_>) {}

    fn recordings(&self) -> Option<PathBuf> {
        None
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
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
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
    for (request, status) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", " 421 "),
        // The target counts as much as the field.
        ("GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", " 421 "),
        ("GET http://localhost/metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", " 421 "),
        ("GET http://localhost/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", " 200 "),
    ] {
        let answer = ask(address, request);
        assert!(answer.contains(status), "{request}: {answer}");
    }
}

#[test]
fn what_readers_could_differ_about_is_refused() {
    let address = start(Arc::default());
    for fields in [
        "host: localhost\r\nhost: evil.example\r\n",
        "host: localhost\r\nhost: localhost\r\n",
        "host: localhost\r\norigin: http://localhost\r\norigin: https://evil.example\r\n",
        "host: localhost\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n",
        "host: localhost\r\nsec-fetch-site: none\r\nsec-fetch-site: cross-site\r\n",
    ] {
        let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\n{fields}connection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("comes twice"), "{fields}: {answer}");
        assert!(!answer.contains("staunch_sessions"));
    }
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
