//! As many bytes as go.

use super::Site;
use crate::options::{Protocol, Way};
use crate::order::{Kind, Order, digest};
use std::io;

#[derive(Clone)]
pub(super) struct Bulk {
    pub(super) record: u32,
    pub(super) records: u32,
    pub(super) way: Way,
    pub(super) protocol: Protocol,
    pub(super) verify: bool,
}

impl Bulk {
    pub(super) async fn run(self, site: Site, n: usize) {
        let up = match self.way {
            Way::Down => false,
            Way::Up => true,
            Way::Both => n % 2 == 1,
        };
        let done = if up { self.up(&site, n).await } else { self.down(&site, n).await };
        if let Err(error) = done {
            site.meter.failed(error);
        }
    }

    async fn down(&self, site: &Site, n: usize) -> io::Result<()> {
        let order = Order { kind: Kind::Down, size: self.record, count: self.records, gap_us: 0 };
        let mut connection = site.door.open(n, self.protocol).await?;
        let mut body = connection.ask(&site.door, &order, n).await?;
        let mut context = self.verify.then(|| ring::digest::Context::new(&ring::digest::SHA256));
        let mut got = 0;
        while let Some(part) = body.next().await? {
            got += part.len() as u64;
            site.meter.add(part.len() as u64);
            if let Some(context) = &mut context {
                context.update(&part);
            }
        }
        if got != order.bytes() {
            return Err(io::Error::other(format!("{got} bytes arrived of {}", order.bytes())));
        }
        if context.is_some_and(|context| context.finish().as_ref() != digest(&order).as_ref()) {
            return Err(io::Error::other("what arrived is not what was sent: the digests differ"));
        }
        Ok(())
    }

    async fn up(&self, site: &Site, n: usize) -> io::Result<()> {
        let kind = if self.verify { Kind::UpHashed } else { Kind::Up };
        let order = Order { kind, size: self.record, count: self.records, gap_us: 0 };
        let mut connection = site.door.open(n, self.protocol).await?;
        connection.upload(&site.door, &order, n).await?;
        site.meter.add(order.bytes());
        Ok(())
    }
}
