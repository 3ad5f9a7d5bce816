//! HTTP/1.1 routes through a whole gateway: what the upstream sees, what the client is told.

mod common;

use common::{Http, NAME, Wish};
use staunch::policy::OnExpiry;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{client, server};

const SOON: Duration = Duration::from_secs(10);

type Client = client::TlsStream<TcpStream>;
type Upstream = server::TlsStream<TcpStream>;

/// What this file asks of both ends.
trait Ends {
    async fn upstream(&self) -> (Upstream, String);
    async fn exchange(&self, request: &str) -> (Client, Upstream, String);
}

impl Ends for Http {
    /// The upstream end of the session, past the connections on which the gateway only asks for the protocol.
    async fn upstream(&self) -> (Upstream, String) {
        loop {
            let mut upstream = self.rig.accept().await;
            if let Some(head) = read_head(&mut upstream).await {
                return (upstream, head);
            }
        }
    }

    /// A client and an upstream with one request through.
    async fn exchange(&self, request: &str) -> (Client, Upstream, String) {
        let client = async {
            let mut client = self.connect("http/1.1").await;
            client.write_all(request.as_bytes()).await.unwrap();
            client
        };
        let (client, (upstream, head)) = tokio::join!(client, self.upstream());
        (client, upstream, head)
    }
}

/// Reads up to the end of a head; `None` if the connection ends before it begins.
async fn read_head(from: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return None,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    Some(String::from_utf8(head).unwrap())
}

