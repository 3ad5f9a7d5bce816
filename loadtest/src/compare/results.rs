//! What comes of a comparison: rows of medians, as they are kept.

use super::works::Work;
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
pub(super) struct Row {
    pub(super) work: String,
    pub(super) what: String,
    pub(super) unit: String,
    /// Medians by peer.
    pub(super) peers: BTreeMap<String, Figure>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(super) struct Figure {
    /// In the row's unit.
    pub(super) median: f64,
    /// Rounds without an error, which are those that count.
    pub(super) rounds: usize,
    pub(super) least: f64,
    pub(super) most: f64,
    /// Latency in µs, where the work has one.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) first_p50_us: Option<f64>,
}

/// The medians of a row's rounds.
pub(super) fn row(work: &Work, reports: &BTreeMap<String, Vec<Report>>) -> Row {
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
pub(super) fn ranked(row: &Row) -> Vec<(&String, &Figure)> {
    let mut all: Vec<_> = row.peers.iter().filter(|(name, _)| *name != "direct").collect();
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
