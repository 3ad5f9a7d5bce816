//! Upstreams that die in mid-stream, a thousand times on raw routes and a thousand times under HTTP/2: their clients
//! never see what looks like an end, they see it soon, and nothing is left behind.

mod common;

use common::{Http, Rig, Wish};
use hyper::body::Bytes;
use socket2::SockRef;
use staunch::admin::process::open_descriptors;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

const SOON: Duration = Duration::from_secs(10);
const ROUNDS: usize = 1_000;
/// How soon a client is to see it, and of how many rounds that must be true on a machine that does other things too.
const PROMPT: (Duration, usize) = (Duration::from_millis(400), ROUNDS * 99 / 100);

/// Ends a connection like a process that is killed: without close_notify, by FIN or by RST.
fn die(upstream: TlsStream<TcpStream>, by_reset: bool) {
    if by_reset {
        reset_on_close(&upstream);
    }
    drop(upstream);
}

fn reset_on_close(upstream: &TlsStream<TcpStream>) {
    SockRef::from(upstream.get_ref().0).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits until no session lives and the descriptors are those of the beginning.
async fn nothing_is_left(rig: &Rig, before: u64) {
    let gone = async {
        loop {
            let text = staunch::metrics::render(&rig.workers.metrics, &Default::default());
            let live = text.lines().filter(|line| line.starts_with("staunch_sessions{"));
            let idle = live.into_iter().all(|line| line.ends_with(" 0"));
            // Other tests of this process open and close theirs.
            if idle && open_descriptors().unwrap() < before + 50 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, gone).await.expect("sessions or descriptors are left behind");
}

#[tokio::test]
async fn a_raw_upstream_that_dies_a_thousand_times_never_looks_finished() {
    let rig = Rig::raw(Wish::default()).await;
    let before = open_descriptors().unwrap();
    let mut prompt = 0;
    for round in 0..ROUNDS {
        let (mut client, mut upstream) = rig.pair().await;
        upstream.get_ref().0.set_nodelay(true).unwrap();
        upstream.write_all(b"some").await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
        let died = Instant::now();
        die(upstream, round % 2 == 0);
        let ended = timeout(SOON, client.read(&mut [0; 1])).await.expect("the client waits for ever");
        assert!(ended.is_err(), "round {round}: a clean end");
        prompt += usize::from(died.elapsed() < PROMPT.0);
    }
    assert!(prompt >= PROMPT.1, "{prompt} of {ROUNDS} ends in time");
    nothing_is_left(&rig, before).await;
}

/// Answers the first request of a connection with a head and some of a body, and dies when the client has it.
async fn half_an_answer(upstream: TlsStream<TcpStream>, seen: &tokio::sync::Notify) -> Option<Instant> {
    let mut connection = h2::server::handshake(upstream).await.ok()?;
    let (_, mut respond) = connection.accept().await?.ok()?;
    let mut body = respond.send_response(http::Response::new(()), false).ok()?;
    body.send_data(Bytes::from_static(b"some"), false).ok()?;
    tokio::select! {
        () = seen.notified() => {}
        _ = connection.accept() => return None,
    }
    let died = Instant::now();
    drop((connection, body, respond));
    Some(died)
}

#[tokio::test]
async fn an_http2_upstream_that_dies_a_thousand_times_never_looks_finished() {
    let http = Http::start(Wish { upstream_alpn: vec!["h2"], ..Wish::default() }).await;
    let token = http.token(600);
    let (before, mut prompt) = (open_descriptors().unwrap(), 0);
    for round in 0..ROUNDS {
        let seen = tokio::sync::Notify::new();
        let upstream = async {
            // A gateway that only asks which protocol is spoken ends its connection at once.
            loop {
                let upstream = http.rig.accept().await;
                upstream.get_ref().0.set_nodelay(true).unwrap();
                if round % 2 == 0 {
                    reset_on_close(&upstream);
                }
                if let Some(died) = half_an_answer(upstream, &seen).await {
                    return died;
                }
            }
        };
        let client = async {
            let connected = http.connect("h2").await;
            connected.get_ref().0.set_nodelay(true).unwrap();
            let (client, connection) = h2::client::handshake(connected).await.unwrap();
            tokio::spawn(async move {
                // The question is how the stream ends.
                let _ = connection.await;
            });
            let request =
                http::Request::get("https://route.test/").header("authorization", format!("Bearer {token}"));
            let (response, _) =
                client.ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "some");
            seen.notify_one();
            let end = body.data().await;
            (end, Instant::now())
        };
        let (died, (end, ended)) =
            timeout(SOON, async { tokio::join!(upstream, client) }).await.expect("the client waits for ever");
        assert!(matches!(end, Some(Err(_))), "round {round}: {end:?}");
        prompt += usize::from(ended.duration_since(died) < PROMPT.0);
    }
    assert!(prompt >= PROMPT.1, "{prompt} of {ROUNDS} ends in time");
    nothing_is_left(&http.rig, before).await;
}

/// How a client goes away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Its process is killed.
    Fin,
    /// It is killed with bytes unread, or gives up at once.
    Reset,
    /// It says close_notify and closes.
    Polite,
}

