//! An HTTP session up to its first permit. Refused requests are answered here, and the next one awaited.

use super::{Decision, HttpTraffic};
use crate::close::Close;
use crate::dial::Application;
use crate::gateway::Route;
use crate::names::Side;
use crate::policy::Identity;
use crate::protocol::{Edit, RefusalReason, Sniffed, Up, sniff};
use crate::session::authorise::{Denial, close_for_refusal};
use crate::session::connected::ConnectedTo;
use crate::session::dial::dial;
use crate::session::leg_close::{close_leg, end_broken_leg, flush, leg_fault, read};
use crate::session::stage::{Authorised, Identified, Routed, Start, Verdict};
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::{Leg, LegFault};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// HTTP before the first permit.
pub struct HttpStart {
    session: Rc<Session>,
    route: Arc<Route>,
    leg: Leg,
    application: Application,
    traffic: HttpTraffic,
    /// Plaintext from the client, not processed yet.
    plain: Vec<u8>,
    /// Plaintext for the upstream, once there is one: what HTTP/2 says before its first request.
    first: Vec<u8>,
    /// Client bytes that `first` was made from.
    first_bytes: u64,
    /// When the client is told that it took too long.
    give_up_at: Instant,
    /// Why the last request was refused.
    last_refusal: Option<RefusalReason>,
}

/// How long before the permit deadline the client is told: the GOAWAY must get out before the session ends.
const GOAWAY_LEAD: Duration = Duration::from_millis(200);

/// Bytes that HTTP/2 may say before its first request is permitted; settings and window updates, no bodies.
const MAX_BYTES_BEFORE_PERMIT: usize = 64 * 1024;

/// Closes that lose nothing.
const CLEAN_CLOSES: [Close; 5] =
    [Close::Done, Close::Refused, Close::IssuerUnavailable, Close::Dial, Close::Limit];

impl HttpStart {
    /// Looks at the first plaintext bytes without consuming them, and holds them against the negotiated protocol.
    pub(in crate::session) async fn sniff(routed: Routed, trail: &mut Trail) -> Result<Box<Self>, Close> {
        let Routed { session, route, mut leg, early, mut application } = routed;
        let mut plain = early;
        // An HTTP/2 client may wait for the server's settings before it says anything, so it is not sniffed.
        let kind = if application == Application::Http2 && !session.is_tunnelled() {
            Sniffed::Http2
        } else {
            flush(&mut leg, trail).await?;
            loop {
                if let Some(kind) = sniff(&plain) {
                    break kind;
                }
                if !read(&mut leg, &mut plain, trail).await? {
                    return Err(Close::Done);
                }
            }
        };
        if session.is_tunnelled() {
            // There is no ALPN inside: the bytes say it themselves (RFC 9113 section 3.3). An upstream that speaks the
            // other version is found when it is dialled, and the client is told in its own.
            application = match kind {
                Sniffed::Http2 if route.alpn.http2() => Application::Http2,
                Sniffed::Http1 if route.alpn.http1() => Application::Http1,
                _ => Application::None,
            };
        }
        // A plaintext upstream cannot say no by itself.
        let unknown = route.upstream.is_plaintext() && kind == Sniffed::Http1 && !route.alpn.http1();
        // ALPN said one thing; bytes that say another are an attack or a mistake (ALPACA). Without ALPN only
        // HTTP/1.1 is spoken: the upstream was not asked for anything else.
        if unknown
            || kind == Sniffed::Unknown
            || (kind == Sniffed::Http2) != (application == Application::Http2)
        {
            trail.explain("the first bytes do not fit the negotiated application protocol");
            return Err(Close::WrongProtocol);
        }
        let traffic = HttpTraffic::new(session.clone(), route.clone(), kind);
        let (first, allowed) = (Vec::new(), session.gateway.limits.permit_deadline);
        let give_up_at = trail.accepted() + allowed.saturating_sub(GOAWAY_LEAD.min(allowed / 4));
        Ok(Box::new(HttpStart {
            session,
            route,
            leg,
            application,
            traffic,
            plain,
            first,
            first_bytes: 0,
            give_up_at,
            last_refusal: None,
        }))
    }

    async fn next_identity(&mut self, trail: &mut Trail) -> Result<Arc<Identity>, Close> {
        loop {
            self.speak(trail).await?;
            match self.feed(trail).await? {
                Up::Request => {}
                Up::Done | Up::Wait => {
                    // What came may have left something to say: an answer to a ping, a reset, an acknowledgement.
                    self.speak(trail).await?;
                    let Ok(read) = timeout_at(self.give_up_at, self.leg.read(&mut self.plain)).await else {
                        return Err(self.run_out_of_time(trail).await);
                    };
                    match read {
                        Ok(true) => {}
                        // With nothing under way there is nothing that an end could cut.
                        Ok(false) | Err(LegFault::Truncated) => {
                            return Err(self.last_refusal.map_or(Close::Done, close_for_refusal));
                        }
                        Err(fault) => return Err(end_broken_leg(&mut self.leg, fault, trail).await),
                    }
                    continue;
                }
            }
            let identified = std::future::poll_fn(|cx| self.traffic.poll_identify(cx)).await;
            if self.session.recording().is_some() {
                let mut view = Vec::new();
                self.traffic.write_view(&mut view);
                self.session.client_said(&view);
            }
            match identified {
                Ok(identity) => return Ok(identity),
                Err(denial) => self.deny(&denial, trail).await?,
            }
        }
    }

