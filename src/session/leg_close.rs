//! Closing a leg, and mapping its faults to close reasons.

use super::lingering;
use super::trail::Trail;
use crate::close::Close;
use crate::names::Side;
use crate::relay::close_of;
use crate::tls::leg::{Leg, LegFault};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the last bytes to a peer may take, and how long a peer that sends nothing is heard afterwards.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a peer that are read and thrown away, so that it gets to read what it was told last.
const MAX_LINGER: usize = 256 * 1024;

/// Reads plaintext of a client before the relay. A leg that breaks here is ended here: its alert is sent, and the client
/// gets time to read it.
pub(super) async fn read(leg: &mut Leg, plain: &mut Vec<u8>, trail: &mut Trail) -> Result<bool, Close> {
    match leg.read(plain).await {
        Ok(more) => Ok(more),
        Err(fault) => Err(end_broken_leg(leg, fault, trail).await),
    }
}

/// Ends a client leg that broke before the relay, with the alert that its fault calls for.
pub(super) async fn end_broken_leg(leg: &mut Leg, fault: LegFault, trail: &mut Trail) -> Close {
    if let Some(alert) = fault.alert() {
        leg.queue_alert(alert);
        end_leg(leg, false).await;
    }
    leg_fault(trail, Side::Client, fault)
}

pub(super) async fn flush(leg: &mut Leg, trail: &mut Trail) -> Result<(), Close> {
    leg.flush().await.map_err(|fault| leg_fault(trail, Side::Client, fault))
}

pub(super) fn leg_fault(trail: &mut Trail, side: Side, fault: LegFault) -> Close {
    let close = close_of(side, &fault);
    trail.explain(fault);
    close
}

/// Ends a leg and gives it up. A client that goes on sending what nobody takes (the body of a refused request) is read by
/// a task of its own until it has read the refusal: see [`lingering`].
pub(super) async fn close_leg(mut leg: Leg, clean: bool) {
    if end_leg(&mut leg, clean).await == Ended::StillSends
        && leg.is_clients()
        && let Some(place) = leg.tcp.peer_addr().ok().and_then(|peer| lingering::Place::take(peer.ip()))
    {
        tokio::task::spawn_local(lingering::discard(leg, place));
    }
}

/// What a peer did when its leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It closed, or fell silent, or is not to be heard.
    Quiet,
    /// The peer goes on sending.
    StillSends,
}

/// The one way for a leg to end. What was queued is sent, with close_notify only if the end is `clean`, and a peer that
/// was told something gets a moment to read it: a socket that is closed with unread bytes in it would be reset, and take
/// the last words with it.
async fn end_leg(leg: &mut Leg, clean: bool) -> Ended {
    if clean {
        // Fails only for a leg whose key is used up; the end is unclean then.
        let _ = leg.queue_close();
    }
    // Without TLS a FIN would be a clean end, so an unclean one is a reset. A Unix socket has none, and just ends.
    let resets = !clean && !leg.is_tls();
    let last_words = async {
        if resets {
            leg.flush().await?;
            return leg.tcp.set_zero_linger().map_err(LegFault::from);
        }
        poll_fn(|cx| leg.poll_finish(cx)).await.map_err(LegFault::from)
    };
    let said = matches!(timeout(LINGER, last_words).await, Ok(Ok(())));
    if said && !resets {
        leg.leave_to_kernel();
    }
    // Nobody is told to read on where the end is not to look like one, unless an alert says so.
    if !said || resets || leg.rx.closed || !(clean || leg.has_alerted()) {
        return Ended::Quiet;
    }
    let mut discarded = 0;
    let heard = timeout(LINGER, async {
        while discarded < MAX_LINGER {
            match poll_fn(|cx| leg.poll_discard(cx)).await {
                Ok(n @ 1..) => discarded += n,
                Ok(0) | Err(_) => return Ended::Quiet,
            }
        }
        Ended::StillSends
    });
    match heard.await {
        Ok(ended) => ended,
        Err(_) if discarded > 0 => Ended::StillSends,
        Err(_) => Ended::Quiet,
    }
}

/// How both legs of a session are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegClose {
    /// Something is cut: the end must not look like one.
    Cut,
    /// The end is one.
    Clean,
    /// The same, and the upstream has answered whatever it was sent: it is not waited for.
    Settled,
}

impl LegClose {
    /// Clean close, or truncation.
    pub(super) fn clean(clean: bool) -> Self {
        if clean { LegClose::Clean } else { LegClose::Cut }
    }
}

/// Ends both legs. An upstream that takes nothing is not waited for when its client is gone or it stalled too long: it
/// is reset, which takes what the kernel still holds for it along. It was an unclean end before.
pub(super) async fn close_legs(client: Leg, upstream: Leg, parting: LegClose, close: Close) {
    let clean = parting != LegClose::Cut;
    let upstream_ends = async move {
        let mut upstream = upstream;
        if parting == LegClose::Settled && poll_fn(|cx| Poll::Ready(leave(&mut upstream, cx))).await {
            return;
        }
        let given_up = matches!(
            close,
            Close::Reset(Side::Client) | Close::Truncated(Side::Client) | Close::Stalled(Side::Upstream)
        );
        if given_up && poll_fn(|cx| Poll::Ready(upstream.poll_flush(cx).is_pending())).await {
            // Where it cannot be set, the kernel goes on trying for a while.
            let _ = upstream.tcp.set_zero_linger();
            return;
        }
        close_leg(upstream, clean).await;
    };
    tokio::join!(close_leg(client, clean), upstream_ends);
}

/// Closes both legs without waiting. False: waiting is needed, and [`part`] continues.
pub(super) fn try_close_legs_now(client: &mut Leg, upstream: &mut Leg, parting: LegClose) -> bool {
    // Not a future: the session's would keep room for both legs a second time, as long as it lives.
    let mut cx = Context::from_waker(Waker::noop());
    let settled = parting == LegClose::Settled && client.rx.closed;
    settled && leave(client, &mut cx) && leave(upstream, &mut cx)
}

/// Sends the final bytes if that needs no waiting. What a reset could destroy, the peer has read before.
fn leave(leg: &mut Leg, cx: &mut Context<'_>) -> bool {
    let _ = leg.queue_close();
    leg.poll_finish(cx).is_ready()
}

/// The same before there is a leg.
pub(super) async fn discard_input(tcp: &mut TcpStream) -> std::io::Result<()> {
    let (mut sink, mut left) = (vec![0; 4096], MAX_LINGER);
    while left > 0 {
        match tcp.read(&mut sink).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}
