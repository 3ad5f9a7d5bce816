//! Detects that the client disconnected while reading from it is paused.
//!
//! While the upstream takes nothing, or an answer is awaited before the client may go on, the client's socket is not
//! read, and its end may stand behind bytes that wait there. The kernel tells of the end all the same:
//!
//! * A reset without a FIN is an end, whatever waits: the client's own kernel threw away what it had not sent.
//! * A FIN alone may be half of a close: the client has said all and waits for its answer. Where there is an answer to
//!   wait for, an empty record goes to the client, once: who still reads it takes no notice (RFC 8446 section 5.1, RFC
//!   5246 section 6.2.1), and the kernel of one that is gone answers with a reset.
//! * Where no answer is owed, a client that closed behind its last bytes may have said all that it wanted to say. They
//!   are delivered, and tell whether they were the last. A reset behind the FIN changes nothing: a client that only
//!   writes leaves our session ticket unread, for which its kernel sends one.
//!
//! The upstream's socket is not watched: what it said before it left is still for the client, however slow that is.

use super::{Ended, Orders, Relay, Traffic};
use crate::names::Side;
use crate::tls::leg::{LegFault, PeerState};
use std::task::Context;
use std::time::Duration;
use tokio::time::Instant;

/// When the answer to an empty record is looked for first: a round trip of a near client. Each further look waits twice as
/// long as the one before, since nothing wakes us for a reset behind a FIN.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// The longest time between two looks.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// State of a client whose reading is paused.
#[derive(Default)]
pub(super) struct Watch {
    /// When the client must be looked at again; nothing wakes us for its end.
    pub(super) look: Option<Duration>,
    /// When the next look is due, and how long the wait for it is, once an empty record was sent.
    probe: Option<(Instant, Duration)>,
}

impl<T: Traffic, O: Orders> Relay<T, O> {
    /// Checks the client's connection while reading from it is paused.
    pub(super) fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.watch.look = None;
        let held_back = !self.up.finished && (self.upstream.unsent() > 0 || self.up.asked);
        if !held_back && !self.up.finished {
            return Ok(());
        }
        let owed = self.traffic.awaits_response();
        if !held_back && !owed {
            return Ok(());
        }
        self.watch.look = match self.client.poll_peer_state(cx) {
            PeerState::Quiet => None,
            PeerState::Unread => {
                self.client.poll_end_behind_unread(cx);
                None
            }
            PeerState::Ended if owed => Some(self.probe_client()?),
            PeerState::Gone if owed => {
                let reset = std::io::ErrorKind::ConnectionReset.into();
                return Err(Ended::leg(Side::Client, LegFault::Io(reset)));
            }
            // What waits is read when the upstream takes it, and tells then.
            PeerState::Ended | PeerState::Gone => None,
            PeerState::Broken(error) => return Err(Ended::leg(Side::Client, LegFault::Io(error))),
        };
        Ok(())
    }

    /// Sends the empty record, once, and says how long to wait until its answer is looked for.
    fn probe_client(&mut self) -> Result<Duration, Ended> {
        let now = Instant::now();
        let (due, wait) = match self.watch.probe {
            None => {
                // What is unsent serves as well.
                if self.client.unsent() == 0 {
                    self.client.queue_empty().map_err(|fault| Ended::leg(Side::Client, fault))?;
                }
                (now + MIN_PROBE_INTERVAL, MIN_PROBE_INTERVAL)
            }
            Some((due, wait)) if due <= now => {
                let wait = (2 * wait).min(MAX_PROBE_INTERVAL);
                (now + wait, wait)
            }
            Some(later) => later,
        };
        self.watch.probe = Some((due, wait));
        Ok(due - now)
    }
}
