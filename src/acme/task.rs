//! One certificate's task: waits until it is due, orders, keeps, and waits again.

use super::account;
use super::certificate::{Issued, Slot, Status};
use super::challenge::Challenges;
use super::client::AcmeClient;
use super::fault::{Fault, clean};
use super::order::OrderContext;
use super::schedule::{Life, random, retry_delay};
use super::settings::{Authority, Settings};
use super::store::{Lock, Store};
use crate::secret::Secret;
use instant_acme::CertificateIdentifier;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Longest sleep: a machine that was suspended, or whose clock was set, is late by no more.
const MAX_SLEEP: Duration = Duration::from_secs(3600);
/// Between two attempts to write down what was issued, as where the disk is full.
const KEEP_RETRY: Duration = Duration::from_secs(30);
/// Between two questions for renewal information, whatever the authority says.
const RENEWAL_INFO_PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(86_400);
/// After a question for renewal information that was not answered.
const RENEWAL_INFO_RETRY: Duration = Duration::from_secs(6 * 3600);
/// A last attempt that lies further ahead was made by a clock that was wrong.
const CLOCK_SET_BACK: Duration = Duration::from_secs(120);
/// An authority that asks for longer is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What the tasks of all certificates share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) lock: Lock,
    pub(super) challenges: Arc<Challenges>,
    /// Orders under way at a time.
    pub(super) order_slots: Semaphore,
}

/// What the authority suggests for a certificate's renewal.
struct Suggestion {
    window: (SystemTime, SystemTime),
    /// The moment within it; `None`: the window is none.
    at: Option<SystemTime>,
}

/// Keeps a certificate until the task is dropped.
pub(super) async fn keep(slot: Arc<Slot>, shared: Arc<Shared>) {
    let mut suggestion: Option<Suggestion> = None;
    let mut ask_at = SystemTime::now();
    let mut spread = random();
    loop {
        let (now, settings) = (SystemTime::now(), slot.settings.load_full());
        let is_unkept = {
            keep_issued(&slot, &shared);
            slot.unkept.lock().is_some()
        };
        let suggested = suggestion.as_ref().and_then(|suggestion| suggestion.at);
        let at = due(&slot, &settings, suggested, spread, now);
        if at <= now {
            attempt(&slot, &settings, &shared).await;
            (suggestion, spread, ask_at) = (None, random(), SystemTime::now());
            continue;
        }
        if ask_at <= now {
            let asked = ask(&slot, &settings, &shared, suggestion.take()).await;
            let (answer, period) = asked.unwrap_or((None, RENEWAL_INFO_RETRY));
            suggestion = answer;
            ask_at = SystemTime::now() + period;
            continue;
        }
        let sleep = if is_unkept { KEEP_RETRY } else { MAX_SLEEP };
        let next = at.min(ask_at).min(now + sleep);
        tokio::select! {
            () = tokio::time::sleep(next.duration_since(now).unwrap_or_default()) => {}
            () = slot.changed.notified() => {}
        }
    }
}

/// When the next order is due.
fn due(
    slot: &Slot,
    settings: &Settings,
    suggested: Option<SystemTime>,
    spread: f64,
    now: SystemTime,
) -> SystemTime {
    let status = slot.status.lock();
    let renewal = match slot.issued.load().as_ref() {
        Some(issued) if matches_settings(&status, settings) => {
            suggested.unwrap_or_else(|| issued.life.renewal(spread))
        }
        _ => now,
    };
    // What a clock said that has been set back since holds nothing up.
    let is_past = status.last_attempt.is_none_or(|last| last <= seconds(now) + CLOCK_SET_BACK.as_secs());
    let held = status.next_attempt.filter(|_| is_past).map(|at| UNIX_EPOCH + Duration::from_secs(at));
    held.map_or(renewal, |held| renewal.max(held))
}

/// False for a certificate of an authority, or with a profile, that is configured no more.
fn matches_settings(status: &Status, settings: &Settings) -> bool {
    let Some(directory) = &status.directory else { return true };
    settings.authority_of(directory).is_some_and(|authority| authority.profile == status.profile)
}

