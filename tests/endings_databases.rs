//! How sessions of MySQL and Redis end: see [`common::endings`] for the matrix. PostgreSQL's stand with the others.

mod common;

use common::endings::{Act, Client, DONE, Expected, Moment, Talk, Upstream, reset, truncated};
use common::{Http, NAME, Wish};
use rustls::pki_types::ServerName;
use staunch::names::Side;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Clone, Copy)]
struct Mysql;

const SSL: u32 = 1 << 11;
/// Long password, database, protocol 4.1, transactions, secure connection, several results, plug-ins, attributes, lengths, no EOF.
const FLAGS: u32 = 0x01bf_a20d;
const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\0\0\0\0\0";

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

async fn packet(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    from.read_exact(&mut payload).await.unwrap();
    payload
}

fn greeting() -> Vec<u8> {
    let flags = (FLAGS | SSL).to_le_bytes();
    let (low, high) = (&flags[..2], &flags[2..]);
    let parts: [&[u8]; 6] = [
        b"\x0a8.0.36\0\x07\0\0\0AAAAAAAA\0",
        low,
        b"\x2d\x02\0",
        high,
        &[21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        b"",
    ];
    [&parts.concat()[..], b"BBBBBBBBBBBB\0mysql_native_password\0"].concat()
}

fn request_for_tls() -> Vec<u8> {
    let mut payload = (FLAGS | SSL).to_le_bytes().to_vec();
    payload.extend_from_slice(&(1u32 << 24).to_le_bytes());
    payload.push(45);
    payload.resize(32, 0);
    payload
}

impl Talk for Mysql {
    async fn start(self, wish: Wish) -> Http {
        Http::mysql(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let server = async {
            let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
            tcp.write_all(&framed(0, &greeting())).await.unwrap();
            packet(&mut tcp).await;
            let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
            packet(&mut upstream).await;
            upstream.write_all(&framed(3, b"\0\0\0\x02\0\0\0")).await.unwrap();
            upstream
        };
        let client = async {
            let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
            packet(&mut tcp).await;
            tcp.write_all(&framed(1, &request_for_tls())).await.unwrap();
            let name = ServerName::try_from(NAME).unwrap();
            let mut client = TlsConnector::from(http.rig.client.clone()).connect(name, tcp).await.unwrap();
            let rest = b"whoever\0\0sales\0mysql_native_password\0\0";
            client.write_all(&framed(2, &[&request_for_tls()[..], rest].concat())).await.unwrap();
            packet(&mut client).await;
            let token = [http.token(lifetime).as_bytes(), b"\0"].concat();
            client.write_all(&framed(4, &token)).await.unwrap();
            packet(&mut client).await;
            client.write_all(&framed(0, b"\x03select 1")).await.unwrap();
            client
        };
        let (client, mut upstream) = tokio::join!(client, server);
        packet(&mut upstream).await;
        (client, upstream)
    }

    fn answer(self, _: bool) -> (Vec<u8>, Vec<u8>) {
        let head = [framed(1, b"\x01"), framed(2, COLUMN)].concat();
        let row = framed(3, b"\x041234");
        let end = framed(4, b"\xfe\0\0\x02\0\0\0");
        ([&head[..], &row[..6]].concat(), [&row[6..], &end].concat())
    }

    fn more(self) -> Vec<u8> {
        framed(3, &[b'x'; 65_536])
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
}

#[derive(Clone, Copy)]
struct Redis;

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
    bytes.into_bytes()
}

impl Talk for Redis {
    async fn start(self, wish: Wish) -> Http {
        Http::redis(wish).await
    }

    async fn ask(self, http: &Http, lifetime: u64) -> (Client, Upstream) {
        let server = async {
            let mut upstream = http.rig.accept().await;
            let login = command(&["AUTH", "svc", "stored-password"]);
            upstream.read_exact(&mut vec![0; login.len()]).await.unwrap();
            upstream.write_all(b"+OK\r\n").await.unwrap();
            upstream
        };
        let client = async {
            let mut config = (*http.rig.client).clone();
            config.alpn_protocols = Vec::new();
            let mut client = http.rig.connect(config.into()).await.unwrap();
            client.write_all(&command(&["AUTH", &http.token(lifetime)])).await.unwrap();
            client.read_exact(&mut [0; 5]).await.unwrap();
            client.write_all(&command(&["GET", "a"])).await.unwrap();
            client
        };
        let (client, mut upstream) = tokio::join!(client, server);
        upstream.read_exact(&mut vec![0; command(&["GET", "a"]).len()]).await.unwrap();
        (client, upstream)
    }

    fn answer(self, endless: bool) -> (Vec<u8>, Vec<u8>) {
        let size = if endless { 1_u64 << 40 } else { 10 };
        (format!("${size}\r\n01234").into_bytes(), b"56789\r\n".to_vec())
    }

    fn more(self) -> Vec<u8> {
        [&b"+"[..], &[b'x'; 65_536], b"\r\n"].concat()
    }

    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected> {
        match (side, act, moment) {
            (_, Act::Nothing, _) => None,
            // Clients leave as they like.
            (Side::Client, Act::CloseNotify | Act::Fin, _) => None,
            (_, Act::Reset, _) => Some(reset(side)),
            (Side::Upstream, Act::CloseNotify, Moment::Before | Moment::After) => Some(DONE),
            (Side::Upstream, Act::Fin, Moment::After) => Some(DONE),
            (Side::Upstream, _, _) => Some(truncated(side)),
        }
    }
}

matrix!(mysql Mysql, redis Redis);
