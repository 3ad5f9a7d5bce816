//! Decryption: opens a segment's keys with an auditor's identity, and records with the keys of their plane.

use super::super::files::{read_file, read_small, replace};
use super::super::format::FormatFault;
use super::super::format::envelope::{self, Identities, Recipient};
use super::super::format::frame::{FrameHead, KeyNotice, Plane};
use super::super::format::keys::{self, ENTRY, EnvelopeKey, FactPlace, Owner};
use super::super::format::segment::SegmentHead;
use super::super::format::traffic::TrafficSecret;
use super::segment::{Frame, ReadFault, SegmentFile};
use crate::names::SessionId;
use crate::tls::record::{Content, Opener, record_length};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The keys of one segment.
pub struct SegmentKeys {
    head: SegmentHead,
    path: PathBuf,
    entries: Vec<u8>,
    bytes: Option<EnvelopeKey>,
    facts: Option<EnvelopeKey>,
}

/// Files beside a segment with its keys as an auditor sealed them to others: K_bytes and K_facts.
pub const BYTES_AGAIN: &str = "bytes.age";
/// See [`BYTES_AGAIN`].
pub const FACTS_AGAIN: &str = "facts.age";

impl SegmentKeys {
    /// Reads the key file beside a segment, and opens its envelopes with whichever identity fits.
    pub fn open(file: &SegmentFile, identities: Option<&Identities>) -> Result<Self, ReadFault> {
        let path = file.path().with_extension("keys");
        let told = |reason: String| ReadFault { file: path.clone(), offset: 0, reason };
        // An entry has a KEY frame in the segment, and a record behind that.
        let limit = file.length.saturating_add(ENTRY as u64);
        let entries = read_file(&path, limit).map_err(|error| told(error.to_string()))?;
        let open = |sealed: &[u8]| match identities {
            None => Ok(None),
            Some(identities) => envelope::open(sealed, identities).map_err(|why| file.fault(0, why)),
        };
        // What the gateway sealed, or what an auditor sealed again.
        let open = |sealed: &[u8], again: &str| match open(sealed)? {
            Some(key) => Ok(Some(key)),
            None if identities.is_none() => Ok(None),
            None => match read_small(&file.path().with_extension(again)) {
                Ok(sealed) => open(&sealed),
                Err(_) => Ok(None),
            },
        };
        let bytes = open(&file.head.bytes_envelope, BYTES_AGAIN)?;
        let facts = open(&file.head.facts_envelope, FACTS_AGAIN)?;
        let head = file.head.clone();
        Ok(SegmentKeys { head, path, entries, bytes, facts })
    }

    /// No keys: of a segment whose key file or envelopes cannot be read.
    pub fn none(file: &SegmentFile) -> Self {
        let path = file.path().with_extension("keys");
        SegmentKeys { head: file.head.clone(), path, entries: Vec::new(), bytes: None, facts: None }
    }

    /// The key file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the key file.
    pub fn length(&self) -> usize {
        self.entries.len()
    }

    /// True when an identity opened the key of the sessions' bytes.
    pub fn can_open(&self) -> bool {
        self.bytes.is_some()
    }

    /// Seals the segment's keys to others, in files beside it; false when no identity opened them.
    pub fn seal_again(&self, file: &SegmentFile, recipients: &[Recipient]) -> Result<bool, ReadFault> {
        let (Some(bytes), Some(facts)) = (&self.bytes, &self.facts) else { return Ok(false) };
        for (key, extension) in [(bytes, BYTES_AGAIN), (facts, FACTS_AGAIN)] {
            let path = file.path().with_extension(extension);
            let sealed = envelope::seal(key, recipients).map_err(|why| file.fault(0, why))?;
            replace(&path, &sealed).map_err(|why| file.fault(0, why))?;
        }
        Ok(true)
    }

    /// An entry, if the file is long enough.
    pub fn entry(&self, place: u32) -> Option<&[u8; ENTRY]> {
        self.entries.get(place as usize * ENTRY..)?.first_chunk()
    }

    /// Opens a sealed fact, if an identity fits.
    pub fn open_fact(&self, frame: &Frame) -> Option<Result<Vec<u8>, FormatFault>> {
        let head = frame.head.encode();
        let place = FactPlace {
            gateway: self.head.gateway,
            number: self.head.number,
            offset: frame.offset,
            head: &head,
        };
        let mut payload = frame.payload.clone();
        Some(self.facts.as_ref()?.open_fact(&place, &mut payload).map(|()| payload))
    }

