//! What a process has used: processor time from the scheduler's own nanosecond counters, and resident memory.
//!
//! Limit: `schedstat` is summed over live threads, so a thread that has ended is no longer counted.

use std::{fs, io};

/// Nanoseconds on a processor, user and system together, of all live threads of `pid`.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        total += first.ok_or_else(|| io::Error::other("schedstat has no run time"))?;
    }
    Ok(total)
}

/// Resident memory of `pid` in KiB.
pub(crate) fn rss_kib(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| io::Error::other("status has no VmRSS"))
}
