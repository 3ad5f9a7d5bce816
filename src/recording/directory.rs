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

pub use super::files::{DirectoryFault, check_private};
use super::files::{lock, make_folders, open_file, read_text, replace};
use super::format::segment::{GatewayId, HEAD as SEGMENT_HEAD, SegmentHead};
use super::log::keys::create_keys;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A directory of recordings.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    gateway: GatewayId,
    /// Why the file with the identity cannot be read; the segments have said it.
    identity_fault: Option<String>,
    /// Held while this process writes; released by the system when it ends, however it does.
    _lock: Option<File>,
}

impl Directory {
    /// Opens it for writing, made if it is missing. Refuses a directory that others can change, and one in use.
    pub fn open(root: &Path) -> Result<Self, DirectoryFault> {
        for folder in [root.to_owned(), root.join("segments"), root.join("log"), root.join("requests")] {
            make_folders(&folder)?;
            check_private(&folder)?;
        }
        let lock = lock(root)?;
        let path = root.join("gateway");
        if !path.try_exists().map_err(DirectoryFault::io(&path))? {
            // New keys in the place of those that signed would be the loss of these.
            if root.join("log/checkpoint").try_exists().map_err(DirectoryFault::io(root))? {
                let why = "is missing, and there is a log; put it back: its 32 hex digits stand in log/log.pub, too";
                return Err(DirectoryFault::broken(&path, why));
            }
            let gateway = create_keys(&root.join("log"))?;
            replace(&path, format!("{gateway}\n").as_bytes())?;
        }
        let gateway = read_gateway(&path)?;
        Ok(Directory { gateway, root: root.to_owned(), identity_fault: None, _lock: Some(lock) })
    }

    /// Opens it for reading. Takes no lock: the gateway may be writing. Where the identity's file cannot be read, the first
    /// segment that can be says whose they are: see [`Directory::identity_fault`].
    pub fn read(root: &Path) -> Result<Self, DirectoryFault> {
        let mut directory = Directory {
            root: root.to_owned(),
            gateway: GatewayId([0; 16]),
            identity_fault: None,
            _lock: None,
        };
        match read_gateway(&directory.identity_file()) {
            Ok(gateway) => directory.gateway = gateway,
            Err(fault) => {
                let Some(gateway) = directory.gateway_of_segments() else { return Err(fault) };
                (directory.gateway, directory.identity_fault) = (gateway, Some(fault.reason()));
            }
        }
        Ok(directory)
    }

    /// The file with the gateway's identity.
    pub fn identity_file(&self) -> PathBuf {
        self.root.join("gateway")
    }

    /// Why the file with the identity cannot be read: a fault of the directory that hides none of its segments.
    pub fn identity_fault(&self) -> Option<&str> {
        self.identity_fault.as_deref()
    }

    fn gateway_of_segments(&self) -> Option<GatewayId> {
        let head = |number| {
            let mut bytes = [0; SEGMENT_HEAD];
            open_file(&self.segment(number, "seg")).ok()?.read_exact(&mut bytes).ok()?;
            SegmentHead::gateway_of(&bytes)
        };
        self.segments().ok()?.into_iter().find_map(head)
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
            found.extend(name.to_str().and_then(|name| segment_number(name.strip_suffix(".seg")?)));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// The number of a segment as it is written: `007` and `+7` are none, so that no segment is read twice.
fn segment_number(text: &str) -> Option<u64> {
    let number = text.parse().ok().filter(|number: &u64| *number > 0)?;
    (number.to_string() == text).then_some(number)
}

fn read_gateway(path: &Path) -> Result<GatewayId, DirectoryFault> {
    let text = read_text(path).map_err(DirectoryFault::io(path))?;
    let bytes = super::unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
    bytes.map(GatewayId).ok_or_else(|| DirectoryFault::broken(path, "not the identity of a gateway"))
}
