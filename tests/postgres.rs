//! PostgreSQL routes through a whole gateway, with a server that breaks every rule it can.

mod common;

use common::{Http, NAME, Rig, Wish};
use rustls::pki_types::ServerName;
use staunch::policy::OnExpiry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsConnector, client, server};

const SOON: Duration = Duration::from_secs(10);
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const STARTUP: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0ann\0database\0sales\0\0";
const ASKED: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const ACCEPTED: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0\x12\x67\x01\x02\x03\x04";
const READY: &[u8] = b"Z\0\0\0\x05I";
const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

type Client = client::TlsStream<TcpStream>;
type Upstream = server::TlsStream<TcpStream>;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

/// Asks for TLS as PostgreSQL clients do.
async fn connect(rig: &Rig) -> Client {
    let mut tcp = TcpStream::connect(rig.gateway).await.unwrap();
    tcp.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'S');
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(rig.client.clone()).connect(name, tcp).await.unwrap()
}

/// A client that has sent its token.
async fn with_token(http: &Http, lifetime: u64) -> Client {
    let mut client = connect(&http.rig).await;
    client.write_all(STARTUP).await.unwrap();
    assert_eq!(exactly(&mut client, ASKED.len()).await, ASKED);
    let token = [http.token(lifetime).as_bytes(), b"\0"].concat();
    client.write_all(&message(b'p', &token)).await.unwrap();
    client
}

/// The gateway's connection to the upstream, up to its startup message.
async fn upstream(rig: &Rig) -> Upstream {
    let (mut tcp, _) = rig.upstream.accept().await.unwrap();
    let mut asked = [0; 8];
    tcp.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, SSL_REQUEST);
    tcp.write_all(b"S").await.unwrap();
    let mut upstream = rig.acceptor.accept(tcp).await.unwrap();
    let length = upstream.read_u32().await.unwrap() as usize;
    let packet = exactly(&mut upstream, length - 4).await;
    assert_eq!(
        packet,
        b"\0\x03\0\0user\0svc\0database\0sales\0application_name\0ann\0staunch.subject\0ann\0\0"
    );
    upstream
}

