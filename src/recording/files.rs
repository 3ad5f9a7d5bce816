//! Files that belong to this process's user alone, written whole.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryFault {
    /// A call to the system failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// On which file.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// Somebody else could change or read what is in it.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// Which file.
        path: PathBuf,
        /// What to do.
        why: String,
    },
    /// Another process writes into it.
    #[error("{}: another gateway is using this directory; give each its own", .0.display())]
    InUse(PathBuf),
    /// A file in it is not what it should be.
    #[error("{}: {why}", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl DirectoryFault {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| DirectoryFault::Io { path: path.to_owned(), error }
    }

    pub(super) fn broken(path: &Path, why: impl std::fmt::Display) -> Self {
        DirectoryFault::Broken { path: path.to_owned(), why: why.to_string() }
    }
}

/// Refuses a directory that anybody but this process's user could change or look into.
pub fn check_private(path: &Path) -> Result<(), DirectoryFault> {
    let told = |why: String| DirectoryFault::Unsafe { path: path.to_owned(), why };
    let found = std::fs::metadata(path).map_err(DirectoryFault::io(path))?;
    if !found.is_dir() {
        return Err(told("not a directory".into()));
    }
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(told(format!("belongs to user {owner}, and the gateway runs as {me}; chown it")));
    }
    let mode = found.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(told(format!("is open to others (mode {mode:o}); chmod 700 it"))),
    }
}

/// Makes a folder and those above it, for this process's user alone.
pub(super) fn make_folders(path: &Path) -> Result<(), DirectoryFault> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DirectoryFault::io(path))
}

/// Takes a folder's lock for this process; the system releases it when the process ends, however it does.
pub(super) fn lock(folder: &Path) -> Result<File, DirectoryFault> {
    let path = folder.join("lock");
    let lock = private_options().create(true).truncate(false).open(&path);
    let lock = lock.map_err(DirectoryFault::io(&path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryFault::InUse(folder.to_owned())),
        Err(error) => Err(DirectoryFault::Io { path, error: error.into() }),
    }
}

/// Options for files that belong to this process's user alone.
pub(super) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Writes a file as a whole: under another name, synced, then renamed.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DirectoryFault> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        let mut file = private_options().create(true).truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&new, path)
    };
    write().map_err(DirectoryFault::io(path))
}
