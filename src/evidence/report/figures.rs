//! Numbers of the report. Each is counted from `sessions.jsonl` by the rule that stands beside it.

use super::population::Population;
use crate::evidence::table::{text, time};
use crate::recording::log::entry::Entry;
use crate::recording::reader::log_view::{LogView, Sums};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is counted by one field: id, title, the field's path in a line of `sessions.jsonl`.
const COUNTED: [(&str, &str, &str); 14] = [
    ("client_version", "TLS version, client leg", "facts.client_version"),
    ("client_cipher", "Cipher suite, client leg", "facts.client_cipher"),
    ("client_group", "Key exchange, client leg", "facts.client_group"),
    ("client_key_exchange", "Class of the key exchange, client leg", "key_exchange.client"),
    ("upstream_version", "TLS version, upstream leg", "facts.upstream_version"),
    ("upstream_cipher", "Cipher suite, upstream leg", "facts.upstream_cipher"),
    ("upstream_group", "Key exchange, upstream leg", "facts.upstream_group"),
    ("upstream_key_exchange", "Class of the key exchange, upstream leg", "key_exchange.upstream"),
    ("upstream_verified", "How the upstream was verified", "facts.upstream_verified"),
    ("route", "Sessions by route", "route"),
    ("proof", "Proof of identity", "facts.proof"),
    ("subject", "Sessions by subject (of several: the one that the closing line names)", "subject"),
    ("reason", "Why sessions ended", "facts.reason"),
    ("state", "State of the recordings", "state"),
];

/// A field by its path; what is missing counts as `unknown`.
fn at_path(line: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(line, |value, name| value.get(name));
    let found = found.map(text).unwrap_or_default();
    if found.is_empty() { "unknown".into() } else { found }
}

