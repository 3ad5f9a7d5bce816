//! Routes whose upstream has no TLS, on loopback and on a Unix socket: the same bytes, the same ends as far as TCP has
//! words for them, and the client leg encrypted as ever.

mod common;

use common::{Http, Plaintext, Rig, TLS12, TLS13, TUNNEL, Version, Wish};
use ring::digest::{Context, SHA256};
use staunch::gateway::Alpn;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(10);

/// An upstream's end of its connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A raw route to an upstream without TLS, of either kind.
struct Place {
    rig: Rig,
    unix: Option<(UnixListener, PathBuf)>,
}

impl Place {
    async fn tcp(wish: Wish) -> Place {
        let rig = Rig::raw(Wish { plaintext: Some(Plaintext::Tcp), ..wish }).await;
        Place { rig, unix: None }
    }

    async fn unix(wish: Wish) -> Place {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("staunch-{}-{number}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let plaintext = Some(Plaintext::Unix(path.clone()));
        Place { rig: Rig::raw(Wish { plaintext, ..wish }).await, unix: Some((listener, path)) }
    }

    async fn both(wish: impl Fn() -> Wish) -> [Place; 2] {
        [Self::tcp(wish()).await, Self::unix(wish()).await]
    }

    async fn accept(&self) -> Box<dyn Stream> {
        match &self.unix {
            Some((listener, _)) => Box::new(listener.accept().await.unwrap().0),
            None => Box::new(self.rig.upstream.accept().await.unwrap().0),
        }
    }

    /// Connects a client, and accepts what the gateway opens for it.
    async fn pair(&self) -> (TlsStream<TcpStream>, Box<dyn Stream>) {
        let pair = async { tokio::join!(self.rig.connect(self.rig.client.clone()), self.accept()) };
        let (client, upstream) = timeout(SOON, pair).await.unwrap();
        (client.unwrap(), upstream)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.unix {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Deterministic noise.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// Writes in pieces of pseudo-random length and closes; each piece is on its way before the next is written.
async fn write_all(mut to: impl AsyncWrite + Unpin, data: &[u8], seed: u64, largest: usize) {
    let (mut at, mut state) = (0, seed | 1);
    while at < data.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = (1 + (state >> 33) as usize % largest).min(data.len() - at);
        to.write_all(&data[at..at + length]).await.unwrap();
        to.flush().await.unwrap();
        at += length;
    }
    to.shutdown().await.unwrap();
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    all
}

/// Sends noise both ways at once and compares every byte; the ends must be clean on both legs.
async fn exchange(place: &Place, length: usize, seed: u64, largest: usize) {
    let (client, upstream) = place.pair().await;
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let (up, down) = (noise(seed, length), noise(seed + 1, length));
    let ((), (), got_up, got_down) = tokio::join!(
        write_all(client_write, &up, seed, largest),
        write_all(upstream_write, &down, seed + 7, largest),
        read_all(upstream_read),
        read_all(client_read),
    );
    assert!(up == got_up, "up, seed {seed}");
    assert!(down == got_down, "down, seed {seed}");
}

#[tokio::test]
async fn bytes_arrive_as_they_were_sent_whatever_the_cuts() {
    for client in [TLS12, TLS13] {
        for place in Place::both(|| Wish { client, ..Wish::default() }).await {
            timeout(SOON, exchange(&place, 3_000_000, 5, 40_000)).await.unwrap();
            for (seed, largest) in [1, 3, 200, 20_000, 1].into_iter().enumerate() {
                timeout(SOON, exchange(&place, 20_000, seed as u64, largest)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn keys_of_the_client_leg_are_renewed_as_ever() {
    let place = Place::tcp(Wish { records_per_key: 2, ..Wish::default() }).await;
    timeout(SOON, exchange(&place, 200_000, 3, 500)).await.unwrap();
    // 200,000 bytes are 13 records at least.
    let client = |text: &str| number(text, "staunch_key_updates_total{leg=\"client\"}") > 4;
    metrics(&place.rig, client).await;
}

#[tokio::test]
async fn a_hundred_mebibytes_pass_both_ways_at_once() {
    const BLOCKS: usize = 100;
    async fn send(mut to: impl AsyncWrite + Unpin, seed: u64) -> Vec<u8> {
        let (mut digest, mut block) = (Context::new(&SHA256), noise(seed, 1 << 20));
        for number in 0..BLOCKS {
            block[..8].copy_from_slice(&(number as u64).to_be_bytes());
            digest.update(&block);
            to.write_all(&block).await.unwrap();
        }
        to.shutdown().await.unwrap();
        digest.finish().as_ref().to_vec()
    }
    async fn receive(mut from: impl AsyncRead + Unpin) -> (usize, Vec<u8>) {
        let (mut digest, mut buffer, mut length) = (Context::new(&SHA256), vec![0; 64 * 1024], 0);
        loop {
            match from.read(&mut buffer).await.unwrap() {
                0 => return (length, digest.finish().as_ref().to_vec()),
                n => digest.update(&buffer[..n]),
            }
            length += 1;
        }
    }
    for place in Place::both(Wish::default).await {
        let (client, upstream) = place.pair().await;
        let (client_read, client_write) = tokio::io::split(client);
        let (upstream_read, upstream_write) = tokio::io::split(upstream);
        let all = async {
            tokio::join!(
                send(client_write, 1),
                send(upstream_write, 2),
                receive(upstream_read),
                receive(client_read)
            )
        };
        let (up, down, got_up, got_down) = timeout(SOON * 12, all).await.unwrap();
        assert_eq!((up, down), (got_up.1, got_down.1));
        let bytes = (BLOCKS << 20) as u64;
        metrics(&place.rig, |text| number(text, "staunch_bytes_total{direction=\"up\"}") == bytes).await;
        metrics(&place.rig, |text| number(text, "staunch_bytes_total{direction=\"down\"}") == bytes).await;
    }
}

#[tokio::test]
async fn nothing_is_held_back_until_more_comes() {
    for place in Place::both(Wish::default).await {
        let (mut client, mut upstream) = place.pair().await;
        for length in (1..40).chain([16_383, 16_384, 16_385, 50_000]) {
            let (ask, answer) = (noise(length as u64, length), noise(1 + length as u64, length));
            let mut got = vec![0; length];
            client.write_all(&ask).await.unwrap();
            client.flush().await.unwrap();
            timeout(SOON, upstream.read_exact(&mut got)).await.unwrap().unwrap();
            assert!(got == ask);
            upstream.write_all(&answer).await.unwrap();
            timeout(SOON, client.read_exact(&mut got)).await.unwrap().unwrap();
            assert!(got == answer);
        }
    }
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    for place in Place::both(Wish::default).await {
        let (mut client, mut upstream) = place.pair().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        // close_notify became a FIN.
        assert_eq!(timeout(SOON, read_all(&mut upstream)).await.unwrap(), b"question");
        upstream.write_all(b"answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        // And a FIN close_notify, without which this is an error.
        assert_eq!(timeout(SOON, read_all(&mut client)).await.unwrap(), b"answer");
    }
}

#[tokio::test]
async fn a_half_closed_upstream_still_gets_what_the_client_sends() {
    for place in Place::both(Wish::default).await {
        let (mut client, mut upstream) = place.pair().await;
        upstream.write_all(b"banner").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(timeout(SOON, read_all(&mut client)).await.unwrap(), b"banner");
        client.write_all(b"late").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(timeout(SOON, read_all(&mut upstream)).await.unwrap(), b"late");
        let done = "staunch_sessions_closed_total{reason=\"done\",culprit=\"nobody\"}";
        metrics(&place.rig, |text| number(text, done) == 1).await;
    }
}

/// Both directions have carried something.
async fn warm_up(client: &mut TlsStream<TcpStream>, upstream: &mut (impl Stream + ?Sized)) {
    let mut got = [0; 4];
    client.write_all(b"some").await.unwrap();
    client.flush().await.unwrap();
    timeout(SOON, upstream.read_exact(&mut got)).await.unwrap().unwrap();
    upstream.write_all(b"more").await.unwrap();
    timeout(SOON, client.read_exact(&mut got)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_is_cut_off_is_a_reset_to_the_upstream() {
    for resets in [true, false] {
        let place = Place::tcp(Wish::default()).await;
        let (mut client, mut upstream) = place.pair().await;
        warm_up(&mut client, &mut *upstream).await;
        let tcp = client.into_inner().0;
        if resets {
            socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(tcp);
        let ended = timeout(SOON, upstream.read_to_end(&mut Vec::new())).await.unwrap();
        let kind = ended.expect_err("a truncation must not look like an end").kind();
        assert_eq!(kind, ErrorKind::ConnectionReset, "the client resets: {resets}");
    }
}

#[tokio::test]
async fn a_client_that_is_cut_off_just_ends_on_a_unix_socket_which_knows_no_reset() {
    let place = Place::unix(Wish::default()).await;
    let (mut client, mut upstream) = place.pair().await;
    warm_up(&mut client, &mut *upstream).await;
    drop(client.into_inner().0);
    assert_eq!(timeout(SOON, read_all(&mut upstream)).await.unwrap(), b"");
    let truncated = "staunch_sessions_closed_total{reason=\"truncated\",culprit=\"client\"}";
    metrics(&place.rig, |text| number(text, truncated) == 1).await;
}

#[tokio::test]
async fn an_upstream_that_resets_never_looks_like_an_end_to_the_client() {
    let place = Place::tcp(Wish::default()).await;
    let (client, accepted) =
        tokio::join!(place.rig.connect(place.rig.client.clone()), place.rig.upstream.accept());
    let (mut client, (mut upstream, _)) = (client.unwrap(), accepted.unwrap());
    warm_up(&mut client, &mut upstream).await;
    socket2::SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(upstream);
    let ended = timeout(SOON, client.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(ended.expect_err("a reset must not look like an end").kind(), ErrorKind::UnexpectedEof);
    let reset = "staunch_sessions_closed_total{reason=\"reset\",culprit=\"upstream\"}";
    metrics(&place.rig, |text| number(text, reset) == 1).await;
}

#[tokio::test]
async fn an_upstream_that_resets_while_the_client_sends_never_looks_like_an_end() {
    for round in 0..50 {
        let place = Place::tcp(Wish::default()).await;
        let (client, accepted) =
            tokio::join!(place.rig.connect(place.rig.client.clone()), place.rig.upstream.accept());
        let (mut client, (mut upstream, _)) = (client.unwrap(), accepted.unwrap());
        warm_up(&mut client, &mut upstream).await;
        let (mut read, mut write) = tokio::io::split(client);
        let flood = async { while write.write_all(&[7; 10_000]).await.is_ok() {} };
        let cut = async {
            upstream.read_exact(&mut vec![0; 10_000 * (1 + round % 7)]).await.unwrap();
            socket2::SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(upstream);
        };
        let mut rest = Vec::new();
        let all = async { tokio::join!(read.read_to_end(&mut rest), flood, cut).0 };
        assert!(timeout(SOON, all).await.unwrap().is_err(), "a reset must not look like an end");
    }
}

#[tokio::test]
async fn an_upstream_on_a_unix_socket_that_leaves_bytes_unread_is_a_reset() {
    let place = Place::unix(Wish::default()).await;
    let (mut client, mut upstream) = place.pair().await;
    warm_up(&mut client, &mut *upstream).await;
    client.write_all(b"unread").await.unwrap();
    client.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(upstream);
    let ended = timeout(SOON, client.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(ended.is_err(), "a reset must not look like an end");
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_the_upstream_back_and_is_given_up() {
    let wish = || Wish { stall: Duration::from_millis(500), ..Wish::default() };
    for place in Place::both(wish).await {
        let (client, mut upstream) = place.pair().await;
        let flood = async {
            let (block, mut sent) = (vec![7; 64 * 1024], 0usize);
            while upstream.write_all(&block).await.is_ok() {
                sent += block.len();
            }
            sent
        };
        let sent = timeout(SOON, flood).await.unwrap();
        // What is out is what socket buffers hold, not what the gateway hoards.
        assert!(sent < 64 << 20, "{sent} bytes were taken for a client that reads nothing");
        let stalled = "staunch_sessions_closed_total{reason=\"stalled\",culprit=\"client\"}";
        metrics(&place.rig, |text| number(text, stalled) == 1).await;
        drop(client);
    }
}

#[tokio::test]
async fn an_upstream_that_stops_reading_holds_the_client_back_and_is_given_up() {
    let wish = || Wish { stall: Duration::from_millis(500), ..Wish::default() };
    for place in Place::both(wish).await {
        let (mut client, upstream) = place.pair().await;
        let flood = async {
            let (block, mut sent) = (vec![7; 64 * 1024], 0usize);
            while client.write_all(&block).await.is_ok() {
                sent += block.len();
            }
            sent
        };
        let sent = timeout(SOON, flood).await.unwrap();
        assert!(sent < 64 << 20, "{sent} bytes were taken for an upstream that reads nothing");
        let stalled = "staunch_sessions_closed_total{reason=\"stalled\",culprit=\"upstream\"}";
        metrics(&place.rig, |text| number(text, stalled) == 1).await;
        drop(upstream);
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    for place in Place::both(Wish::default).await {
        let (mut client, upstream) = place.pair().await;
        let data = noise(9, 8 << 20);
        let read = async {
            let (mut got, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
            while let n @ 1.. = client.read(&mut buffer).await.unwrap() {
                got.extend_from_slice(&buffer[..n]);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            got
        };
        let all = async { tokio::join!(write_all(upstream, &data, 1, 300_000), read).1 };
        assert!(timeout(SOON * 6, all).await.unwrap() == data);
    }
}

#[tokio::test]
async fn silence_ends_at_the_idle_timeout() {
    for place in Place::both(|| Wish { idle: Duration::from_millis(300), ..Wish::default() }).await {
        let (mut client, mut upstream) = place.pair().await;
        warm_up(&mut client, &mut *upstream).await;
        let ended = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
        assert!(ended.is_err(), "an end that no peer said must not look like one");
        let idle = "staunch_sessions_closed_total{reason=\"idle\",culprit=\"gateway\"}";
        metrics(&place.rig, |text| number(text, idle) == 1).await;
    }
}

#[tokio::test]
async fn metrics_count_plaintext_legs_and_no_handshake_or_record_of_theirs() {
    let place = Place::tcp(Wish::default()).await;
    timeout(SOON, exchange(&place, 50_000, 1, 5_000)).await.unwrap();
    metrics(&place.rig, |text| number(text, "staunch_sessions_closed_total{") == 1).await;
    let text = staunch::metrics::render(&place.rig.workers.metrics, &Default::default());
    assert_eq!(number(&text, "staunch_plaintext_upstream_total"), 1);
    assert_eq!(number(&text, "staunch_records_total{direction=\"down\"}"), 0);
    assert!(number(&text, "staunch_records_total{direction=\"up\"}") > 0);
    assert_eq!(number(&text, "staunch_handshake_seconds_count{leg=\"upstream\"}"), 0);
    assert_eq!(number(&text, "staunch_handshake_seconds_count{leg=\"client\"}"), 1);
}

#[tokio::test]
async fn an_upstream_with_tls_is_never_reached_without() {
    // It answers a ClientHello in clear, as a server does that has no TLS.
    let rig = Rig::raw(Wish::default()).await;
    let plain = async {
        let (mut tcp, _) = rig.upstream.accept().await.unwrap();
        let mut first = [0; 3];
        tcp.read_exact(&mut first).await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp.shutdown().await.unwrap();
        (first, timeout(SOON / 5, rig.upstream.accept()).await.is_err())
    };
    let client = async {
        let mut client = rig.connect(rig.client.clone()).await.unwrap();
        client.write_all(b"secret").await.unwrap();
        client.read_to_end(&mut Vec::new()).await
    };
    let ((first, alone), ended) = tokio::join!(plain, client);
    assert_eq!(first, [22, 3, 1], "a ClientHello");
    assert!(alone, "there was a second try");
    assert!(ended.is_err());
}

/// A request of the route's client.
async fn get(http: &Http, path: &str) -> TlsStream<TcpStream> {
    let mut client = http.connect("http/1.1").await;
    let token = http.token(60);
    let head = format!("GET {path} HTTP/1.1\r\nhost: route.test\r\nauthorization: Bearer {token}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    client
}

/// The head of a request as the upstream gets it.
async fn head(upstream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, upstream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn http(alpn: Alpn, client: Version) -> Http {
    Http::start(Wish { plaintext: Some(Plaintext::Tcp), alpn, client, ..Wish::default() }).await
}

#[tokio::test]
async fn http_goes_up_in_clear_with_the_stored_credential_and_down_sealed() {
    for version in [TLS12, TLS13] {
        let http = http(Alpn::Http1, version).await;
        let (client, accepted) = tokio::join!(get(&http, "/a"), http.rig.upstream.accept());
        let (mut client, mut upstream) = (client, accepted.unwrap().0);
        let head = head(&mut upstream).await;
        assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Bearer stored-key") && !head.contains("eyJ"), "{head}");
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole").await.unwrap();
        let mut got = vec![0; "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole".len()];
        timeout(SOON, client.read_exact(&mut got)).await.unwrap().unwrap();
        assert!(got.ends_with(b"whole"));
    }
}

#[tokio::test]
async fn a_fin_ends_a_body_that_ends_so_and_cuts_one_that_has_a_length() {
    for (head_down, is_whole) in
        [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false)]
    {
        let http = http(Alpn::Http1, TLS13).await;
        let (mut client, accepted) = tokio::join!(get(&http, "/a"), http.rig.upstream.accept());
        let mut upstream = accepted.unwrap().0;
        head(&mut upstream).await;
        upstream.write_all(format!("{head_down}body").as_bytes()).await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut got = Vec::new();
        let ended = timeout(SOON, client.read_to_end(&mut got)).await.unwrap();
        assert!(got.ends_with(b"body"), "{:?}", String::from_utf8_lossy(&got));
        assert_eq!(ended.is_ok(), is_whole, "{head_down:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_an_upload_and_leaves_is_heard() {
    let path = std::env::temp_dir().join(format!("staunch-{}-413.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let plaintext = Some(Plaintext::Unix(path.clone()));
    let http = Http::start(Wish { plaintext, alpn: Alpn::Http1, ..Wish::default() }).await;
    for _ in 0..20 {
        let upstream = async {
            let (mut upstream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 1000];
            upstream.read_exact(&mut seen).await.unwrap();
            upstream
                .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
                .await
                .unwrap();
        };
        let client = async {
            let client = http.connect("http/1.1").await;
            let head = "POST /a HTTP/1.1\r\nhost: route.test\r\ncontent-length: 100000000\r\n";
            let head = format!("{head}authorization: Bearer {}\r\n\r\n", http.token(60));
            let (mut read, mut write) = tokio::io::split(client);
            let upload = async {
                let mut sent = write.write_all(head.as_bytes()).await;
                for _ in 0..1000 {
                    if sent.is_ok() {
                        sent = write.write_all(&[7; 100_000]).await;
                    }
                }
                // What nobody wants is read and thrown away for a while, so that the answer is not lost on its way.
                let _ = sent;
            };
            let answer = async {
                let mut answer = Vec::new();
                let _ = read.read_to_end(&mut answer).await;
                answer
            };
            tokio::join!(upload, answer).1
        };
        let (answer, ()) = timeout(SOON, async { tokio::join!(client, upstream) }).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"), "{answer:?}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn an_event_is_sent_on_as_soon_as_it_is_there() {
    let http = http(Alpn::Http1, TLS13).await;
    let (mut client, accepted) = tokio::join!(get(&http, "/events"), http.rig.upstream.accept());
    let mut upstream = accepted.unwrap().0;
    head(&mut upstream).await;
    let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let events = (0..20).map(|n| format!("data: {n:02}\n\n")).map(|e| format!("{:x}\r\n{e}\r\n", e.len()));
    for piece in std::iter::once(begin.to_owned()).chain(events) {
        upstream.write_all(piece.as_bytes()).await.unwrap();
        let mut got = vec![0; piece.len()];
        timeout(SOON, client.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), piece);
    }
}

#[tokio::test]
async fn what_the_upstream_was_not_said_to_speak_is_not_settled_on() {
    // Without ALPN a client means HTTP/1.1, which a gRPC host does not know.
    let h2 = http(Alpn::Http2, TLS13).await;
    assert!(h2.rig.connect(h2.rig.client.clone()).await.is_err());
    let only = |http: &Http, alpn: &str| {
        let mut config = (*http.rig.client).clone();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        std::sync::Arc::new(config)
    };
    assert!(h2.rig.connect(only(&h2, "http/1.1")).await.is_err());
    assert!(h2.rig.connect(only(&h2, "h2")).await.is_ok());
    let http1 = http(Alpn::Http1, TLS13).await;
    assert!(http1.rig.connect(only(&http1, "h2")).await.is_err());
    assert!(http1.rig.connect(only(&http1, "http/1.1")).await.is_ok());
    // Nobody was asked, and nobody was permitted.
    for http in [&h2, &http1] {
        let untouched = timeout(Duration::from_millis(100), http.rig.upstream.accept()).await;
        assert!(untouched.is_err(), "the upstream was dialled");
    }
}

#[tokio::test]
async fn inside_a_tunnel_only_what_the_upstream_was_said_to_speak_gets_there() {
    for (alpn, gets_there) in [(Alpn::Http2, false), (Alpn::Http1, true)] {
        let http = http(alpn, TLS13).await;
        let mut client = http.rig.connect_to(TUNNEL, http.rig.client.clone()).await.unwrap();
        let (token, request) = (http.token(60), "GET /a HTTP/1.1\r\nhost: route.test\r\n\r\n");
        let head =
            format!("CONNECT route HTTP/1.1\r\nHost: route\r\nProxy-Authorization: Bearer {token}\r\n\r\n");
        client.write_all(format!("{head}{request}").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        let patience = if gets_there { SOON } else { Duration::from_millis(500) };
        let dialled = timeout(patience, http.rig.upstream.accept()).await;
        assert_eq!(dialled.is_ok(), gets_there, "{alpn:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_dialled_ahead_is_used_and_counted_once() {
    let place = Place::tcp(Wish { dial_ahead: 1, ..Wish::default() }).await;
    let (mut client, mut upstream) = place.pair().await;
    warm_up(&mut client, &mut *upstream).await;
    let mut ahead = timeout(SOON, place.accept()).await.unwrap();
    metrics(&place.rig, |text| number(text, "staunch_plaintext_upstream_total") == 2).await;
    let mut client = place.rig.connect(place.rig.client.clone()).await.unwrap();
    warm_up(&mut client, &mut *ahead).await;
    let text = staunch::metrics::render(&place.rig.workers.metrics, &Default::default());
    assert_eq!(number(&text, "staunch_handshake_seconds_count{leg=\"upstream\"}"), 0);
    // One that ended meanwhile is not used.
    let ended = timeout(SOON, place.accept()).await.unwrap();
    drop(ended);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (mut client, mut fresh) = place.pair().await;
    warm_up(&mut client, &mut *fresh).await;
}

/// The value of the first sample that begins so; 0 when there is none.
fn number(text: &str, sample: &str) -> u64 {
    // Of all routes.
    let lines = text.lines().filter(|line| line.starts_with(sample.trim_end_matches('}')));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until the metrics are as they should be: a session is counted a moment after its last byte.
async fn metrics(rig: &Rig, good: impl Fn(&str) -> bool) {
    let waited = timeout(SOON, async {
        while !good(&staunch::metrics::render(&rig.workers.metrics, &Default::default())) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let text = || staunch::metrics::render(&rig.workers.metrics, &Default::default());
    assert!(waited.await.is_ok(), "{}", text());
}
