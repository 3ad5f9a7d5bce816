//! The tour's own client: one HTTPS request per connection, the answer handed on as it arrives.

use super::server::Encryption;
use crate::tls::PostQuantum;
use crate::tls::client::{ClientSettings, client_config};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A client that trusts some authorities.
pub(super) struct Client {
    tls: tokio_rustls::TlsConnector,
    runtime: tokio::runtime::Runtime,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) challenge: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) encryption: Encryption,
}

impl Client {
    pub(super) fn new(roots: RootCertStore) -> Result<Client, String> {
        let settings = ClientSettings { roots, pin: None, certificate: None, pq: PostQuantum::Prefer };
        let mut config: ClientConfig =
            client_config(settings).map_err(|e| format!("the client's TLS: {e}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("the client's runtime: {e}"))?;
        Ok(Client { tls: Arc::new(config).into(), runtime })
    }

    /// Sends `request` to `name` at `address`, and gives each piece of the answer's body to `piece`.
    pub(super) fn send(
        &self,
        address: SocketAddr,
        name: &str,
        request: Request<Full<Bytes>>,
        piece: impl FnMut(&[u8]),
    ) -> Result<Reply, String> {
        self.within(self.exchange(address, name, request, piece))
    }

    /// Sends the same request again and again on one connection, a moment apart, until the connection ends.
    pub(super) fn keep_asking(
        &self,
        address: SocketAddr,
        name: &str,
        request: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<(), String> {
        self.runtime.block_on(async {
            let (mut sender, connection, _) = self.connect(address, name).await?;
            loop {
                let http = |e: hyper::Error| format!("HTTP with {address}: {e}");
                let mut body = sender.send_request(request()).await.map_err(http)?.into_body();
                while let Some(frame) = body.frame().await {
                    frame.map_err(http)?;
                }
                tokio::time::sleep(BETWEEN_REQUESTS).await;
                if connection.is_finished() {
                    return Ok(());
                }
            }
        })
    }

    async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> Result<(SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>, Encryption), String> {
        let tcp =
            TcpStream::connect(address).await.map_err(|e| format!("{address} cannot be reached: {e}"))?;
        let name = name.to_owned().try_into().map_err(|_| format!("'{name}' is not a server name"))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|e| format!("TLS with {address}: {e}"))?;
        let encryption = Encryption::of(tls.get_ref().1);
        let http = |e: hyper::Error| format!("HTTP with {address}: {e}");
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(http)?;
        Ok((sender, tokio::spawn(connection), encryption))
    }

    async fn exchange(
        &self,
        address: SocketAddr,
        name: &str,
        request: Request<Full<Bytes>>,
        mut piece: impl FnMut(&[u8]),
    ) -> Result<Reply, String> {
        let http = |e: hyper::Error| format!("HTTP with {address}: {e}");
        let (mut sender, connection, encryption) = self.connect(address, name).await?;
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        let challenge = response.headers().get(hyper::header::WWW_AUTHENTICATE);
        let challenge = challenge.map(|c| String::from_utf8_lossy(c.as_bytes()).into_owned());
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame.map_err(http)?.into_data() {
                piece(&data);
                body.extend_from_slice(&data);
            }
        }
        connection.abort();
        Ok(Reply { status, challenge, body, encryption })
    }

    /// Sends `text` without TLS and reads what comes back.
    pub(super) fn plaintext(&self, address: SocketAddr, text: &str) -> Result<String, String> {
        self.within(async {
            let io = |e| format!("{address}: {e}");
            let mut tcp = TcpStream::connect(address).await.map_err(io)?;
            tcp.write_all(text.as_bytes()).await.map_err(io)?;
            let mut answer = Vec::new();
            // A reset after the answer is as good an end as any.
            let read = tcp.take(PLAINTEXT as u64).read_to_end(&mut answer).await;
            match read {
                Err(e) if answer.is_empty() => Err(io(e)),
                _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
            }
        })
    }

    fn within<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        self.runtime.block_on(async {
            match tokio::time::timeout(STEP_TIMEOUT, work).await {
                Ok(result) => result,
                Err(_) => Err(format!("no end within {} s", STEP_TIMEOUT.as_secs())),
            }
        })
    }
}

/// Between two requests of the session that is there to be looked at.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(500);

/// Each step takes milliseconds; the streamed answer one or two seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// The refusal of a plaintext request is far shorter.
const PLAINTEXT: usize = 16 * 1024;
