//! Formats of recordings, byte by byte. Pure: no files, no clock; random numbers come in as arguments, but for age's own.
//!
//! `config/recording-format.md` is the same text for those who write other readers: change both together.
//!
//! Parsers take any bytes, never panic, and say what is wrong and where.

pub mod envelope;
pub mod frame;
pub mod keys;
pub mod segment;
pub mod traffic;

#[cfg(test)]
mod tests;

/// A format error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// The bytes end before the structure does.
    #[error("{what} is cut: {have} of {need} bytes")]
    Cut {
        /// Which structure.
        what: &'static str,
        /// Bytes that are there.
        have: usize,
        /// Bytes that it needs.
        need: usize,
    },
    /// Another kind of file.
    #[error("not a {0}")]
    Foreign(&'static str),
    /// A version that this program does not know.
    #[error("version {0} is newer than this program; use a newer staunch")]
    Version(u16),
    /// A checksum does not match.
    #[error("{0}: the checksum does not match")]
    Checksum(&'static str),
    /// A field holds what it cannot hold.
    #[error("{0}")]
    Value(&'static str),
}

/// The bytes of a field whose place lies inside `bytes` by construction.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}
