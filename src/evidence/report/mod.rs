//! `staunch evidence`: a report of how sessions of a period were encrypted, recorded and kept.
//!
//! ```text
//!   report.json        all figures, what verifying found, what is not proved, SHA-256 of the files beside it
//!   report.html  .md   the same for people
//!   certificates.jsonl certificates of both legs, each with its sessions
//!   sessions.jsonl     the population: a line for each recorded session; every figure can be counted again from it
//!   unrecorded.jsonl   sessions of the gateway's log that have no recording
//!   sample.jsonl       sessions drawn for closer inspection, each with its proof
//!   report.sum(.sig)   SHA-256 of report.json, signed by the log's key; the log has an entry of it
//! ```

mod certificates;
mod chart;
mod controls;
mod figures;
mod html;
mod log_file;
mod markdown;
mod people;
mod population;
mod sample;

use super::EvidenceFault;
use super::arguments::Gateway;
use super::identities;
use super::interrupt::Uninterrupted;
use super::output::OutputFile;
use super::progress::Progress;
use super::table::time;
use super::when::When;
use crate::recording::clock;
use crate::recording::directory::Directory;
use crate::recording::keeper::requests::sign_report;
use crate::recording::reader::log_view::LogView;
use crate::recording::reader::verify::{AREAS, Report, hold_against_timestamps, verify};
use population::Population;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// `staunch evidence`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The directory of the gateway's recordings.
    #[arg(long, short, env = "STAUNCH_RECORDINGS", value_name = "FOLDER")]
    pub directory: PathBuf,
    /// Begin of the period: 2026-11-01, 2026-11-01T00:00:00Z, 30d (ago).
    #[arg(long, value_name = "TIME")]
    pub from: When,
    /// End of the period. Default: now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<When>,
    /// Sessions over this route alone.
    #[arg(long)]
    pub route: Option<String>,
    /// Draw so many sessions, each with its proof.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sample: usize,
    /// What the drawing depends on: the same seed draws the same sessions.
    #[arg(long, default_value = "1")]
    pub seed: String,
    /// A file of the gateway's log (JSON lines): names the sessions that were not recorded. Several: all of them.
    #[arg(long, value_name = "FILE")]
    pub log: Vec<PathBuf>,
    /// An auditor's identity file: every byte is checked that it opens.
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The gateway's identity as you noted it: 32 hex digits.
    #[arg(long, value_name = "ID")]
    pub gateway: Option<Gateway>,
    /// The folder to write; it is made, and must not be there yet.
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Write the report without a signature: on a copy of the recordings, without the gateway.
    #[arg(long)]
    pub unsigned: bool,
}

/// Faults that are named on the terminal; the report has all.
const MAX_FAULTS_TOLD: usize = 20;

