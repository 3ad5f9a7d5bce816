//! What a session does to its recording, kept until a thread writes it.

use super::super::archive::RecordingFault;
use super::super::format::frame::{Gap, Plane};
use super::super::format::traffic::TrafficSecret;
use super::appender::Payload;
use super::track::Track;
use crate::tls::record::Suite;

/// What happens to a session, in order.
pub(super) enum Event {
    Begin(usize),
    Carry(Plane, TrafficSecret, u64),
    Seal(Plane, Suite),
    Rekey(Plane),
    Wire(Plane, Vec<u8>),
    Plaintext(Plane, Vec<u8>),
    Fact(Vec<u8>),
    SealedFact(Vec<u8>),
    Gap(Gap),
    End,
    /// The tape was dropped.
    Forget,
}

/// What an event takes of the queue besides its bytes.
pub(super) const EVENT_COST: usize = 128;

impl Event {
    /// Bytes that it takes of the queue.
    pub(super) fn cost(&self) -> usize {
        match self {
            Event::Wire(_, bytes)
            | Event::Plaintext(_, bytes)
            | Event::Fact(bytes)
            | Event::SealedFact(bytes) => EVENT_COST + bytes.len(),
            _ => EVENT_COST,
        }
    }
}

impl From<Payload<'_>> for Event {
    /// A copy that can wait.
    fn from(payload: Payload<'_>) -> Self {
        match payload {
            Payload::Wire(plane, slices) => {
                Event::Wire(plane, slices.iter().flat_map(|slice| slice.iter().copied()).collect())
            }
            Payload::Plaintext(plane, plaintext) => Event::Plaintext(plane, plaintext.to_vec()),
            Payload::Fact(line) => Event::Fact(line.to_vec()),
            Payload::SealedFact(text) => Event::SealedFact(text.to_vec()),
            Payload::Gap(gap) => Event::Gap(gap),
            Payload::End => Event::End,
        }
    }
}

/// Changes a plane's secrets.
pub(super) fn change(track: &mut Track, event: Event) -> Result<(), RecordingFault> {
    match event {
        Event::Carry(plane, secret, number) => track.carry(plane, secret, number),
        Event::Seal(plane, suite) => track.seal(plane, suite)?,
        Event::Rekey(plane) => track.plane(plane)?.rekey()?,
        _ => {}
    }
    Ok(())
}
