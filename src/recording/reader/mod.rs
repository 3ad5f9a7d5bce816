//! Readers of recordings. One bad file never hides the others: each fault has file, offset and reason.

pub mod log_view;
mod player;
mod segment;
mod sessions;
#[cfg(test)]
mod tests;
pub mod verify;

pub use player::{BYTES_AGAIN, FACTS_AGAIN, Player, SegmentKeys};
pub use segment::{Frame, KeyPlaces, ReadFault, SegmentFile, key_places, read_head, sessions_of};
pub use sessions::{
    Event, Observer, SessionSummary, list, list_segments, play, play_frames, play_observed, play_segments,
    segments_since,
};
