//! Sockets of upstream legs, and the time that there is to open one.

use super::fault::DialFault;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use crate::tls::leg::USER_TIMEOUT;
/// Idle time before the kernel asks whether the peer is still there, four times as often afterwards. With [`USER_TIMEOUT`] a
/// peer that is gone while nothing is under way is given up after at most 80 s.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// When an upstream leg must be open, whatever steps that takes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectDeadline {
    pub(super) at: Instant,
    pub(super) limit: Duration,
}

impl ConnectDeadline {
    /// `limit` from now.
    pub fn new(limit: Duration) -> Self {
        ConnectDeadline { at: Instant::now() + limit, limit }
    }

    /// `limit` from now, of which `spent` is gone already.
    pub fn with_spent(limit: Duration, spent: Duration) -> Self {
        ConnectDeadline { at: Instant::now() + limit.saturating_sub(spent), limit }
    }

    /// The time that one of `steps` equal steps may take.
    pub(super) fn share(&self, steps: usize) -> Duration {
        self.at.saturating_duration_since(Instant::now()) / u32::try_from(steps.max(1)).unwrap_or(u32::MAX)
    }
}

pub(super) async fn connect_to(address: SocketAddr) -> Result<TcpStream, DialFault> {
    let connect = |error| DialFault::Connect(address, error);
    let tcp = TcpStream::connect(address).await.map_err(connect)?;
    set_options(&tcp).map_err(connect)?;
    Ok(tcp)
}

/// Sets the socket options of the data path.
pub fn set_options(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))
}