/// Writes the report; a summary goes to `out`, what could not be read to `told`. 1 if anything is wrong with the recordings.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    if arguments.output.symlink_metadata().is_ok() {
        let why = "is there already".into();
        return Err(EvidenceFault::File { path: arguments.output.clone(), why });
    }
    let now = clock::system();
    let to = arguments.to.map_or(now, |to| to.0);
    if arguments.from.0 >= to {
        return Err(EvidenceFault::Usage("--from is not before --to".into()));
    }
    let identities = arguments.identity.as_deref().map(identities).transpose()?;
    let directory = Directory::read(&arguments.directory)?;
    let mut faults = Vec::new();
    let mut verdict = verify(
        &directory,
        identities.as_ref(),
        arguments.gateway.map(|gateway| gateway.0),
        &mut &Progress::new("verifying segment"),
    )?;
    hold_against_timestamps(&directory, None, &mut verdict);
    // The verdict says what is wrong with it; sessions are listed all the same.
    let log = LogView::read(&directory).unwrap_or_else(|fault| {
        faults.push(fault.to_string());
        LogView::default()
    });
    let population = Population::read(&directory, &log, (arguments.from.0, to), arguments.route.as_deref())?;
    population.faults.iter().try_for_each(|fault| writeln!(told, "{fault}"))?;
    let unrecorded = log_file::unrecorded(&arguments.log, &population, told)?;
    let sample = sample::draw(&directory, &population, &arguments.seed, arguments.sample);
    let sample = sample.unwrap_or_else(|fault| {
        faults.push(format!("the sample has no proofs: {fault}"));
        sample::draw_unproved(&population, &arguments.seed, arguments.sample)
    });
    faults.iter().try_for_each(|fault| writeln!(told, "{fault}"))?;
    let certificates = certificates::inventory(&population, to);
    let mut report = json!({
        "format": 1,
        "gateway": directory.gateway().to_string(),
        "from": time(arguments.from.0), "to": time(to), "made": time(now),
        "route": arguments.route,
        "by": concat!("staunch ", env!("CARGO_PKG_VERSION")),
        "verdict": verdict_json(&verdict),
        "figures": figures::figures(&population),
        "totals": figures::totals(&population, &log, &unrecorded, (arguments.from.0, to)),
        "timeline": figures::timeline(&population, (arguments.from.0, to)),
        "events": figures::events(&log, (arguments.from.0, to)),
        "people": people::people(population.rows.iter().map(|member| (&member.people, member.row.summary.last))),
        "certificates": certificates::without_sessions(&certificates),
        "sample": { "seed": arguments.seed, "asked": arguments.sample, "drawn": sample.len(), "sessions": sample::shown(&sample) },
        "unrecorded_named": { "logs": arguments.log, "sessions": unrecorded.len() },
        "controls": controls::CONTROLS.iter().map(|control| json!({
            "control": control.name, "asks": control.asks, "shown": control.shown,
        })).collect::<Vec<_>>(),
        "not_proved": controls::not_proved(&verdict, &arguments.log, arguments.route.as_deref()),
    });
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("sessions.jsonl", lines(&population.lines())),
        ("certificates.jsonl", lines(&certificates)),
        ("unrecorded.jsonl", lines(&unrecorded)),
        ("sample.jsonl", lines(&sample)),
        ("report.md", markdown::write(&report).into_bytes()),
        ("report.html", html::write(&report).into_bytes()),
    ];
    let hashes = files.iter().map(|(name, bytes)| ((*name).to_owned(), sha256(bytes).into()));
    report["files"] = Value::Object(hashes.collect());
    let text = format!("{report:#}\n").into_bytes();
    let sum = sha256(&text);
    // From the log's entry of the report to the last of its files.
    let _guard = Uninterrupted::begin()?;
    if !arguments.unsigned {
        let signature = sign_report(&arguments.directory, &sum)?.map_err(|why| {
            EvidenceFault::Refused(format!("the report was not signed: {why}; --unsigned writes it without"))
        })?;
        files.push(("report.sum.sig", signature.into_bytes()));
    }
    files.push(("report.sum", format!("{sum}  report.json\n").into_bytes()));
    files.push(("report.json", text));
    write_folder(&arguments.output, &files)?;
    summary(out, &report, &arguments.output)?;
    let places = verdict.faults().map(|finding| &finding.place);
    let untold = places.filter(|place| !population.faults.contains(place));
    untold.take(MAX_FAULTS_TOLD).try_for_each(|fault| writeln!(told, "{fault}"))?;
    let is_good = population.faults.is_empty() && faults.is_empty() && verdict.faults().next().is_none();
    Ok(u8::from(!is_good))
}

fn verdict_json(verdict: &Report) -> Value {
    let good: serde_json::Map<_, _> =
        AREAS.iter().map(|(area, name)| ((*name).to_owned(), verdict.is_good(*area).into())).collect();
    let findings = verdict.findings.iter().map(|finding| {
        let area = AREAS.iter().find(|(area, _)| *area == finding.area).map_or("", |(_, name)| name);
        json!({
            "area": area, "fault": finding.is_fault, "file": finding.place.file, "offset": finding.place.offset,
            "reason": finding.place.reason,
        })
    });
    json!({
        "good": good, "segments": verdict.segments, "sessions": verdict.sessions, "entries": verdict.entries,
        "records_opened": verdict.opened, "findings": findings.collect::<Vec<_>>(),
    })
}

fn lines(values: &[Value]) -> Vec<u8> {
    values.iter().flat_map(|value| format!("{value}\n").into_bytes()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files have no name until all are written.
fn write_folder(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), EvidenceFault> {
    let beside = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut written = Vec::new();
    for (name, bytes) in files {
        let mut file = OutputFile::create_for(&folder.join(name), beside)?;
        file.write_all(bytes)?;
        written.push(file);
    }
    let fault =
        |error: std::io::Error| EvidenceFault::File { path: folder.to_owned(), why: error.to_string() };
    std::fs::create_dir(folder).map_err(fault)?;
    written.into_iter().try_for_each(OutputFile::finish)
}

fn summary(out: &mut impl Write, report: &Value, folder: &Path) -> std::io::Result<()> {
    let totals = &report["totals"];
    for (name, good) in report["verdict"]["good"].as_object().into_iter().flatten() {
        writeln!(out, "{name}: {}", if *good == true { "good" } else { "BAD" })?;
    }
    writeln!(
        out,
        "{} sessions recorded, {} not recorded, {} bytes lost; {} findings",
        totals["recorded"],
        totals["unrecorded"],
        totals["lost_bytes"],
        report["verdict"]["findings"].as_array().map_or(0, Vec::len)
    )?;
    writeln!(out, "written: {}", folder.display())
}
