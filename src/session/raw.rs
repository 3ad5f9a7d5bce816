//! Opaque bytes: everything passes, and each direction ends by itself.

use super::connected::Finish;
use super::leg_close::LegClose;
use super::trail::Trail;
use crate::close::Close;
use crate::names::Direction;
use crate::policy::Permit;
use crate::protocol::Edit;
use crate::relay::Traffic;
use crate::tls::leg::Leg;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The traffic of a raw route, under the one permit of its connection.
pub struct Raw {
    idle: Duration,
    ends: Option<Instant>,
}

impl Raw {
    /// `idle` is how long nothing may move.
    pub fn new(permit: &Permit, idle: Duration) -> Self {
        Raw { idle, ends: permit.ends().map(instant_of) }
    }
}

/// The moment on the steady clock at which the wall clock is expected to show `at`.
pub fn instant_of(at: SystemTime) -> Instant {
    let now = Instant::now();
    match at.duration_since(SystemTime::now()) {
        // Far beyond any session; an overflow here would be a denial of service by a token.
        Ok(left) => now + left.min(Duration::from_secs(10 * 365 * 86_400)),
        Err(_) => now,
    }
}

impl Finish for Raw {
    // An end that the peers did not agree on must not look as if they had.
    fn finish(&mut self, close: Close, _: &mut Leg, _: &mut Trail) -> (Close, LegClose) {
        (close, LegClose::clean(close == Close::Done))
    }
}

impl Traffic for Raw {
    fn up(&mut self, _: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        edit.keep(edit.rest().len());
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        edit.keep(edit.rest().len());
        Ok(())
    }

    fn wants(&self, _: Direction) -> bool {
        false
    }

    fn ended(&mut self, _: Direction) -> Result<(), Close> {
        Ok(())
    }

    fn tolerates_eof(&self, _: Direction) -> bool {
        false
    }

    // Unknown; a client may send all it has and go.
    fn awaits_response(&self) -> bool {
        false
    }

    fn is_over(&self) -> bool {
        false
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.idle)
    }

    fn expires(&self) -> Option<Instant> {
        self.ends
    }

    fn expire(&mut self, _: Instant) -> Result<(), Close> {
        Err(Close::Expired)
    }

    // Opaque bytes cannot be told to finish; they have until the drain deadline.
    fn drain(&mut self) {}
}
