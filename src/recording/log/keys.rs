//! The log's keys and the names that they make.

use super::super::files::{DirectoryFault, read_text, replace};
use super::super::format::segment::GatewayId;
use super::note::{Signer, Verifier};
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
pub(in super::super) fn create_keys(folder: &Path) -> Result<GatewayId, DirectoryFault> {
    let seeds: [Zeroizing<[u8; 32]>; 2] =
        [Zeroizing::new(super::super::random()), Zeroizing::new(super::super::random())];
    let public = |seed: &[u8; 32]| *Signer::new(String::new(), seed).verifier().key();
    let id = gateway_id(&public(&seeds[0]), &public(&seeds[1]));
    write_key(&folder.join("log.key"), 0, &seeds[0])?;
    write_key(&folder.join("epoch.key"), 1, &seeds[1])?;
    let log = Signer::new(origin(id), &seeds[0]).verifier();
    replace(&folder.join("log.pub"), format!("{log}\n").as_bytes())?;
    replace(&folder.join("log.pem"), super::sshsig::pem(log.key()).as_bytes())?;
    let allowed = super::sshsig::allowed_signer(&origin(id), log.key());
    replace(&folder.join("allowed_signers"), allowed.as_bytes())?;
    Ok(id)
}

/// Reads the public log key.
pub fn read_public(folder: &Path) -> Result<Verifier, DirectoryFault> {
    let path = folder.join("log.pub");
    let text = read_text(&path).map_err(DirectoryFault::io(&path))?;
    Verifier::parse(&text).ok_or_else(|| DirectoryFault::broken(&path, "not a public key"))
}

pub(in super::super) fn write_key(path: &Path, epoch: u64, seed: &[u8; 32]) -> Result<(), DirectoryFault> {
    let text = Zeroizing::new(format!("{epoch} {}\n", super::super::hex(seed)));
    replace(path, text.as_bytes())
}

pub(in super::super) fn read_key(path: &Path) -> Result<(u64, Zeroizing<[u8; 32]>), DirectoryFault> {
    let text = Zeroizing::new(read_text(path).map_err(DirectoryFault::io(path))?);
    let parsed = text.trim().split_once(' ').and_then(|(epoch, seed)| {
        let seed = Zeroizing::new(super::super::unhex(seed)?);
        Some((epoch.parse().ok()?, Zeroizing::new(<[u8; 32]>::try_from(&**seed).ok()?)))
    });
    parsed.ok_or_else(|| DirectoryFault::broken(path, "not a private key"))
}
