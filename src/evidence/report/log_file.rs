//! Sessions of the gateway's log that have no recording.

use super::population::Population;
use crate::evidence::EvidenceFault;
use crate::evidence::table::text;
use crate::evidence::when::When;
use crate::names::SessionId;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

/// Reads files of JSON lines; lines that are none are counted and told.
pub(super) fn unrecorded(
    files: &[PathBuf],
    population: &Population,
    told: &mut impl Write,
) -> Result<Vec<Value>, EvidenceFault> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for path in files {
        let fault =
            |error: std::io::Error| EvidenceFault::File { path: path.clone(), why: error.to_string() };
        let mut unread = 0_u64;
        for line in BufReader::new(std::fs::File::open(path).map_err(fault)?).split(b'\n') {
            let line = line.map_err(fault)?;
            match serde_json::from_slice::<Value>(&line) {
                Ok(line) => found.extend(of_line(&line, population, &mut seen)),
                Err(_) if line.is_empty() => {}
                Err(_) => unread += 1,
            }
        }
        if unread > 0 {
            writeln!(told, "{}: {unread} lines are no JSON and were left out", path.display())?;
        }
    }
    Ok(found)
}

/// A session of the period that was closed and is not among the recorded ones.
fn of_line(line: &Value, population: &Population, seen: &mut HashSet<u64>) -> Option<Value> {
    if line["event"] != "session closed" {
        return None;
    }
    let session = u64::from_str_radix(line["session"].as_str()?, 16).ok()?;
    let When(ended) = line["time"].as_str()?.parse().ok()?;
    let begun = ended.saturating_sub(line["duration_us"].as_u64().unwrap_or(0).saturating_mul(1_000));
    let (from, to) = population.period;
    if begun >= to || ended < from || population.all.contains(&SessionId(session)) || !seen.insert(session) {
        return None;
    }
    let field = |name: &str| line.get(name).map(text);
    Some(json!({
        "session": line["session"], "ended": line["time"], "route": field("route"), "subject": field("subject"),
        "remote": field("remote"), "reason": field("reason"), "client_version": field("client_version"),
        "upstream_version": field("upstream_version"),
    }))
}
