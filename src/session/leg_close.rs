//! How a leg ends, and how its faults become close reasons.

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

/// How long the last bytes to a peer may take, and how long a refused client may go on sending before it reads.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a refused client that are read and thrown away, so that it gets to read the refusal.
const MAX_LINGER: usize = 256 * 1024;

pub(super) async fn read(leg: &mut Leg, plain: &mut Vec<u8>, trail: &mut Trail) -> Result<bool, Close> {
    leg.read(plain).await.map_err(|fault| {
        if let Some(alert) = fault.alert() {
            leg.queue_alert(alert);
        }
        leg_fault(trail, Side::Client, fault)
    })
}

pub(super) async fn flush(leg: &mut Leg, trail: &mut Trail) -> Result<(), Close> {
    leg.flush().await.map_err(|fault| leg_fault(trail, Side::Client, fault))
}

pub(super) fn leg_fault(trail: &mut Trail, side: Side, fault: LegFault) -> Close {
    let close = close_of(side, &fault);
    trail.explain(fault);
    close
}

/// Ends a leg: what was queued is sent, with close_notify only if the end is `clean`, and the peer gets a moment to
/// read it all. A socket that is closed with unread bytes in it would be reset, and take the last words with it.
pub(super) async fn close_leg(mut leg: Leg, clean: bool) {
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
        poll_fn(|cx| leg.poll_finish(cx)).await?;
        // Nobody is told to read on where the end is not to look like one.
        if leg.rx.closed || !clean {
            return Ok(());
        }
        discard_input(&mut leg.tcp).await.map_err(LegFault::from)
    };
    // Whether the peer read it or not: the connection ends.
    let _ = timeout(LINGER, last_words).await;
}

/// How the legs of a session part.
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
    /// An end that cuts nothing, or one that does.
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

/// Ends both legs where neither is to be waited for. False: it takes waiting, and [`part`] goes on from there.
pub(super) fn try_close_legs_now(client: &mut Leg, upstream: &mut Leg, parting: LegClose) -> bool {
    // Not a future: the session's would keep room for both legs a second time, as long as it lives.
    let mut cx = Context::from_waker(Waker::noop());
    let settled = parting == LegClose::Settled && client.rx.closed;
    settled && leave(client, &mut cx) && leave(upstream, &mut cx)
}

/// Says the last word, if that takes no waiting. What a reset could take along, the peer has read before.
fn leave(leg: &mut Leg, cx: &mut Context<'_>) -> bool {
    let _ = leg.queue_close();
    leg.poll_finish(cx).is_ready()
}

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
