//! Facts about this process, from Linux' `/proc`. `None` where that cannot be read.

use crate::audit::Sink;
use crate::metrics::ProcessFacts;
use std::fs;
use std::time::SystemTime;

/// What can be told of any process; reload, certificates and drain are for the caller to add.
pub fn facts(started: SystemTime, log: &Sink) -> ProcessFacts {
    ProcessFacts {
        version: env!("CARGO_PKG_VERSION"),
        started: Some(started),
        open_descriptors: open_descriptors(),
        max_descriptors: max_descriptors(),
        resident_bytes: resident_bytes(),
        log: log.facts(),
        ..ProcessFacts::default()
    }
}

/// Descriptors in use.
pub fn open_descriptors() -> Option<u64> {
    // One of them is the listing itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64 - 1)
}

/// Descriptors that the process may use (soft limit).
pub fn max_descriptors() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Resident memory in bytes.
pub fn resident_bytes() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Reads the `VmRSS` line, which is in KiB whatever the page size (proc_pid_status(5)).
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_its_line_only() {
        assert_eq!(resident_in("VmHWM:\t 9 kB\nVmRSS:\t     1234 kB\nRssAnon:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_in("VmRSS:\t lots\n"), None);
        assert_eq!(resident_in(""), None);
    }

    #[test]
    fn facts_carry_the_log_counters() {
        let (sink, _guard) = Sink::start(std::io::sink()).unwrap();
        let facts = facts(SystemTime::UNIX_EPOCH, &sink);
        assert_eq!((facts.version, facts.log.lines), (env!("CARGO_PKG_VERSION"), 0));
        assert!(facts.open_descriptors.is_some() && facts.resident_bytes.is_some());
        assert!(!facts.draining && facts.reload.is_none());
    }

    #[test]
    fn this_process_has_descriptors_and_memory() {
        let before = open_descriptors().unwrap();
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        // Other tests open and close theirs at the same time.
        assert!(open_descriptors().unwrap() + 20 > before + files.len() as u64);
        assert!(max_descriptors().is_none_or(|max| max >= before));
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
