//! How Staunch's cost grows.

use crate::options::{Common, Peer, Protocol, Shape, Way};
use crate::plot::{self, Axes, Line};
use crate::{Outcome, account, compare, peers, run};
use std::collections::BTreeMap;
use std::process::ExitCode;

type Points = Vec<(f64, f64)>;

/// How Staunch's cost grows with streams, record sizes and workers.
pub(crate) async fn scale(common: &Common, quick: bool) -> Outcome<ExitCode> {
    let divide = if quick { compare::QUICK_DIVISOR } else { 1 };
    let mut failures = 0;
    let mut series: BTreeMap<&str, BTreeMap<&str, Points>> = BTreeMap::new();
    let mut runs: Vec<(&str, &str, f64, Common, Shape)> = Vec::new();
    let kinds = [(Protocol::Raw, "raw, a connection each"), (Protocol::Http2, "HTTP/2, ten on a connection")];
    for ((protocol, line), streams) in
        kinds.iter().flat_map(|kind| [1, 10, 100, 1000, 10_000].map(|streams| (*kind, streams)))
    {
        let streams = if protocol == Protocol::Raw { most_streams(streams) } else { streams };
        let shape = stream(protocol, streams, divide);
        runs.push(("streams", line, f64::from(streams), common.clone(), shape));
    }
    for record in [1, 16, 120, 1024, 4096, 16_384_u32] {
        let records = (200_000 / divide).min(2_000_000_000 / record);
        let shape = Shape::Bulk {
            connections: 4,
            record,
            records,
            way: Way::Down,
            protocol: Protocol::Raw,
            verify: false,
        };
        runs.push(("records", "staunch", f64::from(record), common.clone(), shape));
    }
    let cores = peers::cores().count();
    for workers in 1..=cores {
        let mut common = common.clone();
        // From the last core down: the load has the first.
        common.peer_cores = (cores as usize - workers as usize..cores as usize).collect();
        let shape = compare::bulk(Protocol::Raw, divide);
        runs.push(("workers", "staunch", f64::from(workers), common, shape));
    }
    let axes = [
        ("streams", "Cost of an event by streams", "streams", "µs per event", true),
        ("records", "Cost of a record by its size", "bytes", "µs per record", true),
        ("workers", "Bulk by workers; the load has the first core", "workers", "GiB/s", false),
    ];
    for (name, line, x, common, shape) in runs {
        let report = run::run(&common, Peer::Staunch, &shape, false).await?;
        failures += report.errors;
        if let Some(error) = &report.first_error {
            eprintln!("{name} {x} ({line}): {} errors: {error}", report.errors);
        }
        if report.interrupted {
            return Ok(ExitCode::from(crate::INTERRUPTED));
        }
        let cost = match (&shape, report.cpu_seconds) {
            // Per record, not per byte: what is looked for is the price of a small one.
            (Shape::Bulk { connections, records, .. }, Some(cpu)) if name == "records" => {
                cpu * 1e6 / (f64::from(*connections) * f64::from(*records))
            }
            (_, Some(_)) if name == "workers" => report.units / report.seconds,
            // Without the handshakes, which would be most of it where many streams have few events.
            _ => report.steady_cost().unwrap_or_default(),
        };
        let points = series.entry(name).or_default().entry(line).or_default();
        if let (true, Some((_, title, of, unit, _))) = (points.is_empty(), axes.iter().find(|a| a.0 == name))
        {
            println!("\n{title} ({line})\n{of:>10} {unit:>14}");
        }
        println!("{x:>10} {cost:>14.3}");
        points.push((x, cost));
    }
    if let Some(folder) = &common.plots {
        std::fs::create_dir_all(folder)?;
        for (name, title, x, y, log_x) in axes {
            let lines = series.get(name).into_iter().flatten();
            let lines: Vec<Line> =
                lines.map(|(name, points)| Line { name: (*name).into(), points: points.clone() }).collect();
            plot::lines(&folder.join(format!("scale-{name}.svg")), &Axes { title, x, y, log_x }, &lines)?;
        }
    }
    if let Some(file) = &common.out {
        let all = serde_json::json!({"machine": compare::machine(), "series": series});
        std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As many streams, or as many as there are descriptors for.
fn most_streams(asked: u32) -> u32 {
    let most = account::most_connections();
    if asked > most {
        eprintln!(
            "streams: {most} connections instead of {asked}: more open files are not allowed (ulimit -Hn)"
        );
    }
    asked.min(most)
}

fn stream(protocol: Protocol, streams: u32, divide: u32) -> Shape {
    // The same number of events in each run, as far as a stream can carry it.
    let rate = (10_000 / streams).clamp(1, 1000);
    // Many take a while to begin, and only the second half of the run counts.
    let shape =
        |seconds| Shape::Stream { streams, per_connection: 10, rate, size: 120, seconds, protocol, storm: 0 };
    let seconds = (10 + shape(0).connections() / 100) / divide;
    shape(seconds.max(2))
}
