//! One TLS record, opened or sealed in place. Pure: bytes and keys, no I/O.
//!
//! This module replaces rustls' record layer after the handshake, so its guards are ours: sequence numbers are
//! never used twice, lengths are bounded, empty records are counted. What a record *means* (alerts, key updates) is
//! [`super::leg`]'s business.
//!
//! ```text
//!   TLS 1.3   | 23 0303 len |            plaintext | type | zeros |   tag   |     RFC 8446 section 5.2
//!             0             5                                   len-11   len+5
//!   TLS 1.2   | type 0303 len | nonce(8, GCM only) | plaintext |   tag   |        RFC 5288, RFC 7905
//! ```
//!
//! Two TLS 1.3 legs have equal geometry whatever their cipher suites, so a record opened with one leg's key is sealed
//! with the other's in the same bytes, padding and all ([`Sealer::reseal`]).

use super::cipher::Cipher;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, Nonce};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

/// Bytes before every record's payload: type, version, length.
pub const HEADER: usize = 5;
/// Most plaintext bytes in a record (RFC 8446 section 5.1).
pub const MAX_PLAINTEXT: usize = 16_384;
/// Most payload bytes of a protected record: TLS 1.3 allows 256 of expansion (RFC 8446 section 5.2); TLS 1.2 allows
/// 2,048, of which its AEAD suites use 24.
pub const MAX_PAYLOAD: usize = MAX_PLAINTEXT + 256;
/// The largest whole record.
pub const MAX_RECORD: usize = HEADER + MAX_PAYLOAD;
/// Empty application data records in a row that are put up with; more is a way to keep us busy for nothing.
const MAX_EMPTY: u8 = 32;
/// All AEADs of TLS 1.2 and 1.3 that are supported have 16-byte tags.
const TAG: usize = 16;
/// Explicit nonce of AES-GCM in TLS 1.2 (RFC 5288 section 3).
const EXPLICIT_NONCE: usize = 8;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Alerts: close_notify and worse.
    Alert,
    /// Post-handshake messages: session tickets, key updates.
    Handshake,
    /// Application data.
    Data,
}

impl Content {
    fn code(self) -> u8 {
        match self {
            Content::Alert => 21,
            Content::Handshake => 22,
            Content::Data => 23,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            21 => Some(Content::Alert),
            22 => Some(Content::Handshake),
            23 => Some(Content::Data),
            _ => None,
        }
    }
}

/// A rule of the record layer that the peer broke; [`RecordFault::alert`] is what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RecordFault {
    /// Content type or version that cannot stand here.
    #[error("unexpected record type or version")]
    Unexpected,
    /// Longer than the protocol allows, outside or inside.
    #[error("record longer than TLS allows")]
    TooLong,
    /// Too short to hold a tag, or the tag does not verify.
    #[error("record does not verify")]
    BadMac,
    /// All padding, no content type (RFC 8446 section 5.4).
    #[error("record without a content type")]
    NoType,
    /// Too many empty records in a row.
    #[error("too many empty records")]
    TooManyEmpty,
    /// The sequence number would wrap.
    #[error("sequence numbers are used up")]
    Exhausted,
}

impl RecordFault {
    /// The alert description to send (RFC 8446 section 6).
    pub fn alert(self) -> u8 {
        match self {
            RecordFault::Unexpected | RecordFault::NoType | RecordFault::TooManyEmpty => 10,
            RecordFault::TooLong => 22,
            RecordFault::BadMac => 20,
            RecordFault::Exhausted => 80,
        }
    }
}

/// Reads the header of a record: the length of the whole record, or `None` while the header is not whole.
pub fn record_length(bytes: &[u8]) -> Result<Option<usize>, RecordFault> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    if !(20..=23).contains(&header[0]) || header[1] != 3 {
        return Err(RecordFault::Unexpected);
    }
    let payload = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if payload > MAX_PAYLOAD {
        return Err(RecordFault::TooLong);
    }
    Ok(Some(HEADER + payload))
}

