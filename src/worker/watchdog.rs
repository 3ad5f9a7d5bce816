//! One thread that notices workers which do not come back to their reactor.
//!
//! A session that computes without end stops all others of its worker, and nobody on that worker can say so. Tokio counts
//! how often each runtime sleeps and how long it was busy, and brings both up to date at least every 61 polls; a worker
//! that is awake and whose figures stand still does not come back. The path of bytes pays one store for each poll of a
//! session: its number, so that the line in the log can name it.

use crate::metrics::WorkerMetrics;
use crate::names::SessionId;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::RuntimeMetrics;

/// How often workers are looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// Looks without progress until a worker counts as stalled: a second. Looks are counted, not time, so that a machine that
/// slept is not taken for a worker that stalled.
const CHECKS_UNTIL_STALLED: u32 = 4;

/// The thread, as long as this lives.
pub(super) struct Watchdog {
    watch: Sender<Weak<WatchGuard>>,
}

/// A watched worker; dropped, it is watched no more.
pub(super) struct WatchGuard {
    number: usize,
    metrics: Arc<WorkerMetrics>,
    runtime: RuntimeMetrics,
}

impl Watchdog {
    pub(super) fn start() -> io::Result<Self> {
        let (watch, inbox) = channel();
        std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut workers: Vec<WorkerObservations> = Vec::new();
            loop {
                match inbox.recv_timeout(INTERVAL) {
                    Ok(worker) => {
                        workers.push(WorkerObservations { worker, seen: (0, Duration::ZERO), same: 0 })
                    }
                    Err(RecvTimeoutError::Timeout) => workers.retain_mut(WorkerObservations::look),
                    Err(RecvTimeoutError::Disconnected) if workers.is_empty() => return,
                    Err(RecvTimeoutError::Disconnected) => {
                        std::thread::sleep(INTERVAL);
                        workers.retain_mut(WorkerObservations::look);
                    }
                }
            }
        })?;
        Ok(Watchdog { watch })
    }

    /// A worker's registration.
    pub(super) fn entrance(&self) -> WorkerRegistration {
        WorkerRegistration(self.watch.clone())
    }
}

/// A worker's registration with the watchdog, from its own thread.
pub(super) struct WorkerRegistration(Sender<Weak<WatchGuard>>);

impl WorkerRegistration {
    /// Puts the worker of this runtime under watch until what is returned is dropped.
    pub(super) fn watch(
        self,
        number: usize,
        metrics: Arc<WorkerMetrics>,
        runtime: RuntimeMetrics,
    ) -> Arc<WatchGuard> {
        let watched = Arc::new(WatchGuard { number, metrics, runtime });
        // Without a watchdog nobody watches, and the worker works.
        _ = self.0.send(Arc::downgrade(&watched));
        watched
    }
}

/// The watchdog's observations of a worker.
struct WorkerObservations {
    worker: Weak<WatchGuard>,
    /// Sleeps, and time that was busy.
    seen: (u64, Duration),
    /// Looks since the last progress.
    same: u32,
}

impl WorkerObservations {
    /// Looks once; false when the worker has ended.
    fn look(&mut self) -> bool {
        let Some(worker) = self.worker.upgrade() else { return false };
        let sleeps = worker.runtime.worker_park_unpark_count(0);
        let now = (sleeps, worker.runtime.worker_total_busy_duration(0));
        let asleep = !sleeps.is_multiple_of(2);
        if asleep || now != self.seen {
            if self.same >= CHECKS_UNTIL_STALLED {
                worker.metrics.worker_recovered();
                tracing::warn!(worker = worker.number, "a worker that was stalled works again");
            }
            (self.seen, self.same) = (now, 0);
            return true;
        }
        self.same += 1;
        if self.same == CHECKS_UNTIL_STALLED {
            worker.metrics.worker_stalled();
            let session = worker.metrics.polled_session().map(SessionId);
            tracing::error!(
                worker = worker.number,
                session = session.map(tracing::field::display),
                "a worker is stalled: it did not come back to its reactor for a second"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Format, Pipeline, Sink};
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Instant;
    use tokio::runtime::{Builder, LocalOptions};

    /// Stalls reported for a worker that does this for two seconds.
    fn stalls(work: impl AsyncFnOnce(Instant)) -> u64 {
        let (watchdog, metrics) = (Watchdog::start().unwrap(), Arc::new(WorkerMetrics::default()));
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let watched = watchdog.entrance().watch(0, metrics.clone(), runtime.metrics());
        runtime.block_on(work(Instant::now() + Duration::from_secs(2)));
        drop(watched);
        metrics.worker_stalls()
    }

    #[test]
    fn a_worker_that_does_not_come_back_is_counted_once() {
        let computes = async |until: Instant| {
            tokio::task::yield_now().await;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        assert_eq!(stalls(computes), 1);
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_names_the_session_in_which_a_worker_is_stalled() {
        let (metrics, memory) = (Arc::new(WorkerMetrics::default()), Memory::default());
        let (sink, guard) = Sink::start(memory.clone()).unwrap();
        let subscriber = Pipeline::new(Format::Json, sink).subscriber("info").unwrap();
        let (announce, announced) = channel();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime =
                    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
                let watched =
                    Arc::new(WatchGuard { number: 3, metrics: metrics.clone(), runtime: runtime.metrics() });
                runtime.block_on(async {
                    tokio::task::yield_now().await;
                    metrics.session_polled(SessionId(0x5e55));
                    announce.send(Arc::downgrade(&watched)).unwrap();
                    while !is_over.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            });
            let worker = announced.recv().unwrap();
            let mut looks = WorkerObservations { worker, seen: (0, Duration::ZERO), same: 0 };
            tracing::subscriber::with_default(subscriber, || {
                // The first look finds what it did before it stalled.
                assert!((0..=2 * CHECKS_UNTIL_STALLED).all(|_| looks.look()));
            });
            is_over.store(true, Relaxed);
        });
        drop(guard);
        let text = String::from_utf8(memory.0.lock().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((&line["worker"], &line["session"]), (&3.into(), &"0000000000005e55".into()), "{text}");
        assert!(line["message"].as_str().unwrap().starts_with("a worker is stalled"), "{text}");
        assert_eq!(metrics.worker_stalls(), 1);
    }

    #[test]
    fn workers_that_sleep_and_workers_that_are_busy_with_many_things_are_not_stalled() {
        assert_eq!(stalls(async |until| tokio::time::sleep_until(until.into()).await), 0);
        let busy = async |until: Instant| {
            while Instant::now() < until {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(stalls(busy), 0);
    }
}