/// Asks the authority that issued the certificate when to renew it (RFC 9773), and how long the answer counts. `None`:
/// there is nobody to ask, or no answer.
async fn ask(
    slot: &Slot,
    settings: &Settings,
    shared: &Shared,
    before: Option<Suggestion>,
) -> Option<(Option<Suggestion>, Duration)> {
    let issued = slot.issued.load_full()?;
    let directory = slot.status.lock().directory.clone()?;
    let authority = settings.authority_of(&directory)?;
    let identifier = CertificateIdentifier::try_from(issued.leaf()).ok()?;
    let client = AcmeClient::new(authority.ca.as_deref()).ok()?;
    // Without an account, none is made just to ask.
    let _known = shared.store.account(&directory).ok()??;
    let state = (&shared.store, &shared.lock);
    let account = account::open(authority, &authority.directory, &client, false, state).await.ok()?;
    let (info, period) = account.renewal_info(&identifier).await.ok()?;
    let moment = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let window = info.suggested_window;
    let window = (moment(window.start.unix_timestamp()), moment(window.end.unix_timestamp()));
    let period = period.clamp(*RENEWAL_INFO_PERIODS.start(), *RENEWAL_INFO_PERIODS.end());
    if let Some(before) = before.filter(|before| before.window == window) {
        return Some((Some(before), period));
    }
    let at = issued.life.renewal_within(window.0, window.1, random());
    let names = settings.name_texts().join(", ");
    let at_seconds = at.map(seconds);
    // For the operator (RFC 9773 section 4.2): a page that says why, as when many certificates are to be revoked.
    let explanation = info.explanation_url.as_deref().map(clean);
    tracing::info!(
        names,
        authority = authority.name,
        at = at_seconds,
        explanation,
        "certificate renewal suggested"
    );
    Some((Some(Suggestion { window, at }), period))
}

/// Asks the authorities in turn, and notes what came of it.
async fn attempt(slot: &Slot, settings: &Settings, shared: &Shared) {
    // Never closed.
    let _turn = shared.order_slots.acquire().await;
    let names = settings.name_texts().join(", ");
    let failures = slot.status.lock().failures;
    let mut faults: Vec<(String, Fault)> = Vec::new();
    for authority in &settings.authorities {
        tracing::info!(names, authority = authority.name, "certificate ordered");
        match order(slot, settings, authority, failures, shared).await {
            Ok((pem, issued)) => return succeed(slot, authority, (pem, issued), shared, &names),
            Err(fault) => faults.push((authority.name.clone(), fault)),
        }
    }
    fail(slot, &faults, shared, &names);
}

/// One order at one authority; after failures first where they count little.
async fn order(
    slot: &Slot,
    settings: &Settings,
    authority: &Authority,
    failures: u32,
    shared: &Shared,
) -> Result<(Secret, Issued), Fault> {
    let state = (&shared.store, &shared.lock);
    let context_at =
        |directory| OrderContext { settings, authority, directory, challenges: &shared.challenges, state };
    if let Some(staging) = authority.staging.as_ref().filter(|_| failures > 0) {
        // Where the trial itself is out of order it proves nothing, and must not keep the certificate away.
        match context_at(staging).order(None).await {
            Err(fault) if !fault.is_outage => {
                return Err(Fault { text: format!("at its staging: {}", fault.text), ..fault });
            }
            Err(fault) => {
                let (authority, error) = (&authority.name, &fault.text);
                tracing::warn!(
                    authority,
                    error,
                    "the staging of an ACME authority is out of order, it is left out"
                );
            }
            Ok(_) => {}
        }
    }
    let directory = authority.directory.text();
    let is_same = slot.status.lock().directory.as_ref() == Some(&directory);
    let current = slot.issued.load_full().filter(|_| is_same);
    let replaces = current.and_then(|issued| CertificateIdentifier::try_from(issued.leaf()).ok());
    let pem = context_at(&authority.directory).order(replaces).await?;
    let issued = Issued::from_pem(pem.expose())
        .map_err(|why| Fault::own(format!("what was issued cannot be used: {why}")))?;
    if let Some(name) = issued.missing_name(&settings.names) {
        return Err(Fault::own(format!("what was issued is not good for {name}")));
    }
    let now = SystemTime::now();
    if let Some(why) = issued.life.fault(now) {
        return Err(Fault::own(format!("what was issued {why}; is the clock of this machine right?")));
    }
    Ok((pem, issued))
}

