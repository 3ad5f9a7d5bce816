//! The snapshots that all viewers share: one of the live sessions, at most one a second where there are many, and the rates since
//! one of a moment before.
//!
//! Nothing is done while nobody looks. The last snapshot is given up [`SNAPSHOT_RETENTION`] after it was made.

use crate::metrics::WorkerMetrics;
use crate::names::SessionId;
use crate::session::registry::{Registry, Snapshot};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Lifetime of a snapshot.
const SNAPSHOT_TTL: Duration = Duration::from_millis(50);

/// The same where there are many sessions: ten thousand take some 10 ms to look at.
const SNAPSHOT_TTL_WITH_MANY: Duration = Duration::from_millis(900);

/// The same as a multiple of the time that reading took: whoever looks costs less than a hundredth of a core.
const FRESH_TIMES: u32 = 150;

/// The same at most.
const FRESH_AT_MOST: Duration = Duration::from_secs(5);

/// How many sessions are many.
pub(super) const MANY_SESSIONS: usize = 1_000;

/// What rates are measured over, at least; also from one point of the plots to the next.
const SPAN: Duration = Duration::from_secs(1);

/// How long sessions get to publish their counts before they are read.
const PUBLISHING: Duration = Duration::from_millis(8);

/// How long a snapshot counts as the one before, for rates, and is kept.
const SNAPSHOT_RETENTION: Duration = Duration::from_secs(15);

/// Points of the plots: five minutes at one a second.
pub(super) const POINTS: usize = 300;

/// A snapshot of the sessions.
pub(super) struct Seen {
    at: Instant,
    /// How long it took to read them.
    took: Duration,
    /// When.
    pub(super) wall: SystemTime,
    /// Each session.
    pub(super) rows: Vec<Row>,
}

/// One session.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) snapshot: Snapshot,
    /// Bytes a second.
    pub(super) up_rate: f64,
    pub(super) down_rate: f64,
    /// Bytes up and down at the time since which that is measured.
    before: (u64, u64),
    since: Instant,
}

impl Row {
    /// `before`: the session as it was a moment ago, and when.
    fn new(snapshot: Snapshot, before: Option<(&Snapshot, Instant)>) -> Self {
        let began = || Instant::now().checked_sub(snapshot.age).unwrap_or_else(Instant::now);
        let (before, since) = match before {
            Some((before, at)) => ((before.up, before.down), at),
            None => ((0, 0), began()),
        };
        let mut row = Row { snapshot, up_rate: 0.0, down_rate: 0.0, before, since };
        row.measure();
        row
    }

    fn measure(&mut self) {
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        self.up_rate = rate(self.snapshot.up, self.before.0);
        self.down_rate = rate(self.snapshot.down, self.before.1);
    }
}

/// One point of the plots.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Point {
    /// Seconds since 1970.
    pub(super) at: u64,
    pub(super) sessions: usize,
    pub(super) up_rate: f64,
    pub(super) down_rate: f64,
    /// Of the requests since the point before: the time below which 99 of 100 had their first byte; `None` without any.
    pub(super) first_byte_p99_seconds: Option<f64>,
}

/// The shared snapshots.
#[derive(Default)]
pub(super) struct Live {
    last: Mutex<Option<Arc<Seen>>>,
    /// Since when rates are measured.
    base: Mutex<Option<Arc<Seen>>>,
    points: Mutex<VecDeque<Point>>,
    first_bytes: Mutex<Vec<u64>>,
    /// Serialises snapshots.
    looking: tokio::sync::Mutex<()>,
}

