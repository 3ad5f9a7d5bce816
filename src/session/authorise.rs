//! Who is let in: first the route's policy, then whether there is room.

use super::Session;
use crate::close::Close;
use crate::gateway::Route;
use crate::policy::{Identity, Permit, Refused};
use crate::protocol::RefusalReason;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

/// RefusalReason somebody who is known does not get in.
pub(super) struct NotPermitted {
    /// What the client is told.
    pub(super) why: RefusalReason,
    /// What the log says.
    pub(super) detail: Cow<'static, str>,
}

/// Asks the policy, and then whether there is room: nobody hears of limits who may not come in anyway.
pub(super) fn permit(
    session: &Session,
    route: &Route,
    identity: &Arc<Identity>,
) -> Result<Permit, NotPermitted> {
    let no = |why, detail: Cow<'static, str>| NotPermitted { why, detail };
    let permit =
        route.policy.permit(&route.name, identity, SystemTime::now()).map_err(|refused| match refused {
            Refused::NoRule => {
                no(RefusalReason::Forbidden, "no rule of the route names this identity".into())
            }
            Refused::Expired => no(RefusalReason::ExpiredToken, "the proof of identity has expired".into()),
        })?;
    if !crate::audit::takes_new_work() {
        return Err(no(RefusalReason::Overloaded, "no room: the log takes no more lines".into()));
    }
    match session.crowded {
        Some(limit) => Err(no(RefusalReason::Overloaded, format!("no room: limits.{}", limit.name()).into())),
        None => Ok(permit),
    }
}

/// How a session ends that was refused for this reason.
pub(super) fn close_for_refusal(why: RefusalReason) -> Close {
    match why {
        RefusalReason::Overloaded => Close::Limit,
        _ => Close::Refused,
    }
}
