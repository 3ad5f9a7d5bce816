//! The newest checkpoint of this gateway's log, for tasks that have others vouch for it. They read files beside the log's
//! signer, off the data path.

use super::directory::DirectoryFault;
use super::log::note::SignedCheckpoint;
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// How often a checkpoint is read again whose tiles were replaced by those of the next while they were read.
const READ_ATTEMPTS: usize = 5;

/// Reads the newest checkpoint of the log in `log`, and what `prepare` makes of its text.
pub(super) async fn read<T: Send + 'static>(
    log: PathBuf,
    prepare: impl Fn(&Path, String, SignedCheckpoint) -> Result<T, DirectoryFault> + Send + 'static,
) -> Result<T, DirectoryFault> {
    let read = move || {
        let path = log.join("checkpoint");
        let text = std::fs::read_to_string(&path).map_err(DirectoryFault::io(&path))?;
        let note = SignedCheckpoint::parse(&text);
        let note = note.ok_or_else(|| DirectoryFault::broken(&path, "not a signed checkpoint"))?;
        prepare(&log, text, note)
    };
    blocking(move || {
        for _ in 1..READ_ATTEMPTS {
            if let Ok(prepared) = read() {
                return Ok(prepared);
            }
        }
        read()
    })
    .await
}

/// Does work with files on a thread that may wait for them.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DirectoryFault> + Send + 'static,
) -> Result<T, DirectoryFault> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(DirectoryFault::broken(Path::new("log"), error)),
    }
}
