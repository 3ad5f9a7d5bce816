//! Requests of programs and of web pages on one port.

use super::*;
use tokio::io::{DuplexStream, duplex};

impl Stream for DuplexStream {
    fn reset(self) {}
}

/// Sends `requests` through a guard; what the upstream got, what came back, and what was told. The upstream answers each
/// HTTP/1.1 request that has no body with an empty 200.
async fn through(secret: Option<&str>, requests: &[u8]) -> (String, String, Vec<String>) {
    let guard = HttpGuard { secret: secret.map(|secret| Secret::new(secret.into())) };
    let (mut program, mut local) = duplex(64 * 1024);
    let (mut near, mut far) = duplex(64 * 1024);
    let told = std::cell::RefCell::new(Vec::new());
    let relay = guard.relay(&mut local, &mut near, b"", |what| told.borrow_mut().push(what.to_owned()));
    let upstream = async {
        let (mut got, mut answered) = (Vec::new(), 0);
        loop {
            let mut some = [0; 4096];
            match far.read(&mut some).await {
                Ok(0) | Err(_) => break,
                Ok(n) => got.extend_from_slice(&some[..n]),
            }
            let asked = got.windows(4).filter(|end| *end == b"\r\n\r\n").count();
            for _ in answered..asked {
                far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
            answered = asked;
        }
        let _ = far.shutdown().await;
        String::from_utf8_lossy(&got).into_owned()
    };
    let client = async {
        program.write_all(requests).await.unwrap();
        program.shutdown().await.unwrap();
        let mut answers = Vec::new();
        program.read_to_end(&mut answers).await.unwrap();
        String::from_utf8_lossy(&answers).into_owned()
    };
    let all = async { tokio::join!(async { drop(relay.await) }, upstream, client) };
    let (_, got, answers) =
        tokio::time::timeout(std::time::Duration::from_secs(10), all).await.expect("an end");
    (got, answers, told.into_inner())
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[tokio::test]
async fn requests_of_programs_pass_and_those_of_web_pages_do_not() {
    let table = [
        ("Host: 127.0.0.1:8080\r\n", "200"),
        ("Host: localhost\r\n", "200"),
        ("Host: LOCALHOST:80\r\n", "200"),
        ("Host: openai.localhost:80\r\n", "200"),
        ("Host: [::1]:8080\r\n", "200"),
        ("Host: localhost\r\nOrigin: http://localhost:3000\r\n", "200"),
        ("Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", "200"),
        ("Host: localhost\r\nSec-Fetch-Site: none\r\n", "200"),
        ("Host: localhost.\r\n", "200"),
        ("Host: openai.localhost.:80\r\n", "200"),
        ("Host: ip6-localhost:80\r\n", "200"),
        ("Host: [::ffff:127.0.0.1]:80\r\n", "200"),
        ("Host: 127.9.9.9\r\n", "200"),
        ("Host: [::ffff:192.0.2.1]\r\n", "421"),
        ("Host: [::]\r\n", "421"),
        ("Host: localhost..\r\n", "421"),
        ("Host: 2130706433\r\n", "421"),
        ("Host: xlocalhost\r\n", "421"),
        ("Host: ip6-localhost.evil.example\r\n", "421"),
        ("Host: localhost\r\nOrigin: http://localhost.:3000\r\n", "200"),
        ("Host: localhost\r\nOrigin: null\r\n", "403"),
        ("Host: localhost\r\nOrigin: file://\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://localhost@evil.example\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://localhost, http://evil.example\r\n", "403"),
        ("Host: localhost\r\nSec-Fetch-Site: Cross-Site\r\n", "403"),
        ("Host: evil.example\r\n", "421"),
        ("Host: evil.example:8080\r\n", "421"),
        ("Host: 127.0.0.1.evil.example\r\n", "421"),
        ("Host: localhost.evil.example\r\n", "421"),
        ("Host: 192.0.2.1\r\n", "421"),
        ("Host: 0.0.0.0:8080\r\n", "421"),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", "403"),
        ("Host: localhost\r\nOrigin: https://localhost.evil.example\r\n", "403"),
        ("Host: localhost\r\nOrigin: null\r\n", "403"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", "403"),
    ];
    for (fields, expected) in table {
        let request = format!("GET /v1/models HTTP/1.1\r\n{fields}\r\n");
        let (got, answers, told) = through(None, request.as_bytes()).await;
        assert_eq!(statuses(&answers), [expected], "{fields:?}");
        let passed = expected == "200";
        assert_eq!((got.contains("/v1/models"), told.is_empty()), (passed, passed), "{fields:?} {told:?}");
    }
}

#[tokio::test]
async fn every_request_of_a_connection_is_looked_at() {
    let good = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let foreign = "GET /foreign HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n";
    let (got, answers, told) = through(None, format!("{good}{foreign}{good}").as_bytes()).await;
    assert_eq!(statuses(&answers), ["200", "403", "200"]);
    assert!(!got.contains("/foreign") && got.matches("GET /a").count() == 2, "{got}");
    assert_eq!(told, ["a request of the web page \"https://evil.example\" was refused"]);
}

#[tokio::test]
async fn a_foreign_page_opens_no_websocket_and_an_absolute_target_names_the_host() {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request =
        format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n{fields}\r\n");
    let (got, answers, _) = through(None, request.as_bytes()).await;
    assert_eq!((got.as_str(), statuses(&answers)), ("", vec!["403"]));
    let request = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (got, answers, _) = through(None, request).await;
    assert!(got.is_empty() && !answers.contains(" 200 "), "{answers}");
}

#[tokio::test]
async fn a_key_of_this_run_is_asked_for_where_one_was_made() {
    for (field, expected) in [
        ("", "401"),
        ("Authorization: Bearer other-key\r\n", "401"),
        ("Authorization: Bearer run-key\r\n", "200"),
        ("X-Api-Key: run-key\r\n", "200"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        let (_, answers, _) = through(Some("run-key"), request.as_bytes()).await;
        assert_eq!(statuses(&answers), [expected], "{field:?}");
    }
}

#[tokio::test]
async fn http_2_is_looked_at_by_stream() {
    let guard = HttpGuard::default();
    let (program, mut local) = duplex(64 * 1024);
    let (mut near, far) = duplex(64 * 1024);
    let relay = guard.relay(&mut local, &mut near, b"", |_| {});
    let upstream = async {
        let mut connection = h2::server::handshake(far).await.unwrap();
        let mut seen = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            seen.push(request.uri().to_string());
            respond.send_response(hyper::Response::new(()), true).unwrap();
        }
        seen
    };
    let client = async {
        let (send, connection) = h2::client::handshake(program).await.unwrap();
        let requests = async {
            let mut statuses = Vec::new();
            for (uri, origin) in [
                ("http://127.0.0.1:8080/a", None),
                ("http://evil.example/b", None),
                ("http://localhost/c", Some("https://evil.example")),
                ("http://localhost/d", None),
            ] {
                let mut request = hyper::Request::get(uri);
                if let Some(origin) = origin {
                    request = request.header("origin", origin);
                }
                let mut send = send.clone().ready().await.unwrap();
                let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
                statuses.push(response.await.unwrap().status().as_u16());
            }
            statuses
        };
        tokio::pin!(connection);
        tokio::select! {
            statuses = requests => statuses,
            _ = &mut connection => panic!("the connection ended"),
        }
    };
    let all = async { tokio::join!(async { drop(relay.await) }, upstream, client) };
    let (_, seen, statuses) =
        tokio::time::timeout(std::time::Duration::from_secs(10), all).await.expect("an end");
    assert_eq!(statuses, [200, 421, 403, 200]);
    assert_eq!(seen, ["http://127.0.0.1:8080/a", "http://localhost/d"]);
}
