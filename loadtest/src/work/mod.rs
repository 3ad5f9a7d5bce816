//! The shapes of work. Each adds to the [`Meter`] as it goes; what fails is counted there and ends nothing else.

mod bulk;
mod connect;
mod requests;
mod soak;
mod storm;
mod stream;

use crate::client::Door;
use crate::meter::Meter;
use crate::options::Shape;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a run works on.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) door: Arc<Door>,
    pub(crate) meter: Arc<Meter>,
}

/// What stays open when the work is done, so that memory can be looked at.
pub(crate) type Held = Vec<crate::client::Connection>;

/// Does the work until it is done.
pub(crate) async fn run(shape: &Shape, site: Site) -> Held {
    match shape.clone() {
        Shape::Bulk { connections, record, records, way, protocol, verify } => {
            let work = bulk::Bulk { record, records, way, protocol, verify };
            all(connections, |n| work.clone().run(site.clone(), n)).await;
        }
        Shape::Stream { streams, rate, size, seconds, protocol, storm, .. } => {
            let work = stream::Streams { rate, size, seconds, protocol };
            let each = shape.streams_on_each();
            let connections = streams.div_ceil(each);
            site.meter.opening(streams);
            let flow = all(connections, |n| {
                work.clone().run(site.clone(), n, connections, each.min(streams - n as u32 * each))
            });
            match storm {
                0 => flow.await,
                clients => tokio::select! {
                    () = flow => {}
                    // Its fault is counted, and the streams go on.
                    () = async { storm::blow(&site, clients, protocol).await; std::future::pending().await } => {}
                },
            }
        }
        Shape::Requests { connections, in_flight, answer, seconds, protocol, .. } => {
            let work = requests::Requests { in_flight, answer, seconds, protocol };
            all(connections, |n| work.clone().run(site.clone(), n)).await;
        }
        Shape::Connect { count, protocol } => connect::in_turn(&site, count, protocol).await,
        Shape::Idle { connections, protocol } => return connect::hold(&site, connections, protocol).await,
        Shape::Soak { clients, seconds } => soak::run(&site, clients, seconds).await,
    }
    Held::new()
}

/// As many at once.
async fn all<F>(count: u32, work: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut set = JoinSet::new();
    for n in 0..count as usize {
        set.spawn(work(n));
    }
    while set.join_next().await.is_some() {}
}
