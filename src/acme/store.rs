//! The state directory: account keys, certificates with their keys, and what came of the last orders.
//!
//! ```text
//!   state/                    0700
//!     lock                    held by the gateway that orders
//!     accounts/DIGEST.json    account key and URL, by the directory's URL
//!     certificates/KEY.pem    private key, then the chain, leaf first: one file, so that the two always fit
//!     certificates/KEY.json   which authority issued it, failures since, when to try again
//! ```
//! Files are 0600 and replaced whole: written beside, synced, renamed. Readers need no lock.

use super::certificate::{Issued, Status};
use crate::secret::Secret;
use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state directory. Reading does not make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

/// An exclusive lock on a state directory, released when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// The state directory at this path.
    pub fn at(folder: PathBuf) -> Self {
        Store { folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Why this user could never order with it; `None`: nothing is known against it. Root may look for a service's user.
    pub fn foreign_owner(&self) -> Option<String> {
        let own = rustix::process::geteuid().as_raw();
        let is_foreign = own != 0 && fs::metadata(&self.folder).is_ok_and(|folder| folder.uid() != own);
        is_foreign.then(|| {
            format!("{} belongs to another user, who could read the keys; chown it, or name another ([acme] state)", self.folder.display())
        })
    }

    /// Makes the directory if there is none, closes it to others, and locks it.
    pub(super) fn lock(&self) -> Result<Lock, String> {
        for folder in [self.folder.clone(), self.folder.join(ACCOUNTS), self.folder.join(CERTIFICATES)] {
            make_private(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        }
        for folder in [self.folder.join(ACCOUNTS), self.folder.join(CERTIFICATES)] {
            close_files(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        }
        let path = self.folder.join("lock");
        let fault = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) => Err(fault(error)),
            Err(TryLockError::WouldBlock) => Err(format!(
                "{}: another gateway orders certificates with this directory; give each its own ([acme] state)",
                self.folder.display()
            )),
        }
    }

    /// The certificate that is kept under a key; `None`: there is none yet.
    pub fn certificate(&self, key: &str) -> Result<Option<Issued>, String> {
        let path = self.file(CERTIFICATES, key, "pem");
        let Some(pem) = read(&path)? else { return Ok(None) };
        Issued::from_pem(pem.expose()).map(Some).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// What came of the last orders for a key.
    pub fn status(&self, key: &str) -> Result<Status, String> {
        let path = self.file(CERTIFICATES, key, "json");
        let status: Status = json(&path).map(Option::unwrap_or_default)?;
        let times = [status.last_attempt, status.next_attempt];
        match times.into_iter().flatten().all(|at| at < YEAR_10000) {
            true => Ok(status),
            false => Err(format!("{}: not as staunch wrote it", path.display())),
        }
    }

    /// Keeps a certificate: its key and chain in PEM.
    pub(super) fn keep_certificate(&self, key: &str, pem: &Secret, _: &Lock) -> Result<(), String> {
        self.replace(&self.file(CERTIFICATES, key, "pem"), pem.expose())
    }

    /// Keeps what came of an order.
    pub(super) fn keep_status(&self, key: &str, status: &Status, _: &Lock) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(status).map_err(|error| error.to_string())?;
        self.replace(&self.file(CERTIFICATES, key, "json"), &text)
    }

    /// The account at a directory.
    pub(super) fn account(&self, directory: &str) -> Result<Option<AccountCredentials>, String> {
        json(&self.account_file(directory))
    }

    /// Keeps the account at a directory.
    pub(super) fn keep_account(
        &self,
        directory: &str,
        account: &AccountCredentials,
        _: &Lock,
    ) -> Result<(), String> {
        let text = Secret::new(serde_json::to_vec(account).map_err(|error| error.to_string())?);
        self.replace(&self.account_file(directory), text.expose())
    }

    /// Where the account at a directory is kept.
    pub(super) fn account_file(&self, directory: &str) -> PathBuf {
        let digest = ring::digest::digest(&ring::digest::SHA256, directory.as_bytes());
        let name: String = digest.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect();
        self.file(ACCOUNTS, &name, "json")
    }

    fn file(&self, folder: &str, name: &str, extension: &str) -> PathBuf {
        self.folder.join(folder).join(format!("{name}.{extension}"))
    }

    /// Puts a file in the place of another, so that a reader or a crash finds one of the two whole.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let folder = path.parent().unwrap_or(&self.folder);
        let write = || {
            let mode = Permissions::from_mode(0o600);
            let mut file = tempfile::Builder::new().prefix(".new-").permissions(mode).tempfile_in(folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

/// Makes a directory that only this user may enter, or closes one that is there.
fn make_private(folder: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| error.to_string())?;
    let metadata = fs::metadata(folder).map_err(|error| error.to_string())?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err("belongs to another user, who could read the keys; chown it".into());
    }
    match metadata.mode() & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(|error| error.to_string()),
    }
}

/// Takes from others what they may do with a directory's files, as after it was copied from elsewhere.
fn close_files(folder: &Path) -> Result<(), String> {
    let close = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        match metadata.is_file() && metadata.mode() & 0o077 != 0 {
            true => fs::set_permissions(entry.path(), Permissions::from_mode(0o600)),
            false => Ok(()),
        }
    };
    let mut entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    entries.try_for_each(close).map_err(|error| format!("its files cannot be closed to others: {error}"))
}

