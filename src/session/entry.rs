//! Who is let in: first the route's policy, then whether there is room.

use super::Session;
use crate::close::Close;
use crate::gateway::Route;
use crate::policy::{Identity, Permit, Refused};
use crate::protocol::Why;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

/// Why somebody who is known does not get in.
pub(super) struct NoEntry {
    /// What the client is told.
    pub(super) why: Why,
    /// What the log says.
    pub(super) detail: Cow<'static, str>,
}

/// Asks the policy, and then whether there is room: nobody hears of limits who may not come in anyway.
pub(super) fn permit(session: &Session, route: &Route, identity: &Arc<Identity>) -> Result<Permit, NoEntry> {
    let no = |why, detail: Cow<'static, str>| NoEntry { why, detail };
    let permit =
        route.policy.permit(&route.name, identity, SystemTime::now()).map_err(|refused| match refused {
            Refused::NoRule => no(Why::Forbidden, "no rule of the route names this identity".into()),
            Refused::Expired => no(Why::ExpiredToken, "the proof of identity has expired".into()),
        })?;
    match session.crowded {
        Some(limit) => Err(no(Why::Overloaded, format!("no room: limits.{}", limit.name()).into())),
        None => Ok(permit),
    }
}

/// How a session ends that was refused for this reason.
pub(super) fn close_of(why: Why) -> Close {
    match why {
        Why::Overloaded => Close::Limit,
        _ => Close::Refused,
    }
}