const WAYS: [Way; 3] = [Way::Fin, Way::Reset, Way::Polite];

async fn leave(mut client: tokio_rustls::client::TlsStream<TcpStream>, way: Way) {
    if way == Way::Polite {
        client.shutdown().await.unwrap();
    }
    let tcp = client.into_inner().0;
    if way == Way::Reset {
        SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(tcp);
}

/// Sends a request head and what follows it; returns the client, and the upstream that has read the head.
async fn request(
    http: &Http,
    head: &str,
    rest: &[u8],
) -> (tokio_rustls::client::TlsStream<TcpStream>, TlsStream<TcpStream>) {
    let head =
        format!("{head}host: route.test\r\nauthorization: Bearer {}\r\n\r\n", http.token(60)).into_bytes();
    let client = async {
        let mut client = http.connect("http/1.1").await;
        client.write_all(&[&head, rest].concat()).await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let upstream = async {
        // A gateway that only asks which protocol is spoken sends no request.
        loop {
            let (mut upstream, mut seen) = (http.rig.accept().await, Vec::new());
            while let Ok(byte) = upstream.read_u8().await {
                seen.push(byte);
                if seen.ends_with(b"\r\n\r\n") {
                    return upstream;
                }
            }
        }
    };
    timeout(SOON, async { tokio::join!(client, upstream) }).await.unwrap()
}

/// Waits until the gateway's one session has ended, which must be at once, and because its client left.
async fn ends_at_once(http: &Http, what: &str) {
    let ended = async {
        loop {
            let text = staunch::metrics::render(&http.rig.workers.metrics, &Default::default());
            let closed = text.lines().find(|l| l.contains("sessions_closed_total{") && !l.ends_with(" 0"));
            if let Some(line) = closed {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let line =
        timeout(Duration::from_millis(900), ended).await.unwrap_or_else(|_| panic!("{what}: not noticed"));
    assert!(line.contains("culprit=\"client\""), "{what}: {line}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_101_is_noticed_at_once() {
    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n";
    for way in WAYS {
        let http = Http::start(Wish::default()).await;
        let (client, mut upstream) = request(&http, UPGRADE, b"not yet").await;
        leave(client, way).await;
        ends_at_once(&http, &format!("{way:?}")).await;
        let ended = timeout(SOON, upstream.read(&mut [0; 100])).await.unwrap();
        assert!(ended.is_err(), "{way:?}: {ended:?} looks like an end, or more came than the head");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_noticed_at_once() {
    for way in WAYS {
        let http = Http::start(Wish::default()).await;
        let (client, upstream) = request(&http, "GET /slow HTTP/1.1\r\n", b"").await;
        leave(client, way).await;
        ends_at_once(&http, &format!("{way:?}")).await;
        drop(upstream);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_a_blocked_upload_over_http_is_noticed_at_once() {
    for way in WAYS {
        let http = Http::start(Wish::default()).await;
        let post = "POST /upload HTTP/1.1\r\ncontent-length: 1000000000\r\n";
        let (mut client, upstream) = request(&http, post, b"").await;
        // The upstream reads nothing of it. The client goes on until the gateway holds it back, and not until its own
        // kernel does: the end could not get through then.
        let piece = [7; 30_000];
        while unread_of(&client).await == 0 {
            client.write_all(&piece).await.unwrap();
            client.flush().await.unwrap();
        }
        leave(client, way).await;
        ends_at_once(&http, &format!("{way:?}")).await;
        drop(upstream);
    }
}

/// Bytes that stay unread in the gateway's socket for this client.
async fn unread_of(client: &tokio_rustls::client::TlsStream<TcpStream>) -> usize {
    let port = |address: std::io::Result<std::net::SocketAddr>| format!(":{:04X}", address.unwrap().port());
    let tcp = client.get_ref().0;
    let (here, there) = (port(tcp.local_addr()), port(tcp.peer_addr()));
    let mut unread = 0;
    for _ in 0..50 {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|f| f[1].ends_with(&there) && f[2].ends_with(&here)).unwrap();
        unread = usize::from_str_radix(line[4].split(':').nth(1).unwrap(), 16).unwrap();
        if unread == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    unread
}

#[tokio::test]
async fn a_client_that_said_all_and_waits_gets_its_answer() {
    let http = Http::start(Wish::default()).await;
    let (mut client, mut upstream) = request(&http, "GET /slow HTTP/1.1\r\n", b"").await;
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nat las").await.unwrap();
    upstream.write_all(b"t").await.unwrap();
    upstream.shutdown().await.unwrap();
    let mut answer = String::new();
    let ended = timeout(SOON, client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nat las"), "{ended:?} {answer}");
}
