//! MySQL routes through a whole gateway, with a server that breaks every rule it can.

mod common;

use common::{Http, NAME, TUNNEL, Wish};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsConnector, client, server};

const SOON: Duration = Duration::from_secs(10);
const SSL: u32 = 1 << 11;
/// Long password, database, protocol 4.1, transactions, secure connection, several results, plug-ins, attributes, lengths, no EOF.
const FLAGS: u32 = 0x01bf_a20d;
const OK: &[u8] = b"\0\0\0\x02\0\0\0";

type Client = client::TlsStream<TcpStream>;
type Upstream = server::TlsStream<TcpStream>;

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

async fn packet(from: &mut (impl AsyncReadExt + Unpin)) -> (u8, Vec<u8>) {
    let mut head = [0; 4];
    timeout(SOON, from.read_exact(&mut head)).await.unwrap().unwrap();
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    timeout(SOON, from.read_exact(&mut payload)).await.unwrap().unwrap();
    (head[3], payload)
}

/// What a server says first.
fn greeting(flags: u32, plugin: &str) -> Vec<u8> {
    let mut out = b"\x0a8.0.36\0\x07\0\0\0AAAAAAAA\0".to_vec();
    out.extend_from_slice(&flags.to_le_bytes()[..2]);
    out.extend_from_slice(b"\x2d\x02\0");
    out.extend_from_slice(&flags.to_le_bytes()[2..]);
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"BBBBBBBBBBBB\0");
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out
}

fn request_for_tls() -> Vec<u8> {
    let mut payload = (FLAGS | SSL).to_le_bytes().to_vec();
    payload.extend_from_slice(&(1u32 << 24).to_le_bytes());
    payload.push(45);
    payload.resize(32, 0);
    payload
}

/// A login without a proof, to the database `sales`.
fn login() -> Vec<u8> {
    let mut payload = request_for_tls();
    payload.extend_from_slice(b"whoever\0\0sales\0mysql_native_password\0\x11\x0cprogram_name\x03app");
    payload
}

/// A client inside TLS, greeted and asked for its password.
async fn asked(http: &Http) -> Client {
    let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
    let (sequence, said) = packet(&mut tcp).await;
    assert_eq!((sequence, said[0]), (0, 10));
    tcp.write_all(&framed(1, &request_for_tls())).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = TlsConnector::from(http.rig.client.clone()).connect(name, tcp).await.unwrap();
    client.write_all(&framed(2, &login())).await.unwrap();
    assert_eq!(packet(&mut client).await, (3, b"\xfemysql_clear_password\0".to_vec()));
    client
}

/// A client that has sent its token.
async fn with_token(http: &Http) -> Client {
    let mut client = asked(http).await;
    let token = [http.token(60).as_bytes(), b"\0"].concat();
    client.write_all(&framed(4, &token)).await.unwrap();
    client
}

