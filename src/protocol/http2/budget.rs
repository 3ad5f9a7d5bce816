//! What a client may make us do for nothing.

/// Frames that carry nothing (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones) that are put up with at
/// once, besides four for each frame of data that moved either way.
const IDLE_FRAMES: u64 = 1_000;
/// Such frames that are forgiven each second.
const IDLE_FRAMES_PER_SECOND: u64 = 200;
/// Frames that carry nothing, for each that carries data.
const IDLE_PER_DATA: u64 = 4;

/// A bucket that fills with time. In thousandths, so that milliseconds count.
#[derive(Debug)]
struct Bucket {
    left: u64,
    most: u64,
    per_second: u64,
}

impl Bucket {
    fn new(most: u64, per_second: u64) -> Self {
        Bucket { left: most * 1_000, most: most * 1_000, per_second }
    }

    fn refill(&mut self, thousandths: u64) {
        self.left = self.left.saturating_add(thousandths).min(self.most);
    }

    fn spend(&mut self) -> bool {
        let enough = self.left >= 1_000;
        self.left = self.left.saturating_sub(1_000);
        enough
    }
}

/// What is left for one client.
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

    /// Time has passed.
    pub(super) fn tick(&mut self, milliseconds: u64) {
        for bucket in [&mut self.resets, &mut self.idle] {
            bucket.refill(milliseconds.saturating_mul(bucket.per_second));
        }
    }

    /// A frame with data moved.
    pub(super) fn data(&mut self) {
        self.idle.refill(IDLE_PER_DATA * 1_000);
    }

    /// A stream was reset; false when that was one too many.
    pub(super) fn reset(&mut self) -> bool {
        self.resets.spend()
    }

    /// Resets are about to be needed that the client cannot help.
    pub(super) fn forgive_resets(&mut self) {
        self.resets.refill(self.resets.most);
    }

    /// A frame that carries nothing; false when that was one too many.
    pub(super) fn idle(&mut self) -> bool {
        self.idle.spend()
    }
}
