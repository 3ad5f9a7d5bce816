//! Waits to the microsecond: the runtime's own timer has a step of 1 ms, within which the events of all streams would
//! come at once.
//!
//! All who wait share one timerfd, which is set to the first of their moments. Nobody is woken early; how late depends
//! on how busy the load's core is.

use parking_lot::Mutex;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// A clock to wait on.
pub(crate) struct Clock {
    timer: AsyncFd<OwnedFd>,
    /// The first moment on top.
    waiting: Mutex<BinaryHeap<Alarm>>,
}

struct Alarm {
    at: Instant,
    waker: Waker,
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl Clock {
    /// Starts a clock that runs as long as this runtime.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // What replaces it is unsafe because of types that lie about their descriptor. This one owns it.
        #[expect(deprecated)]
        let timer = AsyncFd::new(timer)?;
        let clock = Arc::new(Clock { timer, waiting: Mutex::default() });
        tokio::spawn(clock.clone().run());
        Ok(clock)
    }

    /// Waits until `at`.
    pub(crate) async fn until(&self, at: Instant) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            if at <= Instant::now() {
                return Poll::Ready(Ok(()));
            }
            let mut waiting = self.waiting.lock();
            let first = waiting.peek().is_none_or(|first| at < first.at);
            // Whoever is polled in between stands here twice and is woken twice, which does no harm.
            waiting.push(Alarm { at, waker: cx.waker().clone() });
            match first.then(|| self.set(at)) {
                Some(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    async fn run(self: Arc<Self>) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut rung = [0; 8];
            // Set anew in the meantime, the timer has not rung: whoever is due is woken all the same.
            let _ = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut rung)?));
            let mut waiting = self.waiting.lock();
            let now = Instant::now();
            while waiting.peek().is_some_and(|first| first.at <= now) {
                waiting.pop().into_iter().for_each(|alarm| alarm.waker.wake());
            }
            if let Some(first) = waiting.peek() {
                self.set(first.at)?;
            }
        }
    }

    fn set(&self, at: Instant) -> io::Result<()> {
        // Zero would stop the timer.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn nobody_is_woken_early_and_an_earlier_moment_does_not_wait_for_a_later_one() {
        runtime().block_on(async {
            let clock = Clock::start().unwrap();
            let (start, order) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
            let waits = [40, 10, 30, 20, 10].map(|ms| {
                let (clock, order) = (clock.clone(), order.clone());
                tokio::spawn(async move {
                    let at = start + Duration::from_millis(ms);
                    clock.until(at).await.unwrap();
                    assert!(at <= Instant::now(), "{ms} ms");
                    order.lock().push(ms);
                })
            });
            for wait in waits {
                wait.await.unwrap();
            }
            assert_eq!(*order.lock(), [10, 10, 20, 30, 40]);
        });
    }

    #[test]
    fn a_moment_that_has_passed_is_not_waited_for() {
        runtime().block_on(async { Clock::start().unwrap().until(Instant::now()).await.unwrap() });
    }

    #[test]
    fn the_step_is_far_below_a_millisecond() {
        runtime().block_on(async {
            let clock = Clock::start().unwrap();
            let mut latest = Vec::new();
            for _ in 0..50 {
                let at = Instant::now() + Duration::from_micros(300);
                clock.until(at).await.unwrap();
                latest.push(at.elapsed());
            }
            // The machine may be busy; a timer with a step of 1 ms is never this exact.
            latest.sort();
            assert!(latest[0] < Duration::from_micros(200), "{latest:?}");
        });
    }
}
