//! What is asked of a time-stamping authority.

use ring::digest::{SHA256, digest};

/// Bytes of a query.
///
/// ```text
///   0 SEQUENCE | 2 version 1 | 5 SEQUENCE | 7 SHA-256 | 22 OCTET STRING, 32: the imprint | 56 INTEGER, 8: the nonce
///   66 BOOLEAN true: the answer holds the authority's certificate
/// ```
const LENGTH: usize = 69;
const HEAD: [u8; 24] = [
    0x30, 0x43, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
];
const NONCE: [u8; 2] = [0x02, 0x08];
const WITH_CERTIFICATE: [u8; 3] = [0x01, 0x01, 0xff];

/// A query for the time of some bytes (RFC 3161 section 2.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// SHA-256 of the bytes.
    pub imprint: [u8; 32],
    /// A positive number of 8 bytes that no other query has.
    pub nonce: [u8; 8],
}

impl Query {
    /// A new one for `stamped`.
    pub fn new(stamped: &[u8]) -> Self {
        let mut nonce: [u8; 8] = super::super::random();
        // Neither negative nor shorter in DER.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        Query { imprint: sha256(stamped), nonce }
    }

    /// DER.
    pub fn encode(&self) -> Vec<u8> {
        [&HEAD[..], &self.imprint, &NONCE, &self.nonce, &WITH_CERTIFICATE].concat()
    }

    /// Reads what [`Query::encode`] wrote, and nothing else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let query = Query {
            imprint: bytes.get(24..56)?.try_into().ok()?,
            nonce: bytes.get(58..66)?.try_into().ok()?,
        };
        (query.encode() == bytes).then_some(query)
    }
}

/// SHA-256.
pub(in super::super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
