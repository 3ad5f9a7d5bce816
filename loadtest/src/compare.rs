//! Peers in turn on the same work: rounds, medians, ratios.

use crate::options::{Common, Peer, Pq, Protocol, Shape, Way};
use crate::plot;
use crate::report::Report;
use crate::{Outcome, peers, run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A row of the comparison.
struct Work {
    name: &'static str,
    what: &'static str,
    peers: &'static [Peer],
    pq: Pq,
    resume: bool,
    /// What is compared, beside processor time.
    memory: bool,
    shape: fn(u32) -> Shape,
}

/// Peers that carry any bytes.
const STREAMS: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::Plain, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Stunnel];
/// Peers that carry any bytes, with TLS on both legs, and hold thousands of connections: stunnel's threads end at 5,000.
const HOLDERS: &[Peer] = &[Peer::Staunch, Peer::Tls, Peer::Nginx, Peer::Haproxy, Peer::Envoy];
/// Peers that read requests and check tokens.
const TOKENS: &[Peer] = &[Peer::Staunch, Peer::EnvoyJwt, Peer::HaproxyJwt];
const TOKENS_AND_STREAMS: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::EnvoyJwt, Peer::HaproxyJwt, Peer::Nginx, Peer::Envoy];
/// Peers that carry any bytes, with TLS on both legs, and one that checks the token in each connection's request. That one
/// shares connections to the upstream among clients: it makes half as many handshakes.
const DOORS: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::EnvoyJwt, Peer::Stunnel];
const QUANTUM: &[Peer] = &[Peer::Staunch, Peer::Tls, Peer::Envoy, Peer::EnvoyJwt];

/// `quick` divides the work by this.
pub(crate) const QUICK: u32 = 10;

fn requests(protocol: Protocol, divide: u32) -> Shape {
    let seconds = (5 / divide).max(1);
    Shape::Requests { connections: 16, in_flight: 4, identities: 16, answer: 256, seconds, protocol }
}

fn streams(protocol: Protocol, size: u32, divide: u32) -> Shape {
    let seconds = (8 / divide).max(1);
    Shape::Stream { streams: 400, per_connection: 10, rate: 25, size, seconds, protocol, storm: 0 }
}

fn stormy(divide: u32) -> Shape {
    let (seconds, protocol) = ((8 / divide).max(2), Protocol::Http1);
    Shape::Stream { streams: 100, per_connection: 10, rate: 25, size: 0, seconds, protocol, storm: 100 }
}

/// The same without a storm: where nothing stands between, the load itself would have to answer it.
fn calm(mut shape: Shape) -> Shape {
    if let Shape::Stream { storm, .. } = &mut shape {
        *storm = 0;
    }
    shape
}

pub(crate) fn bulk(protocol: Protocol, divide: u32) -> Shape {
    let records = 32_768 / divide;
    Shape::Bulk { connections: 4, record: 16_384, records, way: Way::Down, protocol, verify: false }
}

const ALL: &[Work] = &[
    Work {
        name: "bulk",
        what: "bulk, 16 KiB records",
        peers: STREAMS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| bulk(Protocol::Raw, divide),
    },
    Work {
        name: "streams-raw",
        what: "400 streams × 25 events/s of 120 B, raw",
        peers: STREAMS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| streams(Protocol::Raw, 120, divide),
    },
    Work {
        name: "streams-sse",
        what: "400 server-sent event streams × 25/s, tokens",
        peers: TOKENS_AND_STREAMS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| streams(Protocol::Http1, 0, divide),
    },
    Work {
        name: "streams-storm",
        what: "100 such streams, while 100 clients at once ask for handshakes, 5 times a second",
        peers: TOKENS_AND_STREAMS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: stormy,
    },
    Work {
        name: "requests-h1",
        what: "requests on kept-alive HTTP/1.1, token checked",
        peers: TOKENS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| requests(Protocol::Http1, divide),
    },
    Work {
        name: "requests-h2",
        what: "requests on HTTP/2, token checked",
        peers: TOKENS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| requests(Protocol::Http2, divide),
    },
    Work {
        name: "connect",
        what: "new connection, full handshake",
        peers: DOORS,
        pq: Pq::Off,
        resume: false,
        memory: false,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "connect-resumed",
        what: "new connection, resumed",
        peers: DOORS,
        pq: Pq::Off,
        resume: true,
        memory: false,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "connect-pq",
        what: "new connection, post-quantum",
        peers: QUANTUM,
        pq: Pq::Prefer,
        resume: false,
        memory: false,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "idle",
        what: "memory of an idle connection",
        peers: HOLDERS,
        pq: Pq::Off,
        resume: false,
        memory: true,
        shape: |divide| Shape::Idle { connections: 8000 / divide, protocol: Protocol::Raw },
    },
];

