//! Both ends and the peer between them, each of which can be hurt.

use super::Size;
use crate::client::{Connection, Door};
use crate::options::{Common, Peer, Protocol};
use crate::order::{Kind, Order};
use crate::peers::{self, Running};
use crate::pki::Pki;
use crate::{Outcome, account};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STAUNCH: (&str, &str) = ("staunch-faults.toml", include_str!("../../peers/staunch-faults.toml"));
/// How long a program of the run may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// One run.
pub(super) struct Bench {
    pub(super) size: Size,
    pub(super) peer: Peer,
    pub(super) door: Arc<Door>,
    pub(super) running: Running,
    /// Staunch's own listener.
    pub(super) admin: SocketAddr,
    pub(super) upstream: Child,
    pub(super) pki: Pki,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.upstream.kill();
        let _ = self.upstream.wait();
    }
}

impl Bench {
    /// `unread`: the peer's output is a pipe that nobody reads.
    pub(super) async fn start(common: &Common, peer: Peer, size: Size, unread: bool) -> Outcome<Bench> {
        let pki = Pki::new(common.secure.certificate)?;
        let far = peers::free()?;
        let upstream = Command::new(std::env::current_exe()?)
            .args(["upstream", "--listen", &far.to_string()])
            .arg("--chain")
            .arg(pki.file("chain.pem"))
            .arg("--key")
            .arg(pki.file("key.pem"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        while TcpStream::connect_timeout(&far, Duration::from_millis(200)).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err("the upstream did not come up".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let admin = peers::free()?;
        // A log that is stuck is to be full soon.
        let log_buffer = if unread { "64KiB" } else { "8MiB" };
        let more = [("admin", admin.to_string()), ("log_buffer", log_buffer.to_owned())];
        let running = match peer {
            Peer::Staunch if unread => peers::gateway_unread(common, &pki, STAUNCH, far, &more)?,
            Peer::Staunch => peers::gateway(common, &pki, STAUNCH, far, &more)?,
            _ => peers::start(peer, common, &pki, far)?,
        };
        let door = Arc::new(Door::to_peer(running.at, &pki, common, false, 16)?);
        Ok(Bench { size, peer, door, running, admin, upstream, pki })
    }

    pub(super) fn rss_kib(&self) -> io::Result<u64> {
        account::rss_kib(self.running.pid())
    }

    pub(super) fn descriptors(&self) -> io::Result<u64> {
        account::descriptors(self.running.pid())
    }

    /// Sends the peer a signal.
    pub(super) fn signal(&self, signal: rustix::process::Signal) -> Outcome<()> {
        let pid = i32::try_from(self.running.pid()).ok().and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(pid.ok_or("no such process")?, signal)?)
    }

    /// One request on a connection of its own, as somebody who may.
    pub(super) async fn request(&self, n: usize) -> io::Result<()> {
        request(&self.door, n).await
    }

    /// Opens a connection and asks for records or events on it.
    pub(super) async fn ask(&self, n: usize, order: &Order) -> io::Result<Connection> {
        let mut connection = self.door.open(n, Protocol::Raw).await?;
        if let Connection::Raw(io) = &mut connection {
            use tokio::io::AsyncWriteExt;
            io.write_all(&order.head()).await?;
            io.flush().await?;
        }
        Ok(connection)
    }
}

/// One small request on a connection of its own.
pub(super) async fn request(door: &Door, n: usize) -> io::Result<()> {
    const SMALL: Order = Order { kind: Kind::Down, size: 100, count: 1, gap_us: 0 };
    let mut connection = door.open(n, Protocol::Http1).await?;
    let body = connection.ask(door, &SMALL, n).await?.all().await?;
    match body.len() {
        100 => Ok(()),
        other => Err(io::Error::other(format!("{other} bytes of 100"))),
    }
}
