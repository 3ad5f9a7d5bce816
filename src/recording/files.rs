//! Files that belong to this process's user alone, written whole.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
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

    /// What is wrong, without the file's name.
    pub(super) fn reason(&self) -> String {
        match self {
            DirectoryFault::Io { error, .. } => error.to_string(),
            DirectoryFault::Unsafe { why, .. } | DirectoryFault::Broken { why, .. } => why.clone(),
            DirectoryFault::InUse(_) => self.to_string(),
        }
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

/// Bytes of the longest file that is read as a whole but keys: a bundle of 256 entries of 64 KiB.
const MAX_WHOLE: u64 = 17 << 20;

/// Opens what was found in a directory of recordings. What is no file is a fault: a pipe would be waited for, a device never
/// ends, and others could not be read meanwhile.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a file")),
    }
}

/// Reads a file as a whole; a longer one than `limit` is a fault.
pub(super) fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_file(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match read as u64 > limit {
        true => Err(io::Error::other(format!("longer than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// Reads a file of the log, or another small one.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_file(path, MAX_WHOLE)
}

/// Reads a text.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let text = String::from_utf8(read_small(path)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no text"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_has_no_end_is_neither_waited_for_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["pipe", "endless", "folder"] {
            assert_eq!(open_file(&at(name)).unwrap_err().to_string(), "not a file", "{name}");
        }
        std::fs::write(at("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(read_file(&at("link"), 4).unwrap(), b"1234");
        assert_eq!(read_file(&at("file"), 3).unwrap_err().to_string(), "longer than 3 bytes");
        std::fs::write(at("file"), [0xff]).unwrap();
        assert_eq!(read_text(&at("file")).unwrap_err().to_string(), "no text");
    }
}
