//! How sessions end, for each kind of traffic: see [`common::endings`] for the matrix.

mod common;

use common::endings::{
    Act, Case, Client, DONE, Event, Expected, IDLE_OUT, Moment, Talk, Upstream, asked_http1, head,
    http1_answer, opaque_ends_at, opaque_ends_by, reset, truncated,
};
use common::{Http, NAME, Rig, TLS12, TLS13, TUNNEL, Version, Wish};
use staunch::gateway::Alpn;
use staunch::names::Side;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Opaque bytes for a client with a certificate, which is the permit.
#[derive(Clone, Copy)]
struct Raw {
    /// Of both legs.
    tls: Version,
}

const RAW: Raw = Raw { tls: TLS13 };
const RAW_TLS12: Raw = Raw { tls: TLS12 };

impl Talk for Raw {
    async fn start(self, wish: Wish) -> Http {
        let (issuer, _) = Http::believe();
        let wish = Wish { client: self.tls, upstream: self.tls, ..wish };
        Http { rig: Rig::raw(wish).await, issuer }
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let until = std::time::SystemTime::now() + std::time::Duration::from_secs(lifetime);
        let leaf = http.rig.authority.leaf_until("ann.test", until);
        let config = Rig::client_config_with(&http.rig.authority, leaf, self.tls);
        let (client, mut upstream) = tokio::join!(http.rig.connect(config), http.rig.accept());
        let mut client = client.unwrap();
        client.write_all(b"question").await.unwrap();
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        (b"first ".into(), b"second".into())
    }

    fn ends_by(self, side: Side, act: Act, _: Moment) -> Option<Expected> {
        opaque_ends_by(side, act)
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        opaque_ends_at(case, usual)
    }
}

#[derive(Clone, Copy)]
struct Http1;

