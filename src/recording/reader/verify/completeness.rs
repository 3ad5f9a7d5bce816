//! Completeness: compares what the log and the sessions' END frames claim with what exists.

use super::super::super::directory::Directory;
use super::super::super::format::frame::Totals;
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

/// Holds each session's frames against its END frame. Frames that went with segments that retention deleted are missing, and
/// no fault: no more than these segments could hold.
pub(super) fn totals(report: &mut Report, sessions: &BTreeMap<u64, Seen>, view: &LogView) {
    let retired: Vec<u64> =
        view.segments.iter().filter(|(_, logged)| logged.retired).map(|(number, _)| *number).collect();
    for (session, seen) in sessions {
        let session = SessionId(*session);
        let Some((place, totals)) = &seen.end else {
            let file = PathBuf::from(format!("{}.seg", seen.last_segment));
            let reason = format!("session {session} has no end: it is live, or its gateway was stopped");
            report.add(Area::Completeness, false, ReadFault { file, offset: 0, reason });
            continue;
        };
        let from = if seen.has_first { seen.first_segment } else { 0 };
        let could_hold = retired.iter().filter(|number| (from..seen.last_segment).contains(number)).count();
        let lacks = totals.segments.checked_sub(seen.totals.segments);
        let is_excused = lacks.is_some_and(|lacks| lacks > 0 && lacks as usize <= could_hold)
            && covers(totals, &seen.totals);
        if *totals != seen.totals && !is_excused {
            let reason =
                format!("session {session}: its end tells of {totals:?}, found is {:?}", seen.totals);
            report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
        } else if !seen.has_first && !is_excused {
            let reason = format!("session {session}: its beginning is missing");
            report.add(Area::Completeness, true, ReadFault { reason, ..place.clone() });
        }
    }
}

/// True when no figure of `part` is larger than in `whole`.
fn covers(whole: &Totals, part: &Totals) -> bool {
    let pairs = whole.bytes.iter().zip(part.bytes).chain(whole.records.iter().zip(part.records));
    pairs.into_iter().all(|(whole, part)| *whole >= part)
        && whole.lost_bytes >= part.lost_bytes
        && whole.lost_records >= part.lost_records
        && whole.facts >= part.facts
}

/// Holds the number of sessions that each run of the gateway recorded against those that begin in its segments.
pub(super) fn runs(
    directory: &Directory,
    report: &mut Report,
    view: &LogView,
    first_in: &BTreeMap<u64, u64>,
) {
    for Run { sums: Sums { recorded, .. }, segments, .. } in &view.runs {
        let retired =
            segments.iter().filter_map(|number| view.segments.get(number)).filter(|logged| logged.retired);
        // Logs of versions that did not count what they deleted prove nothing here.
        let Some(deleted) = retired.map(|logged| logged.retired_sessions).sum::<Option<u64>>() else {
            continue;
        };
        let found = deleted + segments.iter().filter_map(|number| first_in.get(number)).sum::<u64>();
        if found < *recorded {
            let file = directory.root().join("segments");
            let reason = format!(
                "the log counts {recorded} recorded sessions in a run, {found} begin in its segments"
            );
            report.add(Area::Completeness, true, ReadFault { file, offset: 0, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::log_view::LoggedSegment;
    use super::*;

    #[test]
    fn a_segment_that_was_deleted_excuses_what_it_could_hold_and_no_more() {
        let mut view = LogView::default();
        view.segments.insert(2, LoggedSegment { retired: true, ..LoggedSegment::default() });
        let totals =
            |segments, up| Totals { segments, bytes: [0, up], records: [0, up], ..Totals::default() };
        let seen = |first_segment, last_segment, has_first, found: Totals, told: Totals| {
            let place = ReadFault { file: PathBuf::new(), offset: 0, reason: String::new() };
            let end = Some((place, told));
            Seen { first_segment, last_segment, has_first, totals: found, end, ..Seen::default() }
        };
        let cases = [
            ("begins in what was deleted", seen(3, 3, false, totals(1, 5), totals(2, 9)), 0),
            ("its middle was deleted", seen(1, 3, true, totals(2, 5), totals(3, 9)), 0),
            ("whole", seen(3, 3, true, totals(1, 9), totals(1, 9)), 0),
            ("a frame is missing", seen(3, 3, true, totals(1, 5), totals(1, 9)), 1),
            ("begins behind what was deleted", seen(3, 4, true, totals(1, 5), totals(2, 9)), 1),
            ("ended before what was deleted", seen(1, 1, false, totals(1, 5), totals(2, 9)), 1),
            ("more is missing than was deleted", seen(3, 3, false, totals(1, 5), totals(3, 9)), 1),
            ("more is there than was told", seen(3, 3, false, totals(1, 10), totals(2, 9)), 1),
            ("its beginning is missing", seen(3, 3, false, totals(1, 9), totals(1, 9)), 1),
        ];
        for (what, seen, faults) in cases {
            let mut report = Report::default();
            super::totals(&mut report, &BTreeMap::from([(7, seen)]), &view);
            assert_eq!(report.faults().count(), faults, "{what}");
        }
    }
}
