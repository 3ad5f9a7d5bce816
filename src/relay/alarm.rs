//! A relay's timer, which moving bytes does not touch.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use tokio::time::{Instant, Sleep, sleep_until};

/// Fires when a deadline can be due.
///
/// The moment is kept beside the timer: a session whose bytes move is asked at every event, and its timer would have to
/// come from memory each time, to say no.
pub(super) struct Alarm {
    due: Instant,
    timer: Pin<Box<Sleep>>,
    /// A waker is registered with the timer.
    armed: bool,
}

impl Alarm {
    pub(super) fn at(due: Instant) -> Self {
        Alarm { due, timer: Box::pin(sleep_until(due)), armed: false }
    }

    /// Moves the deadline forward to `at`, unless it is earlier already.
    pub(super) fn set_earlier(&mut self, at: Instant) {
        if at < self.due {
            self.set(at);
        }
    }

    pub(super) fn set(&mut self, at: Instant) {
        self.due = at;
        self.timer.as_mut().reset(at);
        self.armed = false;
    }

    /// Registers another waker than before.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// True when it has rung. `now`: the time, where it is known anyway; without it the timer is asked, so that a task
    /// that was woken for nothing else never misses it.
    pub(super) fn has_fired(&mut self, cx: &mut Context<'_>, now: Option<Instant>) -> bool {
        if self.armed && now.is_some_and(|now| now < self.due) {
            return false;
        }
        let rung = self.timer.as_mut().poll(cx).is_ready();
        self.armed = !rung;
        rung
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::{Poll, Waker};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken_when_it_is_due() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        let rung = poll_fn(|cx| match alarm.has_fired(cx, None) {
            true => Poll::Ready(Instant::now()),
            false => Poll::Pending,
        });
        assert!(rung.await >= start + SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_for_a_task_whose_bytes_never_rest() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(!alarm.has_fired(cx, Some(Instant::now())));
            tokio::time::advance(SECOND / 101).await;
        }
        tokio::time::advance(SECOND / 50).await;
        assert!(alarm.has_fired(cx, Some(Instant::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_moment_takes_the_place_of_a_later_one_and_not_the_other_way_round() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + 3 * SECOND);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(!alarm.has_fired(cx, Some(start)));
        alarm.set_earlier(start + SECOND);
        alarm.set_earlier(start + 2 * SECOND);
        tokio::time::advance(SECOND + SECOND / 100).await;
        assert!(alarm.has_fired(cx, Some(Instant::now())));
        alarm.set(start + 3 * SECOND);
        assert!(!alarm.has_fired(cx, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_woken_by_another_waker_is_the_one_that_hears_it() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        assert!(!alarm.has_fired(&mut Context::from_waker(Waker::noop()), Some(start)));
        alarm.disarm();
        let woken = tokio::time::timeout(
            2 * SECOND,
            poll_fn(|cx| match alarm.has_fired(cx, Some(start)) {
                true => Poll::Ready(()),
                false if start.elapsed() >= SECOND => Poll::Ready(()),
                false => Poll::Pending,
            }),
        );
        woken.await.expect("nobody was woken");
        assert!(start.elapsed() < SECOND + SECOND / 2);
    }
}