/// Counts by field, the largest first.
pub(super) fn figures(population: &Population) -> Vec<Value> {
    let lines = population.lines();
    let mut figures: Vec<Value> = COUNTED
        .iter()
        .map(|(id, title, path)| {
            let mut counts = BTreeMap::<String, u64>::new();
            lines.iter().for_each(|line| *counts.entry(at_path(line, path)).or_default() += 1);
            json!({ "id": id, "title": title, "counts": sorted(counts), "counted": "sessions", "field": path })
        })
        .collect();
    for (id, title, name) in [
        ("refusals", "Refused requests by reason", "refused"),
        ("statuses", "Requests by status", "statuses"),
    ] {
        let mut counts = BTreeMap::<String, u64>::new();
        for (reason, count) in lines.iter().filter_map(|line| line["requests"][name].as_object()).flatten() {
            *counts.entry(reason.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        let path = format!("requests.{name}");
        figures.push(json!({
            "id": id, "title": title, "counts": sorted(counts), "counted": "requests", "field": path,
        }));
    }
    figures
}

fn sorted(counts: BTreeMap<String, u64>) -> Vec<Value> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    counts.into_iter().map(|(name, count)| json!({ "name": name, "count": count })).collect()
}

/// Totals, and the sessions that were not recorded as the log counts them.
pub(super) fn totals(
    population: &Population,
    log: &LogView,
    unrecorded: &[Value],
    period: (u64, u64),
) -> Value {
    let sum = |of: &dyn Fn(&super::population::Member) -> u64| population.rows.iter().map(of).sum::<u64>();
    let logged = logged_sums(log, period);
    json!({
        "recorded": population.rows.len(),
        "bytes_down": sum(&|member| member.row.summary.bytes[0]),
        "bytes_up": sum(&|member| member.row.summary.bytes[1]),
        "lost_bytes": sum(&|member| member.row.summary.lost),
        "held": sum(&|member| member.row.is_held.into()),
        "erased": sum(&|member| member.row.erased.is_some().into()),
        "unrecorded": logged.unrecorded,
        "unrecorded_named": unrecorded.len(),
        "logged": {
            "sessions": logged.sessions, "recorded": logged.recorded, "unrecorded": logged.unrecorded,
            "lost_bytes": logged.lost,
        },
    })
}

/// What the log's sums grew by in the period. Sums begin at zero with each run of the gateway.
fn logged_sums(log: &LogView, (from, to): (u64, u64)) -> Sums {
    let mut grown = Sums::default();
    for run in &log.runs {
        let at = |time: u64| {
            let before = run.history.iter().take_while(|(entered, _)| *entered < time);
            before.last().map(|(_, sums)| *sums).unwrap_or_default()
        };
        let (first, last) = (at(from), at(to));
        grown.sessions += last.sessions.saturating_sub(first.sessions);
        grown.recorded += last.recorded.saturating_sub(first.recorded);
        grown.unrecorded += last.unrecorded.saturating_sub(first.unrecorded);
        grown.lost += last.lost.saturating_sub(first.lost);
    }
    grown
}

const HOUR: u64 = 3_600_000_000_000;

/// Sessions by the time at which they began, by class of the client leg's key exchange.
pub(super) fn timeline(population: &Population, (from, to): (u64, u64)) -> Value {
    let first = population.rows.first().map_or(from, |member| member.row.summary.first).max(from);
    let last = population.rows.last().map_or(to, |member| member.row.summary.first).min(to).max(first);
    let widths = [HOUR / 60, HOUR / 6, HOUR, 6 * HOUR, 24 * HOUR, 168 * HOUR];
    let width = widths.into_iter().find(|width| (last - first) / width < 48).unwrap_or(672 * HOUR);
    let begin = first - first % width;
    let count = ((last - begin) / width + 1).min(400) as usize;
    let mut buckets = vec![BTreeMap::<&str, u64>::new(); count];
    for member in &population.rows {
        let place = (member.row.summary.first.max(begin) - begin) / width;
        if let Some(bucket) = buckets.get_mut(place as usize) {
            *bucket.entry(member.class("client")).or_default() += 1;
        }
    }
    let points = buckets
        .into_iter()
        .enumerate()
        .map(|(place, counts)| json!({ "from": time(begin + place as u64 * width), "counts": counts }));
    json!({ "width_s": width / 1_000_000_000, "points": points.collect::<Vec<_>>() })
}

/// Holds, releases, erasures, keys sealed to others, orders of operators, deletions, starts, and silences of the log.
pub(super) fn events(log: &LogView, (from, to): (u64, u64)) -> Value {
    let is_in = |time: u64| time >= from && time < to;
    let orders = log.orders.iter().filter(|(_, time, _)| is_in(*time)).filter_map(|(number, at, line)| {
        let entry = Entry::parse(line)?;
        Some(json!({
            "entry": number, "time": time(*at), "what": entry.get("what").unwrap_or(entry.verb), "session": entry.get("session"),
            "reason": entry.get("reason").or(entry.get("recipients")), "operator": entry.get("operator"),
        }))
    });
    let runs = log.runs.iter().filter(|run| run.times.0 < to && run.times.1 >= from).map(|run| {
        let [version, binary, configuration] = &run.origin;
        json!({
            "entry": run.entry, "begun": time(run.times.0), "last": time(run.times.1), "stopped": run.is_stopped,
            "version": version, "binary": binary, "configuration": configuration,
        })
    });
    let silences = log.silences.iter().filter(|(since, until)| *since < to && *until >= from);
    let silences = silences.map(|(since, until)| json!({ "from": time(*since), "to": time(*until) }));
    let damaged = log.segments.iter().filter(|(_, segment)| segment.damaged).map(|(number, _)| number);
    json!({
        "orders": orders.collect::<Vec<_>>(), "runs": runs.collect::<Vec<_>>(),
        "silences": silences.collect::<Vec<_>>(), "damaged_segments": damaged.collect::<Vec<_>>(),
        "retired_segments": log.segments.values().filter(|segment| segment.retired).count(),
    })
}

/// The counts of a figure, by id.
pub(super) fn counts<'r>(report: &'r Value, id: &str) -> Vec<(&'r str, u64)> {
    let figures = report["figures"].as_array();
    let figure = figures.and_then(|figures| figures.iter().find(|figure| figure["id"] == id));
    let counts = figure.and_then(|figure| figure["counts"].as_array());
    let pair =
        |count: &'r Value| (count["name"].as_str().unwrap_or_default(), count["count"].as_u64().unwrap_or(0));
    counts.into_iter().flatten().map(pair).collect()
}

/// What SP 800-52 revision 2 and FIPS say of a version, suite or group; nothing for what is no such name.
pub(super) fn listed(name: &str) -> &'static str {
    match name {
        "TLSv1.3" | "TLSv1.2" => "in SP 800-52r2",
        name if name.contains("CHACHA20") => "not in SP 800-52r2",
        name if name.contains("AES") && name.contains("GCM") => "in SP 800-52r2",
        "secp256r1" | "secp384r1" | "secp521r1" => "in SP 800-52r2",
        "X25519MLKEM768" => "ML-KEM-768 is in FIPS 203, X25519 not in SP 800-56A",
        "X25519" => "not in SP 800-56A",
        name if name.starts_with("none") => "no encryption",
        _ => "",
    }
}

/// An object that has no such member is none.
pub(super) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
