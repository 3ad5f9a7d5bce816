//! `staunch sessions`: list, show, replay, export, verify, rewrap, hold, release, erase.

use super::arguments::{Gateway, Period, Place, Session, WitnessKey};
use super::interrupt::Uninterrupted;
use super::progress::Progress;
use super::{EvidenceFault, export, identities, list, replay, rewrap, show};
use crate::names::SessionId;
use crate::net::https::pem_authorities;
use crate::recording::directory::Directory;
use crate::recording::keeper::requests::{Action, Request, ask};
use crate::recording::reader::verify::{
    AREAS, Report, Stamped, Witnessed, hold_against_noted, hold_against_timestamps, hold_against_witnesses,
    verify,
};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `staunch sessions …`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List sessions, the oldest first. Needs no key.
    List(list::Arguments),
    /// Show one session: its facts, and with an identity what was said: requests, responses, statements with rows.
    Show(show::Arguments),
    /// Play one session on the terminal, in the pace in which it was.
    Replay(replay::Arguments),
    /// Write one session as a capture (pcapng) that Wireshark opens, with the secrets in it.
    Export(export::Arguments),
    /// Verify all recordings: integrity, completeness, erasure. Exits 1 if anything is wrong.
    Verify {
        /// Where.
        #[command(flatten)]
        place: Place,
        /// An auditor's identity file: every byte is checked that it opens.
        #[arg(long, short, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// The gateway's identity as you noted it: 32 hex digits.
        #[arg(long, value_name = "ID")]
        gateway: Option<Gateway>,
        /// A copy of `log/checkpoint` that you kept elsewhere: what was in the log then must be in it now.
        #[arg(long, value_name = "FILE")]
        noted: Option<PathBuf>,
        /// A witness of the log: its public key, as its `witness.pub` has it, or that file. Give several.
        #[arg(long, value_name = "KEY")]
        witness: Vec<WitnessKey>,
        /// How many of these witnesses must have cosigned the log. Default: all of them.
        #[arg(long, value_name = "N", requires = "witness")]
        witnesses_required: Option<usize>,
        /// How much later than the newest cosignature the log may have entries.
        #[arg(long, value_name = "DURATION", default_value = "1h", requires = "witness")]
        witnessed_within: Period,
        /// The authority that the log's time-stamps must lead to, a PEM file.
        #[arg(long, value_name = "FILE")]
        timestamp_ca: Option<PathBuf>,
        /// How much later than the newest time-stamp the log may have entries.
        #[arg(long, value_name = "DURATION", default_value = "2h", requires = "timestamp_ca")]
        stamped_within: Period,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hold a session: neither retention nor erasure touches it.
    Hold(Ordered),
    /// Release a session that is held.
    Release(Ordered),
    /// Open old recordings to auditors who came later, with the identity of one who can read them.
    Rewrap(rewrap::Arguments),
    /// Erase a session for good: its secrets are overwritten, and the log says so.
    Erase(Ordered),
}

/// A session, and why.
#[derive(Debug, clap::Args)]
pub struct Ordered {
    /// Which: 16 hex digits.
    pub session: Session,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Why, for the log.
    #[arg(long)]
    pub reason: String,
}

