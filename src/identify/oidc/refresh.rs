//! Keeps one issuer's keys fresh: a schedule, and requests from the data path within limits against storms.
//!
//! An attacker can make tokens with unknown `kid`s as fast as it likes; it gets one fetch in ten seconds out of the
//! gateway, one at a time, and these leave the schedule as it is. A rotated key waits no longer than that. Keys that are known go on to serve for a day while the
//! issuer is down, and a failed fetch never replaces a good set.

use super::discovery::{FetchFault, KeySource};
use super::keys::KeySet;
use super::settings::IssuerSettings;
use crate::net::https::HttpsUrl;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Times that govern fetching. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Between two scheduled fetches when the issuer does not say.
    pub(super) usual: Duration,
    /// `max-age` counts within these bounds: below, a wrong header would make a storm; above, a withdrawn key would
    /// serve for too long.
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    /// After a failed fetch, doubled each time from the first to the second.
    pub(super) first_retry: Duration,
    pub(super) last_retry: Duration,
    /// Between two fetches that tokens caused.
    pub(super) unscheduled: Duration,
    /// Between two fetches, however often the configuration is reloaded.
    pub(super) reloaded: Duration,
    /// How long keys serve beyond their time while the issuer is down.
    pub(super) stale: Duration,
    /// One HTTP exchange, from connect to the last byte.
    pub(super) exchange: Duration,
    /// How long a request waits for keys.
    pub(super) wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            usual: Duration::from_secs(15 * 60),
            shortest: Duration::from_secs(5 * 60),
            longest: Duration::from_secs(24 * 60 * 60),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(5 * 60),
            unscheduled: Duration::from_secs(10),
            reloaded: Duration::from_secs(1),
            stale: Duration::from_secs(24 * 60 * 60),
            exchange: Duration::from_secs(5),
            wait: Duration::from_secs(5),
        }
    }
}

/// One issuer: its settings, its keys, and where its fetches stand.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) settings: IssuerSettings,
    pub(super) source: KeySource,
    limits: Limits,
    keys: ArcSwapOption<KeySet>,
    fetches: Mutex<FetchState>,
    /// Wakes the task before its time.
    asked: Notify,
    /// Counts finished fetches, whatever came of them.
    finished: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
struct FetchState {
    /// When the schedule wants the next fetch; `None` is now.
    due: Option<Instant>,
    /// When a token last caused a fetch.
    unscheduled: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    /// A token asked for a fetch.
    asked: bool,
    /// A fetch is under way.
    fetching: bool,
    /// The task was ended: nobody would answer.
    ended: bool,
    jwks: Option<HttpsUrl>,
    /// When the last fetch began.
    began: Option<Instant>,
    /// When the keys were fetched.
    fetched: Option<Instant>,
}

impl FetchState {
    fn busy(&self) -> bool {
        self.asked || self.fetching
    }
}

impl Keeper {
    pub(super) fn new(settings: IssuerSettings, limits: Limits) -> Result<Self, String> {
        Ok(Keeper {
            source: KeySource::new(&settings, limits.exchange)?,
            settings,
            limits,
            keys: ArcSwapOption::empty(),
            fetches: Mutex::default(),
            asked: Notify::new(),
            finished: watch::Sender::new(0),
        })
    }

    /// The keys, unless there are none or they are too old.
    pub(super) fn keys(&self, now: SystemTime) -> Option<Arc<KeySet>> {
        self.keys.load_full().filter(|keys| keys.serves(now))
    }

    /// Whether a token may wait for a fetch: one is under way, none was tried for a while, or there is no key at all
    /// and the schedule tries soon.
    pub(super) fn may_ask(&self) -> bool {
        let fetches = self.fetches.lock();
        let soon = self.keys.load().is_none()
            && fetches.due.is_none_or(|due| due.saturating_duration_since(Instant::now()) < self.limits.wait);
        !fetches.ended && (fetches.busy() || soon || self.may_fetch(&fetches))
    }

    fn may_fetch(&self, fetches: &FetchState) -> bool {
        fetches.unscheduled.is_none_or(|last| last.elapsed() >= self.limits.unscheduled)
    }

    /// Asks for a fetch if none is under way and the limits allow it, and waits for the end of the next one; without
    /// any keys, until there are some.
    pub(super) async fn ask(&self) {
        let mut finished = self.finished.subscribe();
        {
            let mut fetches = self.fetches.lock();
            // Before the first fetch the schedule wants one now, and nothing is to be asked for.
            if !fetches.ended && !fetches.busy() && fetches.due.is_some() && self.may_fetch(&fetches) {
                fetches.unscheduled = Some(Instant::now());
                fetches.asked = true;
                self.asked.notify_one();
            }
            if fetches.ended || !fetches.busy() && self.keys.load().is_some() {
                return;
            }
        }
        let came = async { while finished.changed().await.is_ok() && self.keys.load().is_none() {} };
        // Too late is no fault of its own: the token is verified again and refused for want of a key.
        let _ = tokio::time::timeout(self.limits.wait, came).await;
    }