/// The gateway's connection to the server, greeted and inside TLS; its login.
async fn upstream(http: &Http, plugin: &str) -> (Upstream, Vec<u8>) {
    let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
    tcp.write_all(&framed(0, &greeting(FLAGS | SSL, plugin))).await.unwrap();
    let (sequence, request) = packet(&mut tcp).await;
    assert_eq!((sequence, request.len()), (1, 32));
    let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
    let (sequence, login) = packet(&mut upstream).await;
    assert_eq!(sequence, 2);
    assert_eq!(login[..4], request[..4], "MariaDB goes by the first flags, others by the second");
    (upstream, login)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The client is told this error, and the connection ends.
async fn told(client: &mut Client, sequence: u8, number: u16) -> String {
    let (found, said) = packet(client).await;
    assert_eq!(
        (found, said[0], u16::from_le_bytes([said[1], said[2]])),
        (sequence, 0xff, number),
        "{said:?}"
    );
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
    String::from_utf8(said[9..].to_vec()).unwrap()
}

#[tokio::test]
async fn caching_sha2_in_its_long_form_sends_the_stored_password_and_no_token() {
    let http = Http::mysql(Wish::default()).await;
    let mut client = with_token(&http).await;
    let (mut upstream, login) = upstream(&http, "caching_sha2_password").await;
    assert!(holds(&login, b"svc\0\x20") && holds(&login, b"sales\0caching_sha2_password\0"), "{login:?}");
    assert!(holds(&login, b"\x0fstaunch_subject\x03ann") && holds(&login, b"\x0cprogram_name\x03app"));
    assert!(!holds(&login, b"stored-password") && !holds(&login, b"eyJ") && !holds(&login, b"whoever"));
    upstream.write_all(&framed(3, b"\x01\x04")).await.unwrap();
    assert_eq!(packet(&mut upstream).await, (4, b"stored-password\0".to_vec()));
    upstream.write_all(&framed(5, OK)).await.unwrap();
    assert_eq!(packet(&mut client).await, (5, OK.to_vec()));
    client.write_all(&framed(0, b"\x03select 1")).await.unwrap();
    assert_eq!(packet(&mut upstream).await, (0, b"\x03select 1".to_vec()));
    upstream.write_all(&framed(1, OK)).await.unwrap();
    assert_eq!(packet(&mut client).await, (1, OK.to_vec()));
}

#[tokio::test]
async fn caching_sha2_in_its_short_form_and_a_switch_to_another_plugin() {
    let http = Http::mysql(Wish::default()).await;
    let mut client = with_token(&http).await;
    let (mut server, _) = upstream(&http, "caching_sha2_password").await;
    server.write_all(&[framed(3, b"\x01\x03"), framed(4, OK)].concat()).await.unwrap();
    assert_eq!(packet(&mut client).await, (5, OK.to_vec()));

    let mut client = with_token(&http).await;
    let (mut server, _) = upstream(&http, "dialog").await;
    server.write_all(&framed(3, b"\xfemysql_native_password\0CCCCCCCCCCCCCCCCCCCC\0")).await.unwrap();
    let (sequence, proof) = packet(&mut server).await;
    assert_eq!((sequence, proof.len()), (4, 20));
    server.write_all(&framed(5, OK)).await.unwrap();
    assert_eq!(packet(&mut client).await, (5, OK.to_vec()));
}

#[tokio::test]
async fn what_a_server_may_say_in_place_of_a_greeting() {
    let http = Http::mysql(Wish { connect: Duration::from_secs(1), ..Wish::default() }).await;
    let err = b"\xff\x69\x04Host 'gateway.internal' is blocked";
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("an error", framed(0, err)),
        ("no TLS", framed(0, &greeting(FLAGS & !SSL, "mysql_native_password"))),
        ("no results of several statements", framed(0, &greeting((FLAGS | SSL) & !(1 << 17), "x"))),
        ("an old protocol", framed(0, b"\x093.23\0")),
        ("too long", vec![0xff, 0xff, 0xff, 0]),
        ("empty", framed(0, b"")),
        ("cut", framed(0, &greeting(FLAGS | SSL, "x")[..30])),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("nothing", Vec::new()),
        (
            "bytes in clear behind it",
            [framed(0, &greeting(FLAGS | SSL, "mysql_native_password")), framed(1, OK)].concat(),
        ),
    ];
    for (what, said) in table {
        let mut client = with_token(&http).await;
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        tcp.write_all(&said).await.unwrap();
        let words = told(&mut client, 5, 1429).await;
        assert!(words.contains("cannot be reached or does not verify"), "{what}: {words}");
        assert!(!words.contains("gateway.internal"), "{what}: {words}");
        let mut heard = Vec::new();
        // However it ends.
        let _ = timeout(SOON, tcp.read_to_end(&mut heard)).await.unwrap();
        assert!(!holds(&heard, b"stored-password") && !holds(&heard, b"svc"), "{what}");
    }
}