/// Runs a command; its result goes to `out`, what could not be read to `told`.
pub fn run(command: Command, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    match command {
        Command::List(arguments) => list::run(&arguments, out, told),
        Command::Show(arguments) => show::run(&arguments, out, told),
        Command::Replay(arguments) => replay::run(&arguments, out, told),
        Command::Export(arguments) => export::run(&arguments, out, told),
        Command::Verify {
            place,
            identity,
            gateway,
            noted,
            witness,
            witnesses_required,
            witnessed_within,
            timestamp_ca,
            stamped_within,
            json,
        } => {
            let witnesses: Vec<_> = witness.into_iter().map(|key| key.0).collect();
            let required = witnesses_required.unwrap_or(witnesses.len());
            if required > witnesses.len() {
                let why = format!("{required} witnesses are required and {} named", witnesses.len());
                return Err(EvidenceFault::Usage(why));
            }
            let wanted = timestamp_ca.as_deref().map(|path| stamped(path, stamped_within)).transpose()?;
            let identities = identity.as_deref().map(identities).transpose()?;
            let directory = Directory::read(&place.directory)?;
            let mut report = verify(
                &directory,
                identities.as_ref(),
                gateway.map(|gateway| gateway.0),
                &mut &Progress::new("verifying segment"),
            )?;
            hold_against_timestamps(&directory, wanted.as_ref(), &mut report);
            if let Some(file) = noted {
                let text = std::fs::read_to_string(&file);
                let why = |error: std::io::Error| EvidenceFault::File {
                    path: file.clone(),
                    why: error.to_string(),
                };
                hold_against_noted(&directory, &file, &text.map_err(why)?, &mut report);
            }
            if !witnesses.is_empty() {
                let wanted = Witnessed { witnesses, required, within: witnessed_within.0 };
                let last_entry = report.last_entry;
                hold_against_witnesses(&directory, &wanted, last_entry, &mut report);
            }
            match json {
                true => print_json(out, &directory, &report)?,
                false => print_report(out, &directory, &report)?,
            }
            Ok(u8::from(report.faults().next().is_some()))
        }
        Command::Rewrap(arguments) => rewrap::run(&arguments, out, told),
        Command::Hold(ordered) => order(out, Action::Hold, ordered),
        Command::Release(ordered) => order(out, Action::Release, ordered),
        Command::Erase(ordered) => order(out, Action::Erase, ordered),
    }
}

/// What is demanded of time-stamps.
fn stamped(path: &Path, within: Period) -> Result<Stamped, EvidenceFault> {
    let why = |why| EvidenceFault::File { path: path.to_owned(), why };
    let roots = pem_authorities(path).map_err(why)?;
    Ok(Stamped { authorities: roots.roots, within: within.0 })
}

fn order(out: &mut impl Write, action: Action, ordered: Ordered) -> Result<u8, EvidenceFault> {
    let request = Request { action, session: ordered.session.0, reason: ordered.reason };
    // An entry that says what was not done yet is put right by asking again, and is better not made.
    let _guard = Uninterrupted::begin()?;
    let done = ask(&ordered.place.directory, &request)?.map_err(EvidenceFault::Refused)?;
    writeln!(out, "done: {done} of the log")?;
    Ok(0)
}

fn print_report(out: &mut impl Write, directory: &Directory, report: &Report) -> std::io::Result<()> {
    writeln!(
        out,
        "gateway {}: {} segments, {} sessions, {} entries of the log, {} records opened",
        directory.gateway(),
        report.segments,
        report.sessions,
        report.entries,
        report.opened
    )?;
    for (area, name) in AREAS {
        let verdict = if report.is_good(area) { "good" } else { "BAD" };
        writeln!(out, "{name}: {verdict}")?;
        for finding in report.findings.iter().filter(|finding| finding.area == area) {
            let mark = if finding.is_fault { "FAULT" } else { "note" };
            writeln!(out, "  {mark}: {}", finding.place)?;
        }
    }
    writeln!(out, "not proved:")?;
    report.limits.iter().try_for_each(|limit| writeln!(out, "  {limit}"))
}

fn print_json(out: &mut impl Write, directory: &Directory, report: &Report) -> std::io::Result<()> {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let area = AREAS.iter().find(|(area, _)| *area == finding.area).map_or("", |(_, name)| name);
            json!({
                "area": area, "fault": finding.is_fault, "file": finding.place.file, "offset": finding.place.offset,
                "reason": finding.place.reason,
            })
        })
        .collect();
    let verdicts: serde_json::Map<_, _> =
        AREAS.iter().map(|(area, name)| ((*name).to_owned(), report.is_good(*area).into())).collect();
    let erased: serde_json::Map<_, _> = report
        .erased
        .iter()
        .map(|(session, entry)| (SessionId(*session).to_string(), (*entry).into()))
        .collect();
    let report = json!({
        "gateway": directory.gateway().to_string(), "segments": report.segments, "sessions": report.sessions,
        "entries": report.entries, "records_opened": report.opened, "good": verdicts, "erased": erased,
        "findings": findings, "not_proved": report.limits,
    });
    writeln!(out, "{report:#}")
}
