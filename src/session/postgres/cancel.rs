//! CancelRequests: a connection of its own that names a running session by a key.
//!
//! The client knows the upstream's process number, as `pg_stat_activity` and notifications show it, and a secret of the
//! gateway's own. So it can cancel what runs through this gateway, on the route on which it got the key, and nothing
//! else of the upstream. Workers share the keys: a CancelRequest may reach any of them.

use super::super::ends::farewell;
use crate::close::Close;
use crate::dial::Application;
use crate::gateway::Route;
use crate::names::{RouteName, SessionId};
use crate::policy::Permit;
use crate::protocol::Why;
use crate::protocol::postgres::CancelKey;
use crate::session::{Session, Trail};
use crate::tls::leg::{Leg, LegFault};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What a wrong guess costs. With 64 connections of an address that are not permitted yet (the default limit) half of
/// the 32-bit secrets would take a year.
const GUESS_COSTS: Duration = Duration::from_secs(1);

/// The sessions of all workers that can be cancelled.
#[derive(Default)]
pub struct Cancels {
    keys: Mutex<HashMap<(RouteName, CancelKey), Target>>,
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
    pub address: SocketAddr,
    /// The upstream's own key.
    pub key: CancelKey,
}

/// A session's place among those that can be cancelled, until it is dropped.
pub struct Entered {
    cancels: Arc<Cancels>,
    at: (RouteName, CancelKey),
}

impl Cancels {
    /// Lets `own`, on the target's route, cancel the target. `None`: another session has that key.
    pub fn enter(self: &Arc<Self>, own: CancelKey, target: Target) -> Option<Entered> {
        let at = (target.route.name.clone(), own);
        match self.keys.lock().entry(at.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(target);
                Some(Entered { cancels: self.clone(), at })
            }
        }
    }

    fn find(&self, route: &RouteName, key: CancelKey) -> Option<Target> {
        self.keys.lock().get(&(route.clone(), key)).cloned()
    }
}

impl Drop for Entered {
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
                session.shared.metrics.refused(Why::Forbidden.code());
                sleep(GUESS_COSTS).await;
                farewell(leg, true).await;
                Err(Close::Refused)
            }
        }
    }

    /// Under which the session runs that is to be cancelled.
    pub fn permit(&self) -> &Permit {
        &self.target.permit
    }

    /// Carries the request to where the session leads, and waits until the upstream has dealt with it: it says so by
    /// closing, and clients wait for that.
    pub async fn forward(self: Box<Self>, permit: &Permit, trail: &mut Trail) -> Close {
        let Cancel { session, leg, target } = *self;
        session.identified(permit.identity());
        let (started, limit) = (Instant::now(), target.route.timeouts.connect);
        let records_per_key = session.gateway.limits.records_per_key;
        let upstream = &target.route.upstream;
        let dialled =
            upstream.dial_again(permit, Application::Postgres, target.address, limit, records_per_key).await;
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(fault) => {
                trail.explain(format_args!("CancelRequest: {fault}"));
                farewell(leg, false).await;
                return Close::Dial;
            }
        };
        trail.dialled(dialled.shaken.facts, dialled.address, started.elapsed());
        let mut upstream = dialled.shaken.leg;
        let sent = timeout(limit, async {
            upstream.queue(&target.key.request())?;
            upstream.flush().await?;
            let mut nothing = Vec::new();
            while upstream.read(&mut nothing).await? && nothing.is_empty() {}
            Ok::<_, LegFault>(())
        })
        .await;
        // The end without close_notify is how PostgreSQL answers.
        match sent {
            Ok(Ok(()) | Err(LegFault::Truncated | LegFault::Io(_))) => {}
            Ok(Err(fault)) => trail.explain(fault),
            Err(_) => trail.explain("the upstream did not end the CancelRequest's connection"),
        }
        trail.explain(format_args!("cancelled the statement of session {}", target.session));
        farewell(leg, true).await;
        Close::Done
    }
}