#[tokio::test]
async fn what_a_server_may_say_to_the_login() {
    let http = Http::mysql(Wish { connect: Duration::from_secs(1), ..Wish::default() }).await;
    let refusal = b"\xff\x15\x04#28000Access denied for user 'svc'@'gateway' (using password: YES)";
    let table: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("no", framed(3, refusal), 1429, "does not let the gateway in"),
        ("no room", framed(3, b"\xff\x10\x04#08004Too many connections"), 1040, "too many connections"),
        (
            "no such database",
            framed(3, b"\xff\x19\x04#42000Unknown database 'sales'"),
            1049,
            "no such database",
        ),
        ("an unknown plug-in", framed(3, b"\xfeauth_gssapi_client\0"), 1429, "cannot agree"),
        ("a switch without a name", framed(3, b"\xfe"), 1429, "cannot agree"),
        ("more of what nobody asked", framed(3, b"\x01\x04"), 1429, "cannot agree"),
        ("an empty packet", framed(3, b""), 1429, "cannot agree"),
        (
            "an endless login",
            [framed(3, b"\xfemysql_native_password\0A\0")].concat().repeat(20),
            1429,
            "cannot agree",
        ),
        ("half a packet", vec![9, 0, 0, 3, 0], 1429, "broke before it was ready"),
        ("nothing", Vec::new(), 1429, "broke before it was ready"),
    ];
    for (what, said, number, expected) in table {
        let mut client = with_token(&http).await;
        let (mut server, _) = upstream(&http, "mysql_native_password").await;
        server.write_all(&said).await.unwrap();
        server.flush().await.unwrap();
        let words = told(&mut client, 5, number).await;
        assert!(words.contains(expected) && !words.contains("svc"), "{what}: {words}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_at_any_step_is_named() {
    let http = Http::mysql(Wish::default()).await;
    for step in 0..4 {
        let mut client = with_token(&http).await;
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        if step > 0 {
            tcp.write_all(&framed(0, &greeting(FLAGS | SSL, "caching_sha2_password"))).await.unwrap();
            packet(&mut tcp).await;
        }
        if step > 1 {
            let mut server = http.rig.acceptor.accept(tcp).await.unwrap();
            packet(&mut server).await;
            if step > 2 {
                server.write_all(&framed(3, b"\x01\x04")).await.unwrap();
                packet(&mut server).await;
            }
            drop(server);
        } else {
            drop(tcp);
        }
        let words = told(&mut client, 5, 1429).await;
        assert!(words.contains("the upstream 127.0.0.1"), "step {step}: {words}");
    }
}

#[tokio::test]
async fn a_server_that_dies_under_a_statement_is_told_of_in_an_error_of_the_right_number() {
    let http = Http::mysql(Wish::default()).await;
    let mut client = with_token(&http).await;
    let (mut server, _) = upstream(&http, "mysql_native_password").await;
    server.write_all(&framed(3, OK)).await.unwrap();
    packet(&mut client).await;
    client.write_all(&framed(0, b"\x03select 1")).await.unwrap();
    packet(&mut server).await;
    server.write_all(&framed(1, b"\x01")).await.unwrap();
    packet(&mut client).await;
    server.get_ref().0.set_zero_linger().unwrap();
    drop(server);
    let (sequence, said) = packet(&mut client).await;
    assert_eq!((sequence, said[0]), (2, 0xff));
    assert!(String::from_utf8_lossy(&said).contains("between the gateway and the upstream broke"));
}

#[tokio::test]
async fn inside_a_tunnel_the_greeting_has_no_tls_and_nobody_is_asked_for_a_password() {
    let http = Http::mysql(Wish { silent: true, ..Wish::default() }).await;
    let mut config = (*http.rig.client).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = http.rig.connect_to(TUNNEL, Arc::new(config)).await.unwrap();
    let head = format!(
        "CONNECT route HTTP/1.1\r\nHost: route\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        http.token(60)
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(SOON, client.read_u8()).await.unwrap().unwrap());
    }
    assert!(holds(&answer, b" 200 ") && holds(&answer, b"staunch-protocol: mysql\r\n"));
    let (sequence, greeting) = packet(&mut client).await;
    let flags = greeting.iter().position(|byte| *byte == 0).unwrap() + 1 + 4 + 8 + 1;
    assert_eq!((sequence, u32::from(greeting[flags + 1]) << 8 & SSL), (0, 0));
    let mut login = login();
    login[..4].copy_from_slice(&FLAGS.to_le_bytes());
    client.write_all(&framed(1, &login)).await.unwrap();
    let (mut server, _) = upstream(&http, "mysql_native_password").await;
    server.write_all(&framed(3, OK)).await.unwrap();
    assert_eq!(packet(&mut client).await, (2, OK.to_vec()));
}

#[tokio::test]
async fn connecting_greeting_and_logging_in_have_one_time_together() {
    // A KILL comes by such a login, too: libraries cancel on a connection of its own.
    let (limit, slow) = (Duration::from_secs(6), Duration::from_secs(5));
    let http = Http::mysql(Wish { connect: limit, ..Wish::default() }).await;
    let server = async {
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        tokio::time::sleep(slow).await;
        tcp.write_all(&framed(0, &greeting(FLAGS | SSL, "mysql_native_password"))).await.unwrap();
        packet(&mut tcp).await;
        let asked = Instant::now();
        let mut secure = http.rig.acceptor.accept(tcp).await.unwrap();
        while let Ok(1..) = secure.read(&mut [0; 256]).await {}
        asked.elapsed()
    };
    let (mut client, took) = tokio::join!(with_token(&http), server);
    assert!(took < slow, "{took:?} for what was left of the time");
    told(&mut client, 5, 1429).await;
}

