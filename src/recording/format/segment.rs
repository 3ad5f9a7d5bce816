//! The head of a segment file.
//!
//! ```text
//!    0  8 "STAUNSEG"      |  8 2 version   | 10 2 worker | 12 4 retention class
//!   16 16 gateway         | 32 8 number    | 40 8 opened, ns since 1970
//!   48  8 this writer's previous segment, 0 for none     | 56 24 zero
//!   80  4 length of E1    | 84 4 length of E2            | 88 4 zero | 92 4 CRC-32C of 0–92
//!   96    E1: age file that holds K_bytes | E2: age file that holds K_facts | frames
//! ```

use super::{FormatFault, field, u16_at, u32_at, u64_at};

/// Bytes before the envelopes.
pub const HEAD: usize = 96;
const MAGIC: &[u8; 8] = b"STAUNSEG";
const VERSION: u16 = 1;
/// Bytes of one envelope: age files to a hundred recipients stay below.
pub const MAX_ENVELOPE: usize = 64 * 1024;

/// 16 random bytes that name a gateway's recordings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewayId(pub [u8; 16]);

impl std::fmt::Display for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Which worker wrote it.
    pub worker: u16,
    /// Retention class: [`crate::recording::settings::RetentionClass::code`].
    pub class: u32,
    /// Which gateway.
    pub gateway: GatewayId,
    /// The segment's number, counted from 1 for each gateway; also its file's name.
    pub number: u64,
    /// Nanoseconds since 1970 when it was opened.
    pub opened: u64,
    /// The segment that the same writer filled before; 0 for none.
    pub previous: u64,
    /// age file that holds K_bytes, to the auditors.
    pub bytes_envelope: Vec<u8>,
    /// age file that holds K_facts, to the auditors and the indexer.
    pub facts_envelope: Vec<u8>,
}

impl SegmentHead {
    /// Head and envelopes, as they stand before the first frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEAD];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[10..12].copy_from_slice(&self.worker.to_be_bytes());
        out[12..16].copy_from_slice(&self.class.to_be_bytes());
        out[16..32].copy_from_slice(&self.gateway.0);
        out[32..40].copy_from_slice(&self.number.to_be_bytes());
        out[40..48].copy_from_slice(&self.opened.to_be_bytes());
        out[48..56].copy_from_slice(&self.previous.to_be_bytes());
        out[80..84].copy_from_slice(&(self.bytes_envelope.len() as u32).to_be_bytes());
        out[84..88].copy_from_slice(&(self.facts_envelope.len() as u32).to_be_bytes());
        let sum = crc32c::crc32c(&out[..92]);
        out[92..96].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&self.bytes_envelope);
        out.extend_from_slice(&self.facts_envelope);
        out
    }

    /// Whose segment it is, from its first [`HEAD`] bytes.
    pub fn gateway_of(bytes: &[u8; HEAD]) -> Option<GatewayId> {
        Self::length(bytes).ok().map(|_| GatewayId(field(bytes, 16)))
    }

    /// Bytes that head and envelopes take, from the first [`HEAD`] bytes.
    pub fn length(bytes: &[u8]) -> Result<usize, FormatFault> {
        let head = bytes.get(..HEAD).ok_or(FormatFault::Cut {
            what: "segment head",
            have: bytes.len(),
            need: HEAD,
        })?;
        if !head.starts_with(MAGIC) {
            return Err(FormatFault::Foreign("segment"));
        }
        if crc32c::crc32c(&head[..92]) != u32_at(head, 92) {
            return Err(FormatFault::Checksum("segment head"));
        }
        if u16_at(head, 8) != VERSION {
            return Err(FormatFault::Version(u16_at(head, 8)));
        }
        if field::<24>(head, 56) != [0; 24] || u32_at(head, 88) != 0 {
            return Err(FormatFault::Value("segment head: reserved bytes are not zero"));
        }
        let (one, two) = (u32_at(head, 80) as usize, u32_at(head, 84) as usize);
        if one > MAX_ENVELOPE || two > MAX_ENVELOPE {
            return Err(FormatFault::Value("segment head: an envelope is longer than 64 KiB"));
        }
        Ok(HEAD + one + two)
    }

    /// Reads head and envelopes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatFault> {
        let need = Self::length(bytes)?;
        let whole = bytes.get(..need).ok_or(FormatFault::Cut {
            what: "segment envelopes",
            have: bytes.len(),
            need,
        })?;
        let middle = HEAD + u32_at(whole, 80) as usize;
        let head = SegmentHead {
            worker: u16_at(whole, 10),
            class: u32_at(whole, 12),
            gateway: GatewayId(field(whole, 16)),
            number: u64_at(whole, 32),
            opened: u64_at(whole, 40),
            previous: u64_at(whole, 48),
            bytes_envelope: whole[HEAD..middle].to_vec(),
            facts_envelope: whole[middle..].to_vec(),
        };
        match head.number == 0 || head.previous >= head.number {
            true => Err(FormatFault::Value("segment head: numbers are out of order")),
            false => Ok(head),
        }
    }
}