/// Protocol versions with records that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// AEADs that protect records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    Chacha20Poly1305,
}

impl Suite {
    /// Bytes of a key.
    pub fn key_length(self) -> usize {
        match self {
            Suite::Aes128Gcm => 16,
            Suite::Aes256Gcm | Suite::Chacha20Poly1305 => 32,
        }
    }
}

/// One direction's traffic secrets, borrowed from whoever agreed on them.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// Which protocol's records.
    pub version: Version,
    /// Which AEAD.
    pub suite: Suite,
    /// The key: 16 or 32 bytes, as the suite asks.
    pub key: &'a [u8],
    /// The nonce base. TLS 1.2 GCM: salt, then where the explicit nonces start.
    pub iv: [u8; 12],
}

impl<'a> Secrets<'a> {
    /// Takes rustls' secrets; `None` for versions and suites that are not supported.
    pub fn from_rustls(secrets: &'a ConnectionTrafficSecrets, version: ProtocolVersion) -> Option<Self> {
        let version = match version {
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            _ => return None,
        };
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::Chacha20Poly1305, key, iv),
            _ => return None,
        };
        Some(Secrets { version, suite, key: key.as_ref(), iv: iv.as_ref().try_into().ok()? })
    }
}

/// Where things stand in a record, by protocol version and AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Geometry {
    Tls13,
    Tls12Gcm,
    Tls12Chacha,
}

impl Geometry {
    /// Bytes between header and plaintext.
    fn lead(self) -> usize {
        match self {
            Geometry::Tls12Gcm => EXPLICIT_NONCE,
            Geometry::Tls13 | Geometry::Tls12Chacha => 0,
        }
    }
}

/// One direction's key: cipher, nonce base, and the next sequence number.
struct Key {
    cipher: Cipher,
    iv: [u8; 12],
    suite: Suite,
    geometry: Geometry,
    sequence: u64,
}

impl Key {
    fn new(secrets: &Secrets, sequence: u64) -> Option<Self> {
        let algorithm = match secrets.suite {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
        };
        let geometry = match (secrets.version, secrets.suite) {
            (Version::Tls13, _) => Geometry::Tls13,
            (Version::Tls12, Suite::Chacha20Poly1305) => Geometry::Tls12Chacha,
            (Version::Tls12, _) => Geometry::Tls12Gcm,
        };
        let cipher = Cipher::new(algorithm, secrets.key)?;
        Some(Key { cipher, iv: secrets.iv, suite: secrets.suite, geometry, sequence })
    }

    /// Takes the next sequence number, before anything can fail, so that none is used twice.
    fn take_sequence(&mut self) -> Result<u64, RecordFault> {
        // rustls refuses 2^64 - 2 and up as well; nobody gets there honestly.
        if self.sequence >= u64::MAX - 1 {
            return Err(RecordFault::Exhausted);
        }
        self.sequence += 1;
        Ok(self.sequence - 1)
    }

    /// The nonce for a sequence number: base XOR sequence (RFC 8446 section 5.3, RFC 7905 section 2). TLS 1.2 GCM
    /// uses the same construction for what it sends: the last eight bytes go on the wire, unique per record.
    fn nonce(&self, sequence: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, s) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= s;
        }
        nonce
    }
}

/// Additional data of TLS 1.2 (RFC 5246 section 6.2.3.3).
fn aad12(sequence: u64, content: u8, length: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8..11].copy_from_slice(&[content, 3, 3]);
    aad[11..].copy_from_slice(&(length as u16).to_be_bytes());
    aad
}

/// An opened record: what it carries and where its plaintext lies in the record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it carries.
    pub content: Content,
    /// First byte of the plaintext.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// Opens the records that one peer sent.
pub struct Opener {
    key: Key,
    empty: u8,
}

