//! Time-stamps on the disk, beside the log. Each is three files that are named for the entries of the log which it covers:
//!
//! ```text
//!   timestamps/<entries>.note   the checkpoint that was stamped, as it was
//!   timestamps/<entries>.tsq    the query           timestamps/<entries>.tsr   the answer, as it came
//! ```

use super::super::directory::DirectoryFault;
use super::super::files::{make_folders, replace};
use super::query::Query;
use std::path::{Path, PathBuf};

/// A file of the time-stamp of the log's first `size` entries: `note`, `tsq` or `tsr`.
pub fn path(log: &Path, size: u64, kind: &str) -> PathBuf {
    log.join("timestamps").join(format!("{size}.{kind}"))
}

/// Keeps a time-stamp. The answer comes last: what has one is whole.
pub(super) fn write(
    log: &Path,
    size: u64,
    note: &str,
    query: &Query,
    answer: &[u8],
) -> Result<(), DirectoryFault> {
    make_folders(&log.join("timestamps"))?;
    replace(&path(log, size, "note"), note.as_bytes())?;
    replace(&path(log, size, "tsq"), &query.encode())?;
    replace(&path(log, size, "tsr"), answer)
}

/// Entries that each time-stamp covers, in order.
pub fn list(log: &Path) -> Result<Vec<u64>, DirectoryFault> {
    let folder = log.join("timestamps");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DirectoryFault::Io { path: folder, error }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(DirectoryFault::io(&folder))?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".tsr")?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}
