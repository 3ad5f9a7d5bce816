//! New connections: each is proved by an answer from the upstream.

use super::{Held, Site};
use crate::client::Connection;
use crate::options::Protocol;
use crate::order::{Kind, Order};
use std::io;
use std::time::Instant;

const SMALL: Order = Order { kind: Kind::Echo, size: 16, count: 1, gap_us: 0 };

async fn prove(site: &Site, n: usize, protocol: Protocol) -> io::Result<Connection> {
    let asked = Instant::now();
    let mut connection = site.door.open(n, protocol).await?;
    if let Connection::Raw(io) = &mut connection {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        io.write_all(&SMALL.head()).await?;
        io.write_all(b"x").await?;
        io.flush().await?;
        if io.read_u8().await? != b'x' {
            return Err(io::Error::other("the echoed byte arrived changed"));
        }
    } else {
        connection.ask(&site.door, &SMALL, n).await?.all().await?;
    }
    site.meter.latency(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
    site.meter.add(1);
    Ok(connection)
}

/// One after the other; each is closed before the next.
pub(super) async fn in_turn(site: &Site, count: u32, protocol: Protocol) {
    for n in 0..count as usize {
        if let Err(error) = prove(site, n, protocol).await {
            site.meter.failed(error);
        }
    }
}

/// Opens them and keeps them.
pub(super) async fn hold(site: &Site, connections: u32, protocol: Protocol) -> Held {
    let mut held = Held::new();
    for n in 0..connections as usize {
        match prove(site, n, protocol).await {
            Ok(connection) => held.push(connection),
            Err(error) => site.meter.failed(error),
        }
    }
    held
}
