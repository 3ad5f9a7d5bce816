//! Both legs established: a session's relay, and its protocol's close.

use super::leg_close::{LegClose, close_legs, leg_fault, try_close_legs_now};
use super::recording::Recording;
use super::registry::Registration;
use super::trail::Trail;
use crate::close::Close;
use crate::names::{Culprit, Side};
use crate::relay::{Orders, Relay, Traffic};
use crate::tls::leg::{Leg, LegFault};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Both legs, and the traffic that is to pass between them.
pub struct ConnectedTo<T> {
    pub(super) client: Leg,
    pub(super) upstream: Leg,
    pub(super) traffic: T,
    pub(super) stall: Duration,
    /// Processed plaintext that is sent up first.
    pub(super) first: Vec<u8>,
    /// Client bytes that `first` was made from.
    pub(super) first_bytes: u64,
    /// Plaintext from the client, not processed yet.
    pub(super) waiting: Vec<u8>,
    /// Plaintext that the upstream sent right behind its handshake.
    pub(super) early: Vec<u8>,
}

/// A protocol's part in closing its session.
pub trait Finish: Traffic {
    /// The relay is over for this reason. Says to the client what is left to say, tells the trail what it knows, and returns the
    /// reason that counts, and how the legs part.
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose);

    /// Work to do while the legs close.
    fn after_close(&mut self, _: Close) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        None
    }
}

/// An end that a database's protocol has words for: said in a message, it is whole; one that the upstream did not agree on
/// must not look so. `left`: it ended here. `told`: the client is told now.
pub(super) fn parting(close: Close, left: bool, told: bool) -> LegClose {
    LegClose::clean(close == Close::Done || left || told && close.culprit() != Culprit::Upstream)
}

impl<T: Finish> ConnectedTo<T> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, registration: &Registration, trail: &mut Trail) -> Close {
        let recording = trail.recording();
        if recording.is_some_and(|recording| recording.fault().is_some()) {
            return Close::Recording;
        }
        let mut relay = match self.join(registration, recording) {
            Ok(relay) => relay,
            Err(fault) => return leg_fault(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        trail.set_transferred(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        detail.into_iter().for_each(|detail| trail.explain(detail));
        // Where they are: what is borrowed keeps a place of its own in the session's future, as long as that lives.
        let (close, parting) = relay.traffic.finish(close, &mut relay.client, trail);
        let after_close = relay.traffic.after_close(close);
        if after_close.is_none() && try_close_legs_now(&mut relay.client, &mut relay.upstream, parting) {
            return close;
        }
        let Relay { client, upstream, .. } = relay;
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(async {
            let ended = async {
                match after_close {
                    Some(after_close) => {
                        _ = tokio::join!(close_legs(client, upstream, parting, close), after_close)
                    }
                    None => close_legs(client, upstream, parting, close).await,
                }
            };
            let stopped = async {
                stop_ordered(registration).await;
                tokio::time::sleep(LINGER_AT_STOP).await;
            };
            tokio::select! {
                () = ended => {}
                () = stopped => {}
            }
        })
        .await;
        close
    }
}

/// How long the last bytes to peers may take once all sessions are told to end now: well below what the worker waits for
/// their closing lines.
const LINGER_AT_STOP: Duration = Duration::from_millis(200);

/// Waits for an order to end now.
async fn stop_ordered(orders: &Registration) {
    poll_fn(|cx| {
        orders.wake_on_change(cx.waker());
        if orders.take().end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl<T: Traffic> ConnectedTo<T> {
    /// The relay stands in the session's last stage, on the heap: that is what an idle connection keeps. What it was made
    /// of is given back here.
    #[expect(clippy::boxed_local, reason = "taken by value, it would stay allocated beside the relay")]
    fn join<'r>(
        self: Box<Self>,
        registration: &'r Registration,
        recording: Option<&Recording>,
    ) -> Result<Relay<T, &'r Registration>, LegFault> {
        let Self { client, mut upstream, traffic, stall, first, first_bytes, waiting, early } = *self;
        upstream.queue(&first)?;
        let mut relay = Relay::new(client, upstream, traffic, registration, stall, waiting, early);
        relay.count_first(first_bytes);
        if let Some(recording) = recording {
            relay.set_client_tap(recording.client_tap(), recording.upstream_gate());
        }
        Ok(relay)
    }
}
