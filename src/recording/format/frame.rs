//! Frames: what a segment is made of after its head.
//!
//! ```text
//!   0 4 payload length | 4 1 kind | 5 1 flags (1 first, 2 last, 4 sealed) | 6 2 key epoch | 8 8 session
//!   16 8 ns since 1970 | 24 4 number of its first record | 28 4 CRC-32C of 0–28 | 32 payload
//! ```
//!
//! The head's checksum finds what breaks by accident; the log's digests find what is changed on purpose.

use super::{FormatFault, field, u16_at, u32_at, u64_at};
use crate::names::SessionId;

/// Bytes before a frame's payload.
pub const HEAD: usize = 32;
/// Longest payload: a batch of the relay with room to spare. A longer length is a broken head.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The session's first frame of all.
pub const FIRST: u8 = 1;
/// The session's last frame.
pub const LAST: u8 = 2;
/// The payload is sealed under K_facts.
pub const SEALED: u8 = 4;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Where the secret of a plane stands: see [`KeyNotice`].
    Key = 1,
    /// An audit line (JSON), or something sealed under K_facts.
    Fact = 2,
    /// Whole TLS records that went down.
    Down = 3,
    /// Whole TLS records of the client's view of what went up.
    Up = 4,
    /// The session's totals: see [`Totals`].
    End = 5,
    /// Bytes that were not recorded: see [`Gap`].
    Gap = 6,
}

impl Kind {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Kind::Key),
            2 => Some(Kind::Fact),
            3 => Some(Kind::Down),
            4 => Some(Kind::Up),
            5 => Some(Kind::End),
            6 => Some(Kind::Gap),
            _ => None,
        }
    }
}

/// A direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Plane {
    /// Upstream to client.
    Down = 3,
    /// Client to upstream.
    Up = 4,
}

impl Plane {
    /// Both.
    pub const ALL: [Plane; 2] = [Plane::Down, Plane::Up];

    /// The kind of frame that holds its records.
    pub fn kind(self) -> Kind {
        match self {
            Plane::Down => Kind::Down,
            Plane::Up => Kind::Up,
        }
    }

    /// The plane that a code names.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            3 => Some(Plane::Down),
            4 => Some(Plane::Up),
            _ => None,
        }
    }

    /// 0 or 1, for arrays by plane.
    pub fn index(self) -> usize {
        self as usize - 3
    }
}

impl std::fmt::Display for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Plane::Down => "down",
            Plane::Up => "up",
        })
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of payload.
    pub length: u32,
    /// What it holds.
    pub kind: Kind,
    /// [`FIRST`], [`LAST`], [`SEALED`].
    pub flags: u8,
    /// Key updates of the plane before its first record.
    pub epoch: u16,
    /// Whose.
    pub session: SessionId,
    /// Nanoseconds since 1970, growing within a segment whatever the clock does.
    pub time: u64,
    /// Sequence number of its first record under the key of `epoch`.
    pub number: u32,
}

impl FrameHead {
    /// The head's bytes.
    pub fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..4].copy_from_slice(&self.length.to_be_bytes());
        out[4] = self.kind as u8;
        out[5] = self.flags;
        out[6..8].copy_from_slice(&self.epoch.to_be_bytes());
        out[8..16].copy_from_slice(&self.session.0.to_be_bytes());
        out[16..24].copy_from_slice(&self.time.to_be_bytes());
        out[24..28].copy_from_slice(&self.number.to_be_bytes());
        let sum = crc32c::crc32c(&out[..28]);
        out[28..].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// Reads a head.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatFault> {
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or(FormatFault::Cut {
            what: "frame head",
            have: bytes.len(),
            need: HEAD,
        })?;
        if crc32c::crc32c(&head[..28]) != u32_at(head, 28) {
            return Err(FormatFault::Checksum("frame head"));
        }
        let length = u32_at(head, 0);
        if length as usize > MAX_PAYLOAD {
            return Err(FormatFault::Value("frame: the payload is longer than 1 MiB"));
        }
        if head[5] & !(FIRST | LAST | SEALED) != 0 {
            return Err(FormatFault::Value("frame: unknown flags"));
        }
        Ok(FrameHead {
            length,
            kind: Kind::from_code(head[4]).ok_or(FormatFault::Value("frame: unknown kind"))?,
            flags: head[5],
            epoch: u16_at(head, 6),
            session: SessionId(u64_at(head, 8)),
            time: u64_at(head, 16),
            number: u32_at(head, 24),
        })
    }
}

