//! Cache of the protocols that an upstream speaks.

use super::alpn_name::AlpnName;
use super::application::Application;
use std::time::{Duration, Instant};

/// Which protocols an upstream speaks, and since when that is known.
#[derive(Default)]
pub(super) struct KnownProtocols {
    http1: Option<(bool, Instant)>,
    http2: Option<(bool, Instant)>,
    /// Of raw routes, by the names that were asked for; at most [`MAX_NAMES`].
    named: Vec<(AlpnName, bool, Instant)>,
    /// Questions for names that are not registered, as the moment from which on all of [`QUESTIONS`] may be asked again.
    questions_until: Option<Instant>,
    /// When it was last out of reach.
    unreachable: Option<Instant>,
}

/// How long a "no" is believed; an upstream that learns a protocol is found out after this. A "yes" holds until a dial
/// contradicts it.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// How long clients are not kept waiting for an upstream that was just out of reach.
const UNREACHABLE_TTL: Duration = Duration::from_secs(2);

impl KnownProtocols {
    /// Whether it speaks `application`; `None`: not known.
    pub(super) fn known(&self, application: Application) -> Option<bool> {
        let entry = match application {
            Application::None | Application::Postgres | Application::Mysql(_) => return Some(true),
            Application::Http1 => self.http1,
            Application::Http2 => self.http2,
            Application::Named(name) => {
                let found = self.named.iter().find(|(known, ..)| *known == name);
                found.map(|(_, yes, since)| (*yes, *since))
            }
        };
        entry.filter(|(yes, since)| *yes || since.elapsed() < NEGATIVE_TTL).map(|(yes, _)| yes)
    }

    /// Takes note of what a handshake showed.
    pub(super) fn learn(&mut self, application: Application, yes: bool) {
        match application {
            Application::None | Application::Postgres | Application::Mysql(_) => {}
            Application::Http1 => self.http1 = Some((yes, Instant::now())),
            Application::Http2 => self.http2 = Some((yes, Instant::now())),
            Application::Named(name) => {
                self.named.retain(|(known, ..)| *known != name);
                if self.named.len() >= MAX_NAMES {
                    // What is spoken stays longest, and of the others the latest.
                    let given_up = self.named.iter().position(|(_, yes, _)| !yes).unwrap_or(0);
                    self.named.remove(given_up);
                }
                self.named.push((name, yes, Instant::now()));
            }
        }
    }

    /// True when the upstream may be asked for `application` at `now`: anybody can make up names, and no permit is needed to offer one.
    pub(super) fn may_ask(&mut self, application: Application, now: Instant) -> bool {
        match application {
            Application::Named(name) if !name.is_registered() => {}
            _ => return true,
        }
        let until = self.questions_until.map_or(now, |until| until.max(now));
        let allowed = until + QUESTION_INTERVAL <= now + QUESTION_INTERVAL * QUESTIONS;
        if allowed {
            self.questions_until = Some(until + QUESTION_INTERVAL);
        }
        allowed
    }

    /// True where it was out of reach a moment ago.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.is_some_and(|since| since.elapsed() < UNREACHABLE_TTL)
    }

    /// Takes note that it is out of reach.
    pub(super) fn set_unreachable(&mut self) {
        self.unreachable = Some(Instant::now());
    }
}
/// Names of raw routes that are remembered.
const MAX_NAMES: usize = 64;
/// Names that are not registered and may be asked for at once, and the time after which one more may be.
const QUESTIONS: u32 = 16;
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Application {
        Application::Named(AlpnName::new(name.as_bytes()).unwrap())
    }

    #[test]
    fn made_up_names_cost_an_upstream_one_question_a_second_and_a_bounded_memory() {
        let (mut known, start) = (KnownProtocols::default(), Instant::now());
        known.learn(named("acme-rpc/3"), true);
        let asked = (0..10_000u32).filter(|n| {
            let now = start + Duration::from_millis(u64::from(*n));
            let made_up = named(&format!("made-up-{n}"));
            let may = known.may_ask(made_up, now);
            if may {
                known.learn(made_up, false);
            }
            may
        });
        assert_eq!(asked.count(), 16 + 9);
        for n in 0..1_000 {
            known.learn(named(&format!("other-{n}")), false);
        }
        assert_eq!(known.named.len(), MAX_NAMES);
        assert_eq!(known.known(named("acme-rpc/3")), Some(true), "what is spoken is not forgotten");
        assert!(known.may_ask(named("mqtt"), start), "registered names are not kept from it");
        assert!(known.may_ask(Application::Http2, start));
    }
}
