//! Counters of masking: their labels come from the configuration, so their number is bounded. They outlive reloads.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a series counts: (route, direction, rule).
type Series = (String, &'static str, String);

/// Values by rule; and by what became of what could not be decided.
static COUNTERS: Mutex<BTreeMap<Series, Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

/// In place of a rule: something was held for as long as the route allows.
const HOLD_LIMIT: &str = "\0hold_limit";
/// In place of a rule: a body could not be masked.
const UNMASKABLE: &str = "\0unmaskable";

/// The counters of one route and direction.
#[derive(Clone, Debug)]
pub struct MaskCounters {
    rules: Vec<Arc<AtomicU64>>,
    hold_limit: Arc<AtomicU64>,
    unmaskable: Arc<AtomicU64>,
}

impl MaskCounters {
    /// Those of a route, a direction (`up`, `down`) and its rules.
    pub fn new<'a>(route: &str, direction: &'static str, rules: impl Iterator<Item = &'a str>) -> Self {
        let mut counters = COUNTERS.lock();
        let mut one =
            |rule: &str| counters.entry((route.into(), direction, rule.into())).or_default().clone();
        MaskCounters {
            rules: rules.map(&mut one).collect(),
            hold_limit: one(HOLD_LIMIT),
            unmaskable: one(UNMASKABLE),
        }
    }

    /// Values were found by the rule of this place.
    pub fn found(&self, rule: usize, values: u32) {
        if let Some(counter) = self.rules.get(rule) {
            counter.fetch_add(values.into(), Relaxed);
        }
    }

    /// Something was held for as long as the route allows.
    pub fn hold_limit(&self, times: u32) {
        self.hold_limit.fetch_add(times.into(), Relaxed);
    }

    /// A body could not be masked.
    pub fn unmaskable(&self) {
        self.unmaskable.fetch_add(1, Relaxed);
    }
}

/// Shows every series: (route, direction, rule, value); without a rule, those of holds and of bodies.
pub(super) fn each(kind: Kind, mut show: impl FnMut(&str, &str, &str, u64)) {
    for ((route, direction, rule), counter) in COUNTERS.lock().iter() {
        let of = match rule.as_str() {
            HOLD_LIMIT => Kind::HoldLimit,
            UNMASKABLE => Kind::Unmaskable,
            _ => Kind::Values,
        };
        if of == kind {
            show(route, direction, rule, counter.load(Relaxed));
        }
    }
}

/// Which series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values that were found.
    Values,
    /// Holds that were too long.
    HoldLimit,
    /// Bodies that could not be masked.
    Unmaskable,
}
