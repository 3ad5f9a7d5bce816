//! What is known of the protocols that an upstream speaks.

use super::application::Application;
use std::time::{Duration, Instant};

/// Which protocols an upstream speaks, and since when that is known.
#[derive(Default)]
pub(super) struct KnownProtocols {
    http1: Option<(bool, Instant)>,
    http2: Option<(bool, Instant)>,
    /// Of raw routes, by the names that were asked for.
    named: Vec<(&'static str, bool, Instant)>,
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
                self.named.push((name, yes, Instant::now()));
            }
        }
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
