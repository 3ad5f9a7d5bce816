//! Whole connections: both handshakes, one request with its answer, both ends closed.

use crate::common::{Http, Rig};
use crate::requests::{self, answer1, head1, read_head};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// Connections one after the other; with `resumed`, all but the first resume on both legs.
pub(crate) async fn connections(resumed: bool, units: u32) {
    let mut http = Http::start(requests::wish("http/1.1")).await;
    let mut config = (*http.rig.client).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resumed {
        config.resumption = Resumption::disabled();
        let mut server = (**http.rig.acceptor.config()).clone();
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        http.rig.acceptor = TlsAcceptor::from(Arc::new(server));
    }
    let config = Arc::new(config);
    let request = head1(&http.token(3_600), 0);
    // One more, so that both lengths have the same full handshake, key fetch and token check before them.
    for n in 0..=units {
        let kind = if resumed && n > 0 { HandshakeKind::Resumed } else { HandshakeKind::Full };
        one(&http.rig, config.clone(), &request, kind).await;
    }
}

async fn one(rig: &Rig, config: Arc<rustls::ClientConfig>, request: &str, kind: HandshakeKind) {
    let client = async {
        let mut client = rig.connect(config).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client
    };
    let upstream = async {
        let mut upstream = rig.accept().await;
        let head = read_head(&mut upstream).await;
        assert!(head.contains("Bearer stored-key\r\n"), "{head}");
        upstream
    };
    let (mut client, mut upstream) = tokio::join!(client, upstream);
    assert_eq!(client.get_ref().1.handshake_kind(), Some(kind), "the client leg");
    assert_eq!(upstream.get_ref().1.handshake_kind(), Some(kind), "the upstream leg");
    let answer = answer1();
    upstream.write_all(&answer).await.unwrap();
    upstream.flush().await.unwrap();
    let mut answered = vec![0; answer.len()];
    client.read_exact(&mut answered).await.unwrap();
    assert_eq!(answered, answer);
    client.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0; 64]).await.unwrap(), 0, "nothing follows the request");
    upstream.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0, "nothing follows the answer");
}
