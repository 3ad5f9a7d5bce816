//! Late DATA: frames of the upstream on streams that are closed already, bounded by what could be in flight.

use super::frame;

/// How much of it may still come. It is given its window of the connection back, so that the other streams go on: without a
/// limit of its own an upstream could send for ever what nobody takes.
#[derive(Default)]
pub(super) struct LateData {
    allowed: u64,
    /// The largest window with which streams begin.
    window: u32,
}

/// What the heads of small frames may come to, for each stream.
const SMALL_FRAMES: u64 = 16 * 1024;

impl LateData {
    pub(super) fn new(window: u32) -> Self {
        LateData { allowed: 0, window }
    }

    /// The client's streams begin with this window from now on.
    pub(super) fn set_window(&mut self, window: u32) {
        self.window = self.window.max(window);
    }

    /// A stream is over before its upstream has sent all. `granted`: what the client allowed beyond the first window;
    /// `received`: what has come.
    pub(super) fn stream_ended(&mut self, granted: i64, received: u64) {
        let left = u64::from(self.window).saturating_add_signed(granted).saturating_sub(received);
        self.allowed = self.allowed.saturating_add(2 * left + SMALL_FRAMES);
    }

    /// A frame with this payload has come. False: it is more than can have been on its way.
    pub(super) fn take(&mut self, payload: usize) -> bool {
        let left = self.allowed.checked_sub((frame::HEAD + payload) as u64);
        self.allowed = left.unwrap_or_default();
        left.is_some()
    }
}