/// Reads a whole file that may hold a key.
fn read(path: &Path) -> Result<Option<Secret>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Secret::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("{} can be read by the gateway's user alone", path.display()))
        }
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    // serde would quote what it found, and that may be a key.
    serde_json::from_slice(bytes.expose())
        .map(Some)
        .map_err(|error| format!("{}, line {}: not as staunch wrote it", path.display(), error.line()))
}

/// Seconds since 1970: no clock shows more, and sums beyond could not be represented.
const YEAR_10000: u64 = 253_402_300_800;

const ACCOUNTS: &str = "accounts";
const CERTIFICATES: &str = "certificates";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("acme"));
        assert!(store.certificate("a").unwrap().is_none(), "reading makes nothing");
        assert_eq!(store.status("a").unwrap().failures, 0);
        assert!(!store.path().exists());
        let lock = store.lock().unwrap();
        let status = Status { failures: 3, last_error: Some("no".into()), ..Status::default() };
        store.keep_status("a", &status, &lock).unwrap();
        assert_eq!(store.status("a").unwrap().failures, 3);
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example"]).unwrap();
        let pem = format!("{}{}", leaf.key_pem(), leaf.certificate_pem());
        store.keep_certificate("a", &Secret::new(pem.into_bytes()), &lock).unwrap();
        assert!(store.certificate("a").unwrap().is_some());
        let mode = |path: &str| fs::metadata(store.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode(""), mode("certificates"), mode("accounts")), (0o700, 0o700, 0o700));
        assert_eq!(
            (mode("lock"), mode("certificates/a.pem"), mode("certificates/a.json")),
            (0o600, 0o600, 0o600)
        );
    }

    #[test]
    fn a_second_gateway_is_kept_out_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().to_owned());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let lock = store.lock().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700, "an open directory is closed");
        let copied = folder.path().join("certificates/a.pem");
        fs::write(&copied, "key").unwrap();
        fs::set_permissions(&copied, Permissions::from_mode(0o644)).unwrap();
        let fault = Store::at(folder.path().to_owned()).lock().unwrap_err();
        assert!(fault.contains("another gateway") && fault.contains("[acme] state"), "{fault}");
        drop(lock);
        let _lock = store.lock().unwrap();
        assert_eq!(fs::metadata(&copied).unwrap().mode() & 0o777, 0o600, "so is a file that was copied");
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().to_owned());
        let _lock = store.lock().unwrap();
        fs::write(folder.path().join("certificates/a.json"), "{\"failures\": \"hunter2\"}").unwrap();
        let fault = store.status("a").unwrap_err();
        assert!(fault.contains("a.json, line 1") && !fault.contains("hunter2"), "{fault}");
        fs::write(folder.path().join("certificates/a.json"), format!("{{\"next_attempt\": {}}}", u64::MAX))
            .unwrap();
        assert!(store.status("a").unwrap_err().contains("a.json"));
        fs::write(folder.path().join("certificates/a.pem"), "hunter2").unwrap();
        let fault = store.certificate("a").unwrap_err();
        assert!(fault.contains("a.pem") && !fault.contains("hunter2"), "{fault}");
    }
}
