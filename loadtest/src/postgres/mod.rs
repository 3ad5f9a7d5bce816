//! `postgres`: pgbench through the gateway and direct, and bulk COPY on a PostgreSQL route held against the same COPY on a
//! raw route of the same gateway, with the same records.
//!
//! ```text
//!   pgbench ─▶ route postgres ─▶ PostgreSQL       pgbench ─▶ PostgreSQL
//!   copy    ─▶ route copy ─▶ forwarder ─▶ PostgreSQL       copy    ─▶ route raw ─▶ forwarder ─▶ PostgreSQL
//! ```
//!
//! On both routes the gateway speaks TLS with the server itself. A forwarder stands in the way of both, since bytes that it
//! has copied arrive in larger pieces than the server sends; that of the raw route asks the server for TLS first.

pub(crate) mod bench;
mod copy;
pub(crate) mod server;

use crate::compare::{machine, median, short};
use crate::options::{Common, Postgres};
use crate::peers::{self, Running};
use crate::pki::{COPY, COPY_LOGGED, LOGGED, POSTGRES, Pki, RAW};
use crate::{INTERRUPTED, Outcome, account};
use bench::{Way, bench};
use copy::{Direction, Entry};
use serde::Serialize;
use server::{OPEN, Server};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio::net::TcpListener;

/// Everything that was measured.
#[derive(Serialize)]
struct Results {
    machine: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    rounds: u32,
    rows: Vec<Row>,
}

/// One kind of figure, on each way.
#[derive(Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    /// The way that the others are held against.
    against: &'static str,
    /// `direct`, `raw`, `staunch`, `staunch-logged` → one figure for each round.
    figures: BTreeMap<&'static str, Vec<f64>>,
}

const DIRECT: &str = "direct";
const THROUGH: &str = "staunch";
const WITH_LINES: &str = "staunch-logged";
const AS_BYTES: &str = "raw";