impl Talk for Http1 {
    async fn start(self, wish: Wish) -> Http {
        Http::start(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let token = http.token(lifetime);
        let request = format!("GET / HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {token}\r\n\r\n");
        asked_http1(http, &request).await
    }

    fn answer(self, endless: bool) -> (Vec<u8>, Vec<u8>) {
        http1_answer(endless)
    }

    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected> {
        match (act, moment) {
            (Act::Nothing, _) => None,
            (Act::Reset, _) => Some(reset(side)),
            // Nothing is under way: whoever goes, goes.
            (_, Moment::After) => Some(DONE),
            (Act::Fin, _) => Some(truncated(side)),
            // The client may have said all that it wants to say.
            (Act::CloseNotify, _) if side == Side::Client => None,
            (Act::CloseNotify, _) => Some(truncated(side)),
        }
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        match (case.event, case.moment) {
            // What ends is the permit of a request; the connection may bring another.
            (Event::Cut | Event::Grace, Moment::After) => IDLE_OUT,
            // An answer that nobody asked for.
            (Event::Stall, Moment::After) => ("protocol", "upstream"),
            _ => usual,
        }
    }
}

#[derive(Clone, Copy)]
struct Http2 {
    /// The request has a body without an end.
    uploads: bool,
}

const HTTP2: Http2 = Http2 { uploads: false };
const HTTP2_UPLOAD: Http2 = Http2 { uploads: true };

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// A literal of HPACK with an indexed name below 15 (RFC 7541 section 6.2.2).
fn literal(index: u8, value: &[u8]) -> Vec<u8> {
    let mut field = if index < 15 { vec![index] } else { vec![15, index - 15] };
    if value.len() < 127 {
        field.push(value.len() as u8);
    } else {
        let rest = value.len() - 127;
        field.extend([127, (rest % 128) as u8 | 128, (rest / 128) as u8]);
    }
    field.extend_from_slice(value);
    field
}

/// True when a whole HEADERS frame stands behind the preface.
fn has_headers(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(24..).unwrap_or_default();
    while let [a, b, c, kind, _, _, _, _, _, body @ ..] = rest {
        let Some(next) = body.get(u32::from_be_bytes([0, *a, *b, *c]) as usize..) else { return false };
        if *kind == HEADERS {
            return true;
        }
        rest = next;
    }
    false
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

impl Talk for Http2 {
    async fn start(self, wish: Wish) -> Http {
        Http::start(Wish { alpn: Alpn::Http2, upstream_alpn: vec!["h2"], ..wish }).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let token = format!("Bearer {}", http.token(lifetime));
        // GET, https, /, then :authority and authorization.
        let fields = [&[0x82, 0x87, 0x84][..], &literal(1, NAME.as_bytes()), &literal(23, token.as_bytes())];
        let fields = fields.concat();
        // A window that no answer of these tests fills: what is tested is TCP's.
        let window = [0, 4, 0x7f, 0xff, 0xff, 0xff];
        let all = (1_u32 << 31) - 1 - 65_535;
        let opening = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &window),
            frame(8, 0, 0, &all.to_be_bytes()),
            frame(HEADERS, if self.uploads { END_HEADERS } else { END_HEADERS | END_STREAM }, 1, &fields),
            if self.uploads { frame(DATA, 0, 1, b"question") } else { Vec::new() },
        ];
        let client = async {
            let mut client = http.connect("h2").await;
            client.write_all(&opening.concat()).await.unwrap();
            client
        };
        // Past the connection on which the gateway only asks for the protocol.
        let upstream = async {
            loop {
                let mut upstream = http.rig.accept().await;
                let mut got = Vec::new();
                while let Ok(byte) = upstream.read_u8().await {
                    got.push(byte);
                    if has_headers(&got) {
                        upstream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
                        return upstream;
                    }
                }
            }
        };
        tokio::join!(client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        let first = [frame(HEADERS, END_HEADERS, 1, &[0x88]), frame(DATA, 0, 1, b"01234")];
        (first.concat(), frame(DATA, END_STREAM, 1, b"56789"))
    }

    fn more(self) -> Vec<u8> {
        frame(DATA, 0, 1, &[b'x'; 16_384])
    }
    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected> {
        match (act, moment) {
            (Act::Nothing, _) => None,
            (Act::Reset, _) => Some(reset(side)),
            // Nothing is under way: whoever goes, goes.
            (_, Moment::After) if !self.uploads => Some(DONE),
            (Act::Fin, _) => Some(truncated(side)),
            (Act::CloseNotify, _) => Some(truncated(side)),
        }
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        match (case.event, case.moment) {
            // A stream whose body has no end is over when it is cut, or its upstream leaves.
            (Event::Close, _) if self.uploads => truncated(Side::Upstream),
            (Event::Drain, _) if self.uploads => ("drained", "gateway"),
            // What ends is the permit of a request; the connection may bring another.
            (Event::Cut | Event::Grace, Moment::After) => IDLE_OUT,
            // A stream is reset; its connection goes on.
            (Event::Cut | Event::Grace, _) => IDLE_OUT,
            // DATA for a stream that is over, and more of it than the client had allowed.
            (Event::Stall, Moment::After) => ("protocol", "upstream"),
            _ => usual,
        }
    }
}

#[derive(Clone, Copy)]
struct Tunnel;

impl Talk for Tunnel {
    async fn start(self, wish: Wish) -> Http {
        Http::raw(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let mut config = (*http.rig.client).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = http.rig.connect_to(TUNNEL, Arc::new(config)).await.unwrap();
        let token = http.token(lifetime);
        let opening =
            format!("CONNECT route HTTP/1.1\r\nHost: route\r\nProxy-Authorization: Bearer {token}\r\n\r\n");
        client.write_all(opening.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 200"));
        client.write_all(b"question").await.unwrap();
        let mut upstream = http.rig.accept().await;
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        (b"first ".into(), b"second".into())
    }

    fn ends_by(self, side: Side, act: Act, _: Moment) -> Option<Expected> {
        opaque_ends_by(side, act)
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        opaque_ends_at(case, usual)
    }
}

#[derive(Clone, Copy)]
struct Postgres;

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

impl Talk for Postgres {
    async fn start(self, wish: Wish) -> Http {
        Http::postgres(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let server = async {
            let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
            tcp.read_exact(&mut [0; 8]).await.unwrap();
            tcp.write_all(b"S").await.unwrap();
            let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
            let length = upstream.read_u32().await.unwrap() as usize;
            upstream.read_exact(&mut vec![0; length - 4]).await.unwrap();
            let greeting =
                [message(b'R', &[0; 4]), message(b'K', b"\0\0\x12\x67\x01\x02\x03\x04"), message(b'Z', b"I")];
            upstream.write_all(&greeting.concat()).await.unwrap();
            upstream
        };
        let client = async {
            let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
            tcp.write_all(SSL_REQUEST).await.unwrap();
            assert_eq!(tcp.read_u8().await.unwrap(), b'S');
            let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
            let connector = tokio_rustls::TlsConnector::from(http.rig.client.clone());
            let mut client = connector.connect(name, tcp).await.unwrap();
            client.write_all(b"\0\0\0\x21\0\x03\0\0user\0ann\0database\0sales\0\0").await.unwrap();
            client.read_exact(&mut [0; 9]).await.unwrap();
            let token = [http.token(lifetime).as_bytes(), b"\0"].concat();
            client.write_all(&message(b'p', &token)).await.unwrap();
            client.read_exact(&mut [0; 9 + 13 + 6]).await.unwrap();
            client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
            client
        };
        let (client, mut upstream) = tokio::join!(client, server);
        upstream.read_exact(&mut [0; 14]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        let row = message(b'D', b"\0\x01\0\0\0\x041234");
        let end = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        (row[..8].to_vec(), [&row[8..], &end].concat())
    }

    fn more(self) -> Vec<u8> {
        message(b'D', &[0; 65_536])
    }
    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected> {
        match (side, act) {
            (_, Act::Nothing) | (Side::Client, Act::CloseNotify) => None,
            (_, Act::Fin) => Some(truncated(side)),
            (_, Act::Reset) => Some(reset(side)),
            (Side::Upstream, Act::CloseNotify) if moment == Moment::Within => Some(truncated(side)),
            (Side::Upstream, Act::CloseNotify) => Some(DONE),
        }
    }

    fn ends_at(self, case: Case, usual: Expected) -> Expected {
        match (case.event, case.moment) {
            // The rest of a row is not what comes.
            (Event::Stall, Moment::Before | Moment::Within) => ("protocol", "upstream"),
            _ => usual,
        }
    }
}

matrix!(
    raw RAW, raw_tls12 RAW_TLS12, tunnel Tunnel, http1 Http1, http2 HTTP2, http2_upload HTTP2_UPLOAD, postgres Postgres
);
