//! Metrics: what the admin listener renders for a gateway that has something of everything.

use crate::close::Close;
use crate::metrics::{
    AcmeFacts, MaskCounters, ProcessFacts, RecordingFacts, TimestampFacts, WitnessFacts, WorkerMetrics,
    render,
};
use crate::names::{IssuerName, RouteName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Values of a label that are listed before the rest is left out: most are closed lists, which users need whole.
const VALUES_SHOWN: usize = 30;

/// Name, type, labels and meaning of each family.
pub(super) fn table() -> String {
    let text = render(&[worker()], &facts());
    let mut out = String::from(
        "`/metrics` of the admin listener, Prometheus' text format. Labels come from closed lists or from the configuration, \
         never from clients. What is off or never happened may have no series.\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    let mut labels = labels(&text);
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let of = labels.remove(name).unwrap_or_default();
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", shown(&of));
    }
    out
}

/// Labels by family, each with the values that it has.
type Labels<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<&'a str>>>;

fn labels(text: &str) -> Labels<'_> {
    let mut found = Labels::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let of = found.entry(name).or_default();
        let Some((pairs, _)) = rest.rsplit_once('}') else { continue };
        for (label, value) in pairs.split("\",").filter_map(|pair| pair.split_once("=\"")) {
            if label != "le" {
                of.entry(label).or_default().insert(value.trim_end_matches('"'));
            }
        }
    }
    found
}

fn shown(labels: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let one = |(label, values): (&&str, &BTreeSet<&str>)| {
        let values: Vec<_> = values
            .iter()
            .take(VALUES_SHOWN)
            .filter(|value| !is_of_configuration(label, value))
            .copied()
            .collect();
        match values.is_empty() {
            true => format!("`{label}`"),
            false => format!("`{label}`: {}", values.join(", ")),
        }
    };
    labels.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// True for values that stand for the names of a configuration.
fn is_of_configuration(label: &str, value: &str) -> bool {
    value == NAME || value.is_empty() || matches!(label, "worker" | "version")
}

/// Stands for names of the configuration.
const NAME: &str = "NAME";

/// A worker on which something of everything happened.
fn worker() -> Arc<WorkerMetrics> {
    let worker = WorkerMetrics::default();
    Close::ALL.into_iter().for_each(|reason| worker.route(&RouteName(NAME.into())).session_closed(reason));
    let counters = MaskCounters::new(NAME, "down", [NAME].into_iter());
    counters.found(0, 1);
    MaskCounters::new(NAME, "up", [NAME].into_iter());
    Arc::new(worker)
}

/// A process that has something of everything.
fn facts() -> ProcessFacts {
    let (route, at) = (RouteName(NAME.into()), UNIX_EPOCH);
    ProcessFacts {
        version: env!("CARGO_PKG_VERSION"),
        started: Some(at),
        reload: Some((true, at)),
        certificates: vec![(route.clone(), at)],
        acme: vec![AcmeFacts { route, is_there: true, failures: 0, next_attempt: Some(at) }],
        signals: vec![IssuerName(NAME.into())],
        traces: true,
        key_ages: vec![(IssuerName(NAME.into()), Some(Duration::ZERO))],
        open_descriptors: Some(0),
        max_descriptors: Some(0),
        resident_bytes: Some(0),
        memory: Some((0, 0)),
        recordings: Some(RecordingFacts {
            witnesses: vec![WitnessFacts { name: NAME.into(), ..WitnessFacts::default() }],
            timestamps: Some(TimestampFacts::default()),
            ..RecordingFacts::default()
        }),
        ..ProcessFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_type_labels_and_meaning() {
        let table = table();
        for row in [
            "| `staunch_masked_total` | counter | `direction`: down, up; `route`; `rule` | Values that masks found, by route, direction and rule. |",
            "| `staunch_dial_seconds` | histogram | `route` |",
            "| `staunch_security_events_total` | counter | `issuer`; `outcome`: ignored, refused, repeated, revoked |",
            "| `staunch_draining` | gauge |  |",
        ] {
            assert!(table.contains(row), "{row}\n{table}");
        }
    }
}
