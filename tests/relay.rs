//! Raw routes through a whole gateway, with real TLS peers on both sides.

mod common;

use common::{Http, NAME, Rig, TLS12, TLS13, Wish};
use ring::digest::{Context, SHA256};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// Deterministic noise.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Writes in pieces of pseudo-random length, closes, and returns the digest.
async fn write_all(mut to: impl AsyncWriteExt + Unpin, data: &[u8], seed: u64, largest: usize) -> Vec<u8> {
    let (mut at, mut state) = (0, seed | 1);
    while at < data.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = (1 + (state >> 33) as usize % largest).min(data.len() - at);
        to.write_all(&data[at..at + length]).await.unwrap();
        if state & 0x10000 == 0 {
            to.flush().await.unwrap();
        }
        at += length;
    }
    to.shutdown().await.unwrap();
    ring::digest::digest(&SHA256, data).as_ref().to_vec()
}

async fn read_all(mut from: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return digest.finish().as_ref().to_vec(),
            n => digest.update(&buffer[..n]),
        }
    }
}

/// Sends noise both ways at once and compares digests.
async fn exchange(rig: &Rig, length: usize, seed: u64, largest: usize) {
    let (client, upstream) = rig.pair().await;
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let (up, down) = (noise(seed, length), noise(seed + 1, length));
    let (sent_up, sent_down, got_up, got_down) = tokio::join!(
        write_all(client_write, &up, seed, largest),
        write_all(upstream_write, &down, seed + 7, largest),
        read_all(upstream_read),
        read_all(client_read),
    );
    assert_eq!(sent_up, got_up, "up, seed {seed}");
    assert_eq!(sent_down, got_down, "down, seed {seed}");
}

