//! Maps the connection id of a KILL to the upstream's.
//!
//! A client knows its connection by the number in the gateway's greeting, and its library cancels by sending KILL with that
//! number on a second connection. Where the same identity has a session of that number on the route, the number that the
//! upstream gave it goes up instead. Any other number goes up as it is, and the account's rights decide.

use crate::protocol::Edit;
use crate::protocol::mysql::Kill;
use crate::session::database::Grant;

/// The KILL at the front of what goes up with the upstream's own number in it, and how long it was; `None` where nothing is
/// to be changed.
pub(super) fn translate(edit: &Edit<'_>, grant: &Grant) -> Option<(usize, Vec<u8>)> {
    // Nearly everything else is told apart by a byte or two.
    let kill = match edit.rest() {
        [_, 0, 0, 0, 3 | 12, ..] => Kill::read(edit.rest())?,
        _ => return None,
    };
    let target = grant.session.shared.cancels.mysql.find(&grant.route.name, kill.thread)?;
    let thread = target.is_of(grant.permit().identity()).then_some(target.thread)?;
    Some((kill.length, kill.with_thread(edit.rest(), thread)))
}
