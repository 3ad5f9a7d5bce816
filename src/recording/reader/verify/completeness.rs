//! What the log and the sessions themselves say that should be there, held against what is.

use super::super::super::directory::Directory;
use super::super::log_view::{LogView, Run, Sums};
use super::super::segment::ReadFault;
use super::report::{Area, Report};
use super::walk::Seen;
use crate::names::SessionId;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Holds the segments of the log against those that are there.
pub(super) fn segments(directory: &Directory, numbers: &[u64], view: &LogView, report: &mut Report) {
    for (number, logged) in &view.segments {
        let is_there = numbers.binary_search(number).is_ok();
        let place = |reason: &str| ReadFault {
            file: directory.segment(*number, "seg"),
            offset: 0,
            reason: reason.into(),
        };
        match (is_there, logged.retired) {
            (false, false) => {
                report.add(Area::Completeness, true, place("the log knows this segment; it is missing"))
            }
            (true, false) if logged.damaged => {
                report.add(
                    Area::Integrity,
                    false,
                    place("damaged when it was written; its sessions were ended"),
                );
            }
            _ => {}
        }
    }
}

/// Holds each session's frames against its END frame.
pub(super) fn totals(report: &mut Report, sessions: &BTreeMap<u64, Seen>, view: &LogView) {
    let any_retired = view.segments.values().any(|logged| logged.retired);
    for (session, seen) in sessions {
        let session = SessionId(*session);
        match &seen.end {
            Some((place, totals)) if *totals != seen.totals && !any_retired => {
                let reason =
                    format!("session {session}: its end tells of {totals:?}, found is {:?}", seen.totals);
                report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
            }
            Some((place, _)) if !seen.has_first && !any_retired => {
                let reason = format!("session {session}: its beginning is missing");
                report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
            }
            Some(_) => {}
            None => {
                let file = PathBuf::from(format!("{}.seg", seen.last_segment));
                let reason = format!("session {session} has no end: it is live, or its gateway was stopped");
                report.add(Area::Completeness, false, ReadFault { file, offset: 0, reason });
            }
        }
    }
}

/// Holds the number of sessions that each run of the gateway recorded against those that begin in its segments.
pub(super) fn runs(
    directory: &Directory,
    report: &mut Report,
    view: &LogView,
    first_in: &BTreeMap<u64, u64>,
) {
    for Run { sums: Sums { recorded, .. }, segments, .. } in &view.runs {
        let is_retired = |number: &u64| view.segments.get(number).is_some_and(|logged| logged.retired);
        if segments.iter().any(is_retired) {
            continue;
        }
        let found: u64 = segments.iter().filter_map(|number| first_in.get(number)).sum();
        if found < *recorded {
            let file = directory.root().join("segments");
            let reason = format!(
                "the log counts {recorded} recorded sessions in a run, {found} begin in its segments"
            );
            report.add(Area::Completeness, true, ReadFault { file, offset: 0, reason });
        }
    }
}
