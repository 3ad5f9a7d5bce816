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
const PROMPT: (Duration, usize) = (Duration::from_millis(100), ROUNDS * 99 / 100);

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

#[tokio::test]
async fn a_client_that_leaves_before_the_101_ends_its_upstream_at_once() {
    for resets in [true, false] {
        let http = Http::start(Wish::default()).await;
        let request = async {
            let mut client = http.connect("http/1.1").await;
            let head = format!(
                "GET /ws HTTP/1.1\r\nhost: route.test\r\nauthorization: Bearer {}\r\nupgrade: websocket\r\n\
                 connection: upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                 sec-websocket-version: 13\r\n\r\nnot yet",
                http.token(60)
            );
            client.write_all(head.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            client
        };
        let arrival = async {
            // A gateway that only asks which protocol is spoken sends no request.
            loop {
                let (mut upstream, mut seen) = (http.rig.accept().await, Vec::new());
                while let Ok(1..) = upstream.read_buf(&mut seen).await {
                    if seen.ends_with(b"\r\n\r\n") {
                        return (upstream, seen);
                    }
                }
            }
        };
        let both = async { tokio::join!(request, arrival) };
        let (client, (mut upstream, mut seen)) = timeout(SOON, both).await.unwrap();
        let tcp = client.into_inner().0;
        if resets {
            SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(tcp);
        let ended = timeout(Duration::from_millis(250), upstream.read_to_end(&mut seen)).await;
        assert!(ended.expect("not noticed").is_err(), "resets: {resets}: it looks like an end");
    }
}