#[tokio::test]
async fn bytes_arrive_as_they_were_sent_on_every_mix_of_versions() {
    for client in [TLS12, TLS13] {
        for upstream in [TLS12, TLS13] {
            let rig = Rig::raw(Wish { client, upstream, ..Wish::default() }).await;
            timeout(SOON, exchange(&rig, 3_000_000, 5, 40_000)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn many_tiny_records_arrive_whole() {
    let rig = Rig::raw(Wish::default()).await;
    for seed in 0..20 {
        timeout(SOON, exchange(&rig, 20_000, seed, 7)).await.unwrap();
    }
}

#[tokio::test]
async fn keys_are_renewed_at_their_limit_while_both_directions_run() {
    let rig = Rig::raw(Wish { records_per_key: 50, ..Wish::default() }).await;
    timeout(SOON, exchange(&rig, 200_000, 3, 500)).await.unwrap();
    // Counted when the session closes, which is a moment after its last byte.
    let updates = async {
        loop {
            let text = staunch::metrics::render(&rig.workers.metrics, &Default::default());
            let lines = text.lines().filter(|line| line.starts_with("staunch_key_updates_total{"));
            let sum: u64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
            if sum > 10 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, updates).await.expect("more than ten key updates");
}

#[tokio::test]
async fn tls12_closes_at_its_key_limit_since_it_cannot_renew() {
    let rig = Rig::raw(Wish { records_per_key: 5, client: TLS12, ..Wish::default() }).await;
    let (mut client, mut upstream) = rig.pair().await;
    let writer = async {
        for _ in 0..20 {
            upstream.write_all(b"x").await?;
            upstream.flush().await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        std::io::Result::Ok(())
    };
    let reader = async {
        let mut got = Vec::new();
        let ended = client.read_to_end(&mut got).await;
        (ended, got)
    };
    let (_, (ended, got)) = timeout(SOON, async { tokio::join!(writer, reader) }).await.unwrap();
    assert!(ended.is_err(), "the end must not look clean");
    assert!((3..=5).contains(&got.len()), "{} bytes came", got.len());
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    timeout(SOON, upstream.read_to_string(&mut question)).await.unwrap().unwrap();
    assert_eq!(question, "question");
    upstream.write_all(b"answer").await.unwrap();
    upstream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn a_half_closed_upstream_still_gets_what_the_client_sends() {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    upstream.write_all(b"banner").await.unwrap();
    upstream.shutdown().await.unwrap();
    let mut banner = String::new();
    timeout(SOON, client.read_to_string(&mut banner)).await.unwrap().unwrap();
    assert_eq!(banner, "banner");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut late = String::new();
    timeout(SOON, upstream.read_to_string(&mut late)).await.unwrap().unwrap();
    assert_eq!(late, "late");
}

#[tokio::test]
async fn a_connection_that_ends_without_close_notify_ends_so_on_the_other_leg() {
    for client_cuts in [true, false] {
        let rig = Rig::raw(Wish::default()).await;
        let (mut client, mut upstream) = rig.pair().await;
        client.write_all(b"some").await.unwrap();
        client.flush().await.unwrap();
        let mut some = [0; 4];
        upstream.read_exact(&mut some).await.unwrap();
        upstream.write_all(b"more").await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut some).await.unwrap();
        let mut rest = Vec::new();
        let ended = if client_cuts {
            drop(client.into_inner().0);
            timeout(SOON, upstream.read_to_end(&mut rest)).await.unwrap()
        } else {
            drop(upstream.into_inner().0);
            timeout(SOON, client.read_to_end(&mut rest)).await.unwrap()
        };
        let kind = ended.expect_err("a truncation must not look like an end").kind();
        assert_eq!(kind, std::io::ErrorKind::UnexpectedEof, "client cuts: {client_cuts}");
    }
}

#[tokio::test]
async fn a_certificate_that_no_rule_names_gets_no_upstream() {
    let rig = Rig::raw(Wish::default()).await;
    let config = Rig::client_config(&rig.authority, "eve.test", TLS13);
    let mut client = rig.connect(config).await.unwrap();
    let error = timeout(SOON, client.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let untouched = timeout(Duration::from_millis(100), rig.upstream.accept()).await;
    assert!(untouched.is_err(), "the upstream was dialled without a permit");
}

#[tokio::test]
async fn a_silent_connection_is_gone_at_the_deadline() {
    let rig = Rig::raw(Wish { permit_deadline: Duration::from_millis(300), ..Wish::default() }).await;
    let mut silent = tokio::net::TcpStream::connect(rig.gateway).await.unwrap();
    let ended = timeout(Duration::from_secs(6), silent.read(&mut [0; 1])).await.unwrap();
    assert_eq!(ended.unwrap(), 0);
}

#[tokio::test]
async fn a_client_hello_in_single_bytes_completes() {
    let rig = Rig::raw(Wish::default()).await;
    let config = Rig::client_config(&rig.authority, "ann.test", TLS13);
    let name = rustls::pki_types::ServerName::try_from(common::NAME).unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut tcp = tokio::net::TcpStream::connect(rig.gateway).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for byte in &hello {
        tcp.write_all(std::slice::from_ref(byte)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 3];
    timeout(SOON, tcp.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [22, 3, 3], "a ServerHello");
}

#[tokio::test]
async fn plaintext_is_refused_and_http_is_told_why() {
    let rig = Rig::raw(Wish::default()).await;
    for (first, answer) in
        [(&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], "HTTP/1.1 400 "), (b"SSH-2.0-x\r\n", "")]
    {
        let mut tcp = tokio::net::TcpStream::connect(rig.gateway).await.unwrap();
        tcp.write_all(first).await.unwrap();
        let mut got = String::new();
        timeout(SOON, tcp.read_to_string(&mut got)).await.unwrap().unwrap();
        assert!(got.starts_with(answer), "{got}");
        assert_eq!(got.is_empty(), answer.is_empty());
    }
}

#[tokio::test]
async fn a_peer_that_stops_reading_holds_the_other_back_and_is_given_up() {
    let rig = Rig::raw(Wish { stall: Duration::from_millis(500), ..Wish::default() }).await;
    let (client, mut upstream) = rig.pair().await;
    let flood = async {
        let block = vec![7; 64 * 1024];
        let mut sent = 0usize;
        while upstream.write_all(&block).await.is_ok() {
            sent += block.len();
        }
        sent
    };
    let sent = timeout(SOON, flood).await.unwrap();
    // What is out is what socket buffers hold, not what the gateway hoards.
    assert!(sent < 64 << 20, "{sent} bytes were taken for a client that reads nothing");
    drop(client);
}

#[tokio::test]
async fn a_reset_on_one_leg_never_looks_like_an_end_on_the_other() {
    for client_resets in [true, false] {
        let rig = Rig::raw(Wish::default()).await;
        let (mut client, mut upstream) = rig.pair().await;
        client.write_all(b"some").await.unwrap();
        client.flush().await.unwrap();
        upstream.read_exact(&mut [0; 4]).await.unwrap();
        let reset = |tcp: tokio::net::TcpStream| {
            socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
            drop(tcp);
        };
        let mut rest = Vec::new();
        let ended = if client_resets {
            reset(client.into_inner().0);
            timeout(SOON, upstream.read_to_end(&mut rest)).await.unwrap()
        } else {
            reset(upstream.into_inner().0);
            timeout(SOON, client.read_to_end(&mut rest)).await.unwrap()
        };
        assert!(ended.is_err(), "client resets: {client_resets}");
    }
}

#[tokio::test]
async fn ten_sessions_with_random_cuts_on_every_mix_of_versions() {
    for (seed, (client, upstream)) in
        [(TLS12, TLS12), (TLS12, TLS13), (TLS13, TLS12), (TLS13, TLS13)].into_iter().enumerate()
    {
        let rig = Rig::raw(Wish { client, upstream, ..Wish::default() }).await;
        for round in 0..10 {
            let seed = (seed * 10 + round) as u64;
            timeout(SOON, exchange(&rig, 30_000, seed, [1, 3, 200, 20_000][round % 4])).await.unwrap();
        }
    }
}

/// Bytes that wait in the gateway's socket for this client and are not read.
fn unread_of(client: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> usize {
    let port = |address: std::io::Result<std::net::SocketAddr>| format!(":{:04X}", address.unwrap().port());
    let tcp = client.get_ref().0;
    let (here, there) = (port(tcp.local_addr()), port(tcp.peer_addr()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = line.into_iter().find(|f| f[1].ends_with(&there) && f[2].ends_with(&here)).unwrap();
    usize::from_str_radix(line[4].split(':').nth(1).unwrap(), 16).unwrap()
}

/// Uploads until the gateway stops reading, because the upstream does; returns how much.
async fn upload_until_blocked(
    client: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    piece: &[u8],
) -> usize {
    client.get_ref().0.set_nodelay(true).unwrap();
    let mut sent = 0;
    loop {
        assert!(sent < 64 << 20, "the gateway takes everything");
        client.write_all(piece).await.unwrap();
        client.flush().await.unwrap();
        sent += piece.len();
        let mut waits = 0;
        while unread_of(client) > 0 {
            waits += 1;
            if waits == 50 {
                return sent;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits until a session was closed for this reason.
async fn closed(rig: &Rig, reason: &str, culprit: &str) {
    let line = format!("staunch_sessions_closed_total{{reason=\"{reason}\",culprit=\"{culprit}\",");
    let is_counted = |text: &str| {
        let all = text.lines().filter(|one| one.starts_with(&line));
        all.filter_map(|one| one.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() == 1
    };
    while !is_counted(&staunch::metrics::render(&rig.workers.metrics, &Default::default())) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_client_that_is_reset_in_a_blocked_upload_is_noticed_at_once() {
    for version in [TLS12, TLS13] {
        let rig = Rig::raw(Wish { client: version, ..Wish::default() }).await;
        let (mut client, mut upstream) = rig.pair().await;
        upload_until_blocked(&mut client, &[7; 30_000]).await;
        let tcp = client.into_inner().0;
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        drop(tcp);
        timeout(Duration::from_millis(900), closed(&rig, "reset", "client")).await.expect("not noticed");
        let mut rest = Vec::new();
        let ended = timeout(SOON, upstream.read_to_end(&mut rest)).await.expect("the upstream's leg stays");
        assert!(ended.is_err(), "a cut upload looks whole");
    }
}

#[tokio::test]
async fn a_raw_client_that_said_all_and_left_has_its_blocked_upload_delivered() {
    // A client that never reads leaves a session ticket unread, for which its kernel sends a reset behind the FIN.
    for (clean, reads) in [(true, true), (false, true), (true, false)] {
        let rig = Rig::raw(Wish::default()).await;
        let (mut client, mut upstream) = rig.pair().await;
        if reads {
            upstream.write_all(b"x").await.unwrap();
            upstream.flush().await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
        }
        let sent = upload_until_blocked(&mut client, &[7; 30_000]).await;
        if clean {
            client.shutdown().await.unwrap();
        }
        drop(client.into_inner().0);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut upload = Vec::new();
        let ended = timeout(SOON, upstream.read_to_end(&mut upload)).await.unwrap();
        assert_eq!(ended.is_ok(), clean, "the end is not what the client made it");
        assert_eq!(upload.len(), sent);
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_and_waits_keeps_its_blocked_upload() {
    for version in [TLS12, TLS13] {
        let rig = Rig::raw(Wish { client: version, ..Wish::default() }).await;
        let (mut client, mut upstream) = rig.pair().await;
        let sent = upload_until_blocked(&mut client, &[7; 30_000]).await;
        client.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut upload = Vec::new();
        timeout(SOON, upstream.read_to_end(&mut upload)).await.unwrap().unwrap();
        assert_eq!(upload.len(), sent);
        upstream.write_all(b"got it all").await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(SOON, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, "got it all");
    }
}

#[tokio::test]
async fn what_an_upstream_said_before_it_left_reaches_a_slow_client() {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    let all = noise(3, 3_000_000);
    let sent = all.clone();
    let speaker = tokio::spawn(async move {
        upstream.write_all(&sent).await.unwrap();
        upstream.shutdown().await.unwrap();
        upstream
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut got = vec![0; all.len()];
    timeout(SOON, client.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got == all, "the bytes differ");
    drop(speaker.await.unwrap());
}

/// The next connection that the gateway makes, its handshake complete.
async fn dialled(rig: &Rig) -> tokio_rustls::server::TlsStream<TcpStream> {
    timeout(SOON, rig.accept()).await.expect("the gateway dials")
}

#[tokio::test]
async fn connections_dialled_ahead_serve_one_session_each_and_are_replaced() {
    let rig = Rig::raw(Wish { dial_ahead: 2, ..Wish::default() }).await;
    // Nobody was permitted yet: nothing is dialled.
    assert!(timeout(Duration::from_millis(200), rig.upstream.accept()).await.is_err());
    let (mut first, mut own) = rig.pair().await;
    let mut ready = vec![dialled(&rig).await, dialled(&rig).await];
    first.write_all(b"1").await.unwrap();
    assert_eq!(own.read_u8().await.unwrap(), b'1');
    tokio::time::sleep(Duration::from_millis(100)).await;
    for n in 0..6u8 {
        let mut client = rig.connect(rig.client.clone()).await.unwrap();
        client.write_all(&[n]).await.unwrap();
        let mut taken = ready.remove(0);
        assert_eq!(timeout(SOON, taken.read_u8()).await.expect("it is one that stood").unwrap(), n);
        taken.write_all(&[n]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), n);
        client.shutdown().await.unwrap();
        // Used once: it ends with its session, and another one stands in its place.
        assert_eq!(taken.read(&mut [0]).await.unwrap(), 0);
        ready.push(dialled(&rig).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_connection_dialled_ahead_that_its_upstream_gave_up_is_not_used() {
    let rig = Rig::raw(Wish { dial_ahead: 1, ..Wish::default() }).await;
    let _first = rig.pair().await;
    for clean in [true, false] {
        let mut gone = dialled(&rig).await;
        if clean {
            gone.shutdown().await.unwrap();
        } else {
            gone.get_ref().0.set_zero_linger().unwrap();
        }
        drop(gone);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (mut client, mut upstream) = rig.pair().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(upstream.read_u8().await.unwrap(), b'x', "a fresh one");
    }
}

#[tokio::test]
async fn what_an_upstream_says_before_it_is_spoken_to_reaches_the_session_that_takes_the_connection() {
    for upstream in [TLS12, TLS13] {
        let rig = Rig::raw(Wish { dial_ahead: 1, upstream, ..Wish::default() }).await;
        let _first = rig.pair().await;
        let mut ready = dialled(&rig).await;
        ready.write_all(b"220 greetings").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut client = rig.connect(rig.client.clone()).await.unwrap();
        let mut greeting = [0; 13];
        timeout(SOON, client.read_exact(&mut greeting)).await.unwrap().unwrap();
        assert_eq!(&greeting, b"220 greetings");
        client.write_all(b"!").await.unwrap();
        assert_eq!(ready.read_u8().await.unwrap(), b'!');
    }
}

#[tokio::test]
async fn connections_that_nobody_took_are_closed() {
    let rig = Rig::raw(Wish { dial_ahead: 2, ..Wish::default() }).await;
    let _first = rig.pair().await;
    for _ in 0..2 {
        let mut ready = dialled(&rig).await;
        let ended = timeout(Duration::from_secs(6), ready.read(&mut [0])).await.expect("given up");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }
    // And none is dialled in their place, since nobody came.
    assert!(timeout(Duration::from_millis(300), rig.upstream.accept()).await.is_err());
}

fn metric(rig: &Rig, name: &str) -> u64 {
    let text = staunch::metrics::render(&rig.workers.metrics, &Default::default());
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn a_client_that_pipelines_more_than_is_taken_costs_nothing_and_its_end_is_seen_at_once() {
    for resets in [true, false] {
        let http = Http::start(Wish { idle: Duration::from_secs(60), ..Wish::default() }).await;
        let head =
            format!("GET / HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
        let client = async {
            let mut client = http.connect("http/1.1").await;
            // More than are followed at once, and more bytes than one read takes.
            client.write_all(head.repeat(200).as_bytes()).await.unwrap();
            client
        };
        let upstream = async {
            loop {
                let mut upstream = http.rig.accept().await;
                if upstream.read_u8().await.is_ok() {
                    return upstream;
                }
            }
        };
        let (client, upstream) = timeout(SOON, async { tokio::join!(client, upstream) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if resets {
            client.get_ref().0.set_zero_linger().unwrap();
        }
        let before = std::time::Instant::now();
        drop(client);
        while http.rig.workers.sessions() > 0 {
            assert!(before.elapsed() < SOON);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Looks at the client that find nothing come once a second.
        assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
        let polls = metric(&http.rig, "staunch_relay_polls_total");
        assert!(polls < 30, "{polls} polls of a session to which nothing happened");
        drop(upstream);
    }
}

#[tokio::test]
async fn a_key_is_renewed_while_more_data_than_any_reply_waits_for_a_slow_reader() {
    let rig = Rig::raw(Wish { records_per_key: 333, ..Wish::default() }).await;
    let (mut client, mut upstream) = rig.pair().await;
    let (large, small) = (noise(1, 16 * 1024), noise(2, 9));
    let rounds = 3_000;
    let writer = async {
        for _ in 0..rounds {
            upstream.write_all(&large).await.unwrap();
            upstream.flush().await.unwrap();
            upstream.write_all(&small).await.unwrap();
            upstream.flush().await.unwrap();
        }
        upstream.shutdown().await.unwrap();
    };
    let reader = async {
        let (mut total, mut since, mut buffer) = (0, 0, vec![0; 64 * 1024]);
        loop {
            match client.read(&mut buffer).await.expect("the client did nothing wrong") {
                0 => return total,
                n => (total, since) = (total + n, since + n),
            }
            if since > 700_000 {
                since = 0;
                tokio::time::sleep(Duration::from_millis(6)).await;
            }
        }
    };
    let ((), total) = timeout(3 * SOON, async { tokio::join!(writer, reader) }).await.unwrap();
    assert_eq!(total, rounds * (large.len() + small.len()));
}

/// Client offers, upstream speaks, both settle on: as if there were no gateway.
const APPLICATION_PROTOCOLS: [(&[&str], &[&str], Option<&str>); 10] = [
    (&["h2"], &["h2"], Some("h2")),
    (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
    (&["private", "mqtt"], &["mqtt"], Some("mqtt")),
    (&["postgresql", "h2"], &["h2", "postgresql"], Some("postgresql")),
    // An upstream that does not negotiate: nothing is said to the client either.
    (&["h2"], &[], None),
    (&[], &["h2"], None),
    (&[], &[], None),
    // Names that nobody has registered.
    (&["acme-rpc/3"], &["acme-rpc/3"], Some("acme-rpc/3")),
    (&["acme-rpc/4", "acme-rpc/3"], &["h2", "acme-rpc/3"], Some("acme-rpc/3")),
    (&["private"], &[], None),
];

#[tokio::test]
async fn a_raw_route_settles_on_the_application_protocol_that_the_upstream_speaks() {
    for (offered, spoken, agreed) in APPLICATION_PROTOCOLS {
        let rig = Rig::raw(Wish { upstream_alpn: spoken.to_vec(), ..Wish::default() }).await;
        // What is known by now is not asked again.
        for round in 0..2 {
            let mut config = (*rig.client).clone();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let client = async {
                let mut client = rig.connect(config.into()).await.unwrap();
                client.write_all(b"ping").await.unwrap();
                client
            };
            let upstream = async {
                loop {
                    let mut upstream = rig.accept().await;
                    // A connection on which nothing comes only asked.
                    let mut ping = [0; 4];
                    if upstream.read_exact(&mut ping).await.is_ok() {
                        assert_eq!(&ping, b"ping");
                        return upstream;
                    }
                    assert_eq!(round, 0, "{offered:?} is asked again");
                }
            };
            let (client, upstream) = timeout(SOON, async { tokio::join!(client, upstream) }).await.unwrap();
            let agreed = agreed.map(str::as_bytes);
            assert_eq!(client.get_ref().1.alpn_protocol(), agreed, "{offered:?} and {spoken:?}");
            assert_eq!(upstream.get_ref().1.alpn_protocol(), agreed, "{offered:?} and {spoken:?}");
        }
    }
}
