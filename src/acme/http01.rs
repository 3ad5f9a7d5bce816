//! The listener for HTTP-01 challenges: it answers the token of an order that is under way, and nothing else.

use super::challenge::Challenges;
use crate::net::bounded::{BoundedConnection, BoundedListener, Bounds};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An authority asks from a handful of places; the rest of the world is of no use here.
const BOUNDS: Bounds =
    Bounds { connections: 64, head: Duration::from_secs(5), silence: Duration::from_secs(5) };
/// Bytes of a request head.
const MAX_HEAD: usize = 4096;
/// Where challenges are looked for (RFC 8555 section 8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\
                         connection: close\r\n\r\nnot found\n";

/// Serves challenges until the task is dropped.
pub(super) async fn serve(listener: TcpListener, challenges: Arc<Challenges>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = BoundedListener::new(tokio::net::TcpListener::from_std(listener)?, BOUNDS);
    loop {
        let (connection, _) = listener.accept().await;
        let challenges = challenges.clone();
        // A client that leaves in between is none of our business.
        tokio::spawn(async move { drop(answer(connection, &challenges).await) });
    }
}

async fn answer(mut connection: BoundedConnection, challenges: &Challenges) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let text = loop {
        if connection.read_buf(&mut head).await? == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&head) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let is_read = matches!(request.method, Some("GET"));
                let token = request.path.filter(|_| is_read).and_then(|path| path.strip_prefix(PREFIX));
                break token.and_then(|token| challenges.http(token));
            }
            Err(_) => return Ok(()),
        }
    };
    let response = match text {
        Some(text) => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        ),
        None => NOT_FOUND.to_owned(),
    };
    connection.write_all(response.as_bytes()).await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn it_answers_the_token_of_an_order_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let challenges = Arc::new(Challenges::default());
        let served = challenges.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, served))
        });
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        let path = "/.well-known/acme-challenge/tok-1";
        assert!(get(path).starts_with("HTTP/1.1 404 "));
        let held = challenges.answer_http("tok-1", "tok-1.thumb");
        let found = get(path);
        assert!(
            found.starts_with("HTTP/1.1 200 OK\r\n") && found.ends_with("\r\n\r\ntok-1.thumb"),
            "{found}"
        );
        for other in ["/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/tok-2", "/metrics"] {
            assert!(get(other).starts_with("HTTP/1.1 404 "), "{other}");
        }
        assert!(ask(&format!("POST {path} HTTP/1.1\r\nhost: a\r\n\r\n")).starts_with("HTTP/1.1 404 "));
        assert_eq!(ask("\x16\x03\x01 no HTTP\r\n\r\n"), "");
        assert_eq!(ask(&format!("GET {path} HTTP/1.1\r\nx: {}", "y".repeat(MAX_HEAD))), "");
        drop(held);
        assert!(get(path).starts_with("HTTP/1.1 404 "));
    }
}
