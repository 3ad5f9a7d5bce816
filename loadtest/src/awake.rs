//! Keeps cores from halting, so that latencies are the peer's own.
//!
//! A virtual core that has nothing to do goes back to the host, which takes its time to return it. That time counts as
//! stolen, and whoever does the same work with less effort has more of it: it sleeps more often. A thread that runs
//! only while nothing else wants the core keeps it, and gives way at once.

use crate::peers;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

/// Cores are kept as long as this lives.
pub(crate) struct Awake {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    /// Keeps these cores, each with a thread of the scheduler's idle class.
    pub(crate) fn keep(cores: &[usize]) -> io::Result<Self> {
        let mut awake = Awake { over: Arc::default(), threads: Vec::new() };
        for core in cores.iter().copied() {
            let (over, (ready, wait)) = (awake.over.clone(), channel());
            awake.threads.push(thread::spawn(move || {
                let idle = peers::pin(&[core]).and_then(|()| idle_class());
                let keep = idle.is_ok();
                let _ = ready.send(idle);
                while keep && !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            }));
            wait.recv().map_err(io::Error::other)??;
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Puts this thread behind all others: `SCHED_IDLE` of sched(7), which anybody may ask for.
#[expect(
    unsafe_code,
    reason = "sched_setscheduler has no safe wrapper but with a dozen crates for another system"
)]
fn idle_class() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `priority`, which lives until it returns, and changes nothing but this thread's class.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The scheduling classes of this process' threads, by number: the 41st field of proc_pid_stat(5).
    fn classes() -> Vec<u32> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let stat = |task: io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("stat")).ok();
        let class = |text: String| text.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok();
        tasks.filter_map(stat).filter_map(class).collect()
    }

    #[test]
    fn a_core_is_kept_by_a_thread_of_the_idle_class_until_it_is_let_go() {
        const IDLE: u32 = libc::SCHED_IDLE as u32;
        assert!(!classes().contains(&IDLE));
        let core = (0..1024).find(|core| peers::cores().is_set(*core)).unwrap();
        let awake = Awake::keep(&[core, core]).unwrap();
        assert_eq!(classes().iter().filter(|class| **class == IDLE).count(), 2);
        drop(awake);
        assert!(!classes().contains(&IDLE));
    }
}
