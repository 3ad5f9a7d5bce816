//! Paced events, open loop: an event's latency counts from the moment at which it was meant to be sent.

use super::Site;
use crate::client::Connection;
use crate::options::Protocol;
use crate::order::{Events, Kind, Order, now_ns};
use std::io;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Clone)]
pub(super) struct Streams {
    pub(super) rate: u32,
    pub(super) size: u32,
    pub(super) seconds: u32,
    pub(super) protocol: Protocol,
}

/// [`AT_ONCE`] connections open spread over this time, so that their events do not come in step.
const SPREAD: Duration = Duration::from_millis(500);
const AT_ONCE: u32 = 400;
/// Those beyond open at this rate per second, so that no handshake waits until its deadline on a slow core.
const OPENS_PER_SECOND: u32 = 100;

impl Streams {
    /// One connection of `connections`, with its streams.
    pub(super) async fn run(self, site: Site, n: usize, connections: u32, streams: u32) {
        let spread = SPREAD + Duration::from_secs(1) * connections.saturating_sub(AT_ONCE) / OPENS_PER_SECOND;
        tokio::time::sleep(spread.mul_f64((n as f64 * 0.618_034).fract())).await;
        let connection = match site.door.open(n, self.protocol).await {
            Ok(connection) => connection,
            Err(error) => return site.meter.failed(error),
        };
        let mut set = JoinSet::new();
        let mut own = Some(connection);
        for s in 0..streams {
            let Some(connection) = own.as_ref().and_then(Connection::share).or_else(|| own.take()) else {
                break;
            };
            let (this, site) = (self.clone(), site.clone());
            set.spawn(async move {
                if let Err(error) = this.one(connection, &site, n * streams as usize + s as usize).await {
                    site.meter.failed(error);
                }
            });
        }
        while set.join_next().await.is_some() {}
    }

    async fn one(&self, mut connection: Connection, site: &Site, who: usize) -> io::Result<()> {
        let gap_us = 1_000_000 / self.rate;
        let count = self.rate * self.seconds;
        let order = Order { kind: Kind::Events, size: self.size, count, gap_us };
        let (asked, style) = (Instant::now(), connection.style());
        let mut body = connection.ask(&site.door, &order, who).await?;
        let (mut events, mut seen) = (Events::new(style), 0);
        while let Some(part) = body.next().await? {
            events.push(&part);
            while let Some(stamp) = events.next() {
                if seen == 0 {
                    site.meter.opened();
                    site.meter.first(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
                seen += 1;
                site.meter.add(1);
                if let Some(intended) = stamp {
                    site.meter.latency(now_ns().saturating_sub(intended));
                }
            }
        }
        if site.door.orders() && seen != count {
            return Err(io::Error::other(format!("{seen} events arrived of {count}")));
        }
        Ok(())
    }
}
