//! What comes of a comparison: rows of medians, as they are kept.

use super::works::{Measure, Work};
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a comparison leaves behind.
#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) machine: BTreeMap<String, String>,
    pub(super) rounds: u32,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) what: String,
    pub(crate) unit: String,
    /// Medians by peer.
    pub(crate) peers: BTreeMap<String, Figure>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Figure {
    /// In the row's unit.
    pub(crate) median: f64,
    /// Rounds without an error, which are those that count.
    pub(crate) rounds: usize,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Latency in µs of the whole run, where the work has one.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// By the host from load and peer, in all rounds.
    #[serde(default)]
    pub(crate) stolen_ms: u64,
    pub(crate) first_p50_us: Option<f64>,
    /// The part of a cost that threads had which give way to whoever else has work.
    #[serde(default)]
    pub(crate) yielding: Option<f64>,
}

/// The medians of a row's rounds.
pub(super) fn row(work: &Work, reports: &BTreeMap<String, Vec<Report>>) -> Row {
    let mut unit = String::new();
    let mut peers = BTreeMap::new();
    let calm = |report: &Report| report.calm_us.as_ref().map(|quantiles| quantiles.p99);
    let direct = reports.get("direct").map(|reports| reports.iter().filter_map(calm).collect::<Vec<f64>>());
    let direct = direct.filter(|all| !all.is_empty()).map(|mut all| median(&mut all));
    for (peer, reports) in reports {
        let figure = |report: &Report| match work.measure {
            Measure::Cost => report.cost(),
            Measure::Memory => report.memory.and_then(|memory| memory.kib_per_connection),
            Measure::Latency => Some((calm(report)? - direct?) / 1e3),
        };
        let mut figures: Vec<f64> = reports.iter().filter_map(figure).collect();
        if let (false, Some(report)) = (figures.is_empty(), reports.first()) {
            unit = match work.measure {
                Measure::Cost => report.cost_unit(),
                Measure::Memory => "KiB/connection".into(),
                Measure::Latency => "ms".into(),
            };
        }
        let over = |f: &dyn Fn(&Report) -> Option<f64>| {
            let mut all: Vec<f64> = reports.iter().filter_map(f).collect();
            (!all.is_empty()).then(|| median(&mut all))
        };
        let figure = Figure {
            rounds: figures.len(),
            median: median(&mut figures),
            least: figures.first().copied().unwrap_or_default(),
            most: figures.last().copied().unwrap_or_default(),
            p50_us: over(&|r| r.latency_us.as_ref().map(|q| q.p50)),
            p99_us: over(&|r| r.latency_us.as_ref().map(|q| q.p99)),
            stolen_ms: reports.iter().filter_map(Report::stolen_ms).sum(),
            first_p50_us: over(&|r| r.first_us.as_ref().map(|q| q.p50)),
            yielding: over(&|r| r.yielding_cost().filter(|_| work.measure == Measure::Cost)),
        };
        peers.insert(peer.clone(), figure);
    }
    Row { work: work.name.into(), what: work.what.into(), unit, peers }
}

/// Peers of a row that have a figure, Staunch first, then the least. A direct run costs nothing and is no peer.
pub(super) fn ranked(row: &Row) -> Vec<(&String, &Figure)> {
    let counts = |(name, figure): &(&String, &Figure)| *name != "direct" && figure.rounds > 0;
    let mut all: Vec<_> = row.peers.iter().filter(counts).collect();
    all.sort_by(|a, b| (a.0 != "staunch").cmp(&(b.0 != "staunch")).then(a.1.median.total_cmp(&b.1.median)));
    all
}

impl Row {
    /// Latency beyond that of a run without any peer, µs.
    pub(super) fn added(&self, figure: &Figure, f: fn(&Figure) -> Option<f64>) -> Option<f64> {
        Some(f(figure)? - self.peers.get("direct").and_then(f)?)
    }
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

#[cfg(test)]
mod tests {
    use super::super::works::ALL;
    use super::*;
    use crate::meter::Meter;
    use crate::options::{Certificate, Peer, Pq, Secure};

    fn latency() -> &'static Work {
        ALL.iter().find(|work| work.measure == Measure::Latency).unwrap()
    }

    /// Runs whose calm latencies are all this many milliseconds.
    fn reports(calm_ms: &[u64]) -> Vec<Report> {
        let report = |ms: &u64| {
            let meter = Meter::new();
            meter.latency(ms * 1_000_000);
            meter.stretch(true);
            meter.latency(500_000_000);
            Report {
                peer: Peer::Staunch,
                peer_version: String::new(),
                target: None,
                shape: (latency().shape)(1),
                secure: Secure { pq: Pq::Off, certificate: Certificate::Ecdsa, resume: false },
                unit: "event",
                units: 2.0,
                seconds: 1.0,
                cpu_seconds: None,
                memory: None,
                growth: None,
                latency_us: meter.latencies(),
                calm_us: meter.calm_latencies(),
                first_us: None,
                samples: Vec::new(),
                errors: 0,
                first_error: None,
                interrupted: false,
            }
        };
        calm_ms.iter().map(report).collect()
    }

    #[test]
    fn a_latency_is_that_of_calm_stretches_beyond_a_run_without_any_peer() {
        let all = BTreeMap::from([
            ("direct".into(), reports(&[1, 2, 3])),
            ("staunch".into(), reports(&[7, 4, 5])),
            ("nginx".into(), vec![Report { calm_us: None, ..reports(&[1]).remove(0) }]),
        ]);
        let row = row(latency(), &all);
        let staunch = &row.peers["staunch"];
        let close = |a: f64, b: f64| (a - b).abs() < 0.02;
        assert!(close(staunch.median, 3.0) && close(staunch.least, 2.0) && close(staunch.most, 5.0));
        assert_eq!(row.unit, "ms");
        assert!(row.added(staunch, |figure| figure.p99_us).is_some_and(|us| close(us, 0.0)), "the whole run");
        let ranked: Vec<_> = ranked(&row).into_iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(ranked, ["staunch"], "nginx had no calm stretch, so there is no figure of it");
    }
}
