//! A progress line on a terminal.

use crate::recording::reader::Observer;
use std::cell::Cell;
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
    updated: Cell<Option<Instant>>,
    /// The part that is being done, and how many there are.
    part: Cell<(usize, usize)>,
    is_shown: Cell<bool>,
    /// Standard output is a terminal, most likely the same one.
    is_beside_output: bool,
}

impl Progress {
    /// `verb`: what is being done, for example `reading`.
    pub(super) fn new(verb: &'static str) -> Self {
        Progress {
            verb,
            begun: Instant::now(),
            updated: Cell::new(None),
            part: Cell::new((0, 0)),
            is_shown: Cell::new(std::io::stderr().is_terminal()),
            is_beside_output: std::io::stdout().is_terminal(),
        }
    }

    /// Shows that part `place`, counted from 0, of `count` is being done.
    pub(super) fn update(&self, place: usize, count: usize) {
        self.part.set((place, count));
        self.show(0, 1);
    }

    /// Shows that of this part `done` of `all` is done.
    pub(super) fn advance(&self, done: u64, all: u64) {
        self.show(done, all);
    }

    /// The command prints its result: where that is seen on the terminal, there is no progress line any more.
    pub(super) fn give_way(&self) {
        if self.is_beside_output && self.is_shown.replace(false) {
            self.clear();
        }
    }

    fn show(&self, done: u64, all: u64) {
        if !self.is_shown.get() {
            return;
        }
        let now = Instant::now();
        let is_due = self.updated.get().is_none_or(|last| now - last >= INTERVAL);
        if !is_due || now - self.begun < PROGRESS_DELAY {
            return;
        }
        self.updated.set(Some(now));
        let text = self.text(now - self.begun, done as f64 / all.max(1) as f64);
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
    }

    /// `within`: the share of the part that is done.
    fn text(&self, spent: Duration, within: f64) -> String {
        let (place, count) = self.part.get();
        let (done, count_done) = (place as f64 + within.clamp(0.0, 1.0), place + 1);
        let left = spent.as_secs_f64() / done * (count as f64 - done).max(0.0);
        let left = if done > 0.0 { format!(", {left:.0} s left") } else { String::new() };
        format!("{} {count_done} of {count}{left}", self.verb)
    }

    fn clear(&self) {
        if self.updated.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Shows how far reading has come.
impl Observer for &Progress {
    fn segment(&mut self, place: usize, count: usize) {
        self.update(place, count);
    }

    fn offset(&mut self, offset: u64, length: u64) {
        self.advance(offset, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_left_counts_the_part_that_is_being_done() {
        let progress = Progress::new("reading segment");
        let text = |place, count, within, seconds| {
            progress.part.set((place, count));
            progress.text(Duration::from_secs(seconds), within)
        };
        assert_eq!(text(0, 4, 0.0, 3), "reading segment 1 of 4");
        assert_eq!(text(0, 1, 0.25, 3), "reading segment 1 of 1, 9 s left");
        assert_eq!(text(1, 4, 0.0, 3), "reading segment 2 of 4, 9 s left");
        // A segment that grows while it is read.
        assert_eq!(text(0, 1, 1.5, 3), "reading segment 1 of 1, 0 s left");
        assert_eq!(text(0, 0, 0.5, 3), "reading segment 1 of 0, 0 s left");
    }
}