impl Opener {
    /// Takes the receiving secrets of a leg. `None` when the key's length does not fit the suite.
    pub fn new(secrets: &Secrets<'_>, sequence: u64) -> Option<Self> {
        Some(Opener { key: Key::new(secrets, sequence)?, empty: 0 })
    }

    /// Changes to the next generation of keys (RFC 8446 section 7.2); the sequence starts again at 0.
    pub fn rekey(&mut self, secrets: &Secrets<'_>) -> Result<(), RecordFault> {
        self.key = Key::new(secrets, 0).ok_or(RecordFault::Exhausted)?;
        Ok(())
    }

    /// Opens a whole record where it lies.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordFault> {
        let sequence = self.key.take_sequence()?;
        let (header, payload) = record.split_at_mut(HEADER);
        let opened = match self.key.geometry {
            Geometry::Tls13 => self.open13(sequence, header, payload)?,
            _ => self.open12(sequence, header, payload)?,
        };
        if opened.start == opened.end {
            // RFC 8446 section 5.1: empty fragments of anything but application data are forbidden.
            if opened.content != Content::Data {
                return Err(RecordFault::Unexpected);
            }
            self.empty += 1;
            if self.empty > MAX_EMPTY {
                return Err(RecordFault::TooManyEmpty);
            }
        } else {
            self.empty = 0;
        }
        Ok(opened)
    }

    fn open13(&self, sequence: u64, header: &[u8], payload: &mut [u8]) -> Result<Opened, RecordFault> {
        // After the handshake everything is disguised as application data of TLS 1.2 (RFC 8446 section 5.2); a
        // change_cipher_spec has no business here any more (section 5, last paragraph).
        if header[0] != 23 {
            return Err(RecordFault::Unexpected);
        }
        let nonce = Nonce::assume_unique_for_key(self.key.nonce(sequence));
        self.key.cipher.open(nonce, Aad::from(header), payload).map_err(|_| RecordFault::BadMac)?;
        let inner = &payload[..payload.len() - TAG];
        if inner.len() > MAX_PLAINTEXT + 1 {
            return Err(RecordFault::TooLong);
        }
        let kind = inner.iter().rposition(|&byte| byte != 0).ok_or(RecordFault::NoType)?;
        let content = Content::from_code(inner[kind]).ok_or(RecordFault::Unexpected)?;
        Ok(Opened { content, start: HEADER, end: HEADER + kind })
    }

    fn open12(&self, sequence: u64, header: &[u8], payload: &mut [u8]) -> Result<Opened, RecordFault> {
        // The version is part of what is sealed (RFC 5246 section 6.2.3.3), and there is but one.
        if header[1..3] != [3, 3] {
            return Err(RecordFault::Unexpected);
        }
        let kind = header[0];
        let lead = self.key.geometry.lead();
        let length = payload.len().checked_sub(lead + TAG).ok_or(RecordFault::BadMac)?;
        if length > MAX_PLAINTEXT {
            return Err(RecordFault::TooLong);
        }
        let content = Content::from_code(kind).ok_or(RecordFault::Unexpected)?;
        let mut nonce = self.key.nonce(sequence);
        if lead > 0 {
            nonce[4..].copy_from_slice(&payload[..lead]);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(aad12(sequence, kind, length));
        self.key.cipher.open(nonce, aad, &mut payload[lead..]).map_err(|_| RecordFault::BadMac)?;
        Ok(Opened { content, start: HEADER + lead, end: HEADER + lead + length })
    }
}

/// Seals the records that go to one peer.
pub struct Sealer {
    key: Key,
    records_per_key: u64,
}

impl Sealer {
    /// Takes the sending secrets of a leg. At `records_per_key` records the key wants renewing.
    pub fn new(secrets: &Secrets<'_>, sequence: u64, records_per_key: u64) -> Option<Self> {
        Some(Sealer { key: Key::new(secrets, sequence)?, records_per_key })
    }

