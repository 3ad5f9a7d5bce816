//! A sample that anybody can draw again, each session with its proof.

use super::population::{Member, Population};
use crate::evidence::EvidenceFault;
use crate::recording::directory::Directory;
use crate::recording::log::entry::Entry;
use crate::recording::log::store::read_leaves;
use crate::recording::log::tree;
use crate::recording::log::verify::{checkpoint_size, read};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Draws `count` sessions: those with the smallest SHA-256 of `<seed>:<session>`.
pub(super) fn draw(
    directory: &Directory,
    population: &Population,
    seed: &str,
    count: usize,
) -> Result<Vec<Value>, EvidenceFault> {
    let drawn = smallest(population, seed, count);
    if drawn.is_empty() {
        return Ok(Vec::new());
    }
    // Where the log holds the whole of each segment.
    let wanted: BTreeSet<u64> =
        drawn.iter().flat_map(|(_, member)| &member.row.summary.segments).copied().collect();
    let mut entries = BTreeMap::<u64, (u64, String)>::new();
    read(directory, |number, line| {
        let Some(entry) = Entry::parse(line).filter(|entry| matches!(entry.verb, "segment" | "recovered"))
        else {
            return;
        };
        if let Some(segment) = entry.number("number").filter(|segment| wanted.contains(segment)) {
            entries.insert(segment, (number, line.to_owned()));
        }
    })?;
    let size = checkpoint_size(directory)?;
    let leaves = read_leaves(&directory.log(), size)?;
    let root = hex(&tree::root(&leaves));
    let proof = |segment: &u64| match entries.get(segment) {
        None => {
            json!({ "segment": segment, "note": "not complete yet: the log holds no SHA-256 of the whole" })
        }
        Some((number, line)) => {
            let path = tree::inclusion(&leaves, *number as usize);
            json!({
                "segment": segment, "entry": number, "line": line,
                "inclusion": path.iter().map(|hash| hex(hash)).collect::<Vec<_>>(),
            })
        }
    };
    let sample = drawn.iter().enumerate().map(|(place, (draw, member))| {
        json!({
            "place": place + 1, "draw": draw, "session": member.row.summary.session.to_string(),
            "tree_size": size, "root": root,
            "proofs": member.row.summary.segments.iter().map(proof).collect::<Vec<_>>(),
            "facts": member.to_json(),
        })
    });
    Ok(sample.collect())
}

/// The same sessions where the log cannot be read: without proofs.
pub(super) fn draw_unproved(population: &Population, seed: &str, count: usize) -> Vec<Value> {
    let drawn = smallest(population, seed, count).into_iter().enumerate();
    let sample = drawn.map(|(place, (draw, member))| {
        json!({
            "place": place + 1, "draw": draw, "session": member.row.summary.session.to_string(),
            "note": "no proof: the log cannot be read", "facts": member.to_json(),
        })
    });
    sample.collect()
}

fn smallest<'a>(population: &'a Population, seed: &str, count: usize) -> Vec<(String, &'a Member)> {
    let draw = |member: &Member| {
        hex(digest(&SHA256, format!("{seed}:{}", member.row.summary.session).as_bytes()).as_ref())
    };
    let mut drawn: Vec<_> = population.rows.iter().map(|member| (draw(member), member)).collect();
    drawn.sort_by(|(a, _), (b, _)| a.cmp(b));
    drawn.truncate(count);
    drawn
}

/// What the report shows of each session that was drawn.
pub(super) fn shown(sample: &[Value]) -> Vec<Value> {
    let shown = sample.iter().map(|drawn| {
        let facts = &drawn["facts"];
        let segments = facts["segments"].as_array().into_iter().flatten().map(Value::to_string);
        json!({
            "place": drawn["place"], "session": drawn["session"], "begun": facts["begun"], "route": facts["route"],
            "subject": facts["subject"], "segments": segments.collect::<Vec<_>>().join(" "),
        })
    });
    shown.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
