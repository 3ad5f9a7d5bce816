//! The log: what happened to recordings, append-only, signed each second (c2sp.org/tlog-tiles).
//!
//! ```text
//!   checkpoint               the newest signed checkpoint: by the log key and by the epoch key
//!   tile/…, tile/entries/…   hashes and entries
//!   epochs/<n>               the last checkpoint of epoch n, signed by its key: covers the entry that names key n + 1
//!   witnesses/<key id>       the newest checkpoint that each witness has cosigned
//!   log.key  epoch.key       private keys (0600); the epoch's is overwritten when the next begins, every 15 minutes
//!   log.pub  log.pem  allowed_signers   the public log key for staunch, openssl and ssh-keygen
//! ```
//!
//! Whoever becomes root can sign from now on, but nothing of epochs that are over: their keys are gone. The gateway's
//! identity is a hash over the log key and the first epoch key, so that a log that is made anew from its beginning is another
//! gateway's.

pub mod entry;
pub mod keys;
pub mod note;
pub mod proof;
pub mod sshsig;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod verify;
pub mod witness;