/// What a comparison leaves behind.
#[derive(Serialize, Deserialize)]
struct Results {
    machine: BTreeMap<String, String>,
    rounds: u32,
    versions: BTreeMap<String, String>,
    rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    work: String,
    what: String,
    unit: String,
    /// Medians by peer.
    peers: BTreeMap<String, Figure>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Figure {
    /// In the row's unit.
    median: f64,
    /// Rounds without an error, which are those that count.
    rounds: usize,
    least: f64,
    most: f64,
    /// Latency in µs, where the work has one.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    first_p50_us: Option<f64>,
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Runs the comparison. Peers that are not installed are named and left out; one that fails makes the run fail.
pub(crate) async fn compare(
    common: &Common,
    rounds: u32,
    only: &[Peer],
    work: &[String],
    quick: bool,
) -> Outcome<ExitCode> {
    if let Some(unknown) = work.iter().find(|name| !ALL.iter().any(|known| known.name == **name)) {
        let names: Vec<&str> = ALL.iter().map(|known| known.name).collect();
        return Err(format!("no work is called {unknown:?}; there are {}", names.join(", ")).into());
    }
    let divide = if quick { QUICK } else { 1 };
    let (mut failures, mut missing, mut interrupted) = (0, BTreeMap::new(), false);
    let mut results = Results { machine: machine(), rounds, versions: BTreeMap::new(), rows: Vec::new() };
    for one in ALL.iter().filter(|one| work.is_empty() || work.iter().any(|name| name == one.name)) {
        let mut peers: Vec<Peer> = Vec::new();
        for peer in one.peers.iter().filter(|peer| only.is_empty() || only.contains(peer)) {
            match peers::program(*peer, common) {
                Ok(_) => peers.push(*peer),
                Err(error) => _ = missing.insert(peer.name(), error),
            }
        }
        let mut reports: BTreeMap<String, Vec<Report>> = BTreeMap::new();
        let mut common = common.clone();
        (common.secure.pq, common.secure.resume) = (one.pq, one.resume);
        let timed = matches!((one.shape)(divide), Shape::Stream { .. });
        'rounds: for round in 0..rounds {
            // The order turns with the rounds, so that nobody always runs behind the same peer.
            let direct = timed.then_some(Peer::Direct);
            let mut turn: Vec<Peer> = direct.into_iter().chain(peers.iter().copied()).collect();
            let shift = round as usize % turn.len().max(1);
            turn.rotate_left(shift);
            for peer in turn {
                let shape = (one.shape)(divide);
                let shape = if peer == Peer::Direct { calm(shape) } else { shape };
                match run::run(&common, peer, &shape, false).await {
                    Ok(report) if report.interrupted => {
                        interrupted = true;
                        break 'rounds;
                    }
                    // Work that was not done whole has no price.
                    Ok(report) if report.errors > 0 => {
                        failures += 1;
                        let first = report.first_error.as_deref().unwrap_or("-");
                        eprintln!("{}, {}: {} errors: {first}", one.name, peer.name(), report.errors);
                    }
                    Ok(report) => {
                        results.versions.insert(peer.name(), report.peer_version.clone());
                        reports.entry(peer.name()).or_default().push(report);
                    }
                    Err(error) => {
                        failures += 1;
                        eprintln!("{}, {}: {error}", one.name, peer.name());
                    }
                }
            }
        }
        let row = row(one, &reports);
        print!("{}", text(&row));
        if let Some(folder) = &common.plots {
            std::fs::create_dir_all(folder)?;
            plot_row(folder, &row)?;
        }
        results.rows.push(row);
        if interrupted {
            break;
        }
    }
    for (peer, error) in &missing {
        eprintln!("left out: {peer}: {error}");
    }
    if let Some(file) = &common.out {
        std::fs::write(file, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    Ok(match (interrupted, failures) {
        (true, _) => ExitCode::from(crate::INTERRUPTED),
        (false, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn row(work: &Work, reports: &BTreeMap<String, Vec<Report>>) -> Row {
    let mut unit = String::new();
    let mut peers = BTreeMap::new();
    for (peer, reports) in reports {
        let cost = |report: &Report| {
            if work.memory { report.memory.and_then(|m| m.kib_per_connection) } else { report.cost() }
        };
        let mut costs: Vec<f64> = reports.iter().filter_map(cost).collect();
        if let (false, Some(report)) = (costs.is_empty(), reports.first()) {
            unit = if work.memory { "KiB/connection".into() } else { report.cost_unit() };
        }
        let over = |f: &dyn Fn(&Report) -> Option<f64>| {
            let mut all: Vec<f64> = reports.iter().filter_map(f).collect();
            (!all.is_empty()).then(|| median(&mut all))
        };
        let figure = Figure {
            rounds: costs.len(),
            median: median(&mut costs),
            least: costs.first().copied().unwrap_or_default(),
            most: costs.last().copied().unwrap_or_default(),
            p50_us: over(&|r| r.latency_us.as_ref().map(|q| q.p50)),
            p99_us: over(&|r| r.latency_us.as_ref().map(|q| q.p99)),
            first_p50_us: over(&|r| r.first_us.as_ref().map(|q| q.p50)),
        };
        peers.insert(peer.clone(), figure);
    }
    Row { work: work.name.into(), what: work.what.into(), unit, peers }
}

/// Peers of a row, Staunch first, then the cheapest. A direct run costs nothing and is no peer.
fn ranked(row: &Row) -> Vec<(&String, &Figure)> {
    let mut all: Vec<_> = row.peers.iter().filter(|(name, _)| *name != "direct").collect();
    all.sort_by(|a, b| (a.0 != "staunch").cmp(&(b.0 != "staunch")).then(a.1.median.total_cmp(&b.1.median)));
    all
}

impl Row {
    /// Latency beyond that of a run without any peer, µs.
    fn added(&self, figure: &Figure, f: fn(&Figure) -> Option<f64>) -> Option<f64> {
        Some(f(figure)? - self.peers.get("direct").and_then(f)?)
    }
}

fn text(row: &Row) -> String {
    let mut text = format!("\n{} ({})\n", row.what, row.unit);
    let own = row.peers.get("staunch").map(|figure| figure.median);
    for (name, figure) in ranked(row) {
        let _ =
            write!(text, "  {name:<12} {:>10.3}  [{:.3} – {:.3}]", figure.median, figure.least, figure.most);
        if let Some(own) = own.filter(|_| figure.median > 0.0 && name != "staunch") {
            let _ = write!(text, "  staunch is {:.2} of it", own / figure.median);
        }
        let added = |f| row.added(figure, f);
        if let (Some(p50), Some(p99)) = (added(|f| f.p50_us), added(|f| f.p99_us)) {
            let _ = write!(text, "  added latency p50 {p50:.0} µs, p99 {p99:.0} µs");
        }
        if let Some(first) = added(|f| f.first_p50_us) {
            let _ = write!(text, ", first event {first:.0} µs");
        }
        text.push('\n');
    }
    text
}

fn plot_row(folder: &Path, row: &Row) -> Outcome<()> {
    let bars: Vec<(String, f64)> =
        ranked(row).into_iter().map(|(name, f)| (name.clone(), f.median)).collect();
    plot::bars(&folder.join(format!("{}.svg", row.work)), &row.what, &row.unit, &bars)
}

/// What the figures were measured on, as the kernel tells it.
pub(crate) fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = peers::cores().count();
    BTreeMap::from([
        ("processor".into(), model.unwrap_or("unknown").to_owned()),
        ("cores".into(), cores.to_string()),
        ("kernel".into(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
    ])
}

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

/// Writes the table of a comparison between the markers of a Markdown file.
pub(crate) fn table(results: &PathBuf, into: &PathBuf) -> Outcome<()> {
    let results: Results = serde_json::from_str(&std::fs::read_to_string(results)?)?;
    let page = std::fs::read_to_string(into)?;
    let begin = page.find(BEGIN).ok_or_else(|| format!("{}: no line {}", into.display(), BEGIN.trim()))?;
    let end = page.find(END).ok_or_else(|| format!("{}: no line {END}", into.display()))?;
    let new = format!("{}{BEGIN}{}{}", &page[..begin], markdown(&results), &page[end..]);
    std::fs::write(into, new)?;
    Ok(())
}

fn markdown(results: &Results) -> String {
    let mut text = String::from("| what | Staunch | others, and Staunch's part of each |\n|---|---|---|\n");
    for row in &results.rows {
        let Some(own) = row.peers.get("staunch") else { continue };
        let others: Vec<String> = ranked(row)
            .into_iter()
            .filter(|(name, figure)| *name != "staunch" && figure.median > 0.0)
            .map(|(name, f)| format!("{name} {} ({:.2})", short(f.median), own.median / f.median))
            .collect();
        let _ =
            writeln!(text, "| {} | {} {} | {} |", row.what, short(own.median), row.unit, others.join(", "));
        if let Some(own) = row.added(own, |figure| figure.p99_us) {
            let slow = |(name, figure)| Some((name, row.added(figure, |figure| figure.p99_us)?));
            let mut others: Vec<_> = ranked(row).into_iter().filter_map(slow).collect();
            others.retain(|(name, _)| *name != "staunch");
            others.sort_by(|a, b| a.1.total_cmp(&b.1));
            let others: Vec<String> =
                others.into_iter().map(|(name, us)| format!("{name} {}", ms(us))).collect();
            let _ =
                writeln!(text, "| … latency added, 99th percentile | {} | {} |", ms(own), others.join(", "));
        }
    }
    let value = |key: &str| results.machine.get(key).map_or("unknown", String::as_str);
    let versions: Vec<String> = results
        .versions
        .iter()
        .filter(|(name, version)| {
            !version.is_empty() && !matches!(name.as_str(), "staunch" | "tls" | "plain")
        })
        .filter(|(name, _)| !name.ends_with("-jwt"))
        .map(|(name, version)| match library(version) {
            Some(library) => format!("{name} {} ({library})", number(version)),
            None => format!("{name} {}", number(version)),
        })
        .collect();
    let _ = write!(
        text,
        "\nProcessor time of the proxy on one core, medians of {} rounds in turn; {}, Linux {}. `tls` and `plain` are built-in\nrelays: tokio-rustls with 64 KiB copy buffers, and bare TCP. {}.\n",
        results.rounds,
        value("processor"),
        value("kernel"),
        versions.join("; ")
    );
    text
}

/// The first word that looks like `1.2`, as each program hides it elsewhere in what it says of itself.
fn number(version: &str) -> &str {
    let looks = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    version.split([' ', '/', ',']).find(looks).unwrap_or(version)
}

/// The TLS library as the version names it behind a comma: the one that runs, name and number.
fn library(version: &str) -> Option<String> {
    let (_, named) = version.split_once(", ")?;
    let named = named.rsplit_once("running with ").map_or(named, |(_, runs)| runs);
    let words: Vec<&str> = named.split_whitespace().take(2).collect();
    Some(words.join(" ").trim_end_matches(')').to_owned())
}

/// Milliseconds of a difference of two measurements, which can be less than nothing.
fn ms(us: f64) -> String {
    format!("{:.1} ms", (us / 1000.0).max(0.0))
}

pub(crate) fn short(x: f64) -> String {
    if x >= 100.0 {
        format!("{x:.0}")
    } else if x >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shortened_to_its_number_and_the_library_that_runs() {
        let short = |version| (number(version).to_owned(), library(version));
        let nginx = "nginx/1.31.5, OpenSSL 1.1.1 (compatible; AWS-LC 5.5.0) (running with AWS-LC 5.5.0)";
        assert_eq!(short(nginx), ("1.31.5".into(), Some("AWS-LC 5.5.0".into())));
        let stunnel = "stunnel 5.68 on x86_64-pc-linux-gnu platform, OpenSSL 3.0.19 27 Jan 2026";
        assert_eq!(short(stunnel), ("5.68".into(), Some("OpenSSL 3.0.19".into())));
        assert_eq!(short("9e55/1.40.0/Clean/RELEASE/BoringSSL"), ("1.40.0".into(), None));
    }
}
