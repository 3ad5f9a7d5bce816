//! Notices that the client left while nothing is read from it.
//!
//! While the upstream takes nothing, or an answer is awaited before the client may go on, the client's socket is not
//! read, and its end may stand behind bytes that wait there. The kernel tells of the end all the same:
//!
//! * A reset is an end, whatever waits.
//! * A FIN alone may be half of a close: the client has said all and waits for its answer. What waits is not opened to
//!   find a close_notify. Instead an empty record goes to the client, once: who still reads it takes no notice (RFC
//!   8446 section 5.1, RFC 5246 section 6.2.1), and the kernel of one that is gone answers with a reset.
//!
//! The upstream's socket is not watched: what it said before it left is still for the client, however slow that is.

use super::{Ended, Orders, Relay, Traffic};
use crate::names::Side;
use crate::tls::leg::{LegFault, Sign};
use std::task::Context;
use std::time::Duration;

/// How often a client is looked at that has sent something which cannot be read yet. Nothing wakes us then: the socket
/// was readable before its end, too.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// What is known of a client that is not read.
#[derive(Default)]
pub(super) struct Watch {
    /// The client must be looked at again soon.
    pub(super) look: bool,
    /// An empty record was sent.
    probed: bool,
}

impl<T: Traffic, O: Orders> Relay<T, O> {
    /// Looks at the client if nothing is read from it just now.
    pub(super) fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let unread = !self.up.finished && (self.upstream.unsent() > 0 || self.up.asked);
        self.watch.look = false;
        if !unread {
            return Ok(());
        }
        match self.client.poll_sign(cx) {
            Sign::Quiet => {}
            Sign::Unread => self.watch.look = true,
            Sign::Ended => {
                self.watch.look = true;
                // What is unsent already serves as well.
                if !self.watch.probed && self.client.unsent() == 0 {
                    self.watch.probed = true;
                    self.client.queue_empty().map_err(|fault| Ended::leg(Side::Client, fault))?;
                }
            }
            Sign::Broken(error) => return Err(Ended::leg(Side::Client, LegFault::Io(error))),
        }
        Ok(())
    }
}
