//! CancelRequests: a connection of its own that names a running session by a key.
//!
//! The client knows the upstream's process number, as `pg_stat_activity` and notifications show it, and a secret of the
//! gateway's own. So it can cancel what runs through this gateway, on the route on which it got the key, and nothing
//! else of the upstream. Workers share the keys: a CancelRequest may reach any of them.

use super::super::leg_close::close_leg;
use crate::close::Close;
use crate::dial::{Application, ConnectDeadline, DialFault, Dialled};
use crate::gateway::Route;
use crate::names::{Reached, RouteName, SessionId};
use crate::policy::Permit;
use crate::protocol::RefusalReason;
use crate::protocol::postgres::CancelKey;
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::handshake::Facts;
use crate::tls::leg::{Leg, LegFault};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What a wrong guess costs. With 64 connections of an address that are not permitted yet (the default limit) half of
/// the 32-bit secrets would take a year.
const GUESS_COSTS: Duration = Duration::from_secs(1);

/// The sessions of all workers that can be cancelled, by route and by the key that the client was given.
pub struct Cancels<T = Target> {
    keys: Mutex<HashMap<(RouteName, CancelKey), T>>,
}

/// A session that can be cancelled.
#[derive(Clone)]
pub struct Target {
    /// Whose statement it is.
    pub session: SessionId,
    /// Under which it runs, and under which it may be cancelled.
    pub permit: Permit,
    /// Its route, as it was when it began.
    pub route: Arc<Route>,
    /// Which of the upstream's addresses it reached.
    pub address: Reached,
    /// The upstream's own key.
    pub key: CancelKey,
}

/// A session's place among those that can be cancelled, until it is dropped.
pub struct Entered<T = Target> {
    cancels: Arc<Cancels<T>>,
    at: (RouteName, CancelKey),
}

impl<T> Default for Cancels<T> {
    fn default() -> Self {
        Cancels { keys: Mutex::default() }
    }
}

impl<T: Clone> Cancels<T> {
    /// Lets `own`, on `route`, cancel the target. `None`: another session has that key.
    pub fn enter(self: &Arc<Self>, route: &RouteName, own: CancelKey, target: T) -> Option<Entered<T>> {
        let at = (route.clone(), own);
        match self.keys.lock().entry(at.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(target);
                Some(Entered { cancels: self.clone(), at })
            }
        }
    }

    fn find(&self, route: &RouteName, key: CancelKey) -> Option<T> {
        self.keys.lock().get(&(route.clone(), key)).cloned()
    }
}

impl<T: Clone> Entered<T> {
    /// Whom this place stands for.
    pub fn target(&self) -> Option<T> {
        self.cancels.keys.lock().get(&self.at).cloned()
    }
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        self.cancels.keys.lock().remove(&self.at);
    }
}

/// A CancelRequest whose key is good.
pub struct Cancel {
    session: Rc<Session>,
    leg: Leg,
    target: Target,
}

impl Cancel {
    /// Looks the key up. A wrong one is waited for, told nothing, and counted.
    pub(super) async fn find(
        session: Rc<Session>,
        route: &Route,
        leg: Leg,
        key: CancelKey,
        trail: &mut Trail,
    ) -> Result<Self, Close> {
        match session.shared.cancels.find(&route.name, key) {
            Some(target) => Ok(Cancel { session, leg, target }),
            None => {
                trail.explain("a CancelRequest with the key of no session of this route");
                session.shared.metrics.refused(RefusalReason::Forbidden.code());
                sleep(GUESS_COSTS).await;
                close_leg(leg, true).await;
                Err(Close::Refused)
            }
        }
    }

    /// Under which the session runs that is to be cancelled.
    pub fn permit(&self) -> &Permit {
        &self.target.permit
    }

    /// Carries the request to where the session leads.
    pub async fn forward(self: Box<Self>, trail: &mut Trail) -> Close {
        let Cancel { session, leg, target } = *self;
        session.permitted(&target.permit);
        let started = Instant::now();
        match target.cancel().await {
            Ok((facts, address)) => trail.dialled(facts, address, started.elapsed(), false),
            Err(fault) => {
                trail.explain(format_args!("CancelRequest: {fault}"));
                close_leg(leg, false).await;
                return Close::Dial;
            }
        }
        trail.explain(format_args!("cancelled the statement of session {}", target.session));
        close_leg(leg, true).await;
        Close::Done
    }
}

impl Target {
    /// Asks the upstream to cancel what runs, and waits until it has dealt with that: it says so by closing.
    pub async fn cancel(&self) -> Result<(Facts, Reached), DialFault> {
        let (upstream, limit) = (&self.route.upstream, self.route.timeouts.connect);
        let address = self.address.clone();
        let deadline = ConnectDeadline::new(limit);
        let dialled = upstream.dial_again(&self.permit, Application::Postgres, address, deadline, u64::MAX);
        let Dialled { established, address, .. } = dialled.await?;
        let mut leg = established.leg;
        let asked = timeout(limit, async {
            leg.queue(&self.key.request())?;
            leg.flush().await?;
            let mut nothing = Vec::new();
            while leg.read(&mut nothing).await? && nothing.is_empty() {}
            Ok::<_, LegFault>(())
        });
        match asked.await {
            // Whichever way it ends the connection, it has read the request.
            Ok(_) => Ok((established.facts, address)),
            Err(_) => Err(DialFault::Timeout(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_on_its_route_as_long_as_its_session_lives() {
        let cancels = Arc::new(Cancels::default());
        let own = CancelKey { process: 7, secret: 1 };
        let (a, b) = (RouteName("a".into()), RouteName("b".into()));
        let entered = cancels.enter(&a, own, "session 1").unwrap();
        assert_eq!(entered.target(), Some("session 1"));
        assert!(cancels.enter(&a, own, "session 2").is_none(), "nobody takes another's key over");
        let other = cancels.enter(&b, own, "session 3").unwrap();
        assert_eq!((cancels.find(&a, own), cancels.find(&b, own)), (Some("session 1"), Some("session 3")));
        for wrong in [CancelKey { secret: 2, ..own }, CancelKey { process: 8, ..own }] {
            assert_eq!(cancels.find(&a, wrong), None);
        }
        drop((entered, other));
        assert_eq!(cancels.find(&a, own), None);
        assert!(cancels.keys.lock().is_empty());
    }
}
