//! Faults of TLS before the first byte of an application: each gets its alert, and the alert arrives.

mod common;

use common::{Http, NAME, Rig, TLS12, TLS13, Version, Wish};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(10);

/// The alert that ends a connection.
async fn alert(client: &mut TlsStream<TcpStream>) -> Option<AlertDescription> {
    let mut rest = Vec::new();
    let error = timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().err()?;
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn wish(client: Version) -> Wish {
    Wish { client, ..Wish::default() }
}

/// One client of each kind of traffic that reads before there is a permit.
async fn clients(version: Version) -> Vec<(&'static str, Http, TlsStream<TcpStream>)> {
    let mut all = Vec::new();
    let http = Http::start(wish(version)).await;
    let client = http.rig.connect(http.rig.client.clone()).await.unwrap();
    all.push(("http", http, client));
    let tunnel = Http::raw(wish(version)).await;
    let client = tunnel.rig.connect_to(common::TUNNEL, tunnel.rig.client.clone()).await.unwrap();
    all.push(("tunnel", tunnel, client));
    let redis = Http::redis(wish(version)).await;
    let client = redis.rig.connect(redis.rig.client.clone()).await.unwrap();
    all.push(("redis", redis, client));
    all
}

#[tokio::test]
async fn a_broken_record_before_the_first_byte_gets_its_alert_on_every_route() {
    let kinds: [(&str, Vec<u8>, AlertDescription); 4] = [
        ("does not verify", [&[23, 3, 3, 0, 40][..], &[7; 40]].concat(), AlertDescription::BadRecordMac),
        ("too long", vec![23, 3, 3, 0xff, 0xff, 0], AlertDescription::RecordOverflow),
        ("no such type", vec![99, 3, 3, 0, 1, 0], AlertDescription::UnexpectedMessage),
        ("no such version", vec![23, 9, 9, 0, 1, 0], AlertDescription::UnexpectedMessage),
    ];
    for version in [TLS12, TLS13] {
        for (kind, record, expected) in &kinds {
            for (route, _http, mut client) in clients(version).await {
                // What follows is unread when the gateway gives up.
                let junk = [&record[..], &[0; 50_000]].concat();
                client.get_mut().0.write_all(&junk).await.unwrap();
                let got = alert(&mut client).await;
                assert_eq!(got, Some(*expected), "{kind} on {route}, {version:?}");
            }
        }
    }
}

/// Shakes hands, with `behind` in one write with the last flight; returns the alert that ends the connection.
async fn alert_for(
    rig: &Rig,
    name: &'static str,
    version: Version,
    behind: &[u8],
) -> Option<AlertDescription> {
    let name = ServerName::try_from(name).unwrap();
    let mut tls = rustls::ClientConnection::new(rig.client.clone(), name).unwrap();
    let mut tcp = TcpStream::connect(rig.gateway).await.unwrap();
    let (mut flights, mut sent) = (0, false);
    loop {
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight).unwrap();
        }
        flights += usize::from(!flight.is_empty());
        let is_last = if version == TLS12 { flights == 2 } else { !tls.is_handshaking() };
        if is_last && !std::mem::replace(&mut sent, true) {
            flight.extend_from_slice(behind);
        }
        tcp.write_all(&flight).await.unwrap();
        let mut bytes = Vec::new();
        if timeout(SOON, tcp.read_buf(&mut bytes)).await.unwrap().ok()? == 0 {
            return None;
        }
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            tls.read_tls(&mut unread).unwrap();
            match tls.process_new_packets() {
                Ok(_) => {}
                Err(Error::AlertReceived(alert)) => return Some(alert),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_broken_record_in_one_segment_with_the_last_flight_gets_the_same_alert() {
    let kinds: [(&str, &[u8], AlertDescription); 8] = [
        (
            "does not verify",
            &[23, 3, 3, 0, 24, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
            AlertDescription::BadRecordMac,
        ),
        ("too short for a tag", &[23, 3, 3, 0, 1, 0], AlertDescription::BadRecordMac),
        ("too long", &[23, 3, 3, 0xff, 0xff, 0], AlertDescription::RecordOverflow),
        ("a byte too long", &[23, 3, 3, 0x48, 0x01, 0], AlertDescription::RecordOverflow),
        ("no such type", &[99, 3, 3, 0, 1, 0], AlertDescription::UnexpectedMessage),
        ("type 0", &[0, 3, 3, 0, 1, 0], AlertDescription::UnexpectedMessage),
        ("no such version", &[23, 9, 9, 0, 1, 0], AlertDescription::UnexpectedMessage),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", AlertDescription::UnexpectedMessage),
    ];
    for version in [TLS12, TLS13] {
        for (route, http, client) in clients(version).await {
            drop(client);
            let name = if route == "tunnel" { common::TUNNEL } else { NAME };
            for (kind, record, expected) in kinds {
                let got = alert_for(&http.rig, name, version, record).await;
                assert_eq!(got, Some(expected), "{kind} on {route}, {version:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_alert_for_a_missing_certificate_reaches_a_client_that_sends_already() {
    let rig = Rig::raw(Wish::default()).await;
    let config = ClientConfig::builder_with_provider(common::provider())
        .with_protocol_versions(&[TLS13])
        .unwrap()
        .with_root_certificates(rig.authority.roots())
        .with_no_client_auth();
    let config = Arc::new(config);
    for _ in 0..25 {
        // A client of TLS 1.3 has finished before its certificate is asked after.
        let mut client = rig.connect(config.clone()).await.unwrap();
        let mut sent = Ok(());
        for _ in 0..20 {
            sent = client.write_all(&[7; 5_000]).await;
            if sent.is_err() {
                break;
            }
        }
        assert!(sent.is_ok() || sent.is_err_and(|error| error.kind() == ErrorKind::InvalidData));
        assert_eq!(alert(&mut client).await, Some(AlertDescription::CertificateRequired));
    }
}

#[tokio::test]
async fn a_client_hello_of_many_records_completes_however_it_is_cut() {
    let http = Http::start(Wish::default()).await;
    for (size, cut) in [(10_000, 1_000), (17_000, 1_000), (19_000, 100_000), (30_000, 700), (60_000, 16_384)]
    {
        let mut config = (*http.rig.client).clone();
        config.alpn_protocols = (0..size / 200).map(|n| format!("{n:0199}").into_bytes()).collect();
        config.alpn_protocols.push(b"http/1.1".to_vec());
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut hello).unwrap();
        }
        assert!(hello.len() > size);
        let mut tcp = TcpStream::connect(http.rig.gateway).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for piece in hello.chunks(cut) {
            tcp.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = [0; 3];
        timeout(SOON, tcp.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [22, 3, 3], "a ServerHello for a hello of {} bytes", hello.len());
    }
}

#[tokio::test]
async fn a_hello_of_ssl_2_is_closed_in_silence_and_counted() {
    let rig = Rig::raw(Wish::default()).await;
    let mut tcp = TcpStream::connect(rig.gateway).await.unwrap();
    tcp.write_all(&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, tcp.read_to_end(&mut answer)).await.unwrap().unwrap_or_default();
    assert!(answer.is_empty(), "{answer:?}");
    while rig.workers.sessions() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let text = staunch::metrics::render(&rig.workers.metrics, &Default::default());
    assert!(text.contains("staunch_not_tls_total{kind=\"old_tls\"} 1\n"), "{text}");
}

/// A body that nobody takes: the client sends all of it before it reads.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_its_whole_body_first() {
    for (size, times) in [(1 << 20, 20), (20 << 20, 5)] {
        let http = Http::start(Wish { upstream_alpn: vec!["http/1.1"], ..Wish::default() }).await;
        let asked = async {
            loop {
                drop(http.rig.accept().await);
            }
        };
        let uploads = async {
            for _ in 0..times {
                let mut client = http.connect("http/1.1").await;
                let head = format!(
                    "POST / HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer a.b.c\r\ncontent-length: {size}\r\n\r\n"
                );
                client.write_all(head.as_bytes()).await.unwrap();
                let block = vec![b'x'; 64 * 1024];
                for _ in 0..size / block.len() {
                    client.write_all(&block).await.expect("nobody resets an upload that was refused");
                }
                client.flush().await.unwrap();
                let mut answer = vec![0; 12];
                timeout(SOON, client.read_exact(&mut answer)).await.unwrap().unwrap();
                assert_eq!(answer, b"HTTP/1.1 401");
            }
        };
        tokio::select! {
            () = asked => {}
            () = uploads => {}
        }
    }
}
