//! Counters of issuers' security events. Issuers come from the configuration, so the number of series is bounded.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

static COUNTERS: Mutex<BTreeMap<(Arc<str>, &'static str), u64>> = Mutex::new(BTreeMap::new());

/// What became of a security event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOutcome {
    /// Somebody was shut out.
    Revoked,
    /// It changes nothing here.
    Ignored,
    /// It came before.
    Repeated,
    /// It does not verify, or cannot be obeyed.
    Refused,
}

impl SignalOutcome {
    fn name(self) -> &'static str {
        match self {
            SignalOutcome::Revoked => "revoked",
            SignalOutcome::Ignored => "ignored",
            SignalOutcome::Repeated => "repeated",
            SignalOutcome::Refused => "refused",
        }
    }
}

/// Counts an event of an issuer; `""` where it is nobody's.
pub fn count_signal(issuer: &Arc<str>, outcome: SignalOutcome) {
    *COUNTERS.lock().entry((issuer.clone(), outcome.name())).or_default() += 1;
}

/// Shows every series: (issuer, outcome, value).
pub(super) fn each(mut show: impl FnMut(&str, &str, u64)) {
    COUNTERS.lock().iter().for_each(|((issuer, outcome), count)| show(issuer, outcome, *count));
}
