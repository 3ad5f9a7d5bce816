//! Clients that come all at once while streams flow, as after a restart of whatever they lost their connections to.
//!
//! Each sends a ClientHello and goes no further. That costs the load next to nothing and the peer a flight with its key
//! exchange and signature, so that what the streams feel of it is the peer's doing and not the load's.

use super::Site;
use crate::options::Protocol;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// From one storm to the next.
const STORM_INTERVAL: Duration = Duration::from_millis(200);

/// Comes again and again until it is dropped.
pub(super) async fn blow(site: &Site, clients: u32, protocol: Protocol) {
    let hello = match site.door.hello(protocol) {
        Ok(hello) => hello,
        Err(error) => return site.meter.failed(error),
    };
    let at = site.door.at();
    let mut next = tokio::time::interval(STORM_INTERVAL);
    let mut before = Vec::new();
    loop {
        next.tick().await;
        let hello = hello.clone();
        // In a thread of its own: the streams' events are sent and read meanwhile.
        let come = tokio::task::spawn_blocking(move || gust(at, clients, &hello));
        match come.await.map_err(io::Error::other).flatten() {
            // Those of the storm before leave now.
            Ok(now) => drop(std::mem::replace(&mut before, now)),
            Err(error) => return site.meter.failed(error),
        }
    }
}

/// All connect, then all speak.
fn gust(at: SocketAddr, clients: u32, hello: &[u8]) -> io::Result<Vec<TcpStream>> {
    let mut come = (0..clients).map(|_| TcpStream::connect(at)).collect::<io::Result<Vec<_>>>()?;
    for client in &mut come {
        client.write_all(hello)?;
    }
    Ok(come)
}
