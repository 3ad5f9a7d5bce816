//! The track of a recorded session: secrets, positions and totals.

use super::super::archive::RecordingFault;
use super::super::format::frame::{Plane, Totals};
use super::super::format::traffic::TrafficSecret;
use super::super::settings::Mode;
use crate::names::SessionId;
use crate::tls::record::{Content, Sealer, Suite};

/// A session's track: what its frames need to know of those before.
pub(super) struct Track {
    pub(super) session: SessionId,
    pub(super) mode: Mode,
    pub(super) planes: [Option<PlaneState>; 2],
    /// The segment that holds its last frame; 0 before the first.
    pub(super) segment: u64,
    pub(super) totals: Totals,
    /// `Async` only: bytes and records of each plane that were not written and are not noted yet.
    pub(super) lost: [(u64, u64); 2],
}

/// One plane: which secret, and where in its sequence the next record stands.
pub(super) struct PlaneState {
    pub(super) secret: TrafficSecret,
    pub(super) epoch: u16,
    pub(super) number: u64,
    /// The segment whose key file has the secret; 0 for none.
    pub(super) entered: u64,
    /// Planes that we seal ourselves.
    sealer: Option<Sealer>,
}

/// Records under one key of a plane that we seal (RFC 8446 section 5.5, AES-GCM).
const RECORDS_PER_KEY: u64 = 1 << 24;

impl Track {
    pub(super) fn new(session: SessionId, mode: Mode) -> Self {
        let (planes, totals, lost) = ([None, None], Totals::default(), [(0, 0); 2]);
        Track { session, mode, planes, segment: 0, totals, lost }
    }

    pub(super) fn plane(&mut self, plane: Plane) -> Result<&mut PlaneState, RecordingFault> {
        self.planes[plane.index()].as_mut().ok_or(RecordingFault::NotRecords)
    }

    pub(super) fn carry(&mut self, plane: Plane, secret: TrafficSecret, number: u64) {
        let state = PlaneState { secret, epoch: 0, number, entered: 0, sealer: None };
        self.planes[plane.index()] = Some(state);
    }

    pub(super) fn seal(&mut self, plane: Plane, suite: Suite) -> Result<(), RecordingFault> {
        let random: [u8; 48] = super::super::random();
        let secret = TrafficSecret::new(suite, &random[..TrafficSecret::length(suite)]);
        let secret = secret.ok_or(RecordingFault::NotRecords)?;
        let sealer = Sealer::new(&secret.key().secrets(), 0, RECORDS_PER_KEY);
        let state = PlaneState { secret, epoch: 0, number: 0, entered: 0, sealer };
        self.planes[plane.index()] = Some(state);
        Ok(())
    }
}

impl PlaneState {
    /// Goes over to the next secret (RFC 8446 section 7.2).
    pub(super) fn rekey(&mut self) -> Result<(), RecordingFault> {
        self.epoch = self.epoch.checked_add(1).ok_or(RecordingFault::Exhausted)?;
        self.secret = self.secret.next();
        self.number = 0;
        if let Some(sealer) = &mut self.sealer {
            sealer.rekey(&self.secret.key().secrets()).map_err(|_| RecordingFault::Exhausted)?;
        }
        Ok(())
    }

    /// Before the plane goes on in a segment: what we seal gets another secret there, so that one segment's keys do not
    /// open the segments before it.
    pub(super) fn renew_for_segment(&mut self) -> Result<(), RecordingFault> {
        match self.sealer.is_some() && self.entered != 0 {
            true => self.rekey(),
            false => Ok(()),
        }
    }

    /// Number of the next record, as frames have it.
    pub(super) fn frame_number(&self) -> Result<u32, RecordingFault> {
        u32::try_from(self.number).map_err(|_| RecordingFault::Exhausted)
    }

    /// Seals plaintext into `out`.
    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), RecordingFault> {
        let sealer = self.sealer.as_mut().ok_or(RecordingFault::NotRecords)?;
        sealer.seal(Content::Data, plaintext, out).map_err(|_| RecordingFault::Exhausted)
    }

    pub(super) fn needs_rekey(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::needs_rekey)
    }

    pub(super) fn is_sealed_here(&self) -> bool {
        self.sealer.is_some()
    }
}
