//! How many connections of operators there may be, and for how long one may be of no use.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// What the operator's listener allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time; more wait in the kernel's queue. Each costs a descriptor that streams could use.
    pub(super) connections: usize,
    /// How long a connection lives after it was accepted or after the last byte that it took from us. That ends requests
    /// that never become whole, answers that are not read, and connections that are kept for nothing.
    pub(super) silence: Duration,
}

/// Two scrapers, a few probes and somebody who looks.
pub(super) const BOUNDS: Bounds = Bounds { connections: 64, silence: Duration::from_secs(10) };

/// A listener that keeps its bounds.
pub(super) struct Bounded {
    listener: TcpListener,
    bounds: Bounds,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Bounded { listener, bounds, places: Arc::new(Semaphore::new(bounds.connections)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // `Err` only for a semaphore that was closed, which nobody does; there is no limit then.
        let place = self.places.clone().acquire_owned().await.ok();
        let (tcp, address) = Listener::accept(&mut self.listener).await;
        let silence = self.bounds.silence;
        let end = Box::pin(tokio::time::sleep(silence));
        (Connection { tcp, silence, end, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it has been of no use for too long.
pub(super) struct Connection {
    tcp: TcpStream,
    silence: Duration,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// What to return where the socket has nothing to say.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Bytes that trickle in are no use: the end stays where it is.
        if self.end.is_elapsed() {
            return self.wait(cx);
        }
        match Pin::new(&mut self.tcp).poll_read(cx, buffer) {
            Poll::Pending => self.wait(cx),
            ready => ready,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.tcp).poll_write(cx, data) {
            Poll::Pending => self.wait(cx),
            ready => {
                let end = Instant::now() + self.silence;
                self.end.as_mut().reset(end);
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
