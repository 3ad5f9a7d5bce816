//! Peers in turn on the same work: rounds, medians, ratios.

mod results;
mod table;
mod works;

pub(crate) use results::{Figure, Row, median};
pub(crate) use table::{short, table};
pub(crate) use works::{QUICK_DIVISOR, bulk};

use crate::databases::{self, DATABASES};
use crate::options::{Common, Peer};
use crate::report::Report;
use crate::{Outcome, peers, run};
use results::{Results, row};
use std::collections::BTreeMap;
use std::process::ExitCode;
use table::{plot_row, text};
use works::{ALL, Measure, calm};

/// Runs the comparison. Peers that are not installed are named and left out; one that fails makes the run fail.
pub(crate) async fn compare(
    common: &Common,
    rounds: u32,
    only: &[Peer],
    work: &[String],
    quick: bool,
) -> Outcome<ExitCode> {
    let names: Vec<&str> = ALL.iter().map(|known| known.name).chain(DATABASES).collect();
    if let Some(unknown) = work.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no work is called {unknown:?}; there are {}", names.join(", ")).into());
    }
    let asked = |one: &&works::Work| match work {
        [] => one.is_usual() || only.contains(&Peer::StaunchRecording),
        names => names.iter().any(|name| name == one.name),
    };
    if let Some(idle) = only.iter().find(|peer| !ALL.iter().filter(asked).any(|one| one.peers.contains(peer)))
    {
        return Err(format!("--peers {}: none of this work is done through it", idle.name()).into());
    }
    let divide = if quick { QUICK_DIVISOR } else { 1 };
    let (mut failures, mut missing, mut interrupted) = (0, BTreeMap::new(), false);
    let mut results = Results { machine: machine(), rounds, versions: BTreeMap::new(), rows: Vec::new() };
    for one in ALL.iter().filter(asked) {
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
        let timed = one.measure == Measure::Latency;
        common.awake |= timed;
        // Memory repeats to half a per cent, and takes longest.
        let rounds = if one.measure == Measure::Memory { 1 } else { rounds };
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
    // Their peers are others: --peers leaves them out.
    let databases = DATABASES.into_iter().filter(|_| only.is_empty() && !interrupted);
    for name in databases.filter(|name| work.is_empty() || work.iter().any(|asked| asked == name)) {
        match databases::compare(common, name, rounds, quick).await {
            Ok(compared) => {
                compared.rows.iter().for_each(|row| print!("{}", text(row)));
                results.rows.extend(compared.rows);
                results.versions.extend(compared.versions);
                compared.missing.iter().for_each(|missing| eprintln!("left out: {missing}"));
            }
            Err(error) => {
                failures += 1;
                eprintln!("{name}: {error}");
            }
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
