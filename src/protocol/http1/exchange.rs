//! States of the two readers, and of a request and its response.

use super::body::Body;
use super::head::Asked;
use super::head_end::HeadEnd;
use crate::mask::{Rules, Stream};
use crate::names::RequestId;
use crate::protocol::{Ended, Event, Key, Kind, RefusalReason, Request};
use std::sync::Arc;

/// What the next byte from the client belongs to.
#[derive(Debug)]
pub(super) enum ClientReading {
    Head {
        end: HeadEnd,
        blank: bool,
    },
    Withheld(Asked),
    Body(Body),
    /// A body that masks look at.
    Masked(Body, Box<Stream>),
    /// An `Upgrade` went up and is not answered.
    Agreeing,
    Tunnel,
    /// Input from the client is no longer accepted.
    Closed,
}

/// What the next byte from the service belongs to.
#[derive(Debug)]
pub(super) enum UpstreamReading {
    Head {
        end: HeadEnd,
    },
    Body(Body),
    /// A body that masks look at.
    Masked(Body, Box<Stream>),
    Tunnel,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    Draining,
    Over,
}

/// One request and its response, oldest in front.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) key: Key,
    pub(super) reply: Reply,
    pub(super) to_head: bool,
    pub(super) upgrade: bool,
    pub(super) close: bool,
    pub(super) sent: bool,
    pub(super) answered: bool,
    pub(super) up: u64,
    pub(super) down: u64,
    /// The rules for its answer, and for what goes up through a tunnel.
    pub(super) mask_down: Option<Arc<Rules>>,
    pub(super) mask_up: Option<Arc<Rules>>,
}

/// The masks of a tunnel.
#[derive(Debug, Default)]
pub(super) struct TunnelMasks {
    pub(super) up: Option<Box<Stream>>,
    pub(super) down: Option<Box<Stream>>,
}

#[derive(Debug)]
pub(super) enum Reply {
    FromUpstream,
    Refused { why: RefusalReason, id: Option<RequestId>, how: Ended },
}

impl ClientReading {
    pub(super) const START: ClientReading = ClientReading::Head { end: HeadEnd::START, blank: false };
}

impl UpstreamReading {
    pub(super) const START: UpstreamReading = UpstreamReading::Head { end: HeadEnd::START };
}

impl Exchange {
    pub(super) fn new(key: Key, request: &Request, close: bool) -> Exchange {
        Exchange {
            key,
            reply: Reply::FromUpstream,
            to_head: request.method == b"HEAD",
            upgrade: request.kind == Kind::Upgrade,
            close,
            sent: false,
            answered: false,
            up: 0,
            down: 0,
            mask_down: None,
            mask_up: None,
        }
    }

    /// Its end. One that was answered has all, whoever leaves first.
    pub(super) fn ended(&self, how: Ended) -> Event {
        let how = if self.answered && self.sent { Ended::Whole } else { how };
        Event::Ended { key: self.key, up: self.up, down: self.down, how }
    }
}