/// Payload of a KEY frame. The frame's `epoch` and `number` say where in the plane the secret begins.
///
/// ```text
///   0 4 place of the entry in the key file | 4 1 plane | 5 1 suite | 6 2 zero | 8 8 the session's previous segment, 0 for none
///   16 32 SHA-256 of the entry
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNotice {
    /// Which entry of the key file, counted from 0.
    pub place: u32,
    /// Whose secret.
    pub plane: Plane,
    /// Code of the cipher suite: see [`super::traffic`].
    pub suite: u8,
    /// The segment in which the session stood before; 0 if it begins here.
    pub previous: u64,
    /// SHA-256 of the entry as it was written.
    pub digest: [u8; 32],
}

impl KeyNotice {
    /// Bytes of the payload.
    pub const LENGTH: usize = 48;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        out[..4].copy_from_slice(&self.place.to_be_bytes());
        out[4] = self.plane as u8;
        out[5] = self.suite;
        out[8..16].copy_from_slice(&self.previous.to_be_bytes());
        out[16..].copy_from_slice(&self.digest);
        out
    }

    /// Reads the payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatFault> {
        sized("KEY payload", bytes, Self::LENGTH)?;
        if u16_at(bytes, 6) != 0 {
            return Err(FormatFault::Value("KEY payload: reserved bytes are not zero"));
        }
        Ok(KeyNotice {
            place: u32_at(bytes, 0),
            plane: Plane::from_code(bytes[4]).ok_or(FormatFault::Value("KEY payload: unknown plane"))?,
            suite: bytes[5],
            previous: u64_at(bytes, 8),
            digest: field(bytes, 16),
        })
    }
}

/// Payload of an END frame: the session's recorded totals over all segments.
///
/// ```text
///   0 8 bytes down | 8 8 records down | 16 8 bytes up | 24 8 records up | 32 8 bytes lost | 40 8 records lost
///   48 4 facts | 52 4 segments
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of records by plane ([`Plane::index`]).
    pub bytes: [u64; 2],
    /// Records by plane.
    pub records: [u64; 2],
    /// Bytes that GAP frames stand for.
    pub lost_bytes: u64,
    /// Records that GAP frames stand for.
    pub lost_records: u64,
    /// FACT frames.
    pub facts: u32,
    /// Segments that hold frames of the session.
    pub segments: u32,
}

impl Totals {
    /// Bytes of the payload.
    pub const LENGTH: usize = 56;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        let longs = [
            self.bytes[0],
            self.records[0],
            self.bytes[1],
            self.records[1],
            self.lost_bytes,
            self.lost_records,
        ];
        for (place, value) in out.chunks_exact_mut(8).zip(longs) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        out[48..52].copy_from_slice(&self.facts.to_be_bytes());
        out[52..].copy_from_slice(&self.segments.to_be_bytes());
        out
    }

    /// Reads the payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatFault> {
        sized("END payload", bytes, Self::LENGTH)?;
        Ok(Totals {
            bytes: [u64_at(bytes, 0), u64_at(bytes, 16)],
            records: [u64_at(bytes, 8), u64_at(bytes, 24)],
            lost_bytes: u64_at(bytes, 32),
            lost_records: u64_at(bytes, 40),
            facts: u32_at(bytes, 48),
            segments: u32_at(bytes, 52),
        })
    }
}

/// Payload of a GAP frame: records of one plane that were forwarded and not recorded (`record = "async"` only). The frame's
/// `epoch` and `number` name the first of them.
///
/// ```text
///   0 1 plane | 1 7 zero | 8 8 bytes | 16 8 records
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Of which plane.
    pub plane: Plane,
    /// Bytes of the records.
    pub bytes: u64,
    /// How many records.
    pub records: u64,
}

impl Gap {
    /// Bytes of the payload.
    pub const LENGTH: usize = 24;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        out[0] = self.plane as u8;
        out[8..16].copy_from_slice(&self.bytes.to_be_bytes());
        out[16..].copy_from_slice(&self.records.to_be_bytes());
        out
    }

    /// Reads the payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatFault> {
        sized("GAP payload", bytes, Self::LENGTH)?;
        if field::<7>(bytes, 1) != [0; 7] {
            return Err(FormatFault::Value("GAP payload: reserved bytes are not zero"));
        }
        let plane = Plane::from_code(bytes[0]).ok_or(FormatFault::Value("GAP payload: unknown plane"))?;
        Ok(Gap { plane, bytes: u64_at(bytes, 8), records: u64_at(bytes, 16) })
    }
}

fn sized(what: &'static str, bytes: &[u8], need: usize) -> Result<(), FormatFault> {
    match bytes.len() == need {
        true => Ok(()),
        false => Err(FormatFault::Cut { what, have: bytes.len(), need }),
    }
}
