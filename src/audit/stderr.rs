//! Messages on standard error about the log itself.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Write, stderr};

/// Prints a line on standard error if that can be done without waiting. Never panics: standard error may be the very
/// disk that is full, or the very pipe that nobody reads.
pub fn print_to_stderr(text: &str) {
    let stderr = stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A pipe is ready when it has room for a page, which is more than any of these texts.
    if poll(&mut ready, Some(&now)).is_ok_and(|n| n == 1) && ready[0].revents().contains(PollFlags::OUT) {
        let mut line = format!("staunch: {text}");
        let end = line.floor_char_boundary(MAX_LINE_BYTES);
        line.truncate(end);
        line.push('\n');
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}

/// Less than a pipe that is ready has room for (PIPE_BUF).
const MAX_LINE_BYTES: usize = 2_000;
