//! Flood budgets: frames without data, and resets.

use crate::protocol::bucket::Bucket;

/// Frames that carry nothing (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones) that are put up with at
/// once, besides four for each frame of data that moved either way.
const IDLE_FRAMES: u64 = 1_000;
/// Such frames that are forgiven each second.
const IDLE_FRAMES_PER_SECOND: u64 = 200;
/// Frames that carry nothing, for each that carries data.
const IDLE_PER_DATA: u64 = 4;

/// One client's remaining budget.
#[derive(Debug)]
pub(super) struct Budget {
    resets: Bucket,
    idle: Bucket,
}

impl Budget {
    /// `resets` are put up with at once, and `per_second` are forgiven each second.
    pub(super) fn new(resets: u32, per_second: u32) -> Self {
        Budget {
            resets: Bucket::new(resets.into(), per_second.into()),
            idle: Bucket::new(IDLE_FRAMES, IDLE_FRAMES_PER_SECOND),
        }
    }

    /// Refills by the time that has passed.
    pub(super) fn tick(&mut self, milliseconds: u64) {
        for bucket in [&mut self.resets, &mut self.idle] {
            bucket.tick(milliseconds);
        }
    }

    /// A frame with data moved.
    pub(super) fn data(&mut self) {
        self.idle.refill(IDLE_PER_DATA);
    }

    /// A stream was reset; false when that was one too many.
    pub(super) fn reset(&mut self) -> bool {
        self.resets.spend(1)
    }

    /// Resets are about to be needed that the client cannot help.
    pub(super) fn exempt_resets(&mut self) {
        self.resets.fill();
    }

    /// A frame that carries nothing; false when that was one too many.
    pub(super) fn idle(&mut self) -> bool {
        self.idle.spend(1)
    }
}
