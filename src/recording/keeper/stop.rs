//! Stop signal of the threads.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// Tells the threads to end.
#[derive(Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits; true when it is over.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, limit);
        }
        *stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}
