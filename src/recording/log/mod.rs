//! The log: what happened to recordings, append-only, signed each second (c2sp.org/tlog-tiles).
//!
//! ```text
//!   checkpoint               the newest signed checkpoint: by the log key and by the epoch key
//!   tile/…, tile/entries/…   hashes and entries
//!   epochs/<n>               the last checkpoint of epoch n, signed by its key: covers the entry that names key n + 1
//!   log.key  epoch.key       private keys (0600); the epoch's is overwritten when the next begins, every 15 minutes
//!   log.pub  log.pem  allowed_signers   the public log key for staunch, openssl and ssh-keygen
//! ```
//!
//! Whoever becomes root can sign from now on, but nothing of epochs that are over: their keys are gone. The gateway's
//! identity is a hash over the log key and the first epoch key, so that a log that is made anew from its beginning is another
//! gateway's.

pub mod entry;
pub mod note;
pub mod sshsig;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod verify;
pub mod witness;

use super::directory::DirectoryFault;
use super::format::segment::GatewayId;
use note::{Signer, Verifier};
use ring::digest::{SHA256, digest};
use std::path::Path;
use zeroize::Zeroizing;

/// The log's name, and that of its stable key.
pub fn origin(gateway: GatewayId) -> String {
    format!("staunch/{gateway}")
}

/// The name of an epoch's key.
pub(super) fn epoch_name(gateway: GatewayId, epoch: u64) -> String {
    format!("{}/epoch/{epoch}", origin(gateway))
}

/// The identity that two public keys make.
pub fn gateway_id(log_key: &[u8; 32], first_epoch_key: &[u8; 32]) -> GatewayId {
    let bytes = [b"staunch-gateway-v1", &log_key[..], first_epoch_key].concat();
    GatewayId(digest(&SHA256, &bytes).as_ref().first_chunk().copied().unwrap_or_default())
}

/// Makes the keys of a new gateway; says its identity.
pub(super) fn create_keys(folder: &Path) -> Result<GatewayId, DirectoryFault> {
    let seeds: [Zeroizing<[u8; 32]>; 2] = [Zeroizing::new(super::random()), Zeroizing::new(super::random())];
    let public = |seed: &[u8; 32]| *Signer::new(String::new(), seed).verifier().key();
    let id = gateway_id(&public(&seeds[0]), &public(&seeds[1]));
    store::write_key(&folder.join("log.key"), 0, &seeds[0])?;
    store::write_key(&folder.join("epoch.key"), 1, &seeds[1])?;
    let log = Signer::new(origin(id), &seeds[0]).verifier();
    super::directory::replace(&folder.join("log.pub"), format!("{log}\n").as_bytes())?;
    super::directory::replace(&folder.join("log.pem"), sshsig::pem(log.key()).as_bytes())?;
    let allowed = sshsig::allowed_signer(&origin(id), log.key());
    super::directory::replace(&folder.join("allowed_signers"), allowed.as_bytes())?;
    Ok(id)
}

/// Reads the public log key.
pub fn read_public(folder: &Path) -> Result<Verifier, DirectoryFault> {
    let path = folder.join("log.pub");
    let text = std::fs::read_to_string(&path).map_err(DirectoryFault::io(&path))?;
    Verifier::parse(&text).ok_or_else(|| DirectoryFault::broken(&path, "not a public key"))
}
