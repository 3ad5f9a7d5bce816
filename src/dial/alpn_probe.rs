//! Asking an upstream which protocols it speaks, and remembering what it said.

use super::{Application, DialFault, Upstream};
use std::time::{Duration, Instant};

/// What is known of the protocols that an upstream speaks, and since when.
#[derive(Clone, Copy, Default)]
pub(super) struct Spoken {
    http1: Option<(bool, Instant)>,
    http2: Option<(bool, Instant)>,
    /// When it was last out of reach.
    unreachable: Option<Instant>,
}

/// How long a "no" is believed; an upstream that learns a protocol is found out after this. A "yes" holds until a dial
/// contradicts it.
const NO_HOLDS: Duration = Duration::from_secs(60);
/// How long clients are not kept waiting for an upstream that was just out of reach.
const UNREACHABLE_HOLDS: Duration = Duration::from_secs(2);

impl Upstream {
    /// The first of `wanted` that the upstream speaks; asks it where that is not known. With the upstream out of
    /// reach it is the first of `wanted`, so that the client can be told in a protocol that it understands. Without TLS
    /// there is no way to ask, and what the route allows is what the upstream was said to speak.
    pub async fn choose(&self, wanted: &[Application], timeout: Duration) -> Option<Application> {
        if self.is_plaintext() {
            return wanted.first().copied();
        }
        let mut asking = None;
        for &application in wanted {
            if self.known(application).is_none() && asking.is_none() {
                asking = Some(self.asking.lock().await);
            }
            match self.known(application) {
                Some(true) => return Some(application),
                Some(false) => continue,
                None if self.is_unreachable() => return Some(application),
                None => {}
            }
            // On the heap: what is known already, which is nearly always, does not carry what a dial takes.
            let asked = Box::pin(async {
                let dialled = self.open(application, None, timeout, u64::MAX).await?;
                dialled.leave().await;
                Ok(())
            });
            match asked.await {
                Ok(()) => return Some(application),
                Err(DialFault::Alpn(..)) => continue,
                Err(_) => {
                    self.spoken.lock().unreachable = Some(Instant::now());
                    return wanted.first().copied();
                }
            }
        }
        None
    }

    fn is_unreachable(&self) -> bool {
        self.spoken.lock().unreachable.is_some_and(|since| since.elapsed() < UNREACHABLE_HOLDS)
    }

    fn known(&self, application: Application) -> Option<bool> {
        let spoken = self.spoken.lock();
        let entry = match application {
            Application::None | Application::Postgres | Application::Mysql(_) => return Some(true),
            Application::Http1 => spoken.http1,
            Application::Http2 => spoken.http2,
        };
        entry.filter(|(yes, since)| *yes || since.elapsed() < NO_HOLDS).map(|(yes, _)| yes)
    }

    pub(super) fn learn(&self, application: Application, yes: bool) {
        let mut spoken = self.spoken.lock();
        match application {
            Application::None | Application::Postgres | Application::Mysql(_) => {}
            Application::Http1 => spoken.http1 = Some((yes, Instant::now())),
            Application::Http2 => spoken.http2 = Some((yes, Instant::now())),
        }
    }
}
