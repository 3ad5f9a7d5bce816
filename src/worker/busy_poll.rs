//! Busy polling: a worker without work keeps asking the kernel for a while before it sleeps.
//!
//! A core that sleeps takes tens of microseconds to come back, on a virtual machine milliseconds when its host is busy:
//! the core went back to the host, and others have it. A worker that does not sleep while its sessions have traffic
//! pays for that with the whole core, and with nothing once they are still.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Poll activity of a worker's sessions, for busy polling.
#[derive(Default)]
pub(super) struct BusyPoll {
    /// How often sessions were polled.
    polls: Cell<u64>,
    /// To be woken by the next poll.
    asleep: Cell<Option<Waker>>,
}

impl BusyPoll {
    /// A session that is stayed awake for. It has a box of its own: pinned inside an `async fn` it would take its
    /// memory twice, as the argument and as the local.
    pub(super) fn watch<S: Future>(self: Rc<Self>, session: S) -> impl Future<Output = S::Output> {
        let mut session = Box::pin(session);
        poll_fn(move |cx| {
            self.polls.set(self.polls.get().wrapping_add(1));
            if let Some(waker) = self.asleep.take() {
                waker.wake();
            }
            session.as_mut().poll(cx)
        })
    }

    /// Keeps the runtime awake until no session was polled for `most`. Never returns.
    pub(super) async fn run(self: Rc<Self>, most: Duration) {
        loop {
            self.polled_after(self.polls.get()).await;
            let (mut seen, mut since) = (self.polls.get(), Instant::now());
            while since.elapsed() < most {
                // The runtime looks for events, without waiting, before it comes back to a task that yields.
                tokio::task::yield_now().await;
                if self.polls.get() != seen {
                    (seen, since) = (self.polls.get(), Instant::now());
                }
            }
        }
    }

    async fn polled_after(&self, seen: u64) {
        poll_fn(|cx| {
            if self.polls.get() != seen {
                return Poll::Ready(());
            }
            self.asleep.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::Notify;

    /// How often a worker slept in 50 ms after its session had something to do, and in 50 ms after those.
    fn sleeps(most: Duration) -> (u32, u32) {
        let sleeps = Arc::new(AtomicU32::new(0));
        let count = sleeps.clone();
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().on_thread_park(move || _ = count.fetch_add(1, Relaxed));
        let runtime = runtime.build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async move {
            let (busy_poll, event) = (Rc::new(BusyPoll::default()), Rc::new(Notify::new()));
            let waits = event.clone();
            tokio::task::spawn_local(busy_poll.clone().watch(async move {
                loop {
                    waits.notified().await;
                }
            }));
            tokio::task::spawn_local(busy_poll.run(most));
            tokio::time::sleep(Duration::from_millis(20)).await;
            event.notify_one();
            tokio::task::yield_now().await;
            let since = || sleeps.swap(0, Relaxed);
            since();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let first = since();
            tokio::time::sleep(Duration::from_millis(50)).await;
            (first, since())
        })
    }

    #[test]
    fn a_worker_stays_awake_as_long_after_a_session_had_something_to_do_and_no_longer() {
        let (first, then) = sleeps(Duration::from_secs(3600));
        assert_eq!((first, then), (0, 0), "nothing to do for less than the time asked for");
        let (first, then) = sleeps(Duration::from_nanos(1));
        assert!(first > 0 && then > 0, "{first}, {then}: it slept when the time was over");
    }
}