fn succeed(
    slot: &Slot,
    authority: &Authority,
    (pem, issued): (Secret, Issued),
    shared: &Shared,
    names: &str,
) {
    let status = Status {
        last_attempt: Some(seconds(SystemTime::now())),
        directory: Some(authority.directory.text()),
        profile: authority.profile.clone(),
        ..Status::default()
    };
    let not_after = seconds(issued.life.not_after);
    slot.issued.store(Some(Arc::new(issued)));
    *slot.status.lock() = status;
    *slot.unkept.lock() = Some(pem);
    keep_issued(slot, shared);
    tracing::info!(names, authority = authority.name, not_after, "certificate obtained");
}

/// Writes what was issued to where it is kept. Where that fails it serves all the same, and stays to be written later: its
/// key is nowhere else.
fn keep_issued(slot: &Slot, shared: &Shared) {
    let mut unkept = slot.unkept.lock();
    let Some(pem) = unkept.as_ref() else { return };
    let names = slot.settings.load().name_texts().join(", ");
    let mut status = slot.status.lock();
    // That of an order that failed since stays.
    let is_own = status.failures == 0;
    let was_at_fault = is_own && status.last_error.take().is_some();
    let kept = shared.store.keep_certificate(&slot.key, pem, &shared.lock);
    match kept.and_then(|()| shared.store.keep_status(&slot.key, &status, &shared.lock)) {
        Ok(()) => {
            *unkept = None;
            if was_at_fault {
                tracing::info!(names, "certificate kept");
            }
        }
        Err(error) => {
            tracing::error!(names, error, "a certificate cannot be kept, a restart would lose it");
            if is_own {
                status.last_error = Some(error);
            }
        }
    }
}

fn fail(slot: &Slot, faults: &[(String, Fault)], shared: &Shared, names: &str) {
    let now = SystemTime::now();
    let error: Vec<String> =
        faults.iter().map(|(authority, fault)| format!("{authority}: {}", fault.text)).collect();
    let life: Option<Life> = slot.issued.load().as_ref().map(|issued| issued.life);
    let status = {
        let mut status = slot.status.lock();
        status.failures = status.failures.saturating_add(1);
        let delay = retry_delay(status.failures, life, now, random());
        // Of several authorities, the first that may be asked again.
        let asked = faults.iter().map(|(_, fault)| fault.retry_after.unwrap_or(now)).min().unwrap_or(now);
        let next = (now + delay).max(asked.min(now + MAX_RETRY_AFTER));
        status.next_attempt = Some(seconds(next));
        status.last_attempt = Some(seconds(now));
        status.last_error = Some(error.join("; "));
        status.clone()
    };
    let retry_in = status.next_attempt.unwrap_or_default().saturating_sub(seconds(now));
    let (failures, error) = (status.failures, status.last_error.as_deref().unwrap_or_default());
    match life {
        Some(life) if life.not_after > now => {
            tracing::warn!(names, failures, retry_in, error, "certificate order failed, the old one serves");
        }
        _ => tracing::error!(
            names,
            failures,
            retry_in,
            error,
            "certificate order failed, handshakes of these names fail"
        ),
    }
    if let Err(error) = shared.store.keep_status(&slot.key, &status, &shared.lock) {
        tracing::error!(names, error, "what came of a certificate order cannot be kept");
    }
}

