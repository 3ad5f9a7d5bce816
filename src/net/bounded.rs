//! A listener for a few short HTTP connections of this machine: the operator's, and the redirect of a login.
//!
//! Any program can open connections to a loopback port and say nothing. So each gets [`Bounds::head`] for a request, and
//! when all places are taken, a new connection takes the place of the oldest that is not being answered: the newest wins
//! over the silent.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time. Each costs a descriptor that streams could use.
    pub connections: usize,
    /// How long a request head may take, from the connection or from its first byte to our answer.
    pub head: Duration,
    /// How long a connection lives after the last byte that it took from us. That ends answers that are not read, and
    /// connections that are kept for nothing.
    pub silence: Duration,
}

/// A listener that keeps its bounds.
pub struct BoundedListener {
    listener: TcpListener,
    bounds: Bounds,
    places: Arc<Places>,
}

/// The connections that live.
#[derive(Default)]
struct Places {
    /// The oldest first.
    taken: Mutex<VecDeque<Arc<Mutex<Place>>>>,
    freed: Notify,
}

#[derive(Default)]
struct Place {
    /// A request is being answered: its bytes came, and the last one of the answer has not gone.
    is_answered: bool,
    is_evicted: bool,
    waker: Option<Waker>,
}

impl BoundedListener {
    /// Keeps these bounds on a listener.
    pub fn new(listener: TcpListener, bounds: Bounds) -> Self {
        BoundedListener { listener, bounds, places: Arc::default() }
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection. It waits only while every place is taken by one that is being answered.
    pub async fn accept(&mut self) -> (BoundedConnection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((tcp, address)) => {
                    let place = self.place().await;
                    let end = Box::pin(tokio::time::sleep(self.bounds.head));
                    let (bounds, places) = (self.bounds, self.places.clone());
                    return (BoundedConnection { tcp, bounds, end, is_idle: false, place, places }, address);
                }
                // Out of descriptors, or the client was gone already: neither is worth more than a pause.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn place(&self) -> Arc<Mutex<Place>> {
        loop {
            let freed = self.places.freed.notified();
            if let Some(place) = self.places.take(self.bounds.connections) {
                return place;
            }
            freed.await;
        }
    }
}

impl Places {
    fn take(&self, most: usize) -> Option<Arc<Mutex<Place>>> {
        let mut taken = self.taken.lock();
        if taken.len() >= most {
            let silent = taken.iter().position(|place| !place.lock().is_answered)?;
            let evicted = taken.remove(silent)?;
            let mut evicted = evicted.lock();
            evicted.is_evicted = true;
            evicted.waker.take().into_iter().for_each(Waker::wake);
        }
        let place = Arc::<Mutex<Place>>::default();
        taken.push_back(place.clone());
        Some(place)
    }
}

/// A connection that ends when it has been of no use for too long, or when another needs its place.
pub struct BoundedConnection {
    tcp: TcpStream,
    bounds: Bounds,
    end: Pin<Box<Sleep>>,
    /// An answer has gone, and nothing has come since.
    is_idle: bool,
    place: Arc<Mutex<Place>>,
    places: Arc<Places>,
}

impl BoundedConnection {
    /// What to return where the socket has nothing to say.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut place = self.place.lock();
        if place.is_evicted {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        place.waker = Some(cx.waker().clone());
        drop(place);
        ready!(self.end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for BoundedConnection {
    fn drop(&mut self) {
        self.places.taken.lock().retain(|place| !Arc::ptr_eq(place, &self.place));
        self.places.freed.notify_waiters();
    }
}

impl AsyncRead for BoundedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Bytes that trickle in are no use: the end stays where it is.
        if self.end.is_elapsed() || self.place.lock().is_evicted {
            return self.wait(cx);
        }
        match Pin::new(&mut self.tcp).poll_read(cx, buffer) {
            Poll::Pending => self.wait(cx),
            ready => {
                if std::mem::take(&mut self.is_idle) {
                    let head = Instant::now() + self.bounds.head;
                    self.end.as_mut().reset(head);
                }
                ready
            }
        }
    }
}

impl AsyncWrite for BoundedConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.tcp).poll_write(cx, data) {
            Poll::Pending => {
                self.place.lock().is_answered = true;
                self.wait(cx)
            }
            ready => {
                self.place.lock().is_answered = false;
                self.is_idle = true;
                let end = Instant::now() + self.bounds.silence;
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

/// How long accepting pauses when it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BOUNDS: Bounds =
        Bounds { connections: 4, head: Duration::from_millis(300), silence: Duration::from_secs(2) };

    /// Echoes whatever comes, on each connection.
    async fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut bounded = BoundedListener::new(listener, BOUNDS);
        let address = bounded.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = bounded.accept().await;
                tokio::spawn(async move {
                    let mut buffer = [0; 16];
                    while let Ok(n @ 1..) = connection.read(&mut buffer).await {
                        connection.write_all(&buffer[..n]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn asks(address: SocketAddr) -> TcpStream {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"x").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'x');
        tcp
    }

    #[tokio::test]
    async fn the_newest_is_served_at_once_however_many_are_silent() {
        let address = serve().await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let begin = Instant::now();
        asks(address).await;
        assert!(begin.elapsed() < BOUNDS.head, "it waited for a place");
        // The oldest went first, and all go when their time is up.
        for tcp in &mut silent {
            assert!(!matches!(tcp.read(&mut [0]).await, Ok(1..)));
        }
        assert!(begin.elapsed() < BOUNDS.head * 4);
    }

    #[tokio::test]
    async fn a_used_connection_lives_longer_than_a_head_may_take() {
        let address = serve().await;
        let mut tcp = asks(address).await;
        tokio::time::sleep(BOUNDS.head * 2).await;
        tcp.write_all(b"y").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'y');
    }
}
