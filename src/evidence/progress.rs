//! A progress line on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that takes less shows no progress.
const PROGRESS_DELAY: Duration = Duration::from_millis(700);
/// Between two updates.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line on standard error that is written anew; nothing where that is no terminal.
pub(super) struct Progress {
    verb: &'static str,
    begun: Instant,
    updated: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    /// `verb`: what is being done, for example `reading`.
    pub(super) fn new(verb: &'static str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Progress { verb, begun: Instant::now(), updated: None, is_terminal }
    }

    /// Shows that part `place`, counted from 0, of `count` is being done.
    pub(super) fn update(&mut self, place: usize, count: usize) {
        let now = Instant::now();
        let is_due =
            self.updated.is_none_or(|last| now - last >= INTERVAL) && now - self.begun >= PROGRESS_DELAY;
        if !self.is_terminal || !is_due {
            return;
        }
        self.updated = Some(now);
        let left = (now - self.begun).as_secs_f64() / place.max(1) as f64 * (count - place.min(count)) as f64;
        let left = if place == 0 { String::new() } else { format!(", {left:.0} s left") };
        let _ = write!(std::io::stderr(), "\r\x1b[K{} {} of {count}{left}", self.verb, place + 1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.updated.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
