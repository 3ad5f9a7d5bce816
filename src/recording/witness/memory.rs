//! State of this gateway as a witness of other logs.
//!
//! ```text
//!   lock                    held by the process that signs (flock)
//!   witness.key             the private key (0600)          witness.pub   its public half, for those whose logs are witnessed
//!   logs/<sha256(origin)>   the newest checkpoint of a log, with its own signature and this witness's
//! ```
//! A log's checkpoint is on the disk before its cosignature is given out. A memory that cannot be read is refused: a witness
//! that forgot would cosign a fork.

use super::super::clock::WallClock;
use super::super::directory::{DirectoryFault, check_private};
use super::super::files::{lock, make_folders, replace};
use super::super::log::keys::{read_key, write_key};
use super::super::log::note::{SignedCheckpoint, Signer, Verifier};
use super::super::log::witness::{AddCheckpoint, Refusal, Witness};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Settings of the witness.
#[derive(Clone)]
pub struct ServedWitness {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it keeps its key, and what it has seen.
    pub directory: PathBuf,
    /// The name of its key.
    pub name: String,
    /// TLS; `None`: in clear, at loopback.
    pub tls: Option<Arc<ServerConfig>>,
    /// Keys of the logs that it witnesses.
    pub logs: Vec<Verifier>,
}

impl ServedWitness {
    /// True where nothing differs that needs a restart: the logs may.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let of = |settings: &Self| {
            (settings.address, settings.directory.clone(), settings.name.clone(), settings.tls.is_some())
        };
        of(self) == of(other)
    }
}

/// Why a cosignature is not given.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFault {
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log that the request is of was forked.
    #[error("the log {origin} was forked: its checkpoint does not continue what this witness has seen")]
    Forked {
        /// Which log.
        origin: String,
        /// False where it was refused so before, and nothing else came of it since.
        is_new: bool,
    },
    /// The memory cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
}

/// A witness of some logs.
pub struct WitnessMemory {
    folder: PathBuf,
    signer: Signer,
    wall: WallClock,
    /// By origin. One request at a time: what is checked is what is remembered.
    logs: Mutex<BTreeMap<String, Witness>>,
    /// Logs whose last request was refused as a fork.
    forked: Mutex<BTreeSet<String>>,
    _lock: File,
}

impl WitnessMemory {
    /// Opens a directory; makes it, and a key, if it is missing. `name`: the witness's, in each of its signatures.
    pub fn open(folder: &Path, name: &str, wall: WallClock) -> Result<Self, DirectoryFault> {
        make_folders(&folder.join("logs"))?;
        check_private(folder)?;
        let lock = lock(folder)?;
        let path = folder.join("witness.key");
        if !path.try_exists().map_err(DirectoryFault::io(&path))? {
            write_key(&path, 0, &zeroize::Zeroizing::new(super::super::random()))?;
        }
        let (_, seed) = read_key(&path)?;
        let signer = Signer::witness(name.to_owned(), &seed);
        replace(&folder.join("witness.pub"), format!("{}\n", signer.verifier()).as_bytes())?;
        Ok(WitnessMemory {
            folder: folder.to_owned(),
            signer,
            wall,
            logs: Mutex::default(),
            forked: Mutex::default(),
            _lock: lock,
        })
    }

    /// The witness's public key.
    pub fn verifier(&self) -> Verifier {
        self.signer.verifier()
    }

    /// Witnesses these logs and no others; what was seen of them before is read.
    pub fn set_logs(&self, keys: &[Verifier]) -> Result<(), DirectoryFault> {
        let mut logs = self.logs.lock();
        let mut known = BTreeMap::new();
        for key in keys {
            let witness = match logs.get(key.name()).filter(|witness| witness.log() == key) {
                Some(witness) => witness.clone(),
                None => self.read(key)?,
            };
            known.insert(key.name().to_owned(), witness);
        }
        *logs = known;
        Ok(())
    }

    fn read(&self, key: &Verifier) -> Result<Witness, DirectoryFault> {
        let path = self.path(&origin_hash(key.name()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Witness::new(key.clone(), None));
            }
            Err(error) => return Err(DirectoryFault::Io { path, error }),
        };
        let note = SignedCheckpoint::parse(&text);
        let own =
            note.filter(|note| note.is_signed_by(&self.verifier()) && note.checkpoint.origin == key.name());
        let why = "not cosigned by this witness; what it has seen is not known, and it signs nothing";
        let note = own.ok_or_else(|| DirectoryFault::broken(&path, why))?;
        Ok(Witness::new(key.clone(), Some(note.checkpoint)))
    }

    fn path(&self, origin_hash: &str) -> PathBuf {
        self.folder.join("logs").join(origin_hash)
    }

    /// Cosigns a checkpoint that continues what was seen; gives the signature line.
    pub fn add_checkpoint(&self, body: &str) -> Result<String, MemoryFault> {
        let request = AddCheckpoint::parse(body).ok_or(Refusal::Malformed)?;
        let checkpoint = &request.note.checkpoint;
        let mut logs = self.logs.lock();
        let witness = logs.get_mut(&checkpoint.origin).ok_or(Refusal::Unknown)?;
        let mut forked = self.forked.lock();
        match witness.check(&request) {
            Err(Refusal::Forked) => {
                let origin = checkpoint.origin.clone();
                let is_new = forked.insert(origin.clone());
                return Err(MemoryFault::Forked { origin, is_new });
            }
            checked => checked?,
        }
        let line = self.signer.cosign(&request.note, (self.wall)() / NS_PER_SECOND);
        let note = request.note.with_signatures_of(witness.log(), &line);
        replace(&self.path(&origin_hash(&checkpoint.origin)), note.as_bytes())?;
        witness.remember(checkpoint.clone());
        forked.remove(&checkpoint.origin);
        Ok(line)
    }

    /// The newest checkpoint of a log, by the SHA-256 of its origin in hex.
    pub fn checkpoint(&self, origin_hash: &str) -> Option<String> {
        let is_hash = super::super::unhex(origin_hash).is_some_and(|hash| hash.len() == 32);
        let is_lower = !origin_hash.bytes().any(|byte| byte.is_ascii_uppercase());
        (is_hash && is_lower).then(|| std::fs::read_to_string(self.path(origin_hash)).ok())?
    }
}

/// How a log is called in a file's name or a URL.
pub fn origin_hash(origin: &str) -> String {
    super::super::hex(digest(&SHA256, origin.as_bytes()).as_ref())
}