/// Both ends of a session that may begin, and the number by which its client knows it.
async fn numbered(http: &Http) -> (Client, Upstream, u32) {
    let client = async {
        let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
        let (_, said) = packet(&mut tcp).await;
        let end = said.iter().position(|byte| *byte == 0).unwrap();
        let number = u32::from_le_bytes(said[end + 1..end + 5].try_into().unwrap());
        tcp.write_all(&framed(1, &request_for_tls())).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut client = TlsConnector::from(http.rig.client.clone()).connect(name, tcp).await.unwrap();
        client.write_all(&framed(2, &login())).await.unwrap();
        packet(&mut client).await;
        let token = [http.token(60).as_bytes(), b"\0"].concat();
        client.write_all(&framed(4, &token)).await.unwrap();
        (client, number)
    };
    let server = async {
        let (mut upstream, _) = upstream(http, "mysql_native_password").await;
        upstream.write_all(&framed(3, OK)).await.unwrap();
        upstream
    };
    let ((mut client, number), upstream) = tokio::join!(client, server);
    assert_eq!(packet(&mut client).await.1, OK);
    (client, upstream, number)
}

#[tokio::test]
async fn a_kill_reaches_the_session_that_the_client_knows_by_that_number() {
    let http = Http::mysql(Wish::default()).await;
    let (first, upstream_of_first, number) = numbered(&http).await;
    let (mut second, mut upstream, _) = numbered(&http).await;
    // The server's own number of every session here is 7.
    let table = [
        (format!("\x03KILL QUERY {number}").into_bytes(), b"\x03KILL QUERY 7".to_vec()),
        (format!("\x03kill {number};").into_bytes(), b"\x03kill 7;".to_vec()),
        ([&b"\x0c"[..], &number.to_le_bytes()].concat(), b"\x0c\x07\0\0\0".to_vec()),
        // What it does not know by that number goes up as it is, and so does another command.
        (b"\x03KILL 12".to_vec(), b"\x03KILL 12".to_vec()),
        (format!("\x03select {number}").into_bytes(), format!("\x03select {number}").into_bytes()),
    ];
    for (said, expected) in table {
        second.write_all(&framed(0, &said)).await.unwrap();
        assert_eq!(packet(&mut upstream).await, (0, expected));
        upstream.write_all(&framed(1, OK)).await.unwrap();
        assert_eq!(packet(&mut second).await, (1, OK.to_vec()));
    }
    drop((first, upstream_of_first));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let said = format!("\x03KILL {number}").into_bytes();
    second.write_all(&framed(0, &said)).await.unwrap();
    assert_eq!(packet(&mut upstream).await, (0, said), "a session that is over is nobody's");
}

#[tokio::test]
async fn a_client_that_would_compress_is_told_so_and_nothing_is_dialled() {
    let http = Http::mysql(Wish::default()).await;
    let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
    packet(&mut tcp).await;
    tcp.write_all(&framed(1, &request_for_tls())).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = TlsConnector::from(http.rig.client.clone()).connect(name, tcp).await.unwrap();
    let mut compressing = login();
    compressing[0] |= 1 << 5;
    client.write_all(&framed(2, &compressing)).await.unwrap();
    let words = told(&mut client, 3, 1043).await;
    assert!(words.contains("connect without compression"), "{words}");
}

#[tokio::test]
async fn a_greeting_names_mariadb_once_the_upstream_is_known_to_be_it() {
    let http = Http::mysql(Wish::default()).await;
    let server = async {
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        let theirs = greeting(FLAGS | SSL, "mysql_native_password");
        let theirs = [&b"\x0a5.5.5-10.11.6-MariaDB"[..], &theirs[7..]].concat();
        tcp.write_all(&framed(0, &theirs)).await.unwrap();
        packet(&mut tcp).await;
        let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
        packet(&mut upstream).await;
        upstream.write_all(&framed(3, OK)).await.unwrap();
        upstream
    };
    let (mut client, _upstream) = tokio::join!(with_token(&http), server);
    assert_eq!(packet(&mut client).await.1, OK);
    let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
    let (_, said) = packet(&mut tcp).await;
    assert!(said.starts_with(b"\x0a5.5.5-10.11.6-MariaDB\0"), "{said:?}");
}
