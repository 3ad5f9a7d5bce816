//! The log held against the cosignatures of its witnesses.

use super::super::super::directory::Directory;
use super::super::super::log::keys::{origin, read_public};
use super::super::super::log::note::Verifier;
use super::super::super::witness::cosigned;
use super::super::segment::ReadFault;
use super::noted::hold_against;
use super::report::{Area, Report, of_log};
use std::time::Duration;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Required cosignatures.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// Whose cosignatures count.
    pub witnesses: Vec<Verifier>,
    /// How many of them must have cosigned.
    pub required: usize,
    /// How much later than their newest cosignature the log may have entries: what was rolled back or forked goes on without.
    pub within: Duration,
}

/// Holds the log against what its witnesses have cosigned: the log must continue it, and not have gone on without them.
pub fn hold_against_witnesses(
    directory: &Directory,
    wanted: &Witnessed,
    last_entry: u64,
    report: &mut Report,
) {
    let log = directory.log();
    let key = match read_public(&log) {
        Ok(key) => key,
        Err(why) => return report.add(Area::Integrity, true, of_log(&why)),
    };
    let mut good = 0;
    for witness in &wanted.witnesses {
        let file = cosigned::path(&log, witness);
        let place = |reason: String| ReadFault { file: file.clone(), offset: 0, reason };
        let (name, size, time) = match cosigned::read(&log, witness) {
            Err(why) => {
                report.add(Area::Integrity, true, of_log(&why));
                continue;
            }
            Ok(None) => {
                report.add(
                    Area::Completeness,
                    false,
                    place(format!("{} has cosigned nothing", witness.name())),
                );
                continue;
            }
            Ok(Some(found))
                if found.note.checkpoint.origin != origin(directory.gateway())
                    || !found.note.is_signed_by(&key) =>
            {
                let why = format!("what {} has cosigned is not this log's", witness.name());
                report.add(Area::Integrity, true, place(why));
                continue;
            }
            Ok(Some(found)) => {
                let size = found.note.checkpoint.size;
                if !hold_against(directory, &file, &found.note, report) {
                    continue;
                }
                (witness.name(), size, found.time)
            }
        };
        let behind = Duration::from_nanos(last_entry.saturating_sub(time.saturating_mul(NS_PER_SECOND)));
        if behind > wanted.within {
            let why = format!(
                "the log went on for {} s after {name} cosigned its first {size} entries",
                behind.as_secs()
            );
            report.add(Area::Completeness, false, place(why));
            continue;
        }
        good += 1;
        let why = format!("{name} has cosigned {size} entries, {} s before the log's last", behind.as_secs());
        report.add(Area::Completeness, false, place(why));
    }
    if good < wanted.required {
        let why = format!(
            "{good} of {} witnesses have cosigned this log within {} s of its end, {} are required",
            wanted.witnesses.len(),
            wanted.within.as_secs(),
            wanted.required
        );
        report.add(
            Area::Completeness,
            true,
            ReadFault { file: log.join("witnesses"), offset: 0, reason: why },
        );
    }
}
