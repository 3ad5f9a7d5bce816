//! The thread that writes: the only one that a slow or failing destination can hold up. It never panics and never gives
//! up while the gateway lives.

use super::{BATCH, FLUSH, Shared, Stage};
use crate::audit::print_to_stderr;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bytes of one system call. A pipe whose reader takes less than this within [`super::STALL_TIMEOUT`] counts as stuck.
const WRITE: usize = 64 << 10;

/// How long to wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How often a failing write is tried again when the program wants to end.
const FLUSH_RETRIES: u32 = 4;

impl Shared {
    /// Writes until the guard is dropped.
    pub(super) fn run(&self, mut destination: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.queue.lock();
            self.waiting.store(self.waiting.load(Relaxed) - batch.len(), Relaxed);
            batch.clear();
            // After a burst, do not hold its memory for ever.
            batch.shrink_to(4 * BATCH);
            if queue.chunk.is_empty() {
                // Nothing is left of what was said before: those who flush may go.
                queue.urgent = false;
                self.progress.store(0, Relaxed);
                self.emptied.notify_all();
            }
            while queue.chunk.is_empty() && queue.stage == Stage::Open {
                self.filled.wait(&mut queue);
            }
            if queue.full.is_empty() {
                self.filled.wait_while_for(&mut queue, |q| !q.urgent && q.stage == Stage::Open, FLUSH);
            }
            queue.urgent = false;
            match queue.full.pop_front() {
                Some(oldest) => batch = oldest,
                None if queue.chunk.is_empty() => {
                    // The stage is Closing: the loop above waits for that or for lines.
                    queue.stage = Stage::Closed;
                    self.emptied.notify_all();
                    return;
                }
                None => std::mem::swap(&mut batch, &mut queue.chunk),
            }
            drop(queue);
            if !self.write(&mut destination, &batch) {
                self.queue.lock().stage = Stage::Closed;
                self.emptied.notify_all();
                return;
            }
        }
    }

    /// Writes all of `batch`, trying again for as long as the gateway lives. False when it has ended meanwhile.
    fn write(&self, destination: &mut impl Write, mut batch: &[u8]) -> bool {
        let mut last_tries = FLUSH_RETRIES;
        if self.progress.load(Relaxed) == 0 {
            self.progress.store(self.now(), Relaxed);
        }
        loop {
            let result = match batch {
                [] => destination.flush(),
                left => match destination.write(&left[..left.len().min(WRITE)]) {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        batch = &batch[n..];
                        self.progress.store(self.now(), Relaxed);
                        if self.stalled.swap(false, Relaxed) {
                            print_to_stderr("the log takes lines again");
                        }
                        continue;
                    }
                    Err(e) => Err(e),
                },
            };
            match result {
                Ok(()) => {
                    if self.failed.swap(false, Relaxed) {
                        print_to_stderr("the log can be written again");
                    }
                    return true;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.errors.fetch_add(1, Relaxed);
                    if !self.failed.swap(true, Relaxed) {
                        print_to_stderr(&format!("the log cannot be written: {e}"));
                    }
                    if self.queue.lock().stage == Stage::Closing {
                        last_tries -= 1;
                        if last_tries == 0 {
                            print_to_stderr(&format!(
                                "{} bytes of the log are lost",
                                self.waiting.load(Relaxed)
                            ));
                            return false;
                        }
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}
