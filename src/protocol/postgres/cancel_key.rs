//! The key by which a session's statement is cancelled: a process number and a secret.

use std::fmt;
use std::ops::RangeInclusive;

/// Bytes of a secret: four before protocol 3.2, since then as many as the server likes.
const SECRET: RangeInclusive<usize> = 4..=256;
/// Bytes of the gateway's own secrets for clients of protocol 3.2, as PostgreSQL 18 has them.
const LONG_SECRET: usize = 32;
/// The code of a CancelRequest in the place of a version.
pub(super) const CANCEL_REQUEST: u32 = 0x04d2_162e;
/// Bytes of a CancelRequest.
pub(super) const CANCEL_LENGTH: RangeInclusive<usize> = 12 + *SECRET.start()..=12 + *SECRET.end();

/// The key of a CancelRequest. Whoever knows it can cancel, so it is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// The server process, which `pg_stat_activity` and notifications show as well.
    pub process: u32,
    /// The secret that goes with it.
    pub secret: Box<[u8]>,
}

/// Bytes of the secret for a client that speaks this minor version.
pub fn secret_length(minor: u16) -> usize {
    if minor < 2 { *SECRET.start() } else { LONG_SECRET }
}

impl CancelKey {
    /// Reads what BackendKeyData and CancelRequest carry alike.
    ///
    /// ```text
    ///   | process: u32 | secret: 4 to 256 bytes |
    /// ```
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (process, secret) = body.split_first_chunk()?;
        let fits = SECRET.contains(&secret.len());
        fits.then(|| CancelKey { process: u32::from_be_bytes(*process), secret: secret.into() })
    }

    /// What carries it.
    pub(super) fn payload(&self) -> Vec<u8> {
        [&self.process.to_be_bytes()[..], &self.secret].concat()
    }

    /// The CancelRequest that carries it.
    pub fn request(&self) -> Vec<u8> {
        let payload = self.payload();
        let length = (8 + payload.len()) as u32;
        [&length.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &payload].concat()
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({}, …)", self.process)
    }
}
