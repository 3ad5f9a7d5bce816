//! Whole connections: both handshakes, one request with its answer, both ends closed.

use crate::common::{Http, Rig};
use crate::requests::{self, answer1, head_came, head1};
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
    // One more, so that both lengths have the same first connection before them: it asks the upstream for its protocol,
    // waits for the issuer's keys and checks the token's signature.
    for n in 0..=units {
        let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        one(&http.rig, config.clone(), &request, (n > 0).then_some(kind)).await;
    }
}

async fn one(rig: &Rig, config: Arc<rustls::ClientConfig>, request: &str, kind: Option<HandshakeKind>) {
    let client = async {
        let mut client = rig.connect(config).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let upstream = async {
        loop {
            let mut upstream = rig.accept().await;
            if head_came(&mut upstream).await {
                return upstream;
            }
        }
    };
    let (mut client, mut upstream) = tokio::join!(client, upstream);
    if kind.is_some() {
        assert_eq!(client.get_ref().1.handshake_kind(), kind, "the client leg");
        assert_eq!(upstream.get_ref().1.handshake_kind(), kind, "the upstream leg");
    }
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
