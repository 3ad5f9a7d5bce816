//! A bounded listener over TLS: handshakes go on side by side, and take as long as a request head may.

use super::bounded::{BoundedConnection, BoundedListener};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections whose handshakes are complete.
pub struct TlsListener {
    connections: Receiver<(TlsStream<BoundedConnection>, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

impl TlsListener {
    /// Accepts on `listener` until this is dropped, each connection with what `config` returns then.
    pub fn new(
        mut listener: BoundedListener,
        config: impl Fn() -> Arc<ServerConfig> + Send + 'static,
    ) -> Self {
        let (sender, connections) = channel(1);
        let address = listener.local_addr();
        tokio::spawn(async move {
            while !sender.is_closed() {
                let (connection, peer) = listener.accept().await;
                let (sender, handshake) = (sender.clone(), TlsAcceptor::from(config()).accept(connection));
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                        // Nobody serves it any more.
                        let _ = sender.send((stream, peer)).await;
                    }
                });
            }
        });
        TlsListener { connections, address }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<BoundedConnection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The task that accepts ends with the runtime only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}