/// What a run goes through.
struct Ground {
    pgbench: PathBuf,
    ways: Vec<(&'static str, Way)>,
    entries: Vec<(&'static str, Entry)>,
    gateway: Option<Running>,
    _server: Option<Server>,
    _pki: Option<Pki>,
}

pub(crate) async fn run(common: &Common, wish: &Postgres) -> Outcome<ExitCode> {
    let mut results =
        Results { machine: machine(), versions: BTreeMap::new(), rounds: wish.rounds, rows: Vec::new() };
    let ground = match &common.target {
        Some(target) => theirs(target, common, wish)?,
        None => own(common, wish, &mut results.versions).await?,
    };
    let done = tokio::select! {
        done = measure(&ground, wish, &mut results) => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    };
    print!("{}", text(&results));
    if let Some(file) = &common.out {
        std::fs::write(file, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    match done {
        None => Ok(ExitCode::from(INTERRUPTED)),
        Some(done) => {
            done.map(|()| if results.rows.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

/// A server and a gateway of this run.
async fn own(common: &Common, wish: &Postgres, versions: &mut BTreeMap<String, String>) -> Outcome<Ground> {
    let pki = Pki::new(common.secure.certificate)?;
    let server = Server::start(&pki)?;
    if wish.seconds > 0 {
        server.fill()?;
    }
    let mut forwarders = Vec::new();
    for (key, asks) in [("forwarder", false), ("asking_forwarder", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        forwarders.push((key, listener.local_addr()?.to_string()));
        tokio::spawn(copy::forward(listener, server.at, asks));
    }
    let template = ("staunch-postgres.toml", include_str!("../../peers/staunch-postgres.toml"));
    let gateway = peers::gateway(common, &pki, template, server.at, &forwarders)?;
    versions.insert("postgres".into(), server.version.clone());
    versions.insert("staunch".into(), gateway.version.clone());
    let token = pki.tokens(1).swap_remove(0);
    let ca = pki.file("ca.pem").display().to_string();
    let way = |name: &str, at: SocketAddr, user: &str, password: &str| Way {
        conninfo: conninfo(name, at, &wish.database, user, Some(&ca)),
        password: password.to_owned(),
    };
    let tls = pki.client(&common.secure, &[])?;
    let entry = |name, token| Entry { at: gateway.at, name, tls: tls.clone(), token };
    let mut ways = vec![
        (DIRECT, way("localhost", server.at, OPEN, "")),
        (THROUGH, way(POSTGRES, gateway.at, "anybody", &token)),
    ];
    let mut entries = vec![(AS_BYTES, entry(RAW, None)), (THROUGH, entry(COPY, Some(token.clone())))];
    if wish.statements {
        ways.push((WITH_LINES, way(LOGGED, gateway.at, "anybody", &token)));
        entries.push((WITH_LINES, entry(COPY_LOGGED, Some(token))));
    }
    Ok(Ground {
        pgbench: server.program("pgbench"),
        ways,
        entries,
        gateway: Some(gateway),
        _server: Some(server),
        _pki: Some(pki),
    })
}

/// Somebody's gateway: pgbench only, since a raw route beside it would be somebody's as well.
fn theirs(target: &str, common: &Common, wish: &Postgres) -> Outcome<Ground> {
    use std::net::ToSocketAddrs;
    let at = target.to_socket_addrs().map_err(|e| format!("--target {target}: {e}"))?.next();
    let at = at.ok_or_else(|| format!("--target {target}: no address"))?;
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let name = common.sni.as_deref().unwrap_or(host);
    let file = common.token.as_ref().ok_or("--target needs --token, a file with the token for it")?;
    let token = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let ca = common.ca.as_deref().map(|file| Path::display(file).to_string());
    let conninfo = conninfo(name, at, &wish.database, "staunch-load", ca.as_deref());
    let mut ways = vec![(THROUGH, Way { conninfo, password: token.trim().to_owned() })];
    if let Some(direct) = &wish.direct {
        let password = std::env::var("PGPASSWORD").unwrap_or_default();
        ways.insert(0, (DIRECT, Way { conninfo: direct.clone(), password }));
    }
    let pgbench = server::programs()?.join("pgbench");
    Ok(Ground { pgbench, ways, entries: Vec::new(), gateway: None, _server: None, _pki: None })
}

pub(crate) fn conninfo(name: &str, at: SocketAddr, database: &str, user: &str, ca: Option<&str>) -> String {
    // `system` came with libpq 16; before, a file with the authority is needed.
    let ca = ca.unwrap_or("system");
    let fields = [
        ("host", name),
        ("hostaddr", &at.ip().to_string()),
        ("port", &at.port().to_string()),
        ("dbname", database),
        ("user", user),
        ("sslmode", "verify-full"),
        ("sslrootcert", ca),
    ];
    let quoted =
        fields.map(|(key, value)| format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
    quoted.join(" ")
}

async fn measure(ground: &Ground, wish: &Postgres, results: &mut Results) -> Outcome<()> {
    for round in 0..wish.rounds as usize {
        for mode in wish.modes.iter().filter(|_| wish.seconds > 0) {
            // The order turns with the rounds, so that nobody always runs behind the same one.
            for (name, way) in turned(&ground.ways, round) {
                let before = ground.spent()?;
                let done =
                    bench(&ground.pgbench, way, *mode, wish).await.map_err(|e| format!("{name}: {e}"))?;
                let what = format!("pgbench, {}", bench::name(*mode));
                results.add(&what, "transactions/s", DIRECT, name, done.per_second);
                results.add(&what, "ms latency", DIRECT, name, done.latency_ms);
                if let (Some(before), Some(after), true) = (before, ground.spent()?, *name != DIRECT) {
                    let each = (after - before) * 1e6 / done.transactions as f64;
                    results.add(&what, "µs of the gateway/transaction", THROUGH, name, each);
                }
            }
        }
        for (direction, words) in [(Direction::Out, "out"), (Direction::In, "in")] {
            for (name, entry) in turned(&ground.entries, round).filter(|_| wish.mib > 0) {
                let failed = |e: std::io::Error| format!("COPY {words}, {name}: {e}");
                // Both ways get in differently, and cost differently until then: that is no bulk.
                let io = copy::log_in(entry).await.map_err(failed)?;
                let (before, started) = (ground.spent()?, Instant::now());
                let moved = copy::copy(io, direction, wish.mib, wish.row).await.map_err(failed)?;
                let (gib, seconds) = (moved as f64 / f64::from(1 << 30), started.elapsed().as_secs_f64());
                let what = format!("COPY {words}, rows of {} B", wish.row);
                if let (Some(before), Some(after)) = (before, ground.spent()?) {
                    results.add(&what, "s of the gateway/GiB", AS_BYTES, name, (after - before) / gib);
                }
                results.add(&what, "GiB/s", AS_BYTES, name, gib / seconds);
            }
        }
    }
    Ok(())
}

fn turned<T>(all: &[T], by: usize) -> impl Iterator<Item = &T> {
    all.iter().cycle().skip(by % all.len().max(1)).take(all.len())
}

impl Ground {
    /// Seconds of processor time that the gateway has used.
    fn spent(&self) -> Outcome<Option<f64>> {
        let spent = self.gateway.as_ref().map(|gateway| account::cpu_ns(gateway.pid(), gateway.threads_end));
        Ok(spent.transpose()?.map(|ns| ns as f64 / 1e9))
    }
}

impl Results {
    fn add(&mut self, what: &str, unit: &'static str, against: &'static str, way: &'static str, figure: f64) {
        let known = self.rows.iter().position(|row| row.what == what && row.unit == unit);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), unit, against, figures: BTreeMap::new() });
            self.rows.len() - 1
        });
        self.rows[at].figures.entry(way).or_default().push(figure);
    }
}

/// Medians, least and most, and the median of the rounds' ratios to the way that each is held against.
fn text(results: &Results) -> String {
    let mut text = String::new();
    for row in &results.rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{} ({})", row.what, row.unit);
        let others = row.figures.get(row.against);
        for (way, figures) in &row.figures {
            let own = median(&mut figures.clone());
            let (least, most) = figures.iter().fold((f64::MAX, 0.0_f64), |(a, b), x| (a.min(*x), b.max(*x)));
            let _ = write!(text, "  {way:<15} {:>9}  [{} – {}]", short(own), short(least), short(most));
            match others.filter(|_| *way != row.against) {
                Some(others) => {
                    // Round by round: what slows a machine down slows both.
                    let mut parts: Vec<f64> = figures.iter().zip(others).map(|(a, b)| a / b).collect();
                    _ = writeln!(text, "  {:.3} of {}", median(&mut parts), row.against);
                }
                None => text.push('\n'),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_those_of_their_own_row() {
        let mut results =
            Results { machine: BTreeMap::new(), versions: BTreeMap::new(), rounds: 3, rows: Vec::new() };
        for (way, figures) in [(AS_BYTES, [1.0, 8.0, 2.0]), (THROUGH, [1.1, 8.4, 2.0])] {
            figures.iter().for_each(|figure| results.add("COPY out", "s/GiB", AS_BYTES, way, *figure));
        }
        let text = text(&results);
        assert!(text.contains("raw                  2.00  [1.00 – 8.00]\n"), "{text}");
        assert!(text.contains("staunch              2.00  [1.10 – 8.40]  1.050 of raw\n"), "{text}");
    }

    #[test]
    fn the_order_turns() {
        let orders: Vec<Vec<i32>> =
            (0..3).map(|round| turned(&[1, 2, 3], round).copied().collect()).collect();
        assert_eq!(orders, [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        assert_eq!(turned(&[] as &[i32], 1).count(), 0);
    }

    #[test]
    fn a_conninfo_keeps_what_needs_quotes() {
        let at = "192.0.2.1:5432".parse().unwrap();
        let text = conninfo("pg.test", at, "a'b", "ann", None);
        assert!(text.contains("dbname='a\\'b'") && text.contains("sslrootcert='system'"), "{text}");
    }
}
