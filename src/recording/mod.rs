//! Recordings: what is kept of sessions, sealed to auditors and tamper-evident.
//!
//! [`format`] is how the bytes stand. The gateway's host can read nothing of its own past: the keys of a segment are sealed
//! to the auditors and live in memory only while the segment is open.

pub mod format;

use ring::rand::SystemRandom;

/// Random bytes.
fn random<const N: usize>() -> [u8; N]
where
    [u8; N]: ring::rand::RandomlyConstructable,
{
    ring::rand::generate(&SystemRandom::new()).expect("the system has random bytes").expose()
}