    /// Takes over the keys, and fetches them anew. A fetch under way there is not ours: it ends with its task.
    pub(super) fn adopt(&self, old: &Keeper) {
        self.keys.store(old.keys.load_full());
        let old = old.fetches.lock().clone();
        let now = Instant::now();
        let due = old.began.map_or(now, |began| now.max(began + self.limits.reloaded));
        *self.fetches.lock() =
            FetchState { asked: false, fetching: false, ended: false, due: Some(due), ..old };
    }

    /// How long ago the keys were fetched.
    pub(super) fn age(&self) -> Option<Duration> {
        self.fetches.lock().fetched.map(|at| at.elapsed())
    }

    /// Installs keys.
    pub(super) fn put(&self, keys: KeySet) {
        self.keys.store(Some(Arc::new(keys)));
        let mut fetches = self.fetches.lock();
        (fetches.due, fetches.fetched) = (Some(Instant::now() + self.limits.usual), Some(Instant::now()));
    }

    /// A task is about to run.
    pub(super) fn starting(&self) {
        self.fetches.lock().ended = false;
    }

    /// The task has ended: waiters are released.
    pub(super) fn stopped(&self) {
        let mut fetches = self.fetches.lock();
        (fetches.asked, fetches.fetching, fetches.ended) = (false, false, true);
        drop(fetches);
        self.finished.send_modify(|n| *n += 1);
    }

    /// The task: runs until it is aborted.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let due = self.fetches.lock().due;
            if let Some(due) = due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.asked.notified() => {}
                }
            }
            {
                let mut fetches = self.fetches.lock();
                // The wake-up may be left over from a request that the schedule has served meanwhile.
                if !fetches.asked && fetches.due.is_some_and(|due| Instant::now() < due) {
                    continue;
                }
                (fetches.asked, fetches.fetching, fetches.began) = (false, true, Some(Instant::now()));
            }
            let scheduled = self.fetches.lock().due.is_none_or(|due| Instant::now() >= due);
            let outcome = self.fetch(scheduled).await;
            self.settle(outcome, scheduled);
        }
    }

    /// The scheduled fetch reads the discovery document again; one that a token caused only the keys.
    async fn fetch(&self, scheduled: bool) -> Result<Duration, FetchFault> {
        let limits = &self.limits;
        let known = self.fetches.lock().jwks.clone().filter(|_| !scheduled);
        let uri = match known {
            Some(uri) => uri,
            None => self.source.discover(&self.settings.url).await?,
        };
        let fetched = self.source.keys(&uri).await?;
        let fresh = fetched.max_age.map_or(limits.usual, |age| age.clamp(limits.shortest, limits.longest));
        let keys = KeySet::parse(fetched.document.expose(), SystemTime::now() + fresh + limits.stale)?;
        tracing::info!(issuer = %self.settings.name, host = self.source.host(), keys = keys.len(), "keys fetched");
        self.keys.store(Some(Arc::new(keys)));
        let mut fetches = self.fetches.lock();
        (fetches.jwks, fetches.fetched) = (Some(uri), Some(Instant::now()));
        Ok(fresh)
    }

    /// What a token caused leaves the schedule as it was: else tokens could keep a scheduled fetch from coming.
    fn settle(&self, outcome: Result<Duration, FetchFault>, scheduled: bool) {
        let limits = &self.limits;
        {
            let mut fetches = self.fetches.lock();
            let next = match outcome {
                Ok(fresh) => {
                    fetches.failures = 0;
                    fresh
                }
                Err(fault) => {
                    let wait = limits
                        .first_retry
                        .saturating_mul(1 << fetches.failures.min(16))
                        .min(limits.last_retry);
                    fetches.failures = fetches.failures.saturating_add(u32::from(scheduled));
                    // A `jwks_uri` that fails may have moved: the next fetch asks again.
                    fetches.jwks = None;
                    let known = self.keys.load().is_some();
                    tracing::warn!(
                        issuer = %self.settings.name, host = self.source.host(), %fault, known_keys = known,
                        retry_seconds = wait.as_secs(), "keys not fetched"
                    );
                    wait
                }
            };
            if scheduled {
                fetches.due = Some(Instant::now() + jittered(next));
            }
            fetches.fetching = false;
        }
        self.finished.send_modify(|n| *n += 1);
    }
}

/// Up to a tenth more, so that a fleet that started together does not ask together.
fn jittered(wait: Duration) -> Duration {
    // The hasher's random keys are the standard library's own source of randomness.
    let share = RandomState::new().build_hasher().finish() % 1_000;
    wait + wait.mul_f64(share as f64 / 10_000.0)
}
