//! The report as one HTML page, for the screen and for paper.

use super::certificates::by_certificate;
use super::chart::{bars, escape, timeline};
use super::figures::{counts, listed, object};
use serde_json::Value;
use std::fmt::Write;

fn cell(value: &Value) -> String {
    escape(&crate::evidence::table::text(value))
}

fn table(out: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        out.push_str("<p class=\"none\">None.</p>");
        return;
    }
    let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    let _ = write!(out, "<table><thead><tr>{heads}</tr></thead><tbody>");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let _ = write!(out, "<tr>{cells}</tr>");
    }
    out.push_str("</tbody></table>");
}

fn rows(values: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let values = values.as_array().into_iter().flatten();
    values.map(|value| names.iter().map(|name| cell(&value[*name])).collect()).collect()
}

/// The same with times in these columns as people read them: to the second.
fn with_times(mut rows: Vec<Vec<String>>, columns: &[usize]) -> Vec<Vec<String>> {
    for row in &mut rows {
        for column in columns {
            if let Some(text) = row[*column].get(..19) {
                row[*column] = text.replace('T', " ");
            }
        }
    }
    rows
}

const STYLE: &str = "\
:root{color-scheme:light;--ink:#1b2733;--soft:#5c6b7a;--line:#dfe4ea;--good:#0b6e4f;--bad:#c0392b;--paper:#fff}
*{box-sizing:border-box}body{margin:0;background:#eef1f4;color:var(--ink);font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:900px;margin:24px auto;background:var(--paper);padding:44px 52px;box-shadow:0 1px 4px #0002}
header{border-bottom:3px solid var(--ink);padding-bottom:14px;margin-bottom:22px}
h1{font-size:25px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 8px;border-bottom:1px solid var(--line);padding-bottom:4px}
h3{font-size:13px;margin:18px 0 4px;color:var(--soft);font-weight:600}
p{margin:6px 0}.meta{color:var(--soft)}code{font:12px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(3,1fr);gap:10px;margin:14px 0}
.tile{border:1px solid var(--line);border-left:5px solid var(--soft);padding:9px 13px;border-radius:3px}
.tile b{display:block;font-size:21px;line-height:1.25}.tile span{color:var(--soft);font-size:12px}
.good{border-left-color:var(--good)}.good b{color:var(--good)}.bad{border-left-color:var(--bad)}.bad b{color:var(--bad)}
table{border-collapse:collapse;width:100%;margin:8px 0;font-size:12px}th,td{text-align:left;padding:4px 8px 4px 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;white-space:nowrap}svg{width:100%;height:auto;display:block;font-size:12px;fill:var(--ink)}
.share,.timeline text{fill:var(--soft)}.grid{stroke:var(--line)}.legend{font-size:12px;color:var(--soft)}
.legend span{margin-right:18px}.legend i{display:inline-block;width:10px;height:10px;margin-right:6px;border-radius:2px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:0 34px}.none{color:var(--soft)}li{margin:4px 0}
pre{background:#f4f6f8;padding:10px 12px;overflow-x:auto;font:12px ui-monospace,'DejaVu Sans Mono',monospace;white-space:pre-wrap}
figure{margin:0;break-inside:avoid}h2,h3{break-after:avoid}tr{break-inside:avoid}
.word{white-space:nowrap}
@media print{body{background:none;font-size:12px;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{box-shadow:none;margin:0;padding:0;max-width:none}}";

/// Text in one line, if it is short.
fn word(value: &Value) -> String {
    let text = cell(value);
    match text.len() <= 16 {
        true => format!("<span class=\"word\">{text}</span>"),
        false => text,
    }
}

fn certificates(out: &mut String, all: &[Value]) {
    let lines = |parts: &[String]| {
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join("<br>")
    };
    let rows = all.iter().map(|one| {
        let is_known = one["subject"] != "" || one["issuer"] != "";
        let issuer = match is_known {
            true => format!("<span class=\"meta\">issued by {}</span>", cell(&one["issuer"])),
            false => "<span class=\"meta\">not recorded</span>".into(),
        };
        let names = one["names"].as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(", ");
        vec![
            cell(&one["shown_by"]),
            cell(&one["routes"]),
            lines(&[cell(&one["subject"]), names, issuer, format!("<code>{}</code>", cell(&one["sha256"]))]),
            lines(&[word(&one["key"]), format!("<span class=\"meta\">{}</span>", cell(&one["key_listed"]))]),
            lines(&[cell(&one["not_after"]), cell(&one["state"])]),
            cell(&one["verified"]),
            cell(&one["sessions"]),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let heads = [
        "shown by",
        "routes",
        "subject, names, issuer, SHA-256",
        "key",
        "good until",
        "verified",
        "sessions",
    ];
    table(out, &heads, &rows);
    out.push_str("<p class=\"meta\">The sessions of each stand in <code>certificates.jsonl</code>.</p>");
}

fn tile(out: &mut String, class: &str, number: &str, words: &str) {
    let _ = write!(
        out,
        "<div class=\"tile {class}\"><b>{}</b><span>{}</span></div>",
        escape(number),
        escape(words)
    );
}

/// Per cent of sessions with one of these values.
fn share(counted: &[(&str, u64)], is_wanted: impl Fn(&str) -> bool) -> Option<f64> {
    let total: u64 = counted.iter().map(|(_, count)| count).sum();
    let wanted: u64 = counted.iter().filter(|(name, _)| is_wanted(name)).map(|(_, count)| count).sum();
    (total > 0).then(|| wanted as f64 * 100.0 / total as f64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| match share {
        // Never rounded up to all.
        share if share < 100.0 && share > 99.9 => "99.9 %".into(),
        100.0 => "100 %".into(),
        share => format!("{share:.1} %"),
    })
}

fn figure(out: &mut String, report: &Value, id: &str) {
    let figures = report["figures"].as_array();
    let Some(figure) = figures.and_then(|figures| figures.iter().find(|figure| figure["id"] == id)) else {
        return;
    };
    let counted = counts(report, id);
    let drawn = match counted.is_empty() {
        true => "<p class=\"none\">None.</p>".to_owned(),
        false => bars(&counted, 12),
    };
    let _ = write!(out, "<figure><h3>{}</h3>{drawn}", cell(&figure["title"]));
    let notes: Vec<String> = counted
        .iter()
        .filter(|(name, _)| !listed(name).is_empty())
        .map(|(name, _)| format!("{}: {}", escape(name), listed(name)))
        .collect();
    if !notes.is_empty() {
        let _ = write!(out, "<p class=\"meta\">{}</p>", notes.join(" · "));
    }
    let _ = write!(out, "<p class=\"meta\">Counted by <code>{}</code>.</p></figure>", cell(&figure["field"]));
}

fn tiles(out: &mut String, report: &Value) {
    let totals = &report["totals"];
    out.push_str("<div class=\"tiles\">");
    for (name, is_good) in object(&report["verdict"]["good"]) {
        let (class, word) = if is_good == true { ("good", "good") } else { ("bad", "BAD") };
        tile(out, class, word, &name);
    }
    tile(out, "", &cell(&totals["recorded"]), "sessions recorded");
    let unrecorded = totals["unrecorded"].as_u64().unwrap_or(0);
    tile(
        out,
        if unrecorded == 0 { "good" } else { "" },
        &unrecorded.to_string(),
        "sessions not recorded (all routes)",
    );
    let lost = totals["lost_bytes"].as_u64().unwrap_or(0);
    tile(out, if lost == 0 { "good" } else { "bad" }, &lost.to_string(), "bytes forwarded and not recorded");
    let versions = counts(report, "client_version");
    let upstream = counts(report, "upstream_version");
    let classes = counts(report, "client_key_exchange");
    tile(out, "", &percent(share(&versions, |name| name == "TLSv1.3")), "TLS 1.3 to clients");
    tile(
        out,
        "",
        &percent(share(&classes, |name| name.starts_with("post-quantum"))),
        "post-quantum to clients",
    );
    let plain = share(&upstream, |name| name.starts_with("none"));
    tile(out, if plain == Some(0.0) { "good" } else { "bad" }, &percent(plain), "without TLS to the service");
    out.push_str("</div>");
}

/// Each page says whose it is, of which period, and which of how many.
fn page_rules(report: &Value) -> String {
    // Times and the gateway's identity have none of CSS's marks; nothing else gets in here.
    let plain = |name: &str| -> String {
        let text = crate::evidence::table::text(&report[name]);
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "-:.".contains(*c)).take(40).collect()
    };
    let text = "font:9px system-ui,sans-serif;color:#5c6b7a";
    format!(
        "@page{{size:A4;margin:16mm 15mm 18mm;@bottom-left{{content:\"Gateway {} · {} to {}\";{text}}}\
         @bottom-right{{content:\"Page \" counter(page) \" of \" counter(pages);{text}}}}}",
        plain("gateway"),
        plain("from").get(..10).unwrap_or_default(),
        plain("to").get(..10).unwrap_or_default()
    )
}

/// Writes the report.
pub(super) fn write(report: &Value) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Evidence {} to {}</title><style>{STYLE}{}</style></head><body><main>",
        cell(&report["from"]),
        cell(&report["to"]),
        page_rules(report)
    );
    let day = |name: &str| cell(&report[name]).get(..16).unwrap_or_default().replace('T', " ");
    let route =
        report["route"].as_str().map_or("all routes".into(), |route| format!("route {}", escape(route)));
    let _ = write!(
        out,
        "<header><h1>Evidence of encryption and recording</h1><p class=\"meta\">{} to {} UTC · {route} · gateway <code>{}</code></p>\
         <p class=\"meta\">Made {} UTC by {}</p></header>",
        day("from"),
        day("to"),
        cell(&report["gateway"]),
        day("made"),
        cell(&report["by"])
    );
    tiles(&mut out, report);
    out.push_str("<h2>Findings</h2>");
    let verdict = &report["verdict"];
    let _ = write!(
        out,
        "<p>{} segments, {} sessions and {} entries of the log were verified; {} records were opened.</p>",
        cell(&verdict["segments"]),
        cell(&verdict["sessions"]),
        cell(&verdict["entries"]),
        cell(&verdict["records_opened"])
    );
    let names = ["area", "fault", "file", "offset", "reason"];
    table(&mut out, &names, &rows(&verdict["findings"], &names));
    let _ = write!(
        out,
        "<h2>Encryption</h2><figure><h3>Sessions over time, by key exchange of the client leg</h3>{}</figure>",
        timeline(&report["timeline"])
    );
    for ids in [
        ["client_version", "upstream_version"],
        ["client_group", "upstream_group"],
        ["client_cipher", "upstream_cipher"],
        ["client_key_exchange", "upstream_key_exchange"],
    ] {
        ids.iter().for_each(|id| figure(&mut out, report, id));
    }
    figure(&mut out, report, "upstream_verified");
    out.push_str("<h2>Certificates</h2>");
    certificates(&mut out, &by_certificate(&report["certificates"]));
    out.push_str("<h2>Identity</h2>");
    figure(&mut out, report, "route");
    out.push_str("<h3>People: a session of several counts under each of them</h3>");
    let names = ["subject", "issuer", "sessions", "shared", "requests", "first", "last"];
    table(&mut out, &names, &with_times(rows(&report["people"], &names), &[5, 6]));
    out.push_str(
        "<p class=\"meta\">Counted by <code>people</code>; there stands the time of each over each session. \
         “Shared”: of these sessions, those of several people.</p>",
    );
    ["subject", "proof", "refusals", "statuses"].iter().for_each(|id| figure(&mut out, report, id));
    out.push_str("<h2>Recordings</h2>");
    ["state", "reason"].iter().for_each(|id| figure(&mut out, report, id));
    out.push_str("<h2>Sessions that were not recorded</h2>");
    let totals = &report["totals"];
    let _ = write!(
        out,
        "<p>The log counts {} sessions in this period, {} of them recorded and {} not, on all routes; {} of these are named in <code>unrecorded.jsonl</code>.</p>",
        cell(&totals["logged"]["sessions"]),
        cell(&totals["logged"]["recorded"]),
        cell(&totals["unrecorded"]),
        cell(&totals["unrecorded_named"])
    );
    out.push_str("<h2>Keeping</h2><h3>Holds, releases, erasures</h3>");
    let names = ["entry", "time", "what", "session", "reason"];
    table(&mut out, &names, &with_times(rows(&report["events"]["orders"], &names), &[1]));
    let _ = write!(
        out,
        "<p>Segments deleted by retention: {}. Held sessions: {}. Erased: {}.</p>",
        cell(&report["events"]["retired_segments"]),
        cell(&totals["held"]),
        cell(&totals["erased"])
    );
    out.push_str("<h2>Runs and gaps</h2>");
    let names = ["entry", "begun", "last", "stopped", "version", "configuration"];
    table(&mut out, &names, &with_times(rows(&report["events"]["runs"], &names), &[1, 2]));
    out.push_str("<h3>Silences of the log while the gateway ran</h3>");
    table(
        &mut out,
        &["from", "to"],
        &with_times(rows(&report["events"]["silences"], &["from", "to"]), &[0, 1]),
    );
    out.push_str("<h2>Controls</h2>");
    let names = ["control", "asks", "shown"];
    table(&mut out, &names, &rows(&report["controls"], &names));
    let sample = &report["sample"];
    let _ = write!(
        out,
        "<h2>Sample</h2><p>{} sessions of {} asked, drawn by the smallest SHA-256 of <code>&lt;seed&gt;:&lt;session&gt;</code> with the seed <code>{}</code>, each with its proof in <code>sample.jsonl</code>.</p>",
        cell(&sample["drawn"]),
        cell(&sample["asked"]),
        cell(&sample["seed"])
    );
    let names = ["place", "session", "begun", "route", "subject", "segments"];
    table(&mut out, &names, &with_times(rows(&sample["sessions"], &names), &[2]));
    out.push_str("<h2>What this report does not prove</h2><ul>");
    for limit in report["not_proved"].as_array().into_iter().flatten() {
        let _ = write!(out, "<li>{}</li>", cell(limit));
    }
    let _ = write!(
        out,
        "</ul><h2>Checking it</h2><p>Every figure can be counted again from <code>sessions.jsonl</code>; <code>report.json</code> holds the SHA-256 of all files and is signed by the key of the gateway's log.</p>\
         <pre>sha256sum -c report.sum\nssh-keygen -Y verify -f RECORDINGS/log/allowed_signers -I staunch/{} \\\n    -n staunch-report@v1 -s report.sum.sig &lt; report.sum</pre></main></body></html>\n",
        cell(&report["gateway"])
    );
    out
}
