//! PostgreSQL routes: records of a COPY, and small statements with their answers, with statements in the log and without.

use crate::common::{Http, NAME, Wish};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client, server};

type Client = client::TlsStream<TcpStream>;
type Upstream = server::TlsStream<TcpStream>;

/// What servers send at a time, and how long a row of the COPY is with its head.
const RECORD: usize = 8192;
const ROW: usize = 106;
/// What `statements = "on"` stands for.
const LIMIT: usize = 4096;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

/// Records of a COPY go down; rows lie across them.
pub(crate) async fn copy(logged: bool, units: u32) {
    let (_http, mut client, mut upstream) = session(logged).await;
    let query = message(b'Q', b"copy (select t from bulk) to stdout\0");
    let start = message(b'H', &[0; 3]);
    pass(&mut client, &mut upstream, &query).await;
    pass(&mut upstream, &mut client, &start).await;
    let rows = message(b'd', &[b'x'; ROW - 5]).repeat(RECORD / ROW + 2);
    for unit in 0..units as usize {
        let at = unit * RECORD % ROW;
        pass(&mut upstream, &mut client, &rows[at..at + RECORD]).await;
    }
}

/// A prepared statement is run, and answered with a row.
pub(crate) async fn query(logged: bool, units: u32) {
    let (_http, mut client, mut upstream) = session(logged).await;
    let prepare =
        [message(b'P', b"s\0select abalance from accounts where aid = $1\0\0\0"), message(b'S', b"")];
    let prepared = [message(b'1', b""), message(b'Z', b"I")];
    pass(&mut client, &mut upstream, &prepare.concat()).await;
    pass(&mut upstream, &mut client, &prepared.concat()).await;
    let bind = message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x054711x\0\0");
    let asked = [bind, message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    let answer = [
        message(b'2', b""),
        message(b'D', b"\0\x01\0\0\0\x0242"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ];
    let answer = answer.concat();
    for _ in 0..units {
        pass(&mut client, &mut upstream, &asked).await;
        pass(&mut upstream, &mut client, &answer).await;
    }
}

async fn pass(from: &mut (impl AsyncWriteExt + Unpin), to: &mut (impl AsyncReadExt + Unpin), bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    from.flush().await.unwrap();
    let mut came = vec![0; bytes.len()];
    to.read_exact(&mut came).await.unwrap();
    assert_eq!(came, bytes);
}

/// Both ends of a session that has begun, and the gateway between them.
async fn session(logged: bool) -> (Http, Client, Upstream) {
    let http = Http::postgres(Wish { statements: logged.then_some(LIMIT), ..Wish::default() }).await;
    let token = [http.token(3_600).as_bytes(), b"\0"].concat();
    let near = async {
        let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
        tcp.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'S');
        let connector = TlsConnector::from(http.rig.client.clone());
        let mut client = connector.connect(ServerName::try_from(NAME).unwrap(), tcp).await.unwrap();
        client.write_all(b"\0\0\0\x12\0\x03\0\0user\0ann\0\0").await.unwrap();
        client.read_exact(&mut [0; 9]).await.unwrap();
        client.write_all(&message(b'p', &token)).await.unwrap();
        client
    };
    let far = async {
        let (mut tcp, _) = http.rig.upstream.accept().await.unwrap();
        tcp.read_exact(&mut [0; 8]).await.unwrap();
        tcp.write_all(b"S").await.unwrap();
        let mut upstream = http.rig.acceptor.accept(tcp).await.unwrap();
        let length = upstream.read_u32().await.unwrap() as usize;
        upstream.read_exact(&mut vec![0; length - 4]).await.unwrap();
        upstream
    };
    let (mut client, mut upstream) = tokio::join!(near, far);
    let begun = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    pass(&mut upstream, &mut client, &begun).await;
    (http, client, upstream)
}