    /// Sends GOAWAY to a client without a permit before the deadline ends the session.
    async fn run_out_of_time(&mut self, trail: &mut Trail) -> Close {
        self.traffic.http().drain();
        // Whether the client gets to read it or not, the session ends.
        let _ = self.speak(trail).await;
        Close::Deadline(trail.stage())
    }

    /// Lets the protocol see what came, and gathers what it has for the upstream.
    async fn feed(&mut self, trail: &mut Trail) -> Result<Up, Close> {
        let mut out = Vec::new();
        let mut view = self.session.recording().map(|_| Vec::new());
        let mut edit = Edit::with_view(&mut self.plain, &mut out, view.as_mut());
        let fed = self.traffic.http().up(&mut edit);
        let (taken, diverged) = (edit.position(), edit.diverged());
        view.iter()
            .for_each(|view| self.session.client_said(if diverged { view } else { &self.plain[..taken] }));
        self.gather(taken, diverged, &out);
        match fed {
            Ok(_) if self.first.len() > MAX_BYTES_BEFORE_PERMIT => {
                trail.explain("too much was said before the first request");
                Err(Close::Protocol(Side::Client))
            }
            Ok(up) => Ok(up),
            Err(fault) => {
                trail.explain(&fault);
                let close = self.traffic.record_fault(fault);
                self.speak(trail).await?;
                Err(close)
            }
        }
    }

    /// Moves processed bytes from `plain` to `first`.
    fn gather(&mut self, taken: usize, diverged: bool, out: &[u8]) {
        let first = if diverged { out } else { &self.plain[..taken] };
        if !first.is_empty() {
            self.first_bytes += taken as u64;
            self.first.extend_from_slice(first);
        }
        self.plain.drain(..taken);
    }

    async fn deny(&mut self, denial: &Denial, trail: &mut Trail) -> Result<(), Close> {
        self.traffic.deny(denial);
        self.last_refusal = Some(denial.why);
        trail.set_requests(self.traffic.requests());
        trail.explain(&denial.detail);
        match self.speak(trail).await {
            Err(Close::Refused) => Err(close_for_refusal(denial.why)),
            said => said,
        }
    }

    /// Sends the gateway's own frames; ends the session after the last.
    async fn speak(&mut self, trail: &mut Trail) -> Result<(), Close> {
        let http = self.traffic.http();
        if http.wants_down() {
            let mut out = Vec::new();
            let said = http.down(&mut Edit::new(&mut [], &mut out));
            said.map_err(|fault| self.traffic.record_fault(fault))?;
            self.leg.queue(&out).map_err(|fault| leg_fault(trail, Side::Client, fault))?;
        }
        flush(&mut self.leg, trail).await?;
        if self.traffic.http().is_over() { Err(Close::Refused) } else { Ok(()) }
    }

    /// Ends a session that has no upstream leg.
    async fn leave(self, close: Close) -> Close {
        close_leg(self.leg, CLEAN_CLOSES.contains(&close)).await;
        close
    }
}

impl Start for HttpStart {
    type Traffic = HttpTraffic;

    async fn identify(mut self: Box<Self>, trail: &mut Trail) -> Result<Identified<Self>, Close> {
        match self.next_identity(trail).await {
            Ok(identity) => Ok(Identified { start: self, identity }),
            Err(close) => Err(Box::pin(self.leave(close)).await),
        }
    }

    async fn authorise(identified: Identified<Self>, trail: &mut Trail) -> Result<Verdict<Self>, Close> {
        let Identified { mut start, identity } = identified;
        match start.traffic.authorise(identity) {
            Decision::Permit(permit) => {
                trail.record_identity();
                Ok(Ok(Authorised { start, permit }))
            }
            Decision::Deny(denial) => match start.deny(&denial, trail).await {
                Ok(()) => Ok(Err(start)),
                Err(close) => Err(Box::pin(start.leave(close)).await),
            },
        }
    }

    async fn dial(
        authorised: Authorised<Self>,
        trail: &mut Trail,
    ) -> Result<Box<ConnectedTo<HttpTraffic>>, Close> {
        let Authorised { mut start, permit } = authorised;
        let dialled = dial(&start.route, &start.session, &permit, start.application, trail).await;
        let (upstream, early) = match dialled {
            Ok(upstream) => upstream,
            Err(detail) => {
                let denial = Denial::new(RefusalReason::BadGateway, detail).of(permit.identity());
                // The client is told either way; what it does with it changes nothing here.
                let _ = start.deny(&denial, trail).await;
                return Err(Box::pin(start.leave(Close::Dial)).await);
            }
        };
        let mut out = Vec::new();
        let mut edit = Edit::new(&mut start.plain, &mut out);
        start.traffic.permit(&mut edit, permit);
        let (taken, diverged) = (edit.position(), edit.diverged());
        start.gather(taken, diverged, &out);
        Ok(Box::new(ConnectedTo {
            client: start.leg,
            upstream,
            early,
            traffic: start.traffic,
            stall: start.route.timeouts.stall,
            first: start.first,
            first_bytes: start.first_bytes,
            waiting: start.plain,
        }))
    }
}