/// Since 1970.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{Certificate, ChallengeKind, Name};

    fn settings(directories: &[&str]) -> Settings {
        let authority = |url: &&str| {
            Arc::new(Authority {
                name: (*url).into(),
                directory: url.parse().unwrap(),
                staging: None,
                ca: None,
                eab: None,
                profile: None,
                contact: Vec::new(),
            })
        };
        Settings {
            names: vec![Name::Dns("a.example".into())],
            authorities: directories.iter().map(authority).collect(),
            challenge: ChallengeKind::default(),
            dns_hook: Vec::new(),
        }
    }

    fn issued() -> Issued {
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example"]).unwrap();
        let mut issued =
            Issued::from_pem(format!("{}{}", leaf.key_pem(), leaf.certificate_pem()).as_bytes()).unwrap();
        let now = SystemTime::now();
        issued.life = Life { not_before: now, not_after: now + Duration::from_secs(90 * 86_400) };
        issued
    }

    #[test]
    fn what_is_missing_is_due_now_and_what_failed_is_held_back() {
        let (one, now) = (settings(&["https://one.example/"]), SystemTime::now());
        let slot = Certificate::new(one.clone(), None, Status::default()).slot();
        assert_eq!(due(&slot, &one, None, 0.0, now), now);
        slot.status.lock().next_attempt = Some(seconds(now) + 500);
        assert_eq!(seconds(due(&slot, &one, None, 0.0, now)), seconds(now) + 500);
    }

    #[test]
    fn a_failure_that_a_wrong_clock_dated_years_ahead_holds_nothing_up() {
        let (one, now) = (settings(&["https://one.example/"]), SystemTime::now());
        let ahead = seconds(now) + 10 * 365 * 86_400;
        let status =
            Status { last_attempt: Some(ahead), next_attempt: Some(ahead + 60), ..Status::default() };
        let slot = Certificate::new(one.clone(), None, status).slot();
        assert_eq!(due(&slot, &one, None, 0.0, now), now);
    }

    #[test]
    fn what_cannot_be_written_down_serves_and_is_written_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().to_owned());
        let lock = store.lock().unwrap();
        let shared = Shared { store, lock, challenges: Arc::default(), order_slots: Semaphore::new(1) };
        let certificates = folder.path().join("certificates");
        std::fs::remove_dir(&certificates).unwrap();
        let one = settings(&["https://one.example/"]);
        let slot = Certificate::new(one.clone(), None, Status::default()).slot();
        let leaf = crate::demo::ca::Ca::new("test").unwrap().leaf(&["a.example"]).unwrap();
        let pem = format!("{}{}", leaf.key_pem(), leaf.certificate_pem()).into_bytes();
        let issued = Issued::from_pem(&pem).unwrap();
        succeed(&slot, &one.authorities[0], (Secret::new(pem), issued), &shared, "a.example");
        assert!(slot.issued.load().is_some() && slot.unkept.lock().is_some());
        assert!(slot.status.lock().last_error.as_ref().unwrap().contains("cannot be written"));
        std::fs::create_dir(&certificates).unwrap();
        keep_issued(&slot, &shared);
        assert!(slot.unkept.lock().is_none() && slot.status.lock().last_error.is_none());
        assert!(shared.store.certificate(&slot.key).unwrap().is_some());
    }

    #[test]
    fn a_certificate_of_another_authority_serves_and_is_replaced_at_once() {
        let (one, two) = (settings(&["https://one.example/"]), settings(&["https://two.example/"]));
        let status = Status { directory: Some("https://one.example/".into()), ..Status::default() };
        let slot = Certificate::new(one.clone(), Some(issued()), status).slot();
        let now = slot.issued.load().as_ref().unwrap().life.not_before;
        let days = |at: SystemTime| at.duration_since(now).unwrap().as_secs() / 86_400;
        assert_eq!(days(due(&slot, &one, None, 0.0, now)), 60);
        assert_eq!(days(due(&slot, &one, Some(now + Duration::from_secs(86_400)), 0.0, now)), 1);
        assert_eq!(due(&slot, &two, None, 0.0, now), now);
        assert!(slot.issued.load().is_some());
    }
}