    fn secret(&self, session: SessionId, notice: &KeyNotice) -> Option<Result<TrafficSecret, FormatFault>> {
        let owner =
            Owner { gateway: self.head.gateway, number: self.head.number, session, plane: notice.plane };
        let key = self.bytes.as_ref()?;
        let entry = self.entry(notice.place).ok_or(FormatFault::Value("the key file has no such entry"));
        Some(entry.and_then(|entry| keys::open(key, &owner, entry)))
    }
}

struct Track {
    secret: TrafficSecret,
    epoch: u16,
    opener: Option<Opener>,
    number: u64,
    ends_in_key_update: bool,
}

/// Handshake message of a key update (RFC 8446 section 4.6.3).
const KEY_UPDATE: u8 = 24;

/// Opens the records of all planes of a segment.
#[derive(Default)]
pub struct Player {
    tracks: HashMap<(SessionId, Plane), Track>,
}

impl Player {
    /// Takes a KEY frame. Without a fitting identity, or where the secret was erased, the plane stays closed.
    pub fn key(
        &mut self,
        keys: &SegmentKeys,
        head: &FrameHead,
        notice: &KeyNotice,
    ) -> Result<(), FormatFault> {
        if keys.entry(notice.place).is_some_and(|entry| *entry == [0; ENTRY]) {
            return Ok(());
        }
        let Some(secret) = keys.secret(head.session, notice).transpose()? else { return Ok(()) };
        let track = Track {
            secret,
            epoch: head.epoch,
            opener: None,
            number: head.number.into(),
            ends_in_key_update: false,
        };
        self.tracks.insert((head.session, notice.plane), track);
        Ok(())
    }

    /// The secret of a plane at the place that was read last.
    pub fn secret(&self, session: SessionId, plane: Plane) -> Option<&TrafficSecret> {
        self.tracks.get(&(session, plane)).map(|track| &track.secret)
    }

    /// True when the record that was opened last is a key update.
    pub fn ends_in_key_update(&self, session: SessionId, plane: Plane) -> bool {
        self.tracks.get(&(session, plane)).is_some_and(|track| track.ends_in_key_update)
    }

    /// Opens the records of a frame; gives the plaintext of application data. `None` when the plane is closed.
    pub fn records(
        &mut self,
        plane: Plane,
        head: &FrameHead,
        payload: &[u8],
    ) -> Option<Result<Vec<u8>, FormatFault>> {
        let track = self.tracks.get_mut(&(head.session, plane))?;
        Some(track.open(head, payload))
    }
}

impl Track {
    fn open(&mut self, head: &FrameHead, payload: &[u8]) -> Result<Vec<u8>, FormatFault> {
        const OUT_OF_ORDER: FormatFault = FormatFault::Value("key epochs go back");
        let ahead = head.epoch.checked_sub(self.epoch).ok_or(OUT_OF_ORDER)?;
        for _ in 0..ahead {
            self.secret = self.secret.next();
            self.opener = None;
        }
        self.epoch = head.epoch;
        if self.opener.is_none() || self.number != u64::from(head.number) {
            self.number = head.number.into();
            self.opener = Opener::new(&self.secret.key().secrets(), self.number);
        }
        let opener = self.opener.as_mut().ok_or(FormatFault::Value("a secret of another length"))?;
        let (mut bytes, mut out, mut at) = (payload.to_vec(), Vec::with_capacity(payload.len()), 0);
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let length = match record_length(rest) {
                Ok(Some(length)) if length <= rest.len() => length,
                _ => return Err(FormatFault::Value("a record is cut")),
            };
            let record = &mut rest[..length];
            let opened = opener.open(record).map_err(|_| FormatFault::Value("a record does not verify"))?;
            let content = &record[opened.start..opened.end];
            self.ends_in_key_update =
                opened.content == Content::Handshake && content.first() == Some(&KEY_UPDATE);
            if opened.content == Content::Data {
                out.extend_from_slice(content);
            }
            self.number += 1;
            at += length;
        }
        Ok(out)
    }
}
