//! The log held against a checkpoint that was noted elsewhere, as a witness does: what was signed then must stand there now.

use super::super::super::directory::Directory;
use super::super::super::log::keys::{origin, read_public};
use super::super::super::log::note::SignedCheckpoint;
use super::super::super::log::store::read_leaves;
use super::super::super::log::{tree, verify::checkpoint_size};
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
    let leaves = checkpoint_size(directory).and_then(|size| read_leaves(&folder, size));
    let leaves = match leaves {
        Ok(leaves) => leaves,
        Err(why) => return report.add(Area::Integrity, true, of_log(&why)),
    };
    let size = noted.checkpoint.size;
    let before = usize::try_from(size).ok().and_then(|size| leaves.get(..size));
    match before.map(tree::root) {
        None => {
            let why = format!("the log had {size} entries when this was noted, and has {} now", leaves.len());
            report.add(Area::Completeness, true, fault(why));
        }
        Some(root) if root != noted.checkpoint.root => {
            let why =
                format!("the log's first {size} entries are not those that were signed when this was noted");
            report.add(Area::Integrity, true, fault(why));
        }
        Some(_) => {
            let why = format!("the log continues what was noted: {size} entries then, {} now", leaves.len());
            report.add(Area::Completeness, false, fault(why));
        }
    }
}
