//! Verifies a directory: integrity, completeness and erasure, each with a verdict of its own.
//!
//! Without an identity it proves order, structure and counters at once, and every byte of segments that are complete; with
//! one, every byte that the identity opens. What it cannot prove is in [`Report::limits`].

mod chunks;
mod completeness;
mod noted;
mod report;
mod timestamped;
mod walk;
mod witnessed;

pub use noted::hold_against_noted;
pub use report::{AREAS, Area, Finding, Report};
pub use timestamped::{Stamped, hold_against_timestamps};
pub use witnessed::{Witnessed, hold_against_witnesses};

use super::super::clock::system;
use super::super::directory::{Directory, DirectoryFault};
use super::super::format::envelope::Identities;
use super::super::format::segment::GatewayId;
use super::super::log::verify::verify as verify_log;
use super::log_view::{LogView, LoggedSegment};
use super::segment::ReadFault;
use super::sessions::Observer;
use report::of_log;
use std::collections::{BTreeMap, HashMap};
use walk::{Seen, Walk};

/// Verifies a directory. `expected`: the gateway's identity as it was noted elsewhere.
pub fn verify(
    directory: &Directory,
    identities: Option<&Identities>,
    expected: Option<GatewayId>,
    observer: &mut impl Observer,
) -> Result<Report, DirectoryFault> {
    let mut report = Report::default();
    if expected.is_some_and(|expected| expected != directory.gateway()) {
        let file = directory.root().join("gateway");
        let reason = "another gateway's recordings: its identity is not the one that was noted".into();
        report.add(Area::Integrity, true, ReadFault { file, offset: 0, reason });
    }
    if let Some(fault) = ReadFault::of_identity(directory) {
        report.add(Area::Integrity, true, fault);
    }
    let mut view = LogView::default();
    let log = verify_log(directory, |number, line| view.take(number, line));
    report.entries = log.entries;
    for fault in &log.faults {
        report.add(Area::Integrity, true, of_log(fault));
    }
    let (mut sessions, mut first_in) = (BTreeMap::<u64, Seen>::new(), BTreeMap::<u64, u64>::new());
    let mut numbers = directory.segments()?;
    let mut chains = HashMap::<(u16, u32), u64>::new();
    for (place, number) in numbers.iter().enumerate() {
        observer.segment(place, numbers.len());
        report.segments += 1;
        let unlogged = LoggedSegment::default();
        let logged = view.segments.get(number).unwrap_or(&unlogged);
        let mut walk = Walk {
            directory,
            identities,
            view: &view,
            logged,
            report: &mut report,
            sessions: &mut sessions,
            observer,
        };
        let before = walk.sessions.values().filter(|seen| seen.has_first).count();
        if let Err(fault) = walk.segment(*number, &mut chains) {
            report.add(Area::Integrity, true, fault);
        }
        let after = sessions.values().filter(|seen| seen.has_first).count();
        first_in.insert(*number, (after - before) as u64);
    }
    for (number, logged) in retired_meanwhile(directory, &numbers) {
        let files = ["seg", "keys"].map(|kind| directory.segment(number, kind));
        report.findings.retain(|finding| !files.contains(&finding.place.file));
        // From here on it is one that was deleted before.
        view.segments.insert(number, logged);
        first_in.remove(&number);
        numbers.retain(|other| *other != number);
    }
    completeness::segments(directory, &numbers, &view, &mut report);
    completeness::totals(&mut report, &sessions, &view);
    completeness::runs(directory, &mut report, &view, &first_in);
    report.sessions = sessions.len() as u64;
    report.last_entry = view.last_time;
    report.timestamps = std::mem::take(&mut view.timestamps);
    report.findings.sort_by(|a, b| (a.area, &a.place.file).cmp(&(b.area, &b.place.file)));
    limits(&mut report, identities.is_some(), expected.is_some(), view.last_time);
    Ok(report)
}

/// Segments that the gateway deleted while they were verified, and what its log says of them now.
fn retired_meanwhile(directory: &Directory, numbers: &[u64]) -> Vec<(u64, LoggedSegment)> {
    let path = |number: u64| directory.segment(number, "seg");
    let gone: Vec<u64> = numbers.iter().copied().filter(|number| !path(*number).exists()).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    // Where the log cannot be read, they are missing.
    let mut now = LogView::read(directory).unwrap_or_default();
    let retired = gone.into_iter().filter_map(|number| Some((number, now.segments.remove(&number)?)));
    retired.filter(|(_, logged)| logged.retired).collect()
}

fn limits(report: &mut Report, has_identity: bool, has_pin: bool, last: u64) {
    let age = system().saturating_sub(last) / 1_000_000_000;
    report.limits.push(format!(
        "What happened after the newest signed checkpoint ({age} s ago) can be cut off without a trace here; a checkpoint \
         that was noted elsewhere later than that shows it."
    ));
    if !has_pin {
        report.limits.push(
            "The gateway's identity was taken from the directory itself; give the one that you noted to find recordings \
             that were made anew as a whole."
                .into(),
        );
    }
    if !has_identity {
        report.limits.push(
            "Without an identity, bytes of segments that are not complete yet are not checked, only their order.".into(),
        );
    }
    report.limits.push(
        "Entries of the newest epoch (up to 15 minutes) can be forged by whoever controls the gateway's host now.".into(),
    );
}
