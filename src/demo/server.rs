//! A small HTTPS server on loopback, for the demo's issuer and upstream: one thread, HTTP/1.1.

use super::ca::Leaf;
use crate::tls::server::{ClientCertificates, ServerIdentity, ServerSettings, ServerVariants, server_config};
use crate::tls::{PostQuantum, group_name};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// How a TLS connection turned out, as one of its ends sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The key exchange group.
    pub group: String,
}

impl Encryption {
    /// Reads it off a connection.
    pub(super) fn of(connection: &rustls::CommonState) -> Self {
        let show = |name: Option<String>| name.unwrap_or_else(|| "none".into());
        let version = connection.protocol_version().map(|v| match v {
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3".into(),
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2".into(),
            other => format!("{other:?}"),
        });
        let cipher = connection.negotiated_cipher_suite().map(|c| {
            let name = format!("{:?}", c.suite());
            name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
        });
        let group = connection.negotiated_key_exchange_group().map(|g| group_name(g.name()).into());
        Encryption { version: show(version), cipher: show(cipher), group: show(group) }
    }
}

/// Answers one request whose body was read.
pub(super) trait Handler: Send + Sync + 'static {
    fn answer(&self, encryption: &Encryption, request: Request<Bytes>) -> Response<Answer>;
}

/// A body that is there at once, or comes in pieces with pauses between.
pub(super) struct Answer {
    pieces: VecDeque<Bytes>,
    pause: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Answer {
    pub(super) fn whole(body: impl Into<Bytes>) -> Self {
        Answer { pieces: [body.into()].into(), pause: Duration::ZERO, waiting: None }
    }

    pub(super) fn paced(pieces: impl IntoIterator<Item = Bytes>, pause: Duration) -> Self {
        Answer { pieces: pieces.into_iter().collect(), pause, waiting: None }
    }

    pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Answer> {
        let mut response = Response::new(Answer::whole(body.to_string()));
        *response.status_mut() = status;
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        let piece = self.pieces.pop_front();
        if !self.pause.is_zero() && !self.pieces.is_empty() {
            self.waiting = Some(Box::pin(tokio::time::sleep(self.pause)));
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pause.is_zero() {
            SizeHint::with_exact(self.pieces.iter().map(|p| p.len() as u64).sum())
        } else {
            SizeHint::default()
        }
    }
}

/// A running server; it ends when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// Dropped first: the thread sees it and ends.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A loopback socket with a port of its own, so that addresses can be told before anything runs.
pub(super) fn bind() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

impl Server {
    pub(super) fn start(
        name: &str,
        listener: TcpListener,
        leaf: Leaf,
        handler: Arc<dyn Handler>,
    ) -> Result<Server, String> {
        let tls = server_config(ServerSettings {
            identity: ServerIdentity::Fixed { chain: vec![leaf.certificate], key: leaf.key },
            pq: PostQuantum::Prefer,
            client_certificates: ClientCertificates::None,
            client_ca: Vec::new(),
            client_crl: Vec::new(),
            expired_crl: Default::default(),
        })
        .map_err(|e| format!("the {name}'s TLS: {e}"))?;
        let tls = ServerVariants::new(tls, Box::new(|| None)).offering(Some(b"http/1.1"));
        let address = listener.local_addr().map_err(|e| format!("the {name}'s socket: {e}"))?;
        listener.set_nonblocking(true).map_err(|e| format!("the {name}'s socket: {e}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("the {name}'s runtime: {e}"))?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, TlsAcceptor::from(tls), handler) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(|e| format!("the {name}'s thread: {e}"))?;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, handler: Arc<dyn Handler>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Small events must leave at once, or the paced answer comes in lumps.
        let _ = tcp.set_nodelay(true);
        let (tls, handler) = (tls.clone(), handler.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else { return };
            let encryption = Encryption::of(stream.get_ref().1);
            let service = service_fn(|request| respond(&encryption, &*handler, request));
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    encryption: &Encryption,
    handler: &dyn Handler,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    Ok(match Limited::new(body, BODY).collect().await {
        Ok(body) => handler.answer(encryption, Request::from_parts(head, body.to_bytes())),
        Err(_) => Answer::json(StatusCode::BAD_REQUEST, &serde_json::json!({"error": "unreadable body"})),
    })
}

/// A request's body: more than a long conversation.
const BODY: usize = 1 << 20;

/// For a client on the same machine.
const HANDSHAKE: Duration = Duration::from_secs(10);
