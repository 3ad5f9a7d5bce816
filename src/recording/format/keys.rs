//! Key files: the secrets of a segment's sessions, each sealed under the segment's K_bytes, so that one of them can be erased
//! without touching the segment.
//!
//! ```text
//!   0 8 session | 8 1 plane | 9 1 suite | 10 1 state, 1 | 11 1 zero | 12 12 nonce
//!   24 64 AES-256-GCM(K_bytes, secret with zeros up to 48 bytes), AAD = gateway(16) ‖ segment number(8) ‖ bytes 0–12
//! ```
//!
//! An entry that was erased is 88 zero bytes.

use super::frame::Plane;
use super::segment::GatewayId;
use super::traffic::{MAX_SECRET, TrafficSecret, suite_code, suite_from_code};
use super::{FormatFault, field, u64_at};
use crate::names::SessionId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an entry.
pub const ENTRY: usize = 88;
const BOUND: usize = 12;
const NONCE: usize = 12;
const LIVE: u8 = 1;

/// A key that envelopes hold: K_bytes or K_facts.
pub struct EnvelopeKey {
    bytes: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
}

impl EnvelopeKey {
    /// Takes the key's bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &*bytes).expect("AES-256 keys have 32 bytes");
        EnvelopeKey { key: LessSafeKey::new(key), bytes }
    }

    /// A key of random bytes.
    pub fn random() -> Self {
        EnvelopeKey::new(Zeroizing::new(super::super::random()))
    }

    /// The bytes, for the envelope.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Seals a fact: AAD = gateway ‖ segment number ‖ the frame's head, nonce = the frame's offset in the segment.
    pub fn seal_fact(&self, place: &FactPlace<'_>, payload: &mut Vec<u8>) {
        self.key
            .seal_in_place_append_tag(place.nonce(), Aad::from(place.bound()), payload)
            .expect("facts are far shorter than AES-GCM's limit");
    }

    /// Opens a fact.
    pub fn open_fact(&self, place: &FactPlace<'_>, payload: &mut Vec<u8>) -> Result<(), FormatFault> {
        let length = self
            .key
            .open_in_place(place.nonce(), Aad::from(place.bound()), payload)
            .map_err(|_| FormatFault::Value("a sealed fact does not open"))?
            .len();
        payload.truncate(length);
        Ok(())
    }
}

/// Where a sealed fact stands, which its seal is bound to.
pub struct FactPlace<'a> {
    /// Whose recording.
    pub gateway: GatewayId,
    /// Which segment.
    pub number: u64,
    /// Where the frame begins in the segment: different for each fact under one key.
    pub offset: u64,
    /// The frame's head.
    pub head: &'a [u8; super::frame::HEAD],
}

impl FactPlace<'_> {
    fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE];
        nonce[4..].copy_from_slice(&self.offset.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn bound(&self) -> [u8; 24 + super::frame::HEAD] {
        let mut bound = [0; 24 + super::frame::HEAD];
        bound[..16].copy_from_slice(&self.gateway.0);
        bound[16..24].copy_from_slice(&self.number.to_be_bytes());
        bound[24..].copy_from_slice(self.head);
        bound
    }
}

/// Whose secret an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose recording.
    pub gateway: GatewayId,
    /// Which segment.
    pub number: u64,
    /// Which session.
    pub session: SessionId,
    /// Which plane of it.
    pub plane: Plane,
}

fn bound(gateway: GatewayId, number: u64, head: &[u8; BOUND]) -> [u8; 24 + BOUND] {
    let mut out = [0; 24 + BOUND];
    out[..16].copy_from_slice(&gateway.0);
    out[16..24].copy_from_slice(&number.to_be_bytes());
    out[24..].copy_from_slice(head);
    out
}

/// Seals a secret. `nonce` must be new for each entry of a segment: random bytes are.
pub fn seal(key: &EnvelopeKey, owner: &Owner, secret: &TrafficSecret, nonce: [u8; NONCE]) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    let mut head = [0; BOUND];
    head[..8].copy_from_slice(&owner.session.0.to_be_bytes());
    head[8..11].copy_from_slice(&[owner.plane as u8, suite_code(secret.suite()), LIVE]);
    out[..BOUND].copy_from_slice(&head);
    out[BOUND..24].copy_from_slice(&nonce);
    out[24..24 + MAX_SECRET].copy_from_slice(secret.padded());
    let aad = Aad::from(bound(owner.gateway, owner.number, &head));
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key
        .key
        .seal_in_place_separate_tag(nonce, aad, &mut out[24..24 + MAX_SECRET])
        .expect("a secret is far shorter than AES-GCM's limit");
    out[24 + MAX_SECRET..].copy_from_slice(tag.as_ref());
    out
}

/// What an entry says without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// It holds the secret of a session's plane.
    Live(SessionId, Plane),
    /// It was overwritten.
    Erased,
}

/// Reads what an entry says without a key.
pub fn state(entry: &[u8; ENTRY]) -> Result<EntryState, FormatFault> {
    if *entry == [0; ENTRY] {
        return Ok(EntryState::Erased);
    }
    if entry[10] != LIVE || entry[11] != 0 {
        return Err(FormatFault::Value("key entry: unknown state"));
    }
    let plane = Plane::from_code(entry[8]).ok_or(FormatFault::Value("key entry: unknown plane"))?;
    suite_from_code(entry[9])?;
    Ok(EntryState::Live(SessionId(u64_at(entry, 0)), plane))
}

/// Opens an entry of `owner`'s.
pub fn open(key: &EnvelopeKey, owner: &Owner, entry: &[u8; ENTRY]) -> Result<TrafficSecret, FormatFault> {
    match state(entry)? {
        EntryState::Erased => return Err(FormatFault::Value("key entry: erased")),
        EntryState::Live(session, plane) if (session, plane) != (owner.session, owner.plane) => {
            return Err(FormatFault::Value("key entry: another session's"));
        }
        EntryState::Live(..) => {}
    }
    let head: [u8; BOUND] = field(entry, 0);
    let mut sealed = Zeroizing::new(field::<64>(entry, 24));
    let nonce = Nonce::assume_unique_for_key(field(entry, BOUND));
    let aad = Aad::from(bound(owner.gateway, owner.number, &head));
    let secret = key
        .key
        .open_in_place(nonce, aad, &mut *sealed)
        .map_err(|_| FormatFault::Value("key entry: does not open"))?;
    let mut padded: [u8; MAX_SECRET] = field(secret, 0);
    let secret = TrafficSecret::from_padded(suite_from_code(entry[9])?, &padded);
    padded.zeroize();
    secret
}
