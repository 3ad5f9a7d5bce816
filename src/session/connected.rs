//! Both legs stand: the relay of a session, and how it ends in each protocol.

use super::ends::{broken, part};
use super::http::Conversation;
use super::mysql::traffic::Mysql;
use super::postgres::traffic::Postgres;
use super::raw::Raw;
use super::redis::traffic::Redis;
use super::{Trail, live};
use crate::close::Close;
use crate::names::{Culprit, Side};
use crate::protocol::Edit;
use crate::relay::{Relay, Traffic};
use crate::tls::leg::{Leg, LegFault};
use std::time::Duration;

/// Both legs, and the traffic that is to pass between them.
pub struct ConnectedTo<T> {
    pub(super) client: Leg,
    pub(super) upstream: Leg,
    pub(super) traffic: T,
    pub(super) stall: Duration,
    /// Plaintext that was dealt with and goes up first.
    pub(super) first: Vec<u8>,
    /// Plaintext from the client that was not dealt with.
    pub(super) waiting: Vec<u8>,
    /// Plaintext that the upstream sent right behind its handshake.
    pub(super) early: Vec<u8>,
}

impl ConnectedTo<Conversation> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, ticket: &live::Ticket, trail: &mut Trail) -> Close {
        let mut relay = match self.join(ticket) {
            Ok(relay) => relay,
            Err(fault) => return broken(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        trail.relayed(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        detail.into_iter().for_each(|detail| trail.explain(detail));
        if let Some(fault) = relay.traffic.fault() {
            trail.explain(fault);
        }
        let idle = relay.traffic.is_idle();
        last_words(&mut relay.client, &mut relay.traffic);
        relay.traffic.abandon(close.culprit());
        trail.requested(relay.traffic.requests());
        let clean = idle && !matches!(close, Close::Record(_) | Close::Truncated(_));
        let Relay { client, upstream, .. } = relay;
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(part(client, upstream, clean, close)).await;
        close
    }
}

/// What the protocol still has to say to the client after a fault: a 400, a GOAWAY.
fn last_words(client: &mut Leg, conversation: &mut Conversation) {
    if conversation.wants(crate::names::Direction::Down) {
        let mut out = Vec::new();
        if conversation.down(&mut Edit::new(&mut [], &mut out)).is_ok() {
            // A leg that cannot take them any more ends without them.
            let _ = client.queue(&out);
        }
    }
}

impl ConnectedTo<Raw> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, ticket: &live::Ticket, trail: &mut Trail) -> Close {
        let mut relay = match self.join(ticket) {
            Ok(relay) => relay,
            Err(fault) => return broken(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        trail.relayed(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        detail.into_iter().for_each(|detail| trail.explain(detail));
        // An end that the peers did not agree on must not look as if they had.
        let clean = close == Close::Done;
        let Relay { client, upstream, .. } = relay;
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(part(client, upstream, clean, close)).await;
        close
    }
}

impl ConnectedTo<Postgres> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, ticket: &live::Ticket, trail: &mut Trail) -> Close {
        let mut relay = match self.join(ticket) {
            Ok(relay) => relay,
            Err(fault) => return broken(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        if let Some(lines) = relay.traffic.end_statements() {
            trail.told_statements(lines);
        }
        let left = relay.traffic.left();
        let close = left.unwrap_or(close);
        trail.relayed(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        detail.into_iter().for_each(|detail| trail.explain(detail));
        if let Some(fault) = relay.traffic.fault() {
            trail.explain(fault);
        }
        let last = relay.traffic.last_words(close);
        // A leg that cannot take them any more ends without them.
        let told = last.is_some_and(|last| relay.client.queue(&last).is_ok());
        // An end that was said in a message is whole; one that the upstream did not agree on must not look so.
        let said = told && close.culprit() != Culprit::Upstream;
        let clean = close == Close::Done || left.is_some() || said;
        // A permit that has ended permits no statement to run on, and one that was given up has no reader.
        let given_up = matches!(close, Close::Expired | Close::Idle);
        let unfinished = relay.traffic.unfinished().filter(|_| given_up);
        let Relay { client, upstream, .. } = relay;
        let cancelled = async {
            if let Some(target) = unfinished
                && let Err(fault) = target.cancel().await
            {
                tracing::warn!(route = %target.route.name, session = %target.session, %fault, "a statement runs on");
            }
        };
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(async { tokio::join!(part(client, upstream, clean, close), cancelled) }).await;
        close
    }
}

impl ConnectedTo<Mysql> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, ticket: &live::Ticket, trail: &mut Trail) -> Close {
        let mut relay = match self.join(ticket) {
            Ok(relay) => relay,
            Err(fault) => return broken(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        let left = relay.traffic.left();
        let close = match left.unwrap_or(close) {
            // The client said that it leaves. Neither end reads on then: not a session ticket, not the other's close_notify.
            Close::Reset(_) if relay.traffic.has_quit() => Close::Done,
            close => close,
        };
        trail.relayed(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        if let Some(lines) = relay.traffic.end_statements() {
            trail.told_statements(lines);
        }
        detail.into_iter().for_each(|detail| trail.explain(detail));
        if let Some(fault) = relay.traffic.fault() {
            trail.explain(fault);
        }
        let last = relay.traffic.last_words(close);
        // A leg that cannot take them any more ends without them.
        let told = last.is_some_and(|last| relay.client.queue(&last).is_ok());
        // An end that was said in a packet is whole; one that the upstream did not agree on must not look so.
        let said = told && close.culprit() != Culprit::Upstream;
        let clean = close == Close::Done || left.is_some() || said;
        let Relay { client, upstream, .. } = relay;
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(part(client, upstream, clean, close)).await;
        close
    }
}

impl ConnectedTo<Redis> {
    /// Moves bytes until the session ends.
    pub async fn relay(self: Box<Self>, ticket: &live::Ticket, trail: &mut Trail) -> Close {
        let mut relay = match self.join(ticket) {
            Ok(relay) => relay,
            Err(fault) => return broken(trail, Side::Upstream, fault),
        };
        let (close, detail) = relay.run().await;
        let left = relay.traffic.left();
        let close = left.unwrap_or(close);
        trail.relayed(relay.moved(), (relay.client.renewals(), relay.upstream.renewals()));
        trail.uses_account(relay.traffic.user());
        detail.into_iter().for_each(|detail| trail.explain(detail));
        relay.traffic.detail().into_iter().for_each(|detail| trail.explain(detail));
        if let Some(last) = relay.traffic.last_words(close) {
            // A leg that cannot take them any more ends without them.
            let _ = relay.client.queue(&last);
        }
        // An end between two replies cuts nothing; one that the upstream did not agree on must not look so.
        let between = close.culprit() == Culprit::Gateway && relay.traffic.is_between();
        let clean = close == Close::Done || left.is_some() || between;
        let Relay { client, upstream, .. } = relay;
        // On the heap, so that a session that goes on does not carry its own end.
        Box::pin(part(client, upstream, clean, close)).await;
        close
    }
}

impl<T: Traffic> ConnectedTo<T> {
    /// The relay stands in the session's last stage, on the heap: that is what an idle connection keeps. What it was made
    /// of is given back here.
    #[expect(clippy::boxed_local, reason = "taken by value, it would stay allocated beside the relay")]
    fn join(self: Box<Self>, ticket: &live::Ticket) -> Result<Relay<T, live::Heard<'_>>, LegFault> {
        let Self { client, mut upstream, traffic, stall, first, waiting, early } = *self;
        upstream.queue(&first)?;
        Ok(Relay::new(client, upstream, traffic, ticket.orders(), stall, waiting, early))
    }
}
