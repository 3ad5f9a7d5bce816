//! Requests on a connection that is kept: a small question with a token, a small answer.

use crate::common::{Http, NAME, Wish};
use crate::frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS};
use staunch::gateway::Alpn;
use staunch::protocol::hpack::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) type Client = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;
pub(crate) type Upstream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// A question to a language model: 96 bytes.
const QUESTION: &[u8] =
    br#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Where does the river go to sea?"}]}"#;
/// Its answer.
const ANSWER: &[u8] =
    br#"{"id":"chatcmpl-8f2","choices":[{"message":{"role":"assistant","content":"At the delta."}}]}"#;

/// What a client library sends besides the token.
const FIELDS: [(&str, &str); 8] = [
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python 1.109.1"),
    ("x-stainless-lang", "python"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-runtime", "CPython"),
];

/// What an upstream answers besides the length.
const ANSWERED: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("openai-processing-ms", "12"),
    ("server", "upstream"),
    ("x-ratelimit-remaining-requests", "9999"),
];

/// A gateway that need not ask its upstream which protocol it speaks.
pub(crate) fn wish(protocol: &'static str) -> Wish {
    let alpn = if protocol == "h2" { Alpn::Http2 } else { Alpn::Http1 };
    Wish { alpn, upstream_alpn: vec![protocol], ..Wish::default() }
}

/// The head of an HTTP/1.1 request with a body of this many bytes.
pub(crate) fn head1(token: &str, body: usize) -> String {
    let mut head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {NAME}\r\n");
    FIELDS.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head + &format!("authorization: Bearer {token}\r\ncontent-length: {body}\r\n\r\n")
}

/// An HTTP/1.1 response, whole.
pub(crate) fn answer1() -> Vec<u8> {
    let mut head = String::from("HTTP/1.1 200 OK\r\n");
    ANSWERED.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += &format!("content-length: {}\r\n\r\n", ANSWER.len());
    [head.as_bytes(), ANSWER].concat()
}

/// Reads up to the end of an HTTP/1.1 head; `None` where the connection ends instead of beginning.
pub(crate) async fn read_head(from: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return None,
            Err(error) => panic!("{error} in a head"),
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Both ends of a connection on which `first` went up. The gateway's first connection to an upstream only asks which
/// protocol it speaks; `begins` tells whether the client's bytes came, and it is past them then.
pub(crate) async fn pair(
    http: &Http,
    protocol: &str,
    first: &[u8],
    begins: impl AsyncFn(&mut Upstream) -> bool,
) -> (Client, Upstream) {
    let client = async {
        let mut client = http.connect(protocol).await;
        client.write_all(first).await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let upstream = async {
        loop {
            let mut upstream = http.rig.accept().await;
            if begins(&mut upstream).await {
                return upstream;
            }
        }
    };
    tokio::join!(client, upstream)
}

/// True if a permitted request's head came.
pub(crate) async fn head_came(upstream: &mut Upstream) -> bool {
    let Some(head) = read_head(upstream).await else { return false };
    assert!(head.contains("Bearer stored-key\r\n"), "{head}");
    true
}

/// Requests on one HTTP/1.1 connection.
pub(crate) async fn http1(units: u32) {
    let http = Http::start(wish("http/1.1")).await;
    let request = [head1(&http.token(3_600), QUESTION.len()).as_bytes(), QUESTION].concat();
    let answer = answer1();
    let (mut client, mut upstream) = pair(&http, "http/1.1", &request, head_came).await;
    let (mut body, mut answered) = (vec![0; QUESTION.len()], vec![0; answer.len()]);
    for n in 0..units {
        if n > 0 {
            client.write_all(&request).await.unwrap();
            client.flush().await.unwrap();
            assert!(head_came(&mut upstream).await);
        }
        upstream.read_exact(&mut body).await.unwrap();
        assert_eq!(body, QUESTION);
        upstream.write_all(&answer).await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut answered).await.unwrap();
        assert_eq!(answered, answer);
    }
}

/// Requests on one HTTP/2 connection, each on a stream of its own.
pub(crate) async fn http2(units: u32) {
    let http = Http::start(wish("h2")).await;
    let bearer = format!("Bearer {}", http.token(3_600));
    let head =
        [(":method", "POST"), (":scheme", "https"), (":path", "/v1/chat/completions"), (":authority", NAME)];
    let asked = block(&[&head[..], &FIELDS, &[("authorization", &*bearer)]].concat());
    let answered = block(&[&[(":status", "200")][..], &ANSWERED].concat());
    let message = |stream, block: &[u8], body: &[u8]| {
        [frames::frame(HEADERS, END_HEADERS, stream, block), frames::frame(DATA, END_STREAM, stream, body)]
            .concat()
    };
    let first = [frames::greeting(true), message(1, &asked, QUESTION)].concat();
    let (mut client, mut upstream) = pair(&http, "h2", &first, frames::preface_came).await;
    upstream.write_all(&frames::greeting(false)).await.unwrap();
    for n in 0..units {
        let stream = 1 + 2 * n;
        if n > 0 {
            client.write_all(&message(stream, &asked, QUESTION)).await.unwrap();
            client.flush().await.unwrap();
        }
        assert_eq!(frames::read_message(&mut upstream, stream).await, QUESTION);
        upstream.write_all(&message(stream, &answered, ANSWER)).await.unwrap();
        upstream.flush().await.unwrap();
        assert_eq!(frames::read_message(&mut client, stream).await, ANSWER);
    }
}

/// A header block of literals, as clients with a small table send it.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| encode(name.as_bytes(), value.as_bytes(), false, &mut out));
    out
}
