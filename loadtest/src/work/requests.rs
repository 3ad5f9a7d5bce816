//! Small requests, one after the other on connections that stay.

use super::Site;
use crate::client::Connection;
use crate::options::Protocol;
use crate::order::{Kind, Order};
use std::io;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Clone)]
pub(super) struct Requests {
    pub(super) in_flight: u32,
    pub(super) answer: u32,
    pub(super) seconds: u32,
    pub(super) protocol: Protocol,
}

impl Requests {
    /// One connection with its requests.
    pub(super) async fn run(self, site: Site, n: usize) {
        let end = Instant::now() + Duration::from_secs(self.seconds.into());
        let connection = match site.door.open(n, self.protocol).await {
            Ok(connection) => connection,
            Err(error) => return site.meter.failed(error),
        };
        let mut set = JoinSet::new();
        let mut own = Some(connection);
        for s in 0..self.in_flight {
            // A connection that cannot be shared has one request at a time.
            let Some(connection) = own.as_ref().and_then(Connection::share).or_else(|| own.take()) else {
                break;
            };
            let (this, site) = (self.clone(), site.clone());
            set.spawn(async move {
                if let Err(error) = this.one_by_one(connection, &site, n + 7 * s as usize, end).await {
                    site.meter.failed(error);
                }
            });
        }
        while set.join_next().await.is_some() {}
    }

    async fn one_by_one(
        &self,
        mut connection: Connection,
        site: &Site,
        n: usize,
        end: Instant,
    ) -> io::Result<()> {
        let order = Order { kind: Kind::Down, size: self.answer, count: 1, gap_us: 0 };
        let mut who = n;
        while Instant::now() < end {
            let asked = Instant::now();
            let body = connection.ask(&site.door, &order, who).await?;
            let got = body.all().await?.len() as u64;
            if site.door.orders() && got != order.bytes() {
                return Err(io::Error::other(format!("{got} bytes arrived of {}", order.bytes())));
            }
            site.meter.latency(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
            site.meter.add(1);
            who += 1;
        }
        Ok(())
    }
}
