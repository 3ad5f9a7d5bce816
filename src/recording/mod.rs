//! Recordings: what is kept of sessions, sealed to auditors and tamper-evident.
//!
//! [`keeper::Recordings`] opens a directory for a gateway; each worker then writes through a [`writer::Recorder`] of its own.
//! [`reader`] reads and verifies a directory. [`mod@format`] is how the bytes stand, [`log`] what makes them tamper-evident.
//!
//! The gateway's host can read nothing of its own past: the keys of a segment are sealed to the auditors and live in memory
//! only while the segment is open.

pub mod archive;
pub mod clock;
mod digest;
pub mod directory;
mod files;
pub mod format;
pub mod keeper;
pub mod log;
mod newest_checkpoint;
pub mod reader;
pub mod settings;
mod slowness;
pub mod timestamp;
pub mod witness;
pub mod writer;

use ring::rand::SystemRandom;

/// Random bytes.
fn random<const N: usize>() -> [u8; N]
where
    [u8; N]: ring::rand::RandomlyConstructable,
{
    ring::rand::generate(&SystemRandom::new()).expect("the system has random bytes").expose()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hex digits; `None` for anything else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}