async fn read_exactly(from: &mut (impl AsyncReadExt + Unpin), length: usize) -> String {
    let mut bytes = vec![0; length];
    timeout(SOON, from.read_exact(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_token_goes_out_and_the_credential_goes_in() {
    let http = Http::start(Wish::default()).await;
    for slot in ["authorization: Bearer ", "authorization: token ", "x-api-key: ", "api-key: "] {
        let token = http.token(60);
        let request =
            format!("GET /v1/models?x=1 HTTP/1.1\r\nhost: {NAME}\r\n{slot}{token}\r\nx-keep: 1\r\n\r\n");
        let (mut client, mut upstream, head) = timeout(SOON, http.exchange(&request)).await.unwrap();
        assert!(head.starts_with("GET /v1/models?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains(&token), "the token went up");
        assert!(head.contains("Bearer stored-key\r\n") && head.contains("x-keep: 1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("host: upstream.test\r\n"), "{head}");
        assert!(head.contains(&format!("x-forwarded-host: {NAME}\r\n")), "{head}");
        assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n") && head.contains("x-request-id: "), "{head}");
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        let answer = read_exactly(&mut client, 43).await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    }
}

#[tokio::test]
async fn a_stream_arrives_event_by_event() {
    let http = Http::start(Wish::default()).await;
    let request =
        format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n";
    upstream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut client, head.len()).await, head);
    for n in 0..20 {
        let event = format!("a\r\ndata: {n:02}\n\n\r\n");
        upstream.write_all(event.as_bytes()).await.unwrap();
        assert_eq!(read_exactly(&mut client, event.len()).await, event);
    }
    upstream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_exactly(&mut client, 5).await, "0\r\n\r\n");
}

#[tokio::test]
async fn a_bad_request_is_refused_and_nothing_reaches_the_upstream() {
    let http = Http::start(Wish::default()).await;
    let stranger = http.issuer.token("eve", &["visitors".into()], Duration::from_secs(60));
    let good = http.token(60);
    let table = [
        ("".to_owned(), "401", r#"Bearer realm="staunch""#, "no_token"),
        ("authorization: Bearer a.b.c\r\n".into(), "401", "invalid_token", "invalid_token"),
        (format!("authorization: Bearer {}x\r\n", good), "401", "invalid_token", "invalid_token"),
        (format!("authorization: Bearer {stranger}\r\n"), "403", "insufficient_scope", "forbidden"),
        (
            format!("authorization: Bearer {good}\r\nx-api-key: {stranger}\r\n"),
            "400",
            "invalid_request",
            "two_tokens",
        ),
        // No list, be the values the same (RFC 9110 section 5.3); HTTP/2 is alike.
        (format!("x-api-key: {good}\r\nX-Api-Key: {good}\r\n"), "400", "invalid_request", "two_tokens"),
        (
            format!("authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            "400",
            "",
            "bad_request",
        ),
        (
            format!("authorization: Bearer {good}\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n"),
            "400",
            "",
            "bad_request",
        ),
    ];
    let asked_only = async {
        loop {
            let mut upstream = http.rig.accept().await;
            assert_eq!(read_head(&mut upstream).await, None, "a refused request went up");
        }
    };
    let refusals = refuse_all(&http, &table);
    tokio::select! {
        () = asked_only => {}
        () = refusals => {}
    }
}

async fn refuse_all(http: &Http, table: &[(String, &str, &str, &str)]) {
    for (fields, status, challenge, code) in table {
        let mut client = http.connect("http/1.1").await;
        let request = format!("GET / HTTP/1.1\r\nhost: {NAME}\r\n{fields}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let head = timeout(SOON, read_head(&mut client)).await.unwrap().unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {head}");
        assert!(head.contains(challenge), "{fields}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = read_exactly(&mut client, length.parse().unwrap()).await;
        assert!(body.contains(&format!(r#""code":"{code}""#)), "{fields}: {body}");
    }
}

#[tokio::test]
async fn text_that_is_no_request_is_told_so() {
    let http = Http::start(Wish::default()).await;
    for text in
        ["GET\t/ HTTP/1.1\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n", "{}\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"]
    {
        let mut client = http.connect("http/1.1").await;
        client.write_all(text.as_bytes()).await.unwrap();
        let head = timeout(SOON, read_head(&mut client)).await.unwrap();
        assert!(head.as_ref().is_some_and(|head| head.starts_with("HTTP/1.1 400 ")), "{text:?}: {head:?}");
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_to_a_better_one() {
    let http = Http::start(Wish::default()).await;
    let client = async {
        let mut client = http.connect("http/1.1").await;
        client.write_all(format!("GET /a HTTP/1.1\r\nhost: {NAME}\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut client).await.unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        read_exactly(&mut client, length.parse().unwrap()).await;
        let request =
            format!("GET /b HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
        client.write_all(request.as_bytes()).await.unwrap();
        (client, head)
    };
    let ((_client, refused), (_, head)) =
        timeout(SOON, async { tokio::join!(client, http.upstream()) }).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(head.starts_with("GET /b "), "{head}");
}

#[tokio::test]
async fn the_sixty_fourth_refusal_before_a_permit_is_the_last() {
    let http = Http::start(Wish::default()).await;
    let mut client = http.connect("http/1.1").await;
    for n in 1..=64 {
        client.write_all(format!("GET /a HTTP/1.1\r\nhost: {NAME}\r\n\r\n").as_bytes()).await.unwrap();
        let head = timeout(SOON, read_head(&mut client)).await.unwrap().unwrap();
        assert!(head.starts_with("HTTP/1.1 401 "), "request {n}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        read_exactly(&mut client, length.parse().unwrap()).await;
        assert_eq!(head.to_lowercase().contains("connection: close"), n == 64, "request {n}: {head}");
    }
    assert_eq!(timeout(SOON, client.read(&mut [0; 1])).await.unwrap().unwrap(), 0, "it stays open");
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel_after_the_101_and_not_before() {
    let http = Http::start(Wish::default()).await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        http.token(60)
    );
    let (mut client, mut upstream, head) = timeout(SOON, http.exchange(&request)).await.unwrap();
    assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    client.write_all(b"too early").await.unwrap();
    let early = timeout(Duration::from_millis(200), upstream.read_u8()).await;
    assert!(early.is_err(), "bytes passed before the 101");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    upstream.write_all(switch.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut client, switch.len()).await, switch);
    assert_eq!(read_exactly(&mut upstream, 9).await, "too early");
    upstream.write_all(b"frames").await.unwrap();
    assert_eq!(read_exactly(&mut client, 6).await, "frames");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_upstream_at_once() {
    let http = Http::start(Wish::default()).await;
    let request =
        format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
    let (client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    drop(client);
    let left = timeout(Duration::from_millis(900), upstream.read(&mut [0; 1])).await.unwrap();
    assert!(!matches!(left, Ok(1)), "{left:?}");
}

#[tokio::test]
async fn an_upstream_that_has_answered_is_told_of_the_end_and_not_waited_for() {
    let http = Http::start(Wish::default()).await;
    let request =
        format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab").await.unwrap();
    read_exactly(&mut client, 40).await;
    drop(client);
    let told = timeout(SOON, upstream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(told.unwrap(), 0, "close_notify");
    // Whoever lingers would go on reading for a second.
    let gone = async {
        while upstream.write_all(b"x").await.and(upstream.flush().await).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_millis(800), gone).await.expect("the gateway has closed the connection");
}

#[tokio::test]
async fn an_upstream_that_dies_in_mid_response_does_not_look_like_an_end() {
    let http = Http::start(Wish::default()).await;
    let request =
        format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    upstream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut client, head.len()).await, head);
    drop(upstream.into_inner().0);
    let ended = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_upstream_that_breaks_its_framing_in_mid_response_does_not_look_like_an_end() {
    let http = Http::start(Wish::default()).await;
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&ask(&http, "GET", ""))).await.unwrap();
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    upstream.write_all(begun.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut client, begun.len()).await, begun);
    upstream.write_all(b"+2\r\nok\r\n0\r\n\r\n").await.unwrap();
    let ended = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn expiry_drains_by_default_and_cuts_where_told() {
    for (on_expiry, cut) in [(OnExpiry::Drain, false), (OnExpiry::Cut, true)] {
        let http = Http::start(Wish { on_expiry, ..Wish::default() }).await;
        let token = http.token(2);
        let request = format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {token}\r\n\r\n");
        let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
        read_exactly(&mut client, 40).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let rest = upstream.write_all(b"cd").await.and(upstream.flush().await);
        let got = timeout(SOON, client.read_exact(&mut [0; 2])).await.unwrap();
        assert_eq!(got.is_err(), cut, "{on_expiry:?}: {rest:?} {got:?}");
    }
}

#[tokio::test]
async fn draining_ends_an_idle_connection_and_lets_a_busy_one_finish() {
    let http = Http::start(Wish::default()).await;
    let request =
        format!("GET /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {}\r\n\r\n", http.token(60));
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    read_exactly(&mut client, 40).await;
    http.rig.workers.drain();
    tokio::time::sleep(Duration::from_millis(100)).await;
    upstream.write_all(b"cd").await.unwrap();
    assert_eq!(read_exactly(&mut client, 2).await, "cd");
    let ended = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
    assert_eq!(ended.unwrap(), 0, "a clean end after the response");
}

#[tokio::test]
async fn a_request_for_another_name_is_421_and_the_connection_goes_on() {
    let http = Http::start(Wish::default()).await;
    let client = async {
        let mut client = http.connect("http/1.1").await;
        for name in ["other.test", "upstream.test", "route.test.evil", "127.0.0.1"] {
            // Whoever asks: a stranger hears it too, before a token is looked for.
            client.write_all(format!("GET /a HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).await.unwrap();
            let head = read_head(&mut client).await.unwrap();
            assert!(head.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{name}: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            assert!(read_exactly(&mut client, length.parse().unwrap()).await.contains("misdirected"));
        }
        let token = http.token(60);
        let request =
            format!("GET /b HTTP/1.1\r\nhost: ROUTE.test.:8443\r\nauthorization: Bearer {token}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    };
    let (_client, (_, head)) = timeout(SOON, async { tokio::join!(client, http.upstream()) }).await.unwrap();
    assert!(head.starts_with("GET /b ") && head.contains("x-forwarded-host: ROUTE.test.:8443\r\n"), "{head}");
}

/// The request of a client that may.
fn ask(http: &Http, method: &str, more: &str) -> String {
    let token = http.token(60);
    format!("{method} /s HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

/// Reads one answer of the gateway's, body and all.
async fn answer(client: &mut Client) -> String {
    let head = timeout(SOON, read_head(client)).await.unwrap().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let body = read_exactly(client, length.parse().unwrap()).await;
    format!("{head}{body}")
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_properly_is_a_502_with_body_and_id() {
    let http = Http::start(Wish::default()).await;
    for (bytes, clean) in [
        (&b"HTTP/1.1 999 Odd\r\n\r\n"[..], true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", true),
        (b"SSH-2.0-x\r\n", true),
        (b"", true),
        (b"", false),
        (b"HTTP/1.1 200 OK\r\nx: y\r\n", false),
    ] {
        let request = ask(&http, "GET", "");
        let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
        upstream.write_all(bytes).await.unwrap();
        if clean {
            upstream.shutdown().await.unwrap();
        } else {
            drop(upstream.into_inner().0);
        }
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{bytes:?} {clean}: {answer}");
        assert!(answer.contains("x-request-id: ") && answer.contains("\"bad_answer\""), "{answer}");
        assert_eq!(timeout(SOON, client.read(&mut [0; 1])).await.unwrap().unwrap(), 0, "a clean end");
    }
}

#[tokio::test]
async fn a_request_that_ran_keeps_its_answer_when_bad_bytes_follow_it_in_one_write() {
    let http = Http::start(Wish::default()).await;
    let request = ask(&http, "POST", "content-length: 5\r\n") + "hello, world\r\n\r\n";
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 5).await, "hello");
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    upstream.write_all(ok.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut client, ok.len()).await, ok);
    let next = answer(&mut client).await;
    assert!(next.starts_with("HTTP/1.1 400 Bad Request\r\n") && next.contains("\r\ndate: "), "{next}");
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_a_504_where_the_route_says_when() {
    let http = Http::start(Wish { response: Some(Duration::from_millis(400)), ..Wish::default() }).await;
    let request = ask(&http, "GET", "");
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    let answer = answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    assert!(answer.contains("\"upstream_timeout\""), "{answer}");
    assert!(
        !matches!(timeout(SOON, upstream.read(&mut [0; 1])).await.unwrap(), Ok(1)),
        "the upstream is let go"
    );
    // One that has begun to answer may take its time, and so may one whose request is still on its way.
    let request = ask(&http, "POST", "content-length: 2\r\n");
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.write_all(b"ab").await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    upstream.write_all(b"b").await.unwrap();
    assert!(read_exactly(&mut client, 40).await.ends_with("ab"));
}

#[tokio::test]
async fn a_later_head_that_trickles_meets_a_deadline() {
    let http = Http::start(Wish { permit_deadline: Duration::from_secs(2), ..Wish::default() }).await;
    let request = ask(&http, "GET", "");
    let (mut client, mut upstream, _) = timeout(SOON, http.exchange(&request)).await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab").await.unwrap();
    read_exactly(&mut client, 40).await;
    let (mut reads, mut writes) = tokio::io::split(client);
    let trickle = async {
        for byte in ask(&http, "GET", &format!("x: {}\r\n", "y".repeat(10_000))).bytes() {
            // Whether it is still taken or not: the end is what the client reads.
            let _ = writes.write_all(&[byte]).await.and(writes.flush().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = async {
        let read = reads.read(&mut [0; 1]).await;
        assert!(!matches!(read, Ok(1)), "{read:?}");
    };
    let ended = async {
        tokio::select! {
            () = trickle => panic!("it could trickle to its end"),
            () = ended => {}
        }
    };
    timeout(Duration::from_secs(6), ended).await.expect("the connection ends");
}
