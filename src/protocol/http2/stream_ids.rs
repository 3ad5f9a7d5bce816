//! Which stream identifiers the client has used, and on which of them it may not know yet that they are over.

use std::collections::VecDeque;

/// Streams remembered because frames of the client's may still be on their way; the oldest is forgotten.
const MAX_RESET: usize = 1_024;
/// Gaps between identifiers that are remembered. No client in use leaves any.
const MAX_GAPS: usize = 64;

/// What is known of streams that are not open.
#[derive(Debug, Default)]
pub(super) struct StreamIds {
    last: u32,
    /// Identifiers that were passed over, first and last.
    gaps: VecDeque<(u32, u32)>,
    /// Streams that were ended here or by the upstream before the client had sent all.
    reset: VecDeque<u32>,
}

impl StreamIds {
    /// The highest identifier used.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// The client opens a stream, with an odd identifier higher than all before.
    pub(super) fn open(&mut self, id: u32) {
        let next = if self.last == 0 { 1 } else { self.last + 2 };
        if id > next {
            self.gaps.push_back((next, id - 2));
            if self.gaps.len() > MAX_GAPS {
                self.gaps.pop_front();
            }
        }
        self.last = id;
    }

    /// True for an identifier that was never used and cannot be any more (RFC 9113 section 5.1.1).
    pub(super) fn is_passed_over(&self, id: u32) -> bool {
        id.is_multiple_of(2) || self.gaps.iter().any(|&(first, last)| (first..=last).contains(&id))
    }

    /// What the client still sends on this stream is nobody's fault (RFC 9113 section 5.1, "closed").
    pub(super) fn reset(&mut self, id: u32) {
        if self.reset.len() == MAX_RESET {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// True while frames on this stream may still be on their way. `ends`: this is the last of them.
    pub(super) fn is_reset(&mut self, id: u32, ends: bool) -> bool {
        let Some(place) = self.reset.iter().rposition(|reset| *reset == id) else { return false };
        if ends {
            self.reset.remove(place);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_resets_are_told_apart_from_streams_that_ended() {
        let mut ids = StreamIds::default();
        [1, 3, 9].into_iter().for_each(|id| ids.open(id));
        assert_eq!(ids.last(), 9);
        let over: Vec<u32> = (1..10).filter(|id| ids.is_passed_over(*id)).collect();
        assert_eq!(over, [2, 4, 5, 6, 7, 8]);
        ids.reset(3);
        assert!(ids.is_reset(3, false) && ids.is_reset(3, true) && !ids.is_reset(3, false));
        assert!(!ids.is_reset(1, false));
    }
}
