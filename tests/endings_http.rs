//! How sessions end in states that HTTP/1.1 requests lead to: see [`common::endings`] for the matrix. Plain requests stand with the
//! others.

mod common;

use common::endings::{
    Act, Case, Client, DONE, Event, Expected, IDLE_OUT, Moment, Talk, Upstream, head, reset, truncated,
};
use common::{Http, NAME, Wish};
use staunch::names::Side;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client that has sent a request head, and the upstream that has read it.
async fn asked(http: &Http, request: &str) -> (Client, Upstream) {
    let client = async {
        let mut client = http.connect("http/1.1").await;
        client.write_all(request.as_bytes()).await.unwrap();
        client
    };
    // Past the connection on which the gateway only asks for the protocol.
    let upstream = async {
        loop {
            let mut upstream = http.rig.accept().await;
            if head(&mut upstream).await.is_some() {
                return upstream;
            }
        }
    };
    tokio::join!(client, upstream)
}

/// A WebSocket after its 101.
#[derive(Clone, Copy)]
struct WebSocket;

impl Talk for WebSocket {
    async fn start(self, wish: Wish) -> Http {
        Http::start(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let token = http.token(lifetime);
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        let (mut client, mut upstream) = asked(http, &request).await;
        let switching =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        upstream.write_all(switching).await.unwrap();
        assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 101 "));
        client.write_all(b"question").await.unwrap();
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        (b"\x82\x0a01234".into(), b"56789".into())
    }

    fn more(self) -> Vec<u8> {
        vec![b'x'; 65_536]
    }

    fn ends_by(self, side: Side, act: Act, _: Moment) -> Option<Expected> {
        match act {
            Act::Nothing | Act::CloseNotify => None,
            Act::Fin => Some(truncated(side)),
            Act::Reset => Some(reset(side)),
        }
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        match (case.event, case.side) {
            // Opaque bytes cannot be told to finish.
            (Event::Drain, _) => ("drained", "gateway"),
            // An upstream that said its last sends nothing that the client could fail to read.
            (Event::Stall, Side::Upstream) => IDLE_OUT,
            _ => usual,
        }
    }
}

/// A request whose body never ends; the upstream answers beside it.
#[derive(Clone, Copy)]
struct Upload;

impl Talk for Upload {
    async fn start(self, wish: Wish) -> Http {
        Http::start(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let token = http.token(lifetime);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\nquestion",
            1_u64 << 40
        );
        let (client, mut upstream) = asked(http, &request).await;
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, endless: bool) -> (Vec<u8>, Vec<u8>) {
        let length = if endless { 1_u64 << 50 } else { 10 };
        (format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n01234").into(), b"56789".into())
    }

    fn more(self) -> Vec<u8> {
        vec![b'x'; 65_536]
    }

    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected> {
        match (side, act, moment) {
            (_, Act::Nothing, _) => None,
            (_, Act::Reset, _) => Some(reset(side)),
            // What it wants to say is said; what it leaves unread it does not want.
            (Side::Upstream, Act::CloseNotify, Moment::After) => Some(DONE),
            (_, Act::Fin | Act::CloseNotify, _) => Some(truncated(side)),
        }
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        match (case.event, case.moment) {
            // An answer that begins while the worker drains closes; one that was under way leaves the upload to its deadline.
            (Event::Drain, Moment::Within | Moment::After) => ("drained", "gateway"),
            // An answer that nobody asked for.
            (Event::Stall, Moment::After) => ("protocol", "upstream"),
            _ => usual,
        }
    }
}

matrix!(websocket WebSocket, upload Upload);
