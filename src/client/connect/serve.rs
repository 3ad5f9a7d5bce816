//! One route's connections: each gets a tunnel of its own when it has something to say.

use super::http_guard::HttpGuard;
use super::peer;
use super::place::{Local, Place, Stream};
use super::tunnel::{Gateway, NotOpened, Opened};
use super::usage::{self, ExposedRoute};
use crate::client::terminal::say;
use crate::protocol::mysql;
use crate::protocol::postgres::{self, Opening};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// What the connections of one place have in common.
pub(super) struct LocalListener {
    pub(super) gateway: Rc<Gateway>,
    pub(super) offer: Rc<ExposedRoute>,
    /// Prints how the route is used, when it turns out what it speaks.
    pub(super) announces: bool,
    pub(super) verbose: bool,
    /// Lets programs of other users of this machine connect.
    pub(super) any_user: bool,
    /// For HTTP on a port; browsers do not reach Unix sockets.
    pub(super) guard: Option<Rc<HttpGuard>>,
}

/// Connections of one route at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// What is copied at once, each way.
const BUFFER: usize = 64 * 1024;
/// A program that says nothing for so long waits for the server to begin.
const SERVER_FIRST_DELAY: Duration = Duration::from_millis(100);
/// How long a gateway that is away is waited for, and the pauses between tries.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Serves a place until `closed` is, and then until its connections are over.
pub(super) async fn serve(place: Place, door: Rc<LocalListener>, mut closed: watch::Receiver<()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(seat) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = place.accept() => accepted,
            _ = closed.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let door = door.clone();
        match accepted {
            Ok(Local::Tcp(local)) => {
                if let Err(why) = door.admit(&local) {
                    say(&format!("staunch: {}: {why}", door.offer.route));
                    local.reset();
                    continue;
                }
                drop(connections.spawn_local(async move { door.pass(local, seat).await }))
            }
            Ok(Local::Unix(local)) => {
                drop(connections.spawn_local(async move { door.pass(local, seat).await }))
            }
            Err(error) => {
                say(&format!("staunch: {}: accept: {error}", door.offer.route));
                sleep(MIN_RECONNECT_PAUSE).await;
            }
        }
    }
    drop(place);
    while connections.join_next().await.is_some() {}
}

/// How a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum End {
    /// There was no tunnel.
    #[error("{0}")]
    NotOpened(NotOpened),
    /// One side broke off.
    #[error("broke off: {0}")]
    Broken(#[from] io::Error),
}

impl LocalListener {
    fn admit(&self, local: &TcpStream) -> Result<(), String> {
        match self.any_user {
            true => Ok(()),
            false => peer::check(local),
        }
    }

    /// One connection from its first byte to its end.
    async fn pass(&self, mut local: impl Stream, _seat: OwnedSemaphorePermit) {
        let started = Instant::now();
        match self.relay(&mut local).await {
            Ok((up, down)) => {
                let took = started.elapsed().as_secs_f64();
                self.note(|| format!("ended after {took:.1} s, {up} bytes up, {down} down"));
            }
            Err(End::NotOpened(why)) => {
                say(&format!("staunch: {}: {}: {why}", self.offer.route, self.gateway.shown()))
            }
            Err(end) => {
                self.note(|| end.to_string());
                local.reset();
            }
        }
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            say(&format!("staunch: {}: {}", self.offer.route, text()));
        }
    }

    async fn relay(&self, local: &mut impl Stream) -> Result<(u64, u64), End> {
        let mut early = vec![0; BUFFER / 16];
        let read = match self.is_client_first() {
            true => Some(local.read(&mut early).await?),
            false => timeout(SERVER_FIRST_DELAY, local.read(&mut early)).await.ok().transpose()?,
        };
        early.truncate(read.unwrap_or(0));
        if read == Some(0) {
            return Ok((0, 0));
        }
        let mut tls = match self.open().await {
            Ok(Opened { tls, protocol }) => {
                self.learn(protocol);
                tls
            }
            Err(why) => {
                // A program that does not wait to read it is told by the end.
                let _ = timeout(MAX_RECONNECT_PAUSE, self.send_route_error(local, &early, &why.to_string()))
                    .await;
                return Err(End::NotOpened(why));
            }
        };
        self.note(|| "opened".into());
        if let (Some(guard), Some("http")) = (&self.guard, self.offer.protocol()) {
            let route = &self.offer.route;
            let tell = |what: &str| say(&format!("staunch: {route}: {what}"));
            return Ok(guard.relay(local, &mut tls, &early, tell).await?);
        }
        tls.write_all(&early).await?;
        tls.flush().await?;
        let (up, down) = copy_bidirectional_with_sizes(local, &mut tls, BUFFER, BUFFER).await?;
        Ok((up + early.len() as u64, down))
    }

    /// True where a client begins, so that a connection without a word can be left alone.
    fn is_client_first(&self) -> bool {
        matches!(self.offer.protocol(), Some("http" | "postgres" | "redis"))
    }

    /// The gateway may have been away when it was asked first.
    fn learn(&self, protocol: Option<String>) {
        let learned = protocol.is_some_and(|protocol| self.offer.learn(protocol));
        if learned
            && self.announces
            && let Err(fault) = usage::print([&*self.offer])
        {
            say(&format!("staunch: {fault}"));
        }
    }

    /// Opens a tunnel; waits for a gateway that is away.
    async fn open(&self) -> Result<Opened, NotOpened> {
        let (since, mut pause) = (Instant::now(), MIN_RECONNECT_PAUSE);
        loop {
            match self.gateway.open(&self.offer.route).await {
                Err(NotOpened::Away(why)) if since.elapsed() + pause < RECONNECT_TIMEOUT => {
                    self.note(|| format!("the gateway is away: {why}"));
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_RECONNECT_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    /// Tells the program why there is nothing, in the route's own protocol.
    async fn send_route_error(&self, local: &mut impl Stream, early: &[u8], why: &str) -> io::Result<()> {
        let text = format!("staunch connect, route {}: {why}", self.offer.route);
        match self.offer.protocol() {
            Some("http") if !early.starts_with(b"PRI ") => {
                let body =
                    serde_json::json!({ "error": { "code": "not_connected", "message": text } }).to_string();
                let head =
                    "HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\nconnection: close\r\n";
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                local.write_all(answer.as_bytes()).await?;
            }
            Some("postgres") => {
                let (mut asked, mut packet) = (early.to_vec(), [0; 512]);
                // libpq shows nothing of what is said in answer to these.
                for _ in 0..2 {
                    let asks = postgres::opening(&asked);
                    if !matches!(asks, Ok(Some((Opening::SslRequest | Opening::GssEncRequest, _)))) {
                        break;
                    }
                    local.write_all(&[postgres::TLS_REFUSED]).await?;
                    let read = local.read(&mut packet).await?;
                    asked = packet[..read].to_vec();
                }
                local.write_all(&postgres::fatal(postgres::sqlstate::CONNECTION_FAILURE, &text, "")).await?;
            }
            Some("mysql") => local.write_all(&mysql::err_for_greeting(mysql::error::UPSTREAM, &text)).await?,
            Some("redis") => {
                local.write_all(format!("-ERR {}\r\n", text.replace(['\r', '\n'], " ")).as_bytes()).await?
            }
            _ => {}
        }
        local.shutdown().await
    }
}
