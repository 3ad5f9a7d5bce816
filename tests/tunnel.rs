//! Tunnels through a whole gateway: what opens one, what runs inside, and that nothing else can be reached.

mod common;

use common::{Http, NAME, Rig, TLS12, TLS13, TUNNEL, Wish};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{client, server};

const SOON: Duration = Duration::from_secs(10);
const OPENED: &str = "HTTP/1.1 200 Connection Established\r\nstaunch-protocol: ";

type Client = client::TlsStream<TcpStream>;

/// A connection to the tunnel's name.
async fn knock(rig: &Rig, alpn: &[&str]) -> std::io::Result<Client> {
    let mut config = (*rig.client).clone();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    rig.connect_to(TUNNEL, Arc::new(config)).await
}

fn head(target: &str, token: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Bearer {token}\r\n\r\n")
}

/// An open tunnel to the one route.
async fn tunnel(http: &Http, lifetime: u64) -> Client {
    let mut client = knock(&http.rig, &["http/1.1"]).await.unwrap();
    client.write_all(head("route:1", &http.token(lifetime)).as_bytes()).await.unwrap();
    assert!(heading(&mut client).await.starts_with(OPENED));
    client
}

/// A head of the gateway's own, or of an upstream's.
async fn heading(from: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(timeout(SOON, from.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(text).unwrap()
}

async fn exactly(from: &mut (impl AsyncReadExt + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(SOON, from.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

/// What is answered to these bytes, up to a clean end.
async fn answer(rig: &Rig, bytes: &[u8]) -> String {
    let mut client = knock(rig, &["http/1.1"]).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut text = String::new();
    timeout(SOON, client.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// Nothing came to the upstream, not even a connection.
async fn nobody_called(rig: &Rig) {
    assert!(timeout(Duration::from_millis(100), rig.upstream.accept()).await.is_err());
}

#[tokio::test]
async fn a_raw_route_without_certificates_opens_through_the_tunnel_and_both_directions_pass() {
    for client in [TLS12, TLS13] {
        let http = Http::raw(Wish { client, ..Wish::default() }).await;
        let mut client = tunnel(&http, 60).await;
        client.write_all(b"up").await.unwrap();
        let mut upstream = http.rig.accept().await;
        assert_eq!(exactly(&mut upstream, 2).await, b"up");
        upstream.write_all(b"down").await.unwrap();
        assert_eq!(exactly(&mut client, 4).await, b"down");
        client.shutdown().await.unwrap();
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "the end passes");
    }
}

#[tokio::test]
async fn the_tunnels_own_protocol_is_not_asked_of_a_raw_upstream() {
    let http = Http::raw(Wish { upstream_alpn: vec!["h2"], ..Wish::default() }).await;
    let mut client = knock(&http.rig, &["http/1.1"]).await.unwrap();
    client.write_all(head("route", &http.token(60)).as_bytes()).await.unwrap();
    let upstream = timeout(Duration::from_secs(5), http.rig.accept()).await.expect("it takes the connection");
    assert_eq!(upstream.get_ref().1.alpn_protocol(), None);
    assert!(heading(&mut client).await.starts_with(OPENED));
}

#[tokio::test]
async fn bytes_right_behind_the_head_are_the_routes_and_none_is_lost() {
    let http = Http::raw(Wish::default()).await;
    let head = head("route", &http.token(60));
    for cut in [1, head.len() / 2, head.len() - 1, head.len(), head.len() + 3] {
        let mut client = knock(&http.rig, &[]).await.unwrap();
        let whole = [head.as_bytes(), b"early bytes"].concat();
        client.write_all(&whole[..cut]).await.unwrap();
        client.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.write_all(&whole[cut..]).await.unwrap();
        let mut upstream = http.rig.accept().await;
        assert_eq!(exactly(&mut upstream, 11).await, b"early bytes", "cut at {cut}");
        assert!(heading(&mut client).await.starts_with(OPENED));
    }
}

#[tokio::test]
async fn without_the_tunnel_a_raw_route_without_certificates_opens_to_nobody() {
    let http = Http::raw(Wish::default()).await;
    let mut client = http.rig.connect(http.rig.client.clone()).await.unwrap();
    let refused = timeout(SOON, client.read(&mut [0])).await.unwrap();
    assert!(refused.unwrap_err().to_string().contains("AccessDenied"));
    nobody_called(&http.rig).await;
}

#[tokio::test]
async fn what_is_no_permitted_connect_is_refused_and_reaches_nothing() {
    let http = Http::raw(Wish::default()).await;
    let (good, other) =
        (http.token(60), http.issuer.token("eve", &["guests".into()], Duration::from_secs(60)));
    let real = http.rig.upstream.local_addr().unwrap().to_string();
    let connect = |target: &str, token: &str| head(target, token);
    let table = [
        (connect("route", &other), 403, "forbidden"),
        (connect("elsewhere", &good), 403, "forbidden"),
        (connect("Route", &good), 403, "forbidden"),
        (connect(NAME, &good), 403, "forbidden"),
        (connect("upstream.test:443", &good), 403, "forbidden"),
        // No open proxy: an address is only ever the name of a route that does not exist.
        (connect(&real, &good), 403, "forbidden"),
        (connect("localhost:22", &good), 403, "forbidden"),
        (connect("[::1]:22", &good), 400, "bad_request"),
        (connect(&format!("http://{real}/"), &good), 400, "bad_request"),
        (connect("route", "not-a-token"), 407, "service_key"),
        ("CONNECT route HTTP/1.1\r\nHost: r\r\n\r\n".into(), 407, "no_token"),
        (
            format!("CONNECT route HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer {good}\r\n\r\n"),
            407,
            "no_token",
        ),
        (
            format!("CONNECT route HTTP/1.1\r\nHost: r\r\nProxy-Authorization: Basic {good}\r\n\r\n"),
            407,
            "no_token",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: r\r\nProxy-Authorization: Bearer {good}\r\n\r\n"),
            405,
            "method_not_allowed",
        ),
        (format!("GET http://{real}/ HTTP/1.1\r\nHost: {real}\r\n\r\n"), 405, "method_not_allowed"),
        ("CONNECT route HTTP/1.1\nHost: r\n\n".into(), 400, "bad_request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400, "bad_request"),
        ("\0\0\0\x08\x04\x12\x16\x2f\r\n\r\n".into(), 400, "bad_request"),
        (format!("{}\r\n", "a".repeat(40_000)), 431, "head_too_large"),
    ];
    for (bytes, status, code) in table {
        let said = answer(&http.rig, bytes.as_bytes()).await;
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{bytes}: {said}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code, "{bytes}");
        assert!(!said.contains(&good) && head.contains("\r\nconnection: close"), "{head}");
        assert_eq!(head.contains("proxy-authenticate: Bearer"), status == 407 || status == 403, "{head}");
    }
    nobody_called(&http.rig).await;
}

#[tokio::test]
async fn the_refusal_of_a_strangers_route_and_of_one_that_is_not_there_are_the_same() {
    let http = Http::raw(Wish::default()).await;
    let stranger = http.issuer.token("eve", &["guests".into()], Duration::from_secs(60));
    let said = async |target| {
        let text = answer(&http.rig, head(target, &stranger).as_bytes()).await;
        let no_id = |line: &&str| {
            !["x-request-id", "date:", "{"].iter().any(|start| line.to_ascii_lowercase().starts_with(start))
        };
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        (text.lines().filter(no_id).map(str::to_owned).collect::<Vec<_>>(), body["error"]["message"].clone())
    };
    assert_eq!(said("route").await, said("no-route").await);
}

#[tokio::test]
async fn a_route_that_demands_client_certificates_does_not_open() {
    let (issuer, certificate) = Http::believe();
    let rig = Rig::raw_for_both(Wish::default(), &issuer, certificate).await;
    let token = issuer.token("ann", &["agents".into()], Duration::from_secs(60));
    let said = answer(&rig, head("route", &token).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    nobody_called(&rig).await;
}

#[tokio::test]
async fn the_tunnels_name_speaks_http_1_1_only() {
    let http = Http::raw(Wish::default()).await;
    assert!(knock(&http.rig, &["h2"]).await.is_err());
    assert!(knock(&http.rig, &["postgresql"]).await.is_err());
    let client = knock(&http.rig, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn half_a_head_meets_the_deadline_that_all_stages_share() {
    let http = Http::raw(Wish { permit_deadline: Duration::from_secs(1), ..Wish::default() }).await;
    let mut client = knock(&http.rig, &[]).await.unwrap();
    client.write_all(b"CONNECT route HTTP/1.1\r\n").await.unwrap();
    let ended = timeout(Duration::from_secs(3), client.read(&mut [0])).await.expect("within the deadline");
    assert!(ended.is_err() || ended.is_ok_and(|n| n == 0));
    let mut client = tunnel(&Http::start(Wish::default()).await, 60).await;
    client.write_all(b"G").await.unwrap();
}

async fn serve(upstream: &mut server::TlsStream<TcpStream>, body: &str) -> String {
    let head = heading(upstream).await;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    upstream.write_all(answer.as_bytes()).await.unwrap();
    head
}

#[tokio::test]
async fn inside_http_each_request_has_the_tunnels_identity_and_the_stored_credential() {
    let http = Http::start(Wish { upstream_alpn: vec!["http/1.1"], ..Wish::default() }).await;
    let mut client = tunnel(&http, 60).await;
    let mut upstream = None;
    // With no key, with one that is none, and with two: none of them goes further.
    for key in ["", "Authorization: Bearer dummy\r\n", "Authorization: Bearer a\r\nX-Api-Key: b\r\n"] {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{key}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        if upstream.is_none() {
            upstream = Some(http.rig.accept().await);
        }
        let upstream = upstream.as_mut().unwrap();
        let seen = serve(upstream, "models").await;
        assert!(seen.contains("authorization: Bearer stored-key\r\n"), "{seen}");
        assert!(!seen.contains("dummy") && !seen.to_lowercase().contains("x-api-key"), "{seen}");
        assert!(seen.contains("Host: upstream.test\r\n"), "{seen}");
        assert!(heading(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(exactly(&mut client, 6).await, b"models");
    }
}

#[tokio::test]
async fn inside_http_2_begins_with_its_preface() {
    let http = Http::start(Wish { upstream_alpn: vec!["h2"], ..Wish::default() }).await;
    let stream = tunnel(&http, 60).await;
    let serving = async {
        let mut connection = h2::server::handshake(http.rig.accept().await).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer stored-key");
        respond.send_response(http::Response::new(()), true).unwrap();
        while connection.accept().await.is_some() {}
    };
    let asking = async {
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://127.0.0.1/").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    };
    timeout(SOON, async {
        tokio::select! { () = serving => {}, () = asking => {} }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_upstream_of_the_other_version_is_told_in_the_clients_own() {
    let http = Http::start(Wish { upstream_alpn: vec!["h2"], ..Wish::default() }).await;
    let mut client = tunnel(&http, 60).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let accepting = async {
        let (tcp, _) = http.rig.upstream.accept().await.unwrap();
        // It refuses the protocol's name.
        assert!(http.rig.acceptor.accept(tcp).await.is_err());
    };
    let (said, ()) = tokio::join!(heading(&mut client), accepting);
    assert!(said.starts_with("HTTP/1.1 502 "), "{said}");
}

#[tokio::test]
async fn what_is_no_http_inside_an_http_route_ends_there() {
    let http = Http::start(Wish::default()).await;
    let mut client = tunnel(&http, 60).await;
    client.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    let mut rest = Vec::new();
    // Cut, or ended with nothing said.
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("it ends");
    assert!(rest.is_empty());
    nobody_called(&http.rig).await;
}

#[tokio::test]
async fn when_the_tunnels_token_ends_a_client_is_sent_to_a_new_tunnel_and_what_runs_may_finish() {
    let http = Http::start(Wish { upstream_alpn: vec!["http/1.1"], ..Wish::default() }).await;
    // Busy when it ends: the answer comes whole, and says that the connection closes. Tokens end at whole seconds, so
    // the first ends no later than the second.
    let mut busy = tunnel(&http, 2).await;
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut upstream = http.rig.accept().await;
    heading(&mut upstream).await;
    // Idle when it ends: closed, cleanly.
    let mut idle = tunnel(&http, 2).await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut kept = http.rig.accept().await;
    serve(&mut kept, "").await;
    heading(&mut idle).await;
    let ended = timeout(Duration::from_secs(4), idle.read(&mut [0])).await.expect("closed with its token");
    assert_eq!(ended.unwrap(), 0);
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").await.unwrap();
    let said = heading(&mut busy).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("Connection: close\r\n"), "{said}");
    assert_eq!(exactly(&mut busy, 5).await, b"whole");
    assert_eq!(timeout(SOON, busy.read(&mut [0])).await.unwrap().unwrap(), 0);
}

const STARTUP: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0ann\0database\0sales\0\0";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

#[tokio::test]
async fn inside_postgres_nobody_is_asked_for_a_password() {
    let http = Http::postgres(Wish::default()).await;
    let mut client = tunnel(&http, 60).await;
    // As libpq does with sslmode=prefer and gssencmode=prefer.
    for request in [GSSENC_REQUEST, SSL_REQUEST] {
        client.write_all(request).await.unwrap();
        assert_eq!(exactly(&mut client, 1).await, b"N");
    }
    client.write_all(STARTUP).await.unwrap();
    let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
    assert_eq!(exactly(&mut tcp, 8).await, SSL_REQUEST);
    tcp.write_all(b"S").await.unwrap();
    let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
    let length = upstream.read_u32().await.unwrap() as usize;
    let packet = exactly(&mut upstream, length - 4).await;
    let packet = String::from_utf8_lossy(&packet);
    assert!(packet.contains("user\0svc\0") && packet.contains("staunch.subject\0ann"), "{packet:?}");
    upstream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
    assert_eq!(exactly(&mut client, 15).await, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
}

#[tokio::test]
async fn inside_postgres_encryption_is_declined_twice_and_not_for_ever() {
    let http = Http::postgres(Wish::default()).await;
    let mut client = tunnel(&http, 60).await;
    for _ in 0..2 {
        client.write_all(SSL_REQUEST).await.unwrap();
        assert_eq!(exactly(&mut client, 1).await, b"N");
    }
    client.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(exactly(&mut client, 1).await, b"E");
    nobody_called(&http.rig).await;
}

#[tokio::test]
async fn inside_redis_the_gateway_logs_in_by_itself() {
    let http = Http::redis(Wish::default()).await;
    let mut client = tunnel(&http, 60).await;
    client.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    let mut upstream = http.rig.accept().await;
    let login = b"*3\r\n$4\r\nAUTH\r\n$3\r\nsvc\r\n$15\r\nstored-password\r\n";
    assert_eq!(exactly(&mut upstream, login.len()).await, login);
    upstream.write_all(b"+OK\r\n").await.unwrap();
    assert_eq!(exactly(&mut upstream, 14).await, b"*1\r\n$4\r\nPING\r\n");
    upstream.write_all(b"+PONG\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 7).await, b"+PONG\r\n");
}
