//! The log held against a checkpoint that was noted elsewhere, as a witness does: what was signed then must stand there now.

use super::super::super::directory::{Directory, DirectoryFault};
use super::super::super::log::keys::{origin, read_public};
use super::super::super::log::note::SignedCheckpoint;
use super::super::super::log::store::read_entries;
use super::super::super::log::tree::{Edge, Hash, leaf};
use super::super::super::log::verify::read_checkpoint;
use super::super::segment::ReadFault;
use super::report::{Area, Report, of_log};
use std::path::Path;

/// Holds the log of a directory against the text of a checkpoint of it that was noted in `file`. What does not continue it
/// was changed, or cut off, since then.
pub fn hold_against_noted(directory: &Directory, file: &Path, text: &str, report: &mut Report) {
    let fault = |reason: String| ReadFault { file: file.to_owned(), offset: 0, reason };
    let (folder, gateway) = (directory.log(), directory.gateway());
    let Some(noted) = SignedCheckpoint::parse(text) else {
        return report.add(Area::Integrity, true, fault("not a checkpoint".into()));
    };
    let key = match read_public(&folder) {
        Ok(key) => key,
        Err(why) => return report.add(Area::Integrity, true, of_log(&why)),
    };
    if noted.checkpoint.origin != origin(gateway) || !noted.is_signed_by(&key) {
        let why = format!(
            "{} has not signed this checkpoint: another log's, or this log was made anew",
            origin(gateway)
        );
        return report.add(Area::Integrity, true, fault(why));
    }
    hold_against(directory, file, &noted, report);
}

/// Holds the log against a checkpoint of it whose signatures are checked; false where it does not continue it.
pub(super) fn hold_against(
    directory: &Directory,
    file: &Path,
    noted: &SignedCheckpoint,
    report: &mut Report,
) -> bool {
    let fault = |reason: String| ReadFault { file: file.to_owned(), offset: 0, reason };
    let size = noted.checkpoint.size;
    let roots = read_checkpoint(directory).and_then(|(_, now)| {
        let now = now.checkpoint.size;
        Ok((now, if size <= now { Some(root_of_first(&directory.log(), size)?) } else { None }))
    });
    let (now, root) = match roots {
        Ok(found) => found,
        Err(why) => {
            report.add(Area::Integrity, true, of_log(&why));
            return false;
        }
    };
    let (area, is_good, why) = match root {
        None => (
            Area::Completeness,
            false,
            format!("the log had {size} entries when this was noted, and has {now} now"),
        ),
        Some(root) if root != noted.checkpoint.root => {
            let why =
                format!("the log's first {size} entries are not those that were signed when this was noted");
            (Area::Integrity, false, why)
        }
        Some(_) => {
            let why = format!("the log continues what was noted: {size} entries then, {now} now");
            (Area::Completeness, true, why)
        }
    };
    report.add(area, !is_good, fault(why));
    is_good
}

/// The root over the log's first `size` entries.
fn root_of_first(folder: &Path, size: u64) -> Result<Hash, DirectoryFault> {
    let mut edge = Edge::default();
    read_entries(folder, size, |_, line| drop(edge.push(leaf(line.as_bytes()))))?;
    Ok(edge.root())
}