    /// The suite, and the number of the next record under this key.
    pub fn position(&self) -> (Suite, u64) {
        (self.key.suite, self.key.sequence)
    }

    /// Changes to the next generation of keys; the sequence starts again at 0.
    pub fn rekey(&mut self, secrets: &Secrets<'_>) -> Result<(), RecordFault> {
        self.key = Key::new(secrets, 0).ok_or(RecordFault::Exhausted)?;
        Ok(())
    }

    /// True when the next record should be a key update (TLS 1.3) or the leg must end (TLS 1.2).
    pub fn needs_rekey(&self) -> bool {
        self.key.sequence >= self.records_per_key
    }

    /// True for TLS 1.3.
    pub fn can_rekey(&self) -> bool {
        self.key.geometry == Geometry::Tls13
    }

    /// True when records that `opener` opened can be sealed where they lie: see [`Sealer::reseal`].
    pub fn fits(&self, opener: &Opener) -> bool {
        self.key.geometry == opener.key.geometry
    }

    /// Seals an application data record again in the bytes in which a fitting [`Opener`] has just opened it. The
    /// plaintext may have been changed at equal length; TLS 1.3 padding stays as it was.
    pub fn reseal(&mut self, record: &mut [u8]) -> Result<(), RecordFault> {
        let sequence = self.key.take_sequence()?;
        let nonce = self.key.nonce(sequence);
        let (header, payload) = record.split_at_mut(HEADER);
        let lead = self.key.geometry.lead();
        let inside = payload.len() - lead - TAG;
        let (body, tag_place) = payload[lead..].split_at_mut(inside);
        let unique = Nonce::assume_unique_for_key(nonce);
        let tag = if self.key.geometry == Geometry::Tls13 {
            self.key.cipher.seal(unique, Aad::from(&*header), body)
        } else {
            let aad = Aad::from(aad12(sequence, header[0], body.len()));
            self.key.cipher.seal(unique, aad, body)
        };
        tag_place.copy_from_slice(tag.map_err(|_| RecordFault::TooLong)?.as_ref());
        payload[..lead].copy_from_slice(&nonce[4..4 + lead]);
        Ok(())
    }

    /// Seals `plaintext` into as many records as it needs, appended to `out`. Empty plaintext gives no record.
    pub fn seal(&mut self, content: Content, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), RecordFault> {
        plaintext.chunks(MAX_PLAINTEXT).try_for_each(|chunk| self.seal_one(content, chunk, out))
    }

    /// Seals an application data record without data, appended to `out`.
    pub fn seal_empty(&mut self, out: &mut Vec<u8>) -> Result<(), RecordFault> {
        self.seal_one(Content::Data, &[], out)
    }

    fn seal_one(&mut self, content: Content, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), RecordFault> {
        let sequence = self.key.take_sequence()?;
        let nonce = self.key.nonce(sequence);
        let unique = Nonce::assume_unique_for_key(nonce);
        let start = out.len();
        let tag = if self.key.geometry == Geometry::Tls13 {
            let [high, low] = ((chunk.len() + 1 + TAG) as u16).to_be_bytes();
            let header = [23, 3, 3, high, low];
            out.extend_from_slice(&header);
            out.extend_from_slice(chunk);
            out.push(content.code());
            let body = &mut out[start + HEADER..];
            self.key.cipher.seal(unique, Aad::from(header), body)
        } else {
            let lead = self.key.geometry.lead();
            let [high, low] = ((lead + chunk.len() + TAG) as u16).to_be_bytes();
            out.extend_from_slice(&[content.code(), 3, 3, high, low]);
            out.extend_from_slice(&nonce[4..4 + lead]);
            out.extend_from_slice(chunk);
            let aad = Aad::from(aad12(sequence, content.code(), chunk.len()));
            self.key.cipher.seal(unique, aad, &mut out[start + HEADER + lead..])
        };
        out.extend_from_slice(tag.map_err(|_| RecordFault::TooLong)?.as_ref());
        Ok(())
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
