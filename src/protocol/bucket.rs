//! A token bucket.

/// What may be spent: at once, and each second. In thousandths, so that milliseconds count.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u64,
    most: u64,
    per_second: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(most: u64, per_second: u64) -> Self {
        Bucket { left: most * 1_000, most: most * 1_000, per_second }
    }

    /// Refills by the time that has passed.
    pub(super) fn tick(&mut self, milliseconds: u64) {
        self.add(milliseconds.saturating_mul(self.per_second));
    }

    /// Gives some back.
    pub(super) fn refill(&mut self, amount: u64) {
        self.add(amount * 1_000);
    }

    /// Fills it.
    pub(super) fn fill(&mut self) {
        self.left = self.most;
    }

    /// Takes some; false when there was not enough, which empties it.
    pub(super) fn spend(&mut self, amount: u64) -> bool {
        let enough = self.left >= amount * 1_000;
        self.left = self.left.saturating_sub(amount * 1_000);
        enough
    }

    fn add(&mut self, thousandths: u64) {
        self.left = self.left.saturating_add(thousandths).min(self.most);
    }
}
