//! Whether the disk of recordings makes writers wait: a device that stalls, dirty pages beyond what the kernel allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one append may take of a worker. A disk that has what is written in its cache takes microseconds for it.
#[cfg(not(test))]
const SLOW: Duration = Duration::from_millis(5);
/// Tests say when the disk is slow: a machine that is busy would say it for them.
#[cfg(test)]
const SLOW: Duration = Duration::MAX;
/// How long no append must have been slow until workers trust the disk again. An episode holds a worker up once.
const QUIET: Duration = Duration::from_secs(10);

/// The slowness of the disk as writers have met it.
pub(super) struct Slowness {
    began: Instant,
    /// Milliseconds after `began` at which the disk is trusted again; 0 while it is.
    pub(super) until: AtomicU64,
    /// Episodes so far, for metrics.
    pub(super) episodes: AtomicU64,
}

impl Default for Slowness {
    fn default() -> Self {
        Slowness { began: Instant::now(), until: AtomicU64::new(0), episodes: AtomicU64::new(0) }
    }
}

impl Slowness {
    /// True while writers are to be waited for elsewhere than on a worker.
    pub(super) fn is_slow(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// Takes how long an append took.
    pub(super) fn note(&self, took: Duration) {
        if took >= SLOW {
            self.begin(took);
        }
    }

    #[cold]
    pub(super) fn begin(&self, took: Duration) {
        let until = self.now() + QUIET.as_millis() as u64;
        if self.until.swap(until, Ordering::Relaxed) == 0 {
            self.episodes.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "the disk of recordings makes writers wait ({} ms): strictly recorded sessions wait for it by themselves",
                took.as_millis()
            );
        }
    }

    /// Looks whether the disk has been quick for long enough. To be called about once a second.
    pub(super) fn look(&self) {
        let until = self.until.load(Ordering::Relaxed);
        // Whoever has met it again meanwhile has written another time.
        if until != 0
            && self.now() >= until
            && self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::info!("the disk of recordings is quick again");
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}
