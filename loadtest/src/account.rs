//! What a process has used: processor time and memory, with its children's.
//!
//! Processor time is the scheduler's own nanosecond count of every thread that lives. Limit: it forgets threads that
//! have ended, so for a peer that makes a thread for each connection the kernel's tick count (10 ms) is read instead.

use std::path::Path;
use std::{fs, io};

/// A process and the children it has now.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// Nanoseconds on a processor, user and system together.
pub(crate) fn cpu_ns(pid: u32, threads_end: bool) -> io::Result<u64> {
    family(pid).into_iter().map(|pid| if threads_end { ticks(pid) } else { threads(pid) }).sum()
}

/// The part of [`cpu_ns`] that threads of the least urgent niceness had: they give way to whoever else has work.
pub(crate) fn yielding_ns(pid: u32) -> io::Result<u64> {
    family(pid).into_iter().map(|pid| threads_that(pid, gives_way)).sum()
}

/// The niceness is the 19th field of proc_pid_stat(5): the 17th behind the name.
fn gives_way(task: &Path) -> bool {
    const LEAST_URGENT: &str = "19";
    let Ok(text) = fs::read_to_string(task.join("stat")) else { return false };
    text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)) == Some(LEAST_URGENT)
}

fn threads(pid: u32) -> io::Result<u64> {
    threads_that(pid, |_| true)
}

fn threads_that(pid: u32, wanted: impl Fn(&Path) -> bool) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !wanted(&task) {
            continue;
        }
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else { continue };
        let first = text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        total += first.ok_or_else(|| io::Error::other("schedstat has no run time"))?;
    }
    Ok(total)
}

fn ticks(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields are counted from behind the name, which may hold blanks: utime and stime are the 12th and 13th.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    let used: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(used * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Milliseconds for which the host gave these cores to somebody else though they had work, since the machine started.
/// On hardware of its own, and where the host does not tell, always 0.
pub(crate) fn stolen_ms(cores: &[usize]) -> io::Result<u64> {
    let ticks = stolen_ticks(&fs::read_to_string("/proc/stat")?, cores);
    Ok(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// The eighth number behind `cpu0`, `cpu1` and so on: proc_stat(5).
fn stolen_ticks(stat: &str, cores: &[usize]) -> u64 {
    let of = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split(' ');
        let core: usize = words.next()?.parse().ok()?;
        cores.contains(&core).then(|| words.nth(7)?.parse::<u64>().ok()).flatten()
    };
    stat.lines().filter_map(of).sum()
}

/// Resident memory in KiB.
pub(crate) fn rss_kib(pid: u32) -> io::Result<u64> {
    family(pid).into_iter().map(one_rss).sum()
}

fn one_rss(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| io::Error::other("status has no VmRSS"))
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> io::Result<u64> {
    family(pid).into_iter().map(|pid| Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)).sum()
}

/// Descriptors of a process for everything that is no connection.
const SPARE_DESCRIPTORS: u64 = 600;

/// The most connections that a run can hold: at each, the load and the peer have two ends. Staunch refuses before it has none
/// left, from nine tenths of its `connections` on.
pub(crate) fn most_connections() -> u32 {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let ends = descriptors.map_or(u64::MAX, |all| all.saturating_sub(SPARE_DESCRIPTORS));
    u32::try_from(ends / 2 / 10 * 9).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let me = std::process::id();
        let before = cpu_ns(me, false).unwrap();
        let mut x = 1_u64;
        for n in 0..5_000_000 {
            x = std::hint::black_box(x.wrapping_mul(n | 1));
        }
        assert!(cpu_ns(me, false).unwrap() > before);
        assert!(rss_kib(me).unwrap() > 500);
        assert!(descriptors(me).unwrap() >= 3);
        assert_eq!(family(me)[0], me);
    }

    #[test]
    fn stolen_time_is_that_of_the_cores_asked_for() {
        let stat = "cpu  9 9 9 9 9 9 9 90 9 9\ncpu0 1 2 3 4 5 6 7 20 0 0\ncpu1 1 2 3 4 5 6 7 30 0 0\ncpu10 1 2 3 4 5 6 7 40 0 0\n\
                    intr 1 2 3 4 5 6 7 8 9\n";
        assert_eq!(stolen_ticks(stat, &[0]), 20);
        assert_eq!(stolen_ticks(stat, &[1, 10]), 70);
        assert_eq!(stolen_ticks(stat, &[7]), 0);
        assert!(stolen_ms(&[0]).is_ok());
    }
}
