//! `staunch sessions`: list, show, verify, hold, release, erase.

use super::table::{self, Output};
use super::{EvidenceFault, identities};
use crate::names::SessionId;
use crate::recording::directory::Directory;
use crate::recording::format::frame::Plane;
use crate::recording::format::segment::GatewayId;
use crate::recording::keeper::requests::{Action, Request, ask};
use crate::recording::reader::verify::{Area, Report, verify};
use crate::recording::reader::{Event, ReadFault, list, play};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// Where recordings stand.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The directory of the gateway's recordings.
    #[arg(long, short, env = "STAUNCH_RECORDINGS", value_name = "FOLDER")]
    pub directory: PathBuf,
}

/// `staunch sessions …`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List sessions, the oldest first. Needs no key.
    List {
        /// Where.
        #[command(flatten)]
        place: Place,
        /// How: table, json, csv.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Sessions alone whose audit lines have this value: route=openai, subject=alice. Several: all of them.
        #[arg(long = "where", value_name = "FIELD=VALUE")]
        filters: Vec<Filter>,
    },
    /// Show one session: its facts, and with an identity what was said.
    Show {
        /// Which: 16 hex digits.
        session: Session,
        /// Where.
        #[command(flatten)]
        place: Place,
        /// An auditor's identity file, as age's.
        #[arg(long, short, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// Write the plaintext of one direction as it is, and nothing else.
        #[arg(long, value_name = "up|down", requires = "identity")]
        raw: Option<Direction>,
    },
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
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hold a session: neither retention nor erasure touches it.
    Hold(Ordered),
    /// Release a session that is held.
    Release(Ordered),
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

/// A session as it is written: 16 hex digits.
#[derive(Clone, Copy, Debug)]
pub struct Session(pub SessionId);

impl FromStr for Session {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(|id| Session(SessionId(id))).ok_or_else(|| "write 16 hex digits, as `list` prints them".into())
    }
}

/// A gateway's identity as it is written: 32 hex digits.
#[derive(Clone, Copy, Debug)]
pub struct Gateway(pub GatewayId);

impl FromStr for Gateway {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(|id| Gateway(GatewayId(id.to_be_bytes()))).ok_or_else(|| "write 32 hex digits".into())
    }
}

/// A direction of a session.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Direction {
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
}

/// A field of an audit line and its value.
#[derive(Clone, Debug)]
pub struct Filter(String, String);

impl FromStr for Filter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (field, value) = text.split_once('=').ok_or("write FIELD=VALUE, for example route=openai")?;
        Ok(Filter(field.to_owned(), value.to_owned()))
    }
}

/// Runs a command; its result goes to `out`, what could not be read to `told`.
pub fn run(command: Command, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    match command {
        Command::List { place, output, filters } => {
            let (mut sessions, faults) = list(&Directory::read(&place.directory)?)?;
            sessions.retain(|session| {
                filters.iter().all(|Filter(name, value)| {
                    let has = |line: &str| table::field(line, name).as_ref() == Some(value);
                    has(&session.opened) || has(&session.closed)
                })
            });
            table::print(out, &sessions, output)?;
            tell(told, &faults)
        }
        Command::Show { session, place, identity, raw } => {
            let identities = identity.as_deref().map(identities).transpose()?;
            let directory = Directory::read(&place.directory)?;
            let (mut failed, mut found) = (Ok(()), false);
            let faults = play(&directory, session.0, identities.as_ref(), |time, event| {
                found = true;
                if failed.is_ok() {
                    failed = match raw {
                        None => show(out, time, &event),
                        Some(direction) => show_raw(out, direction, &event),
                    };
                }
            })?;
            failed?;
            if !found && faults.is_empty() {
                return Err(EvidenceFault::Refused(format!("no segment holds session {}", session.0)));
            }
            tell(told, &faults)
        }
        Command::Verify { place, identity, gateway, json } => {
            let identities = identity.as_deref().map(identities).transpose()?;
            let directory = Directory::read(&place.directory)?;
            let report = verify(&directory, identities.as_ref(), gateway.map(|gateway| gateway.0))?;
            match json {
                true => print_json(out, &directory, &report)?,
                false => print_report(out, &directory, &report)?,
            }
            Ok(u8::from(report.faults().next().is_some()))
        }
        Command::Hold(ordered) => order(out, Action::Hold, ordered),
        Command::Release(ordered) => order(out, Action::Release, ordered),
        Command::Erase(ordered) => order(out, Action::Erase, ordered),
    }
}

fn order(out: &mut impl Write, action: Action, ordered: Ordered) -> Result<u8, EvidenceFault> {
    let request = Request { action, session: ordered.session.0, reason: ordered.reason };
    let done = ask(&ordered.place.directory, &request)?.map_err(EvidenceFault::Refused)?;
    writeln!(out, "done: {done} of the log")?;
    Ok(0)
}

/// Tells what could not be read.
fn tell(told: &mut impl Write, faults: &[ReadFault]) -> Result<u8, EvidenceFault> {
    faults.iter().try_for_each(|fault| writeln!(told, "{fault}"))?;
    Ok(u8::from(!faults.is_empty()))
}

fn show(out: &mut impl Write, time: u64, event: &Event) -> std::io::Result<()> {
    let time = table::time(time);
    let text = |bytes: &[u8]| crate::audit::printable(&String::from_utf8_lossy(bytes));
    match event {
        Event::Fact(line) => writeln!(out, "{time} fact {}", text(line)),
        Event::SealedFact(Some(fact)) => writeln!(out, "{time} fact {}", text(fact)),
        Event::SealedFact(None) => writeln!(out, "{time} fact (sealed; no identity opens it)"),
        Event::Data(plane, Some(data)) => writeln!(out, "{time} {plane:4} {}", text(data)),
        Event::Data(plane, None) => {
            writeln!(out, "{time} {plane:4} (sealed; no identity opens it, or it is erased)")
        }
        Event::Gap(gap) => writeln!(out, "{time} gap  {} bytes {} were not recorded", gap.bytes, gap.plane),
        Event::End(totals) => {
            let [down, up] = totals.bytes;
            writeln!(out, "{time} end  {down} bytes down, {up} up, {} lost", totals.lost_bytes)
        }
    }
}

fn show_raw(out: &mut impl Write, direction: Direction, event: &Event) -> std::io::Result<()> {
    let wanted = match direction {
        Direction::Up => Plane::Up,
        Direction::Down => Plane::Down,
    };
    match event {
        Event::Data(plane, Some(data)) if *plane == wanted => out.write_all(data),
        _ => Ok(()),
    }
}

const AREAS: [(Area, &str); 3] =
    [(Area::Integrity, "integrity"), (Area::Completeness, "completeness"), (Area::Erasure, "erasure")];

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
