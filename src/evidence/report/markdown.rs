//! The report in Markdown.

use super::certificates::by_certificate;
use super::figures::{counts, listed, object};
use crate::audit::printable;
use serde_json::Value;
use std::fmt::Write;

/// Text in a cell: no control characters, no new columns, no markup.
fn cell(value: &Value) -> String {
    let text = crate::evidence::table::text(value);
    printable(&text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "'")
}

fn table(out: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        out.push_str("None.\n\n");
        return;
    }
    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}

/// Rows of an array of objects.
fn rows(values: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let values = values.as_array().into_iter().flatten();
    values.map(|value| names.iter().map(|name| cell(&value[*name])).collect()).collect()
}

/// Writes the report.
pub(super) fn write(report: &Value) -> String {
    let mut out = String::new();
    let totals = &report["totals"];
    let _ = writeln!(out, "# Evidence of encryption and recording\n");
    let _ = writeln!(
        out,
        "Gateway `{}`, {} to {}.",
        cell(&report["gateway"]),
        cell(&report["from"]),
        cell(&report["to"])
    );
    if let Some(route) = report["route"].as_str() {
        let _ = writeln!(out, "Route {}.", cell(&route.into()));
    }
    let _ = writeln!(out, "Made {} by {}.\n", cell(&report["made"]), cell(&report["by"]));
    out.push_str("## Verdict\n\n");
    let good = object(&report["verdict"]["good"]);
    let verdicts: Vec<_> = good
        .iter()
        .map(|(name, good)| vec![name.clone(), if *good == true { "good" } else { "**BAD**" }.into()])
        .collect();
    table(&mut out, &["what", "verdict"], &verdicts);
    let names = ["area", "fault", "file", "offset", "reason"];
    table(&mut out, &names, &rows(&report["verdict"]["findings"], &names));
    out.push_str("## Sessions\n\n");
    let total = |name: &str, shown: &str| vec![shown.to_owned(), cell(&totals[name])];
    let shown = [
        total("recorded", "recorded"),
        total("unrecorded", "not recorded, as the log counts them (all routes)"),
        total("unrecorded_named", "not recorded, named in `unrecorded.jsonl`"),
        total("lost_bytes", "bytes that were forwarded and not recorded"),
        total("bytes_down", "bytes of records to clients"),
        total("bytes_up", "bytes of records from clients"),
        total("held", "held"),
        total("erased", "erased"),
    ];
    table(&mut out, &["what", "number"], &shown);
    out.push_str("## Figures\n\nEach is counted from `sessions.jsonl` by the field that is named.\n\n");
    for figure in report["figures"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "### {}\n\nBy `{}`.\n", cell(&figure["title"]), cell(&figure["field"]));
        let counted = counts(report, figure["id"].as_str().unwrap_or_default());
        let rows: Vec<_> = counted
            .iter()
            .map(|(name, count)| vec![cell(&(*name).into()), count.to_string(), listed(name).to_owned()])
            .collect();
        table(&mut out, &["value", figure["counted"].as_str().unwrap_or("count"), "listed"], &rows);
    }
    out.push_str("## People\n\nA session of several counts under each of them, by `people`.\n\n");
    let names = ["subject", "issuer", "sessions", "shared", "requests", "first", "last"];
    table(&mut out, &names, &rows(&report["people"], &names));
    out.push_str("## Certificates\n\n");
    let names = [
        "shown_by",
        "routes",
        "subject",
        "issuer",
        "key",
        "key_listed",
        "not_after",
        "state",
        "verified",
        "sessions",
        "sha256",
    ];
    table(&mut out, &names, &rows(&by_certificate(&report["certificates"]).into(), &names));
    out.push_str("The sessions of each stand in `certificates.jsonl`.\n\n");
    out.push_str("## Keeping\n\n");
    let names = ["entry", "time", "what", "session", "reason"];
    table(&mut out, &names, &rows(&report["events"]["orders"], &names));
    let _ =
        writeln!(out, "Segments deleted by retention: {}.\n", cell(&report["events"]["retired_segments"]));
    out.push_str("## Runs and gaps\n\n");
    let names = ["entry", "begun", "last", "stopped", "version", "binary", "configuration"];
    table(&mut out, &names, &rows(&report["events"]["runs"], &names));
    out.push_str("Silences of the log while the gateway ran:\n\n");
    table(&mut out, &["from", "to"], &rows(&report["events"]["silences"], &["from", "to"]));
    out.push_str("## Controls\n\n");
    let names = ["control", "asks", "shown"];
    table(&mut out, &names, &rows(&report["controls"], &names));
    out.push_str("## Sample\n\n");
    let sample = &report["sample"];
    let _ = writeln!(
        out,
        "{} of {} asked, drawn by the smallest SHA-256 of `<seed>:<session>` with the seed `{}`; `sample.jsonl`.\n",
        cell(&sample["drawn"]),
        cell(&sample["asked"]),
        cell(&sample["seed"])
    );
    let names = ["place", "session", "begun", "route", "subject", "segments"];
    table(&mut out, &names, &rows(&sample["sessions"], &names));
    out.push_str("## What this report does not prove\n\n");
    for limit in report["not_proved"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "- {}", cell(limit));
    }
    out.push_str("\n## Checking it\n\n```sh\nsha256sum -c report.sum\n");
    let gateway = cell(&report["gateway"]);
    let _ = writeln!(
        out,
        "ssh-keygen -Y verify -f RECORDINGS/log/allowed_signers -I staunch/{gateway} -n staunch-report@v1 -s report.sum.sig < report.sum\n```"
    );
    out
}
