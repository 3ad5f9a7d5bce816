//! Faults, one after the other: what was done, what is expected, what was seen.
//!
//! Every row is a fault of its own run: both ends, the peer between them, the fault, and a look at what came of it. HAProxy
//! and Envoy, configured as for `compare`, are shown where the same can be done to them; only Staunch's rows decide.

mod bench;
mod clients;
mod ends;
mod process;

use crate::Outcome;
use crate::options::{Common, Peer};
use crate::peers;
use bench::Bench;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// What is done to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    HalfOpen,
    UpstreamDies,
    ClientStalls,
    PausedReader,
    RandomSplits,
    IssuerGone,
    Reloads,
    Drain,
    Descriptors,
    LogStuck,
}

/// All of them, in the order of the table.
const FAULTS: [Fault; 10] = [
    Fault::HalfOpen,
    Fault::UpstreamDies,
    Fault::ClientStalls,
    Fault::PausedReader,
    Fault::RandomSplits,
    Fault::IssuerGone,
    Fault::Reloads,
    Fault::Drain,
    Fault::Descriptors,
    Fault::LogStuck,
];

/// How long one fault of one peer may take before it counts as failed.
const FAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// What came of a fault.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    seen: String,
    pass: bool,
}

#[derive(Serialize)]
struct Subject {
    peer: String,
    version: String,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Serialize)]
struct Row {
    fault: &'static str,
    done: String,
    expected: &'static str,
    subjects: Vec<Subject>,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::HalfOpen => "half-open connections",
            Fault::UpstreamDies => "upstream dies mid-stream",
            Fault::ClientStalls => "clients stop reading",
            Fault::PausedReader => "a reader pauses",
            Fault::RandomSplits => "random splits",
            Fault::IssuerGone => "issuer down, silent, answers 500",
            Fault::Reloads => "reloads at full handshake rate",
            Fault::Drain => "TERM with live streams",
            Fault::Descriptors => "descriptors exhausted",
            Fault::LogStuck => "the log's reader stops",
        }
    }

    fn done(self, size: &Size) -> String {
        match self {
            Fault::HalfOpen => {
                format!(
                    "{} connections of 40 addresses: nothing, half a ClientHello, an SSLRequest",
                    size.of(10_000)
                )
            }
            Fault::UpstreamDies => format!("{} streams, then SIGKILL to the upstream", size.of(1_000)),
            Fault::ClientStalls => format!("{} clients ask for 1 GiB each and read nothing", size.of(1_000)),
            Fault::PausedReader => {
                format!("16 downloads of 32 MiB; their readers pause {} s", size.seconds(40).as_secs())
            }
            Fault::RandomSplits => format!("{} echoes, cut at random down to 1 byte", size.of(10_000)),
            Fault::IssuerGone => format!("{} requests in each state, a HUP before each", size.of(300)),
            Fault::Reloads => format!("{} reloads while clients connect as fast as they can", size.of(100)),
            Fault::Drain => format!("{} streams of 3 s, TERM after 1 s", size.of(1_000)),
            Fault::Descriptors => "connections until no descriptor is left, 2 s more, then they leave".into(),
            Fault::LogStuck => "nobody reads the log; requests until it is full; then TERM".into(),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Fault::HalfOpen => {
                "all gone within 11 s, every good request served meanwhile, at most 24 KiB each"
            }
            Fault::UpstreamDies => "no clean end, all ended within 1 s, descriptors return",
            Fault::ClientStalls => "reading stops: at most 64 KiB of memory each",
            Fault::PausedReader => "not a byte lost",
            Fault::RandomSplits => "every byte back as it was sent",
            Fault::IssuerGone => "no failure with a known key",
            Fault::Reloads => "no failed connection",
            Fault::Drain => "no stream cut, then the process ends",
            Fault::Descriptors => {
                "live connections go on, less than half a core is used, new ones within 1 s of room"
            }
            Fault::LogStuck => "a live stream goes on, not ready, TERM ends it within 2 s",
        }
    }

    /// Who can be put through it.
    fn peers(self) -> &'static [Peer] {
        match self {
            Fault::IssuerGone | Fault::Reloads | Fault::LogStuck => &[Peer::Staunch],
            _ => &[Peer::Staunch, Peer::Haproxy, Peer::Envoy],
        }
    }

    async fn run(self, bench: &mut Bench) -> Outcome<Seen> {
        match self {
            Fault::HalfOpen => clients::half_open(bench).await,
            Fault::UpstreamDies => ends::upstream_dies(bench).await,
            Fault::ClientStalls => clients::stop_reading(bench).await,
            Fault::PausedReader => clients::pause(bench).await,
            Fault::RandomSplits => clients::split(bench).await,
            Fault::IssuerGone => ends::issuer_gone(bench).await,
            Fault::Reloads => process::reload(bench).await,
            Fault::Drain => process::drain(bench).await,
            Fault::Descriptors => process::exhaust_descriptors(bench).await,
            Fault::LogStuck => process::stop_log_reader(bench).await,
        }
    }
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) f64);

