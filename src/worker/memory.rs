//! The memory that the process may use, where a control group limits it (a container, a systemd unit with `MemoryMax`).
//!
//! The kernel ends a process that needs more, and all its sessions with it. So limits follow from it at the start, and
//! while the gateway runs, new connections are refused before it is used up.

use std::fs;
use std::path::{Path, PathBuf};

/// A control group's limit of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// How much the group may use.
    pub bytes: u64,
    folder: PathBuf,
    files: &'static Files,
}

/// How the two versions of control groups call things.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// What of the usage the kernel takes back by itself, in `memory.stat`.
    reclaimable: &'static str,
}

/// Documentation/admin-guide/cgroup-v2.rst of Linux.
static V2: Files = Files { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };

/// Documentation/admin-guide/cgroup-v1/memory.rst of Linux.
static V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// What version 1 says where there is no limit is a number near 2^63.
const NO_LIMIT: u64 = 1 << 62;

impl MemoryLimit {
    /// The tightest limit of the groups that this process is in; `None` where there is none.
    pub fn find() -> Option<Self> {
        Self::find_in(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    fn find_in(root: &Path, groups: &str) -> Option<Self> {
        let found = groups.lines().flat_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let (mounts, files): (&[&str], _) = match controllers {
                "" => (&["", "unified"], &V2),
                list if list.split(',').any(|controller| controller == "memory") => (&["memory"], &V1),
                _ => (&[], &V1),
            };
            let mounts: Vec<PathBuf> = mounts.iter().map(|mount| root.join(mount)).collect();
            let path = PathBuf::from(path.trim_start_matches('/'));
            mounts.into_iter().flat_map(move |mount| {
                // Whoever is within a group's namespace sees it as the root, whatever its path says.
                let folders: Vec<PathBuf> = path.ancestors().map(|folder| mount.join(folder)).collect();
                folders.into_iter().filter_map(|folder| Self::of(folder, files))
            })
        });
        found.min_by_key(|limit| limit.bytes)
    }

    fn of(folder: PathBuf, files: &'static Files) -> Option<Self> {
        let bytes = number(&folder.join(files.limit)).filter(|bytes| *bytes < NO_LIMIT)?;
        Some(MemoryLimit { bytes, folder, files })
    }

    /// How much the group uses of it that the kernel cannot take back at once.
    pub fn used(&self) -> Option<u64> {
        let usage = number(&self.folder.join(self.files.usage))?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let reclaimable = stat.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == self.files.reclaimable).then(|| value.parse::<u64>().ok())?
        });
        Some(usage.saturating_sub(reclaimable.unwrap_or(0)))
    }

    /// Bytes that may wait for the log in this memory.
    pub fn log_buffer(&self) -> usize {
        ((self.bytes / LOG_SHARE) as usize).clamp(MIN_LOG_BUFFER, crate::audit::BUFFER)
    }

    /// Client connections that fit beside a log with this buffer.
    pub fn connections(&self, log_buffer: usize) -> usize {
        let others = BASE + (crate::audit::Room::MAX_BUFFERS * log_buffer) as u64;
        let rest = (self.bytes / 10 * 9).saturating_sub(others);
        ((rest / PER_CONNECTION) as usize).max(MIN_CONNECTIONS)
    }

    /// How short memory is.
    pub fn shortage(&self) -> Shortage {
        let used = self.used().unwrap_or(0);
        match used {
            _ if used >= self.bytes / 100 * 95 => Shortage::Severe,
            _ if used >= self.bytes / 10 * 9 => Shortage::Near,
            _ => Shortage::None,
        }
    }
}

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortage {
    /// There is enough.
    #[default]
    None,
    /// A tenth is left, for saying so.
    Near,
    /// A twentieth is left.
    Severe,
}

/// The program, its threads, its issuers' keys, and what the workers share.
const BASE: u64 = 32 << 20;

/// What a connection holds at most while both sides are slow.
const PER_CONNECTION: u64 = 64 << 10;

/// Less would refuse everybody.
const MIN_CONNECTIONS: usize = 16;

/// Which part of memory may wait for the log while new work is permitted.
const LOG_SHARE: u64 = 128;

/// Less would refuse work for a single burst.
const MIN_LOG_BUFFER: usize = 64 << 10;

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_tightest_limit_of_a_group_and_its_ancestors_counts_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let stat = ("memory.stat", "anon 7\ninactive_file 50\nactive_file 9\n");
        write(&root.path().join("a/b"), &[("memory.max", "max\n"), ("memory.current", "900\n"), stat]);
        write(&root.path().join("a"), &[("memory.max", "1000\n"), ("memory.current", "980\n"), stat]);
        let limit = MemoryLimit::find_in(root.path(), "0::/a/b\n").unwrap();
        assert_eq!((limit.bytes, limit.used(), limit.shortage()), (1_000, Some(930), Shortage::Near));
        assert_eq!(MemoryLimit::find_in(root.path(), "0::/elsewhere\n"), None);

        let stat = ("memory.stat", "inactive_file 1\ntotal_inactive_file 20\n");
        let files = [("memory.limit_in_bytes", "500\n"), ("memory.usage_in_bytes", "500\n"), stat];
        write(&root.path().join("memory"), &files);
        write(&root.path().join("memory/c"), &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        for groups in ["4:memory:/c\n0::/\n", "4:cpu,memory:/docker/0123\n1:cpu:/\n"] {
            let limit = MemoryLimit::find_in(root.path(), groups).unwrap();
            assert_eq!(
                (limit.bytes, limit.used(), limit.shortage()),
                (500, Some(480), Shortage::Severe),
                "{groups}"
            );
        }
        assert_eq!(MemoryLimit::find_in(root.path(), "1:cpu:/\n").map(|limit| limit.bytes), None);
    }

    #[test]
    fn what_all_limits_allow_together_fits() {
        for mib in [48, 64, 256, 1024, 65_536] {
            let limit = MemoryLimit { bytes: mib << 20, folder: PathBuf::new(), files: &V2 };
            let buffer = limit.log_buffer();
            let connections = limit.connections(buffer) as u64;
            let all = BASE + 7 * buffer as u64 + connections * PER_CONNECTION;
            assert!(all <= limit.bytes, "{mib} MiB: {connections} connections, {buffer} bytes of log");
            assert!(connections >= 16);
        }
    }
}
