//! A comparison for people: the terminal's rows, the bars, the table of a Markdown file.

use super::results::{Figure, Results, Row, ranked};
use crate::{Outcome, plot};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A row as the terminal shows it.
pub(super) fn text(row: &Row) -> String {
    let mut text = format!("\n{} ({})\n", row.what, row.unit);
    let own = row.peers.get("staunch").map(|figure| figure.median);
    for (name, figure) in ranked(row) {
        let _ =
            write!(text, "  {name:<12} {:>10.3}  [{:.3} – {:.3}]", figure.median, figure.least, figure.most);
        if let Some(own) = own.filter(|_| figure.median > 0.0 && name != "staunch") {
            let _ = write!(text, "  staunch is {:.2} of it", own / figure.median);
        }
        if let Some(yielding) = figure.yielding {
            let _ = write!(text, "  of it {yielding:.3} when nobody else had work");
        }
        let added = |f| row.added(figure, f);
        if let (Some(p50), Some(p99)) = (added(|f| f.p50_us), added(|f| f.p99_us)) {
            let _ = write!(text, "  whole run p50 {p50:.0} µs, p99 {p99:.0} µs");
        }
        if let Some(first) = added(|f| f.first_p50_us) {
            let _ = write!(text, ", first event {first:.0} µs");
        }
        text.push('\n');
    }
    text
}

/// Draws a row's bars.
pub(super) fn plot_row(folder: &Path, row: &Row) -> Outcome<()> {
    let bars: Vec<(String, f64)> =
        ranked(row).into_iter().map(|(name, f)| (name.clone(), f.median)).collect();
    plot::bars(&folder.join(format!("{}.svg", row.work)), &row.what, &row.unit, &bars)
}

/// Latencies of the whole run, below those of its calm stretches.
type Latency = fn(&Figure) -> Option<f64>;
const BESIDE: &[(&str, Latency)] = &[
    ("… from the first connection on", |figure| figure.p99_us),
    ("… the first event, median", |figure| figure.first_p50_us),
];

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

/// Writes the table of a comparison between the markers of a Markdown file.
pub(crate) fn table(results: &PathBuf, into: &PathBuf) -> Outcome<()> {
    let results: Results = serde_json::from_str(&std::fs::read_to_string(results)?)?;
    let page = std::fs::read_to_string(into)?;
    let begin = page.find(BEGIN).ok_or_else(|| format!("{}: no line {}", into.display(), BEGIN.trim()))?;
    let end = page.find(END).ok_or_else(|| format!("{}: no line {END}", into.display()))?;
    let new = format!("{}{BEGIN}{}{}", &page[..begin], markdown(&results), &page[end..]);
    std::fs::write(into, new)?;
    Ok(())
}

fn markdown(results: &Results) -> String {
    let mut text = String::from("| what | Staunch | others, and Staunch's part of each |\n|---|---|---|\n");
    for row in &results.rows {
        let Some(own) = row.peers.get("staunch") else { continue };
        let others: Vec<String> = ranked(row)
            .into_iter()
            .filter(|(name, figure)| *name != "staunch" && figure.median > 0.0)
            .map(|(name, f)| format!("{name} {} ({:.2})", short(f.median), own.median / f.median))
            .collect();
        let _ =
            writeln!(text, "| {} | {} {} | {} |", row.what, short(own.median), row.unit, others.join(", "));
        for (what, f) in BESIDE {
            let Some(own) = row.added(own, *f) else { continue };
            let slow = |(name, figure)| Some((name, row.added(figure, *f)?));
            let mut others: Vec<_> = ranked(row).into_iter().filter_map(slow).collect();
            others.retain(|(name, _)| *name != "staunch");
            others.sort_by(|a, b| a.1.total_cmp(&b.1));
            let others: Vec<String> =
                others.into_iter().map(|(name, us)| format!("{name} {}", ms(us))).collect();
            let _ = writeln!(text, "| {what} | {} | {} |", ms(own), others.join(", "));
        }
    }
    let value = |key: &str| results.machine.get(key).map_or("unknown", String::as_str);
    let versions: Vec<String> = results
        .versions
        .iter()
        .filter(|(name, version)| {
            !version.is_empty() && !matches!(name.as_str(), "staunch" | "tls" | "plain")
        })
        .filter(|(name, _)| !name.ends_with("-jwt"))
        .map(|(name, version)| match library(version) {
            Some(library) => format!("{name} {} ({library})", number(version)),
            None => format!("{name} {}", number(version)),
        })
        .collect();
    let _ = write!(
        text,
        "\nProcessor time of the proxy on one core, medians of {} rounds in turn; {}, Linux {}. `tls` and `plain` are built-in\nrelays: tokio-rustls with 64 KiB copy buffers, and bare TCP. {}.\n",
        results.rounds,
        value("processor"),
        value("kernel"),
        versions.join("; ")
    );
    text
}

/// The first word that looks like `1.2`, as each program hides it elsewhere in what it says of itself.
fn number(version: &str) -> &str {
    let looks = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    version.split([' ', '/', ',']).find(looks).unwrap_or(version)
}

/// The TLS library as the version names it behind a comma: the one that runs, name and number.
fn library(version: &str) -> Option<String> {
    let (_, named) = version.split_once(", ")?;
    let named = named.rsplit_once("running with ").map_or(named, |(_, runs)| runs);
    let words: Vec<&str> = named.split_whitespace().take(2).collect();
    Some(words.join(" ").trim_end_matches(')').to_owned())
}

/// Milliseconds of a difference of two measurements, which can be less than nothing.
fn ms(us: f64) -> String {
    format!("{:.1} ms", (us / 1000.0).max(0.0))
}

pub(crate) fn short(x: f64) -> String {
    if x >= 100.0 {
        format!("{x:.0}")
    } else if x >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shortened_to_its_number_and_the_library_that_runs() {
        let short = |version| (number(version).to_owned(), library(version));
        let nginx = "nginx/1.31.5, OpenSSL 1.1.1 (compatible; AWS-LC 5.5.0) (running with AWS-LC 5.5.0)";
        assert_eq!(short(nginx), ("1.31.5".into(), Some("AWS-LC 5.5.0".into())));
        let stunnel = "stunnel 5.68 on x86_64-pc-linux-gnu platform, OpenSSL 3.0.19 27 Jan 2026";
        assert_eq!(short(stunnel), ("5.68".into(), Some("OpenSSL 3.0.19".into())));
        assert_eq!(short("9e55/1.40.0/Clean/RELEASE/BoringSSL"), ("1.40.0".into(), None));
    }
}