impl Live {
    /// The sessions of at most a second ago.
    pub(super) async fn sessions<S: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        state: &Arc<S>,
        registry: fn(&S) -> &Registry,
        workers: &[Arc<WorkerMetrics>],
    ) -> Arc<Seen> {
        let fresh = || self.last.lock().clone().filter(|seen| seen.is_fresh());
        if let Some(seen) = fresh() {
            return seen;
        }
        let _one = self.looking.lock().await;
        if let Some(seen) = fresh() {
            return seen;
        }
        registry(state).ask_for_counts();
        tokio::time::sleep(PUBLISHING).await;
        let base = self.base.lock().clone().filter(|seen| seen.at.elapsed() < SNAPSHOT_RETENTION);
        // Thousands take a while, in which orders are not to wait.
        let (shared, before) = (state.clone(), base.clone());
        let read = move || {
            let began = Instant::now();
            let snapshots = registry(&shared).snapshot();
            let seen = Seen::new(snapshots, before.as_deref(), Instant::now());
            Arc::new(Seen { took: began.elapsed(), ..seen })
        };
        let seen = tokio::task::spawn_blocking(read).await.expect("a snapshot has no faults");
        if base.is_none_or(|base| base.at.elapsed() >= SPAN) {
            self.plot(&seen, workers);
            *self.base.lock() = Some(seen.clone());
        }
        *self.last.lock() = Some(seen.clone());
        let live = self.clone();
        let at = seen.at;
        tokio::spawn(async move {
            tokio::time::sleep(SNAPSHOT_RETENTION).await;
            let mut last = live.last.lock();
            if last.as_ref().is_some_and(|seen| seen.at == at) {
                *last = None;
                *live.base.lock() = None;
            }
        });
        seen
    }

    /// One session, with its rate since it was last looked at.
    pub(super) fn row(&self, snapshot: Snapshot) -> Row {
        let base = self.base.lock();
        let base = base.as_ref().filter(|seen| seen.at.elapsed() < SNAPSHOT_RETENTION);
        let known = base.and_then(|seen| {
            let row = seen.rows.iter().find(|row| row.snapshot.id == snapshot.id)?;
            Some((&row.snapshot, seen.at))
        });
        Row::new(snapshot, known)
    }

    /// The points of the plots, the oldest first.
    pub(super) fn points(&self) -> Vec<Point> {
        self.points.lock().iter().copied().collect()
    }

    fn plot(&self, seen: &Seen, workers: &[Arc<WorkerMetrics>]) {
        let buckets = crate::metrics::first_bytes(workers);
        let before = std::mem::replace(&mut *self.first_bytes.lock(), buckets.clone());
        let since: Vec<u64> =
            buckets.iter().enumerate().map(|(n, all)| all - before.get(n).copied().unwrap_or(*all)).collect();
        let mut points = self.points.lock();
        if points.len() >= POINTS {
            points.pop_front();
        }
        points.push_back(Point {
            at: seen.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            sessions: seen.rows.len(),
            up_rate: seen.rows.iter().map(|row| row.up_rate).sum::<f64>().round(),
            down_rate: seen.rows.iter().map(|row| row.down_rate).sum::<f64>().round(),
            first_byte_p99_seconds: crate::metrics::quantile(&since, 0.99),
        });
    }
}

impl Seen {
    /// `at`: when the snapshots were taken.
    fn new(snapshots: Vec<Snapshot>, before: Option<&Seen>, at: Instant) -> Self {
        let known: HashMap<SessionId, &Snapshot> = before
            .iter()
            .flat_map(|seen| seen.rows.iter().map(|row| (row.snapshot.id, &row.snapshot)))
            .collect();
        let row = |snapshot: Snapshot| {
            let before = known.get(&snapshot.id).copied().zip(before.map(|seen| seen.at));
            Row::new(snapshot, before)
        };
        Seen {
            at,
            took: Duration::ZERO,
            wall: SystemTime::now(),
            rows: snapshots.into_iter().map(row).collect(),
        }
    }

    fn is_fresh(&self) -> bool {
        let is_many = self.rows.len() >= MANY_SESSIONS;
        let by_cost = || (self.took * FRESH_TIMES).clamp(SNAPSHOT_TTL_WITH_MANY, FRESH_AT_MOST);
        self.age() < if is_many { by_cost() } else { SNAPSHOT_TTL }
    }

    /// Time since it was made.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// Has the sessions of these rows publish their counts, although they may be quiet, and reads them. Those that are over are
/// left out.
pub(super) async fn refresh_counts(rows: &mut Vec<Row>) {
    rows.iter().for_each(|row| row.snapshot.wake());
    tokio::time::sleep(PUBLISHING).await;
    rows.retain_mut(|row| {
        let lives = row.snapshot.read_counts();
        row.measure();
        lives
    });
}
