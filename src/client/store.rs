//! Where logins are kept: `$XDG_STATE_HOME/staunch` or `~/.local/state/staunch`, mode 0700, files 0600.
//!
//! `NAME.profile.json` has the settings, `NAME.tokens.json` the tokens. A file is replaced whole: written beside,
//! flushed, renamed. Whoever changes one holds the lock on `NAME.lock`, which is never removed; readers need none.

use super::fault::Fault;
use super::profile::Profile;
use super::secrets::{kept, read_private};
use super::settings::{Settings, TokenUse};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// The folder of this user's logins.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

/// Tokens as they are kept. Points in time are whole seconds since 1970 by this machine's clock.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tokens {
    /// Who gave them, and to which client: a refresh token goes back there and nowhere else.
    pub(super) issuer: String,
    pub(super) client_id: String,
    /// `sub` of the ID token.
    pub(super) subject: Option<String>,
    /// Their name or address in the ID token, for people to read.
    #[serde(default)]
    pub(super) person: Option<String>,
    #[serde(with = "kept")]
    pub(super) access: Option<Secret>,
    pub(super) access_expires: Option<u64>,
    #[serde(with = "kept")]
    pub(super) id: Option<Secret>,
    pub(super) id_expires: Option<u64>,
    #[serde(with = "kept")]
    pub(super) refresh: Option<Secret>,
}

impl Tokens {
    /// The token of one use and when it expires, if that is known.
    pub(super) fn take(&mut self, token_use: TokenUse) -> Option<(Secret, Option<SystemTime>)> {
        let (token, expires) = match token_use {
            TokenUse::Access => (self.access.take()?, self.access_expires),
            TokenUse::Id => (self.id.take()?, self.id_expires),
        };
        Some((token, expires.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))))
    }

    /// How long the token of one use is still good. `None`: there is none. [`Duration::MAX`]: its end is not known.
    pub(super) fn left(&self, token_use: TokenUse, now: SystemTime) -> Option<Duration> {
        let (token, expires) = match token_use {
            TokenUse::Access => (&self.access, self.access_expires),
            TokenUse::Id => (&self.id, self.id_expires),
        };
        token.as_ref()?;
        let Some(expires) = expires else { return Some(Duration::MAX) };
        Some((UNIX_EPOCH + Duration::from_secs(expires)).duration_since(now).unwrap_or_default())
    }
}

/// The right to change one profile's files; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// The user's own. Makes the folder if there is none.
    pub fn open() -> Result<Store, Fault> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .ok_or_else(|| {
                Fault::Machine("there is no place for logins; set HOME or XDG_STATE_HOME".into())
            })?;
        Store::at(base.join("staunch"))
    }

    /// Another folder. Made if it is not there; closed to others if it is open to them.
    pub fn at(folder: PathBuf) -> Result<Store, Fault> {
        let fault = |error| Fault::Machine(format!("{}: {error}", folder.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fault)?;
        let metadata = fs::metadata(&folder).map_err(fault)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            let folder = folder.display();
            return Err(Fault::Machine(format!(
                "{folder} belongs to another user; tokens are not kept there"
            )));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(fault)?;
        }
        Ok(Store { folder })
    }

    /// Where files are their owner's alone.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn settings(&self, profile: &Profile) -> Result<Option<Settings>, Fault> {
        self.read(profile, PROFILE)
    }

    pub(super) fn tokens(&self, profile: &Profile) -> Result<Option<Tokens>, Fault> {
        self.read(profile, TOKENS)
    }

    pub(super) fn keep_settings(
        &self,
        profile: &Profile,
        settings: &Settings,
        _: &Lock,
    ) -> Result<(), Fault> {
        self.write(profile, PROFILE, settings)
    }

    pub(super) fn keep_tokens(&self, profile: &Profile, tokens: &Tokens, _: &Lock) -> Result<(), Fault> {
        self.write(profile, TOKENS, tokens)
    }

    /// Removes the tokens; true if there were any.
    pub(super) fn remove_tokens(&self, profile: &Profile, _: &Lock) -> Result<bool, Fault> {
        self.remove(profile, TOKENS)
    }

    /// Removes the settings; true if there were any.
    pub(super) fn remove_settings(&self, profile: &Profile, _: &Lock) -> Result<bool, Fault> {
        self.remove(profile, PROFILE)
    }

    /// Waits until no other process changes this profile.
    pub(super) async fn lock(&self, profile: &Profile) -> Result<Lock, Fault> {
        let path = self.path(profile, LOCK);
        let fault = |error: io::Error| Fault::Machine(format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fault)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(fault(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_RETRY).await,
                Err(TryLockError::WouldBlock) => {
                    let path = path.display();
                    let wait = LOCK_TIMEOUT.as_secs();
                    return Err(Fault::Machine(format!("another staunch has held {path} for {wait} s")));
                }
            }
        }
    }

    fn path(&self, profile: &Profile, kind: &str) -> PathBuf {
        self.folder.join(format!("{profile}.{kind}"))
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, profile: &Profile, kind: &str) -> Result<Option<T>, Fault> {
        let path = self.path(profile, kind);
        let Some(bytes) = read_private(&path)? else { return Ok(None) };
        let bytes = Secret::new(bytes);
        // serde would quote what it found, and that may be a token.
        serde_json::from_slice(bytes.expose()).map(Some).map_err(|error| {
            let (path, line) = (path.display(), error.line());
            Fault::Machine(format!(
                "{path}, line {line}: not as staunch wrote it; remove it and log in again"
            ))
        })
    }

    fn write<T: Serialize>(&self, profile: &Profile, kind: &str, value: &T) -> Result<(), Fault> {
        // Room from the start: a buffer that grew would leave its earlier copies in memory.
        let mut bytes = Vec::with_capacity(MAX_STATE_BYTES);
        let encoded = serde_json::to_writer_pretty(&mut bytes, value).map_err(io::Error::from);
        let bytes = Secret::new(bytes);
        let path = self.path(profile, kind);
        encoded
            .and_then(|()| replace(&self.folder, &path, bytes.expose()))
            .map_err(|error| Fault::Machine(format!("{} cannot be written: {error}", path.display())))
    }

    fn remove(&self, profile: &Profile, kind: &str) -> Result<bool, Fault> {
        let path = self.path(profile, kind);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Fault::Machine(format!("{} cannot be removed: {error}", path.display()))),
        }
    }
}

/// Puts a file in the place of another, so that a reader or a crash finds one of the two whole.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".new-").permissions(mode).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

const PROFILE: &str = "profile.json";
const TOKENS: &str = "tokens.json";
const LOCK: &str = "lock";

/// Longer than a refresh may take with all its deadlines.
const LOCK_TIMEOUT: Duration = Duration::from_secs(90);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Three tokens of the longest kind that a gateway takes, and names around them.
const MAX_STATE_BYTES: usize = 64 * 1024;
