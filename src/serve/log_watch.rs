//! What follows from the state of the log: live sessions end when its reserve is used up, and a line tells how many lines
//! were dropped.

use crate::audit::{self, Dropped, Sink, Unpermitted};
use crate::close::Close;
use crate::worker::SessionControl;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the log is looked at. What sessions say within this time fits into its last room.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How often a line about dropped lines is written at most.
const DROPPED_LINE_EVERY: Duration = Duration::from_secs(10);

/// Watches the log for as long as the runtime lives.
pub(super) async fn run(sink: Sink, sessions: SessionControl) {
    let mut look = interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_failing, mut ended) = (false, false);
    let mut reported = Reported::default();
    loop {
        look.tick().await;
        let failing = sink.failing();
        if failing && !is_failing {
            audit::print_to_stderr("the log takes nothing; new work is refused when too much waits for it");
        }
        is_failing = failing;
        if !ended && sink.exhausted() {
            audit::print_to_stderr(
                "the log takes nothing and its reserve is used up: live sessions are ended",
            );
            sessions.end(Close::LogFull);
            ended = true;
        } else if ended && sink.takes_new_work() {
            sessions.keep();
            ended = false;
        }
        for limits in [Unpermitted::of_process(), Unpermitted::of_alarms()] {
            limits.report(Instant::now().into_std()).iter().for_each(audit::left_out);
        }
        if sink.has_room()
            && let Some(news) = reported.news(sink.dropped(), Instant::now())
        {
            audit::dropped(&news);
        }
    }
}

/// What was reported of dropped lines so far, and when.
#[derive(Default)]
struct Reported {
    lines: Dropped,
    at: Option<Instant>,
}

impl Reported {
    /// What was dropped since, unless there was a report a moment ago.
    fn news(&mut self, now: Dropped, at: Instant) -> Option<Dropped> {
        if now == self.lines || self.at.is_some_and(|last| at < last + DROPPED_LINE_EVERY) {
            return None;
        }
        let news = Dropped {
            unpermitted: now.unpermitted - self.lines.unpermitted,
            diagnostics: now.diagnostics - self.lines.diagnostics,
            evidence: now.evidence - self.lines.evidence,
        };
        *self = Reported { lines: now, at: Some(at) };
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_reported_once_and_not_oftener_than_every_ten_seconds() {
        let (mut reported, begin) = (Reported::default(), Instant::now());
        let dropped = |unpermitted, evidence| Dropped { unpermitted, diagnostics: 0, evidence };
        assert_eq!(reported.news(dropped(0, 0), begin), None);
        assert_eq!(reported.news(dropped(5, 1), begin), Some(dropped(5, 1)));
        assert_eq!(reported.news(dropped(9, 1), begin + Duration::from_secs(9)), None);
        assert_eq!(reported.news(dropped(9, 2), begin + Duration::from_secs(10)), Some(dropped(4, 1)));
        assert_eq!(reported.news(dropped(9, 2), begin + Duration::from_secs(60)), None);
    }
}
