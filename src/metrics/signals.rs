//! Counters of issuers' security events. Issuers come from the configuration, so the number of series is bounded.

use crate::names::IssuerName;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

static COUNTERS: Mutex<BTreeMap<(Arc<str>, &'static str), u64>> = Mutex::new(BTreeMap::new());

/// What became of a security event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOutcome {
    /// The identity was revoked.
    Revoked,
    /// It changes nothing here.
    Ignored,
    /// It came before.
    Repeated,
    /// It does not verify, or cannot be obeyed.
    Refused,
}

impl SignalOutcome {
    /// All of them, in the order of their names.
    pub(super) const ALL: [SignalOutcome; 4] =
        [SignalOutcome::Ignored, SignalOutcome::Refused, SignalOutcome::Repeated, SignalOutcome::Revoked];

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

/// Shows every series: (issuer, outcome, value); those of `configured` issuers although nothing came from them yet.
pub(super) fn each(configured: &[IssuerName], mut show: impl FnMut(&str, &str, u64)) {
    let mut counters = COUNTERS.lock();
    for issuer in configured {
        for outcome in SignalOutcome::ALL {
            counters.entry((issuer.0.clone(), outcome.name())).or_default();
        }
    }
    counters.iter().for_each(|((issuer, outcome), count)| show(issuer, outcome, *count));
}
