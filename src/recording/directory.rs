//! The directory of a gateway's recordings: who owns it, who is using it, where its files stand.
//!
//! ```text
//!   lock                 held by the gateway that writes (flock)
//!   gateway              32 hex digits: the gateway's identity in every file
//!   segments/<n>.seg     frames             segments/<n>.keys   secrets of its sessions
//!   segments/<n>.sum     SHA-256, as sha256sum reads it; <n>.sum.sig as ssh-keygen does
//!   segments/spare-…     reserved space for the next segment of one writer
//!   log/                 checkpoint, tiles, keys: see `log`
//!   requests/            holds and erasures that wait for the gateway
//! ```

use super::format::segment::GatewayId;
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

/// A directory of recordings.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    gateway: GatewayId,
    /// Held while this process writes; released by the system when it ends, however it does.
    _lock: Option<File>,
}

impl Directory {
    /// Opens it for writing, made if it is missing. Refuses a directory that others can change, and one in use.
    pub fn open(root: &Path) -> Result<Self, DirectoryFault> {
        for folder in [root.to_owned(), root.join("segments"), root.join("log"), root.join("requests")] {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DirectoryFault::Io { path: folder, error });
                }
                _ => check_private(&folder)?,
            }
        }
        let path = root.join("lock");
        let lock = private_options().create(true).truncate(false).open(&path);
        let lock = lock.map_err(DirectoryFault::io(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DirectoryFault::InUse(root.to_owned())),
            Err(error) => return Err(DirectoryFault::Io { path, error: error.into() }),
        }
        let path = root.join("gateway");
        if !path.try_exists().map_err(DirectoryFault::io(&path))? {
            let gateway = super::log::create_keys(&root.join("log"))?;
            replace(&path, format!("{gateway}\n").as_bytes())?;
        }
        Ok(Directory { gateway: read_gateway(&path)?, root: root.to_owned(), _lock: Some(lock) })
    }

    /// Opens it for reading. Takes no lock: the gateway may be writing.
    pub fn read(root: &Path) -> Result<Self, DirectoryFault> {
        let gateway = read_gateway(&root.join("gateway"))?;
        Ok(Directory { root: root.to_owned(), gateway, _lock: None })
    }

    /// The gateway's identity.
    pub fn gateway(&self) -> GatewayId {
        self.gateway
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the log.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The folder of requests that wait for the gateway.
    pub fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }

    /// A file of a segment: `seg`, `keys`, `sum`, `sum.sig`.
    pub fn segment(&self, number: u64, kind: &str) -> PathBuf {
        self.root.join("segments").join(format!("{number}.{kind}"))
    }

    /// The file that reserves space for a writer's next segment.
    pub fn spare(&self, worker: u16, class: usize) -> PathBuf {
        self.root.join("segments").join(format!("spare-{worker}-{class}"))
    }

    /// Numbers of all segments that have a file, in order.
    pub fn segments(&self) -> Result<Vec<u64>, DirectoryFault> {
        let folder = self.root.join("segments");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(DirectoryFault::io(&folder))? {
            let name = entry.map_err(DirectoryFault::io(&folder))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            found.extend(number.filter(|number: &u64| *number > 0));
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn read_gateway(path: &Path) -> Result<GatewayId, DirectoryFault> {
    let text = std::fs::read_to_string(path).map_err(DirectoryFault::io(path))?;
    let bytes = super::unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
    bytes.map(GatewayId).ok_or_else(|| DirectoryFault::broken(path, "not the identity of a gateway"))
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
