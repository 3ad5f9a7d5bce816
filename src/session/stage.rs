//! The stages of a session as types: each is consumed by the step that leads to the next.
//!
//! ```text
//!   Accepted ─▶ Secured ─▶ Routed ─▶ S: Start ─▶ Identified<S> ─▶ Authorised<S> ─▶ ConnectedTo<S::Traffic>
//!   handshake   tunnel     sniff     identify    authorise        dial             relay
//! ```
//! Up to `Routed` all protocols are one; after that each has a [`Start`] of its own.

use super::connected::{ConnectedTo, Finish};
use super::state::Session;
use super::trail::Trail;
use crate::close::Close;
use crate::dial::Application;
use crate::gateway::{Named, Route};
use crate::policy::{Identity, Permit};
use crate::tls::leg::Leg;
use std::rc::Rc;
use std::sync::Arc;

/// The client leg stands, and where its name leads is known.
pub struct Secured {
    pub(super) session: Rc<Session>,
    pub(super) named: Named,
    pub(super) leg: Leg,
    pub(super) early: Vec<u8>,
    pub(super) application: Application,
}

/// The client leg stands, and the route is known: by the client's name, or by what it asked its tunnel for.
pub struct Routed {
    pub(super) session: Rc<Session>,
    pub(super) route: Arc<Route>,
    pub(super) leg: Leg,
    /// Plaintext from the client that was not looked at.
    pub(super) early: Vec<u8>,
    pub(super) application: Application,
}

/// The client's first bytes fit the route's protocol, and its session is not permitted yet.
///
/// The pipeline calls `identify`, then `authorise` with what came of it, then `dial` with the permit. After an `authorise`
/// that refuses without ending the session it begins again at `identify`. Each step that returns `Err` has said to the
/// client what there is to say, in the client's protocol, and has closed the leg; why is in the trail.
#[expect(async_fn_in_trait, reason = "sessions do not leave their thread")]
pub trait Start: Sized {
    /// What passes once both legs stand.
    type Traffic: Finish;
    /// Identifies the client. A failed attempt is answered here, and the next one awaited.
    async fn identify(self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close>;
    /// Authorises. `Err` inside: refused with an answer, and the client may retry.
    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close>;
    /// Opens the upstream leg and logs in, where the protocol has a login.
    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<Self::Traffic>>, Close>;
}

/// Identified.
pub struct Identified<S> {
    pub(super) start: Box<S>,
    pub(super) identity: Arc<Identity>,
}

/// Permitted: only now may the upstream be dialled.
pub struct Authorised<S> {
    pub(super) start: Box<S>,
    pub(super) permit: Permit,
}

/// What `authorise` came to; `Err` holds a client that was refused and may try again.
pub type Verdict<S> = Result<Authorised<S>, Box<S>>;