async fn exactly(from: &mut (impl AsyncReadExt + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(SOON, from.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

/// All that comes until the end, and whether that end was a clean one.
async fn rest(mut from: impl AsyncReadExt + Unpin) -> (String, bool) {
    let mut bytes = Vec::new();
    let clean = timeout(SOON, from.read_to_end(&mut bytes)).await.unwrap().is_ok();
    (String::from_utf8_lossy(&bytes).into_owned(), clean)
}

/// Both ends of a session that may begin.
async fn session(http: &Http, lifetime: u64) -> (Client, Upstream) {
    let (mut client, mut upstream) =
        tokio::join!(with_token(http, lifetime), async { upstream(&http.rig).await });
    upstream.write_all(&[ACCEPTED, KEY, READY].concat()).await.unwrap();
    let told = exactly(&mut client, ACCEPTED.len() + KEY.len() + READY.len()).await;
    assert_eq!(told[..ACCEPTED.len()], *ACCEPTED);
    let key = &told[ACCEPTED.len()..][..KEY.len()];
    assert_eq!(key[..9], KEY[..9], "the process number is the server's own");
    assert_ne!(key[9..], KEY[9..], "the secret is not");
    (client, upstream)
}

#[tokio::test]
async fn what_comes_in_clear_behind_the_servers_yes_is_never_read() {
    let http = Http::postgres(Wish::default()).await;
    let server = async {
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        exactly(&mut tcp, 8).await;
        // CVE-2021-23222: an ErrorResponse of somebody on the way, before TLS.
        tcp.write_all(&[&b"S"[..], &message(b'E', b"SFATAL\0C28P01\0Mnot the server\0\0")].concat())
            .await
            .unwrap();
        rest(tcp).await
    };
    let (client, (heard, _)) = tokio::join!(with_token(&http, 600), server);
    assert!(!heard.contains("user"), "{heard}");
    let (told, _) = rest(client).await;
    assert!(told.contains("C08006") && !told.contains("not the server"), "{told}");
}

#[tokio::test]
async fn a_server_whose_tls_begins_at_once_must_name_its_protocol() {
    let direct = |upstream_alpn| Http::postgres(Wish { direct: true, upstream_alpn, ..Wish::default() });
    let http = direct(vec!["postgresql"]).await;
    let server = async {
        let mut upstream = http.rig.accept().await;
        assert_eq!(upstream.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
        let length = upstream.read_u32().await.unwrap() as usize;
        exactly(&mut upstream, length - 4).await;
        upstream.write_all(&[ACCEPTED, READY].concat()).await.unwrap();
        upstream
    };
    let (mut client, _upstream) = tokio::join!(with_token(&http, 600), server);
    assert_eq!(exactly(&mut client, ACCEPTED.len() + READY.len()).await, [ACCEPTED, READY].concat());

    let http = direct(Vec::new()).await;
    let server = async {
        let (tcp, _) = http.rig.upstream.accept().await.unwrap();
        match http.rig.acceptor.accept(tcp).await {
            Ok(secure) => rest(secure).await.0,
            Err(_) => String::new(),
        }
    };
    let (client, heard) = tokio::join!(with_token(&http, 600), timeout(SOON, server));
    assert_eq!(heard.unwrap(), "");
    assert!(rest(client).await.0.contains("C08006"));
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing() {
    for answer in [&b"N"[..], &message(b'E', b"SFATAL\0C0A000\0Mno\0\0"), b"\x15", b""] {
        let http = Http::postgres(Wish::default()).await;
        let server = async {
            let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
            exactly(&mut tcp, 8).await;
            tcp.write_all(answer).await.unwrap();
            tcp.shutdown().await.unwrap();
            rest(tcp).await.0
        };
        let (client, heard) = tokio::join!(with_token(&http, 600), server);
        assert_eq!(heard, "");
        assert!(rest(client).await.0.contains("C08006"));
    }
}

#[tokio::test]
async fn logins_that_break_a_rule_end_and_the_client_hears_nothing_of_the_account() {
    let endless = message(b'R', b"\0\0\0\x0br=x,s=c2FsdA==,i=2000000000");
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("accepted without a proof of its own", [SCRAM, ACCEPTED].concat(), "C08004"),
        ("an iteration count that would take minutes", [SCRAM, &endless].concat(), "C08004"),
        ("a method that is not known", b"R\0\0\0\x08\0\0\0\x09".to_vec(), "C08004"),
        ("a row before the login", message(b'D', b"\0\0"), "C08004"),
        ("an impossible length", b"R\xff\xff\xff\xff".to_vec(), "C08004"),
        ("the account is not taken", message(b'E', b"SFATAL\0C28P01\0Mbad svc canary\0\0"), "C08004"),
        ("no place left", message(b'E', b"SFATAL\0C53300\0Mfull, svc canary\0\0"), "C53300"),
        ("starting up", message(b'E', b"SFATAL\0C57P03\0Mwait, svc canary\0\0"), "C57P03"),
        ("gone", Vec::new(), "C08006"),
    ];
    for (what, said, code) in table {
        let http = Http::postgres(Wish::default()).await;
        let server = async {
            let mut upstream = upstream(&http.rig).await;
            upstream.write_all(said).await.unwrap();
            if said.is_empty() {
                upstream.shutdown().await.unwrap();
            }
            rest(upstream).await
        };
        let began = Instant::now();
        let (client, _) = tokio::join!(with_token(&http, 600), server);
        let (told, clean) = rest(client).await;
        assert!(told.contains(code) && told.contains("127.0.0.1") && clean, "{what}: {told}");
        assert!(
            !told.contains("svc") && !told.contains("canary") && !told.contains("stored"),
            "{what}: {told}"
        );
        assert!(began.elapsed() < Duration::from_secs(4), "{what}");
    }
}

#[tokio::test]
async fn a_server_that_takes_too_long_over_the_login_is_given_up() {
    let http = Http::postgres(Wish { connect: Duration::from_secs(1), ..Wish::default() }).await;
    let (client, _upstream) = tokio::join!(with_token(&http, 600), async { upstream(&http.rig).await });
    assert!(rest(client).await.0.contains("C08006"));
}

/// `timeouts.connect`, and what of it an upstream lets pass before it agrees to TLS.
const CONNECT: Duration = Duration::from_secs(6);
const SLOW: Duration = Duration::from_secs(5);

/// Takes its time over TLS, then reads what comes and never answers. Returns for how long.
async fn slow_at_each_step(rig: &Rig) -> Duration {
    let (mut tcp, _) = rig.upstream.accept().await.unwrap();
    exactly(&mut tcp, 8).await;
    tokio::time::sleep(SLOW).await;
    tcp.write_all(b"S").await.unwrap();
    let asked = Instant::now();
    let mut secure = rig.acceptor.accept(tcp).await.unwrap();
    while let Ok(1..) = secure.read(&mut [0; 256]).await {}
    asked.elapsed()
}

#[tokio::test]
async fn connecting_and_logging_in_have_one_time_together() {
    let http = Http::postgres(Wish { connect: CONNECT, ..Wish::default() }).await;
    let (client, took) = tokio::join!(with_token(&http, 600), slow_at_each_step(&http.rig));
    assert!(took < SLOW, "{took:?} for what was left of the time");
    assert!(rest(client).await.0.contains("C08006"));
}

#[tokio::test]
async fn a_cancel_request_has_one_time_for_connecting_and_being_heard() {
    let http = Http::postgres(Wish { cancel_in_clear: true, connect: CONNECT, ..Wish::default() }).await;
    let (mut client, mut upstream) =
        tokio::join!(with_token(&http, 600), async { upstream(&http.rig).await });
    upstream.write_all(&[ACCEPTED, KEY, READY].concat()).await.unwrap();
    let said = exactly(&mut client, ACCEPTED.len() + KEY.len() + READY.len()).await;
    let request = [&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &said[ACCEPTED.len() + 5..][..8]].concat();
    let in_clear = async {
        let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
        tcp.write_all(&request).await.unwrap();
        rest(tcp).await.0
    };
    let (told, took) = tokio::join!(in_clear, slow_at_each_step(&http.rig));
    assert!(took < SLOW, "{took:?} for what was left of the time");
    assert_eq!(told, "");
    // The session whose statement it was goes on.
    client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
    assert_eq!(exactly(&mut upstream, 14).await, message(b'Q', b"select 1\0"));
}

#[tokio::test]
async fn bytes_come_through_one_by_one_and_in_order() {
    let http = Http::postgres(Wish::default()).await;
    let (mut client, mut upstream) = session(&http, 600).await;
    let question = message(b'Q', b"select 1\0");
    for byte in &question {
        client.write_all(&[*byte]).await.unwrap();
        client.flush().await.unwrap();
    }
    assert_eq!(exactly(&mut upstream, question.len()).await, question);
    let answer = [message(b'D', b"\0\x01\0\0\0\x011"), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat();
    for byte in &answer {
        upstream.write_all(&[*byte]).await.unwrap();
        upstream.flush().await.unwrap();
    }
    assert_eq!(exactly(&mut client, answer.len()).await, answer);
    // The client says that it leaves, and does; nobody calls that a cut.
    client.write_all(b"X\0\0\0\x04").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(upstream).await, ("X\0\0\0\x04".into(), true));
}

#[tokio::test]
async fn a_message_that_is_cut_off_ends_uncleanly_and_one_that_is_whole_is_told_of() {
    for (cut, told) in [(&b"D\0\0\0\x09ab"[..], ""), (&b"D\0\0\0\x06ab"[..], "C08006")] {
        let http = Http::postgres(Wish::default()).await;
        let (mut client, mut upstream) = session(&http, 600).await;
        client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
        upstream.write_all(cut).await.unwrap();
        upstream.flush().await.unwrap();
        assert_eq!(exactly(&mut client, cut.len()).await, cut);
        // Gone without close_notify.
        drop(upstream.into_inner().0);
        let (said, clean) = rest(client).await;
        assert!(!clean, "an end that the server did not mean must not look like one");
        assert_eq!(said.contains("C08006"), !told.is_empty(), "{said:?}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_framing_is_found_out() {
    let http = Http::postgres(Wish::default()).await;
    let (client, mut upstream) = session(&http, 600).await;
    upstream.write_all(b"D\0\0\0\x03").await.unwrap();
    let (said, clean) = rest(client).await;
    assert!(said.contains("C08006") && !clean, "{said}");
}

#[tokio::test]
async fn an_expired_permit_waits_for_the_end_of_a_message_but_not_for_long() {
    let cut = || Wish { on_expiry: OnExpiry::Cut, ..Wish::default() };
    // The rest of the row comes: the client reads it whole, and then why it is over.
    let http = Http::postgres(cut()).await;
    // Tokens end with a whole second of the wall clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(now.subsec_nanos()))).await;
    let began = Instant::now();
    let (mut client, mut upstream) = session(&http, 2).await;
    upstream.write_all(b"D\0\0\0\x08ab").await.unwrap();
    assert_eq!(exactly(&mut client, 7).await, b"D\0\0\0\x08ab");
    tokio::time::sleep_until(began + Duration::from_millis(2300)).await;
    upstream.write_all(b"cdD\0\0\0\x04").await.unwrap();
    let (said, clean) = rest(client).await;
    assert!(said.starts_with("cdE\0\0\0") && said.contains("C57P01") && clean, "{said}");
    assert_eq!(rest(upstream).await, ("X\0\0\0\x04".into(), true));
    // It does not come: the end is an unclean one.
    let http = Http::postgres(cut()).await;
    let (mut client, mut upstream) = session(&http, 1).await;
    upstream.write_all(b"D\0\0\0\x08ab").await.unwrap();
    assert_eq!(exactly(&mut client, 7).await, b"D\0\0\0\x08ab");
    assert_eq!(rest(client).await, (String::new(), false));
}

#[tokio::test]
async fn an_idle_session_is_told_that_it_was_too_long() {
    let http = Http::postgres(Wish { idle: Duration::from_secs(1), ..Wish::default() }).await;
    let (client, upstream) = session(&http, 600).await;
    let (said, clean) = rest(client).await;
    assert!(said.contains("C57P05") && clean, "{said}");
    drop(upstream);
}

/// A query that went up, whose client has ended its direction; TCP stays open.
async fn asked_and_half_closed(http: &Http, lifetime: u64) -> (Client, Upstream) {
    let (mut client, mut upstream) = session(http, lifetime).await;
    client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(exactly(&mut upstream, 14).await, message(b'Q', b"select 1\0"));
    (client, upstream)
}

#[tokio::test]
async fn a_client_that_ended_its_direction_is_cut_when_its_permit_ends_and_its_worker_lives_on() {
    let cut = || Wish { on_expiry: OnExpiry::Cut, ..Wish::default() };
    let http = Http::postgres(cut()).await;
    let (client, mut upstream) = asked_and_half_closed(&http, 1).await;
    upstream.write_all(b"T\0\0").await.unwrap();
    let (_, clean) = rest(client).await;
    assert!(!clean, "the answer was cut");
    let http = Http::postgres(cut()).await;
    let (client, _upstream) = asked_and_half_closed(&http, 1).await;
    let (said, clean) = rest(client).await;
    assert!(said.contains("C57P01") && clean, "{said}");
    // The statement that nobody waits for is cancelled; the worker serves whoever comes.
    let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
    exactly(&mut tcp, 8).await;
    assert!(timeout(SOON, connect(&http.rig)).await.is_ok());
}

#[tokio::test]
async fn a_cancel_request_in_clear_is_taken_where_the_listener_says_so_and_by_its_key_alone() {
    for taken in [true, false] {
        let http = Http::postgres(Wish { cancel_in_clear: taken, ..Wish::default() }).await;
        let (mut client, mut upstream) =
            tokio::join!(with_token(&http, 600), async { upstream(&http.rig).await });
        upstream.write_all(&[ACCEPTED, KEY, READY].concat()).await.unwrap();
        let said = exactly(&mut client, ACCEPTED.len() + KEY.len() + READY.len()).await;
        let key = said[ACCEPTED.len() + 5..][..8].to_vec();
        let request = |key: &[u8]| [&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], key].concat();
        let in_clear = async |key: &[u8]| {
            let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
            tcp.write_all(&request(key)).await.unwrap();
            rest(tcp).await.0
        };
        let wrong: Vec<u8> = key.iter().map(|byte| byte ^ 1).collect();
        assert_eq!(in_clear(&wrong).await, "");
        let accepted = async {
            let (mut tcp, _) =
                timeout(Duration::from_secs(1), http.rig.upstream.accept()).await.ok()?.unwrap();
            exactly(&mut tcp, 8).await;
            tcp.write_all(b"S").await.unwrap();
            let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
            Some(exactly(&mut upstream, 16).await)
        };
        let (told, reached) = tokio::join!(in_clear(&key), accepted);
        assert_eq!(told, "");
        // With the server's own secret, inside TLS.
        assert_eq!(reached, taken.then(|| request(&KEY[5..])));
    }
}

/// A server's challenge that takes some 25 ms of a core to answer, once the client's first message is there.
async fn challenge(upstream: &mut Upstream) -> Vec<u8> {
    upstream.write_all(SCRAM).await.unwrap();
    assert_eq!(upstream.read_u8().await.unwrap(), b'p');
    let length = upstream.read_u32().await.unwrap() as usize;
    let first = exactly(upstream, length - 4).await;
    let nonce = first.windows(3).position(|three| three == b",r=").unwrap() + 3;
    let said = [b"\0\0\0\x0br=", &first[nonce..], b"server,s=c2FsdHNhbHQ=,i=100000"].concat();
    message(b'R', &said)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn fifty_logins_that_compute_hold_nobody_up_and_take_few_threads() {
    const LOGINS: usize = 50;
    let http = Http::postgres(Wish { connect: Duration::from_secs(30), ..Wish::default() }).await;
    let (mut client, mut server) = session(&http, 600).await;
    let mut waiting = Vec::new();
    for _ in 0..LOGINS {
        let (client, mut upstream) =
            tokio::join!(with_token(&http, 600), async { upstream(&http.rig).await });
        let challenge = challenge(&mut upstream).await;
        waiting.push((client, upstream, challenge));
    }
    let idle = threads();
    let proofs = Arc::new(AtomicUsize::new(0));
    let mut upstreams = Vec::new();
    for (client, mut upstream, challenge) in waiting {
        upstream.write_all(&challenge).await.unwrap();
        let proofs = proofs.clone();
        upstreams.push(tokio::spawn(async move {
            assert_eq!(upstream.read_u8().await.unwrap(), b'p');
            proofs.fetch_add(1, Relaxed);
            drop(client);
        }));
    }
    // One worker serves them all: what others do goes on between two proofs, not behind the last.
    let (question, answer) =
        (message(b'Q', b"select 1\0"), [message(b'C', b"SELECT 1\0"), READY.into()].concat());
    for _ in 0..20 {
        client.write_all(&question).await.unwrap();
        assert_eq!(exactly(&mut server, question.len()).await, question);
        server.write_all(&answer).await.unwrap();
        assert_eq!(exactly(&mut client, answer.len()).await, answer);
    }
    let made = proofs.load(Relaxed);
    assert!(made < LOGINS / 2, "{made} proofs were made before another session had its 20 answers");
    let mut most = 0;
    while proofs.load(Relaxed) < LOGINS {
        most = most.max(threads());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Two compute; two more may be on their way out of the computation before.
    assert!(most <= idle + 4, "{most} threads, {idle} before");
    for upstream in upstreams {
        upstream.await.unwrap();
    }
}
