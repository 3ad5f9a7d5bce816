//! The probe for the application protocols of an upstream: a TLS handshake that offers exactly one (ALPN).

use super::application::Application;
use super::fault::DialFault;
use super::socket::ConnectDeadline;
use super::upstream::Upstream;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

impl Upstream {
    /// The first of `wanted` that the upstream speaks; asks it where that is not known, within `limit` in all. With the
    /// upstream out of reach it is the first of `wanted`, so that the client can be told in a protocol that it understands.
    /// Without TLS there is no way to ask, and what the route allows is what the upstream was said to speak.
    pub async fn choose(&self, wanted: &[Application], limit: Duration) -> Option<Application> {
        if self.is_plaintext() {
            return wanted.first().copied();
        }
        let first_possible = {
            let protocols = self.known.lock();
            wanted.iter().find(|&&application| protocols.known(application) != Some(false)).copied()?
        };
        if self.known.lock().known(first_possible) == Some(true) {
            return Some(first_possible);
        }
        // On the heap: what is known already, which is nearly always, does not carry what a dial takes.
        let deadline = ConnectDeadline::new(limit);
        match Box::pin(timeout_at(deadline.at, self.probe_all(wanted, deadline))).await {
            Ok(chosen) => chosen,
            Err(_) => {
                self.known.lock().set_unreachable();
                wanted.first().copied()
            }
        }
    }

    async fn probe_all(&self, wanted: &[Application], deadline: ConnectDeadline) -> Option<Application> {
        let _probe = self.probe.lock().await;
        for &application in wanted {
            let (known, is_unreachable) = {
                let protocols = self.known.lock();
                (protocols.known(application), protocols.is_unreachable())
            };
            match known {
                Some(true) => return Some(application),
                Some(false) => continue,
                None if is_unreachable => return Some(application),
                None => {}
            }
            if !self.known.lock().may_ask(application, Instant::now()) {
                continue;
            }
            match self.open(application, None, deadline, u64::MAX).await {
                Ok(dialled) => {
                    // Outside of the caller's time: the answer is known.
                    tokio::task::spawn_local(dialled.close_unused());
                    return Some(application);
                }
                Err(DialFault::Alpn(..)) => continue,
                Err(_) => {
                    self.known.lock().set_unreachable();
                    return wanted.first().copied();
                }
            }
        }
        None
    }
}
