//! The work whose instructions `benches/check` counts: one scenario, this many units, in lockstep.
//!
//! The gateway's worker and both of its peers live in this process, on threads of their own; the count is the worker
//! thread's alone. A unit begins when the one before has arrived, so the worker reads one record at a time and does the
//! same in every run. Two lengths are run and the shorter is taken off the longer: what happens once cancels out.
//!
//! ```text
//! instructions --list             names, and the shorter of the two lengths
//! instructions SCENARIO UNITS     does the work, and says so
//! instructions                    every scenario, a few units: that they work, nothing is counted
//! ```

#[path = "../../tests/common/mod.rs"]
mod common;
mod connections;
mod databases;
mod frames;
mod requests;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

/// Name, and units of the shorter run: enough that a few thousand instructions more or less at the start do not show.
const SCENARIOS: [(&str, u32); 12] = [
    ("record-16k", 1_000),
    ("record-8k", 1_000),
    ("record-120", 2_000),
    ("event-sse", 2_000),
    ("request-http1", 1_000),
    ("request-http2", 1_000),
    ("connection-full", 60),
    ("connection-resumed", 60),
    ("copy-8k", 1_000),
    ("copy-8k-logged", 1_000),
    ("query", 1_000),
    ("query-logged", 1_000),
];

/// No run takes this long, not even under an interpreter of instructions.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &str| SCENARIOS.iter().any(|(scenario, _)| *scenario == name);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list"] => SCENARIOS.iter().for_each(|(name, units)| println!("{name} {units}")),
        [name, units] if known(name) => match units.parse() {
            Ok(units) if units > 0 => run(name, units),
            _ => return usage(),
        },
        // Cargo says which kind of target it runs.
        [] | ["--bench" | "--test"] => SCENARIOS.iter().for_each(|(name, _)| run(name, 5)),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions [--list | SCENARIO UNITS]; the counts are made by benches/check");
    ExitCode::from(2)
}

/// Does the work of `units` units, or panics.
fn run(name: &str, units: u32) {
    // Evidence as in production: JSON lines, made by the worker and written by a thread of their own.
    static LOG: std::sync::OnceLock<staunch::audit::Guard> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        staunch::audit::init(
            staunch::audit::Format::Json,
            "warn",
            staunch::audit::Room::default(),
            std::io::sink(),
        )
        .unwrap()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let work = async {
            match name {
                "record-16k" => streams::records(16 * 1024, units).await,
                "record-8k" => streams::records(8 * 1024, units).await,
                "copy-8k" => databases::copy(false, units).await,
                "copy-8k-logged" => databases::copy(true, units).await,
                "query" => databases::query(false, units).await,
                "query-logged" => databases::query(true, units).await,
                "record-120" => streams::records(120, units).await,
                "event-sse" => streams::events(units).await,
                "request-http1" => requests::http1(units).await,
                "request-http2" => requests::http2(units).await,
                "connection-full" => connections::connections(false, units).await,
                "connection-resumed" => connections::connections(true, units).await,
                _ => unreachable!("checked against the list"),
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("the scenario is stuck");
    });
    println!("{name}: {units} units done");
}
