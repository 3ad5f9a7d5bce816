//! The signer: appends entries and signs the log, once a second.

use super::super::archive::{Archive, Progress};
use super::super::files::{DirectoryFault, replace};
use super::super::log::store::Log;
use super::super::settings::Durability;
use super::requests::Requests;
use super::retention::Retention;
use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise, fdatasync};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an epoch's key lives.
const EPOCH: Duration = Duration::from_secs(15 * 60);
/// Between two entries at least, so that a log that ends early shows it.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Between two looks at what may be deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// Dirty bytes of a segment whose writing to the disk is begun together, so that the kernel never has to throttle writers.
const WRITE_BACK: u64 = 8 << 20;

/// The log's only writer.
pub(in super::super) struct Signer {
    archive: Arc<Archive>,
    log: Log,
    epoch_since: Instant,
    heartbeat: Instant,
    retention_at: Instant,
    retention: Retention,
    requests: Requests,
    /// Sums of complete segments whose entries are in the log, and not published yet.
    unpublished: Vec<(u64, [u8; 32])>,
}

impl Signer {
    pub(in super::super) fn new(archive: Arc<Archive>, log: Log) -> Self {
        let now = Instant::now();
        let retention = Retention::default();
        Signer {
            archive,
            log,
            epoch_since: now,
            heartbeat: now,
            retention_at: now,
            retention,
            requests: Requests::default(),
            unpublished: Vec::new(),
        }
    }

    /// One second's work. A failed write is retried in the next.
    pub(in super::super) fn turn(&mut self) {
        let mut failed = self.try_turn();
        if failed.is_err() && self.log.release_reserve() {
            failed = self.try_turn();
        }
        let failed = failed.inspect_err(|fault| {
            if self.archive.log_failing.swap(1, Ordering::Relaxed) == 0 {
                tracing::error!("the log of recordings cannot be written: {fault}");
            }
        });
        if failed.is_ok() {
            self.log.reserve();
            self.archive.log_failing.store(0, Ordering::Relaxed);
        }
    }

    fn try_turn(&mut self) -> Result<(), DirectoryFault> {
        let open = self.archive.open.lock().clone();
        for progress in open {
            self.enter_chunk(&progress);
        }
        self.requests.serve(&self.archive.directory, &mut self.log)?;
        let now = Instant::now();
        if now.duration_since(self.retention_at) >= RETENTION_INTERVAL {
            self.retention_at = now;
            self.retention.turn(&self.archive, &mut self.log)?;
        }
        if now.duration_since(self.heartbeat) >= HEARTBEAT {
            self.archive.enter(format!("heartbeat {}", self.archive.sums()));
        }
        self.sign()?;
        if now.duration_since(self.epoch_since) >= EPOCH {
            self.log.change_epoch()?;
            self.epoch_since = now;
        }
        Ok(())
    }

    /// Enters what came, signs, and publishes the sums that are covered now. What fails is done by the next call.
    fn sign(&mut self) -> Result<(), DirectoryFault> {
        let pending = std::mem::take(&mut *self.archive.entries.lock());
        let mut left = pending.into_iter();
        while let Some(entry) = left.next() {
            if let Err(fault) = self.log.append(&entry.line) {
                self.archive.entries.lock().splice(..0, std::iter::once(entry).chain(left));
                return Err(fault);
            }
            self.unpublished.extend(entry.sum);
            self.heartbeat = Instant::now();
        }
        if self.log.has_grown() {
            self.log.checkpoint()?;
        }
        while let Some((number, hash)) = self.unpublished.last() {
            self.publish(*number, hash)?;
            self.unpublished.pop();
        }
        Ok(())
    }

    fn publish(&self, number: u64, hash: &[u8; 32]) -> Result<(), DirectoryFault> {
        let directory = &self.archive.directory;
        let text = format!("{}  {number}.seg\n", super::super::hex(hash));
        let signature = self.log.sign_file(text.as_bytes());
        replace(&directory.segment(number, "sum.sig"), signature.as_bytes())?;
        // Last, and only when its entry is signed: it says that the segment need not be recovered.
        replace(&directory.segment(number, "sum"), text.as_bytes())
    }

    /// Takes what a segment gained; with durability `1s`, it is on the disk before the log says so.
    fn enter_chunk(&self, progress: &Mutex<Progress>) {
        let (line, bytes, keys, to, back) = {
            let mut progress = progress.lock();
            let line = self.archive.take_chunk(&mut progress);
            (line, progress.bytes.clone(), progress.keys.clone(), progress.to, progress.written_back)
        };
        let Some(line) = line else { return };
        if self.archive.settings.durability == Durability::EverySecond
            && fdatasync(&*keys).and_then(|()| fdatasync(&*bytes)).is_err()
        {
            progress.lock().damaged = true;
        } else if to - back >= WRITE_BACK {
            // Begins to write and waits for nothing; what was written already is dropped from the cache.
            let _ = fadvise(&*bytes, back, NonZeroU64::new(to - back), Advice::DontNeed);
            progress.lock().written_back = to;
        }
        self.archive.enter(line);
    }

    /// Completes the log at the end of the process.
    pub(in super::super) fn finish(&mut self) {
        self.archive.enter(format!("stop {}", self.archive.sums()));
        self.turn();
    }

    #[cfg(test)]
    pub(in super::super) fn log(&mut self) -> &mut Log {
        &mut self.log
    }
}
