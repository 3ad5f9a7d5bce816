//! An HTTP session up to its first permit. Requests that come to nothing are answered here, and the next one is awaited.

use super::{Conversation, Denial};
use crate::close::Close;
use crate::dial::Application;
use crate::gateway::Route;
use crate::names::Side;
use crate::policy::{Identity, Permit};
use crate::protocol::{Edit, RefusalReason, Up};
use crate::session::authorise::close_for_refusal;
use crate::session::connected::ConnectedTo;
use crate::session::dial::dial;
use crate::session::leg_close::{close_leg, flush, leg_fault};
use crate::session::stage::Connected;
use crate::session::{Session, Trail};
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::sync::Arc;

/// HTTP before the first permit.
pub struct HttpStart {
    pub(in crate::session) session: Rc<Session>,
    pub(in crate::session) route: Arc<Route>,
    pub(in crate::session) leg: Leg,
    pub(in crate::session) application: Application,
    pub(in crate::session) conversation: Conversation,
    /// Plaintext from the client that was not dealt with.
    pub(in crate::session) plain: Vec<u8>,
    /// Plaintext for the upstream, once there is one: what HTTP/2 says before its first request.
    pub(in crate::session) first: Vec<u8>,
}

/// Bytes that HTTP/2 may say before its first request is permitted; settings and window updates, no bodies.
const MAX_FIRST: usize = 64 * 1024;

impl HttpStart {
    pub(in crate::session) async fn identify(&mut self, trail: &mut Trail) -> Result<Arc<Identity>, Close> {
        loop {
            self.speak(trail).await?;
            match self.feed(trail).await? {
                Up::Request => {}
                Up::Done | Up::Wait => {
                    match self.leg.read(&mut self.plain).await {
                        Ok(true) => {}
                        // With nothing under way there is nothing that an end could cut.
                        Ok(false) | Err(LegFault::Truncated) if self.conversation.requests() > 0 => {
                            return Err(Close::Refused);
                        }
                        Ok(false) | Err(LegFault::Truncated) => return Err(Close::Done),
                        Err(fault) => return Err(self.client_broke(fault, trail)),
                    }
                    continue;
                }
            }
            let identified = std::future::poll_fn(|cx| self.conversation.poll_identify(cx)).await;
            match identified {
                Ok(identity) => return Ok(identity),
                Err(denial) => self.deny(&denial, trail).await?,
            }
        }
    }

    fn client_broke(&mut self, fault: LegFault, trail: &mut Trail) -> Close {
        if let Some(alert) = fault.alert() {
            self.leg.queue_alert(alert);
        }
        leg_fault(trail, Side::Client, fault)
    }

    /// Lets the protocol see what came, and gathers what it has for the upstream.
    async fn feed(&mut self, trail: &mut Trail) -> Result<Up, Close> {
        let mut out = Vec::new();
        let mut edit = Edit::new(&mut self.plain, &mut out);
        let fed = self.conversation.http().up(&mut edit);
        let (taken, diverged) = (edit.position(), edit.diverged());
        self.gather(taken, diverged, &out);
        match fed {
            Ok(_) if self.first.len() > MAX_FIRST => {
                trail.explain("too much was said before the first request");
                Err(Close::Protocol(Side::Client))
            }
            Ok(up) => Ok(up),
            Err(fault) => {
                trail.explain(&fault);
                let close = self.conversation.blame(fault);
                self.speak(trail).await?;
                Err(close)
            }
        }
    }

    /// Moves what an edit dealt with from `plain` to `first`.
    fn gather(&mut self, taken: usize, diverged: bool, out: &[u8]) {
        self.first.extend_from_slice(if diverged { out } else { &self.plain[..taken] });
        self.plain.drain(..taken);
    }

    pub(in crate::session) async fn deny(&mut self, denial: &Denial, trail: &mut Trail) -> Result<(), Close> {
        self.conversation.deny(denial);
        trail.requested(self.conversation.requests());
        trail.explain(&denial.detail);
        match self.speak(trail).await {
            Err(Close::Refused) => Err(close_for_refusal(denial.why)),
            said => said,
        }
    }

    /// Sends what the gateway itself has to say; ends the session when that was the last.
    async fn speak(&mut self, trail: &mut Trail) -> Result<(), Close> {
        let http = self.conversation.http();
        if http.wants_down() {
            let mut out = Vec::new();
            let said = http.down(&mut Edit::new(&mut [], &mut out));
            said.map_err(|fault| self.conversation.blame(fault))?;
            self.leg.queue(&out).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        }
        flush(&mut self.leg, trail).await?;
        if self.conversation.http().is_over() { Err(Close::Refused) } else { Ok(()) }
    }

    /// Ends a session that never got to an upstream.
    pub(in crate::session) async fn leave(self, close: Close) -> Close {
        close_leg(self.leg, matches!(close, Close::Done | Close::Refused | Close::Dial | Close::Limit)).await;
        close
    }

    pub(in crate::session) async fn dial(
        mut self,
        permit: Permit,
        trail: &mut Trail,
    ) -> Result<Connected, Close> {
        let (upstream, early) = match dial(&self.route, &self.session, &permit, self.application, trail).await
        {
            Ok(upstream) => upstream,
            Err(detail) => {
                let identity = Some(permit.identity().clone());
                let denial = Denial { why: RefusalReason::BadGateway, detail: detail.into(), identity };
                // The client is told either way; what it does with it changes nothing here.
                let _ = self.deny(&denial, trail).await;
                return Err(Box::pin(self.leave(Close::Dial)).await);
            }
        };
        let mut out = Vec::new();
        let mut edit = Edit::new(&mut self.plain, &mut out);
        self.conversation.permit(&mut edit, permit);
        let (taken, diverged) = (edit.position(), edit.diverged());
        self.gather(taken, diverged, &out);
        Ok(Connected::Http(Box::new(ConnectedTo {
            client: self.leg,
            upstream,
            early,
            traffic: self.conversation,
            stall: self.route.timeouts.stall,
            first: self.first,
            waiting: self.plain,
        })))
    }
}
