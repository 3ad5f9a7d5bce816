//! How sessions end in states that HTTP/1.1 requests lead to: see [`common::endings`] for the matrix. Plain requests stand with the
//! others.

mod common;

use common::endings::{
    Act, Case, Client, DONE, Event, Expected, Moment, Talk, Upstream, asked_http1, head, http1_answer,
    opaque_ends_at, opaque_ends_by, reset, truncated,
};
use common::{Http, NAME, Wish};
use staunch::names::Side;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        let (mut client, mut upstream) = asked_http1(http, &request).await;
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

    fn ends_by(self, side: Side, act: Act, _: Moment) -> Option<Expected> {
        opaque_ends_by(side, act)
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        opaque_ends_at(case, usual)
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
        let (client, mut upstream) = asked_http1(http, &request).await;
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, endless: bool) -> (Vec<u8>, Vec<u8>) {
        http1_answer(endless)
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
