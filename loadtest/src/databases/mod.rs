//! Databases: what a transaction costs in the gateway, and beside it in what people put before the same server.
//!
//! ```text
//!   postgres   pgbench -S          PgBouncer: session mode, TLS on both sides; HAProxy: mode tcp, which passes TLS through
//!   mysql      mariadb-slap        HAProxy: mode tcp, which passes TLS through
//!   redis      redis-benchmark     HAProxy: mode tcp, TLS on both sides; Envoy: its Redis filter, TLS on both sides
//! ```
//! PostgreSQL and MySQL ask for TLS in their own words, so that HAProxy can only copy what it cannot read: it has neither TLS nor
//! identity to pay for. Staunch has both.

mod mysql;
mod postgres;
mod redis;

use crate::compare::{Figure, Row, median};
use crate::options::Common;
use crate::peers::Running;
use crate::{Outcome, account};
use std::collections::BTreeMap;

/// The works that are databases, by name.
pub(crate) const DATABASES: [&str; 3] = ["postgres", "mysql", "redis"];
/// Connections of the client.
const CLIENTS: u32 = 8;
/// The way past everything.
const DIRECT: &str = "direct";

/// One way to the server.
struct Way {
    name: &'static str,
    running: Option<Running>,
    /// What the client needs to take it.
    client: Client,
}

/// A program that asks the server.
enum Client {
    Pgbench(postgres::Pgbench),
    Slap(mysql::Slap),
    Redis(redis::Benchmark),
}

/// What one run came to.
struct Done {
    transactions: f64,
    latency_us: f64,
}

/// The server, and all ways to it that could be started.
struct Ground {
    ways: Vec<Way>,
    missing: Vec<String>,
    /// What must live as long.
    _held: Vec<Box<dyn std::any::Any>>,
}

/// What was measured of one database.
pub(crate) struct Compared {
    pub(crate) rows: Vec<Row>,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) missing: Vec<String>,
}

/// Puts the same transactions through each way to a database in turn.
pub(crate) async fn compare(common: &Common, name: &str, rounds: u32, quick: bool) -> Outcome<Compared> {
    let seconds = if quick { 1 } else { 5 };
    let (what, ground) = match name {
        "postgres" => ("pgbench -S, simple protocol", postgres::ground(common).await?),
        "mysql" => ("mariadb-slap, select 1", mysql::ground(common).await?),
        _ => ("redis-benchmark, GET", redis::ground(common).await?),
    };
    let (mut costs, mut latencies) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for round in 0..rounds as usize {
        // The order turns with the rounds, so that nobody always runs behind the same one.
        for way in ground.ways.iter().cycle().skip(round % ground.ways.len()).take(ground.ways.len()) {
            let before = way.spent()?;
            let done = match &way.client {
                Client::Pgbench(pgbench) => pgbench.run(seconds).await,
                Client::Slap(slap) => slap.run(seconds).await,
                Client::Redis(benchmark) => benchmark.run(seconds).await,
            };
            let done = done.map_err(|error| format!("{}: {error}", way.name))?;
            if let (Some(before), Some(after)) = (before, way.spent()?) {
                costs.entry(way.name).or_default().push((after - before) / done.transactions);
            }
            latencies.entry(way.name).or_default().push(done.latency_us);
        }
    }
    let direct =
        latencies.remove(DIRECT).map(|mut all| median(&mut all)).ok_or("nothing was measured direct")?;
    for all in latencies.values_mut() {
        all.iter_mut().for_each(|latency| *latency -= direct);
    }
    let row = |kind: &str, unit: &str, figures: BTreeMap<&str, Vec<f64>>| Row {
        work: format!("{name}{kind}"),
        what: format!("{what}, {CLIENTS} connections"),
        unit: unit.into(),
        peers: figures.into_iter().map(|(name, all)| (name.to_owned(), figure(all))).collect(),
    };
    let rows = vec![row("", "µs/transaction", costs), row(" latency", "µs added to each", latencies)];
    let of = |way: &Way| Some((way.name.to_owned(), way.running.as_ref()?.version.clone()));
    Ok(Compared { rows, versions: ground.ways.iter().filter_map(of).collect(), missing: ground.missing })
}

impl Way {
    /// Microseconds of processor time so far.
    fn spent(&self) -> Outcome<Option<f64>> {
        let spent = self.running.as_ref().map(|running| account::cpu_ns(running.pid(), running.threads_end));
        Ok(spent.transpose()?.map(|ns| ns as f64 / 1e3))
    }
}

fn figure(mut all: Vec<f64>) -> Figure {
    let median = median(&mut all);
    let (least, most) = (all.first().copied().unwrap_or(median), all.last().copied().unwrap_or(median));
    Figure {
        median,
        rounds: all.len(),
        least,
        most,
        p50_us: None,
        p99_us: None,
        stolen_ms: 0,
        first_p50_us: None,
        yielding: None,
    }
}