impl Size {
    /// A part of `full`, at least 1.
    pub(crate) fn of(&self, full: u32) -> u32 {
        ((f64::from(full) * self.0) as u32).max(1)
    }

    /// A part of so many seconds, at least 2.
    pub(crate) fn seconds(&self, full: u32) -> Duration {
        Duration::from_secs_f64((f64::from(full) * self.0).max(2.0))
    }
}

/// Puts each peer that is installed through each fault. The exit code is that of Staunch's rows.
pub(crate) async fn faults(
    common: &Common,
    scale: f64,
    only: &[String],
    wanted: &[Peer],
) -> Outcome<ExitCode> {
    let (mut rows, mut passed) = (Vec::new(), true);
    let size = Size(scale);
    for fault in
        FAULTS.into_iter().filter(|f| only.is_empty() || only.iter().any(|o| f.name().contains(o.as_str())))
    {
        let mut row = Row {
            fault: fault.name(),
            done: fault.done(&size),
            expected: fault.expected(),
            subjects: Vec::new(),
        };
        println!("{}: {}", row.fault, row.done);
        for &peer in fault.peers().iter().filter(|peer| wanted.is_empty() || wanted.contains(peer)) {
            if let (true, Err(missing)) = (peer != Peer::Staunch, peers::program(peer, common)) {
                println!("  {:<8} skipped: {missing}", peer.name());
                continue;
            }
            let (version, seen) = one(common, fault, peer, size).await;
            println!("  {:<8} {} {}", peer.name(), if seen.pass { "pass" } else { "FAIL" }, seen.seen);
            passed &= seen.pass || peer != Peer::Staunch;
            row.subjects.push(Subject { peer: peer.name(), version, seen });
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err("no fault has such a name".into());
    }
    if let Some(file) = &common.out {
        let result = serde_json::json!({ "scale": scale, "rows": rows });
        std::fs::write(file, serde_json::to_string_pretty(&result)? + "\n")?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn one(common: &Common, fault: Fault, peer: Peer, size: Size) -> (String, Seen) {
    let mut bench = match Bench::start(common, peer, size, fault == Fault::LogStuck).await {
        Ok(bench) => bench,
        Err(error) => return (String::new(), Seen { seen: format!("not started: {error}"), pass: false }),
    };
    let seen = match tokio::time::timeout(FAULT_TIMEOUT, fault.run(&mut bench)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => Seen { seen: error.to_string(), pass: false },
        Err(_) => Seen { seen: format!("not over within {} s", FAULT_TIMEOUT.as_secs()), pass: false },
    };
    (bench.running.version.clone(), seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_stays_possible_when_it_is_small() {
        let names: std::collections::HashSet<_> = FAULTS.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), FAULTS.len());
        assert!(FAULTS.iter().all(|fault| fault.peers().contains(&Peer::Staunch)));
        let size = Size(0.0001);
        assert_eq!((size.of(1_000), size.seconds(40)), (1, Duration::from_secs(2)));
    }
}
