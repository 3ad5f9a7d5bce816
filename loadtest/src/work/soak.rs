//! A mix that comes and goes: requests, streams, bulk, slow readers, clients that vanish in the middle.

use super::Site;
use crate::options::Protocol;
use crate::order::{Kind, Order, Sizes};
use std::io;
use std::time::{Duration, Instant};

pub(super) async fn run(site: &Site, clients: u32, seconds: u32) {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    super::all(clients, |n| one(site.clone(), n, end)).await;
}

async fn one(site: Site, n: usize, end: Instant) {
    let mut dice = Sizes::new(0, n as u64);
    let mut round = n;
    while Instant::now() < end {
        round += 1;
        let protocol = [Protocol::Raw, Protocol::Http1, Protocol::Http2, Protocol::Grpc][round % 4];
        if let Err(error) = visit(&site, n, round, protocol, dice.next()).await {
            site.meter.failed(error);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        site.meter.add(1);
    }
}

async fn visit(site: &Site, n: usize, round: usize, protocol: Protocol, dice: usize) -> io::Result<()> {
    let mut connection = site.door.open(n, protocol).await?;
    let events = Order { kind: Kind::Events, size: 0, count: 30, gap_us: 20_000 };
    let bulk = Order { kind: Kind::Down, size: 16_384, count: 64, gap_us: 0 };
    match round / 4 % 5 {
        // Events to their end.
        0 => _ = connection.ask(&site.door, &events, n).await?.all().await?,
        // Bulk, at once.
        1 => _ = connection.ask(&site.door, &bulk, n).await?.all().await?,
        // Bulk to a slow reader.
        2 => {
            let mut body = connection.ask(&site.door, &bulk, n).await?;
            while body.next().await?.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // A client that vanishes in the middle of its events.
        3 => {
            let mut body = connection.ask(&site.door, &events, n).await?;
            for _ in 0..1 + dice % 7 {
                body.next().await?;
            }
        }
        // An upload.
        _ => connection.upload(&site.door, &Order { kind: Kind::UpHashed, ..bulk }, n).await?,
    }
    Ok(())
}
