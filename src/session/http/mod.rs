//! HTTP sessions: each request is identified, authorised and logged by itself.
//!
//! [`HttpTraffic`] joins a protocol ([`crate::protocol::Http`]), which knows bytes, with the route, which knows who
//! may. Before the relay it is driven by [`start`]; in the relay it is the [`Traffic`].

mod authority;
mod masks;
mod request_lines;
pub mod start;
mod traffic;

use crate::audit;
use crate::close::Close;
use crate::gateway::{Gateway, Route, RouteProtocol};
use crate::identify::slots::{self, Found, Names};
use crate::names::{Culprit, Direction, RequestId, Side};
use crate::policy::{Identity, Permit};
use crate::protocol::http1::Http1;
use crate::protocol::http2::Http2;
use crate::protocol::masked::{ASKS_FOR_MORE, UNMASKABLE};
use crate::protocol::{
    Edit, Ended, Fault, Http, HttpDate, Key, Kind, Refusal, RefusalReason, Request, Rewrite, Sniffed,
};
use crate::relay::Traffic;
use crate::session::authorise::{self, Denial, Fetching, poll_verify};
use crate::session::connected::Finish;
use crate::session::expiry::Expiry;
use crate::session::leg_close::LegClose;
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::telemetry::SpanContext;
use crate::tls::leg::Leg;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// One client connection's HTTP with the route's identity and policy applied.
pub struct HttpTraffic {
    http: Protocol,
    session: Rc<Session>,
    /// The configuration in force at the last request, and its route; the upstream stays the one that was dialled.
    gateway: Arc<Gateway>,
    route: Arc<Route>,
    /// The configuration in force has no such route: nothing new is permitted.
    route_gone: bool,
    exchanges: Vec<Exchange>,
    /// Waits for an issuer's keys on behalf of the withheld request.
    fetching: Option<Fetching>,
    /// Fields that may hold a token and that the withheld request leaves behind; found while it is identified.
    strip: Names,
    /// The first fault of a peer, for the closing line.
    fault: Option<Fault>,
    ticked: Instant,
    over: bool,
    requests: u64,
    /// Requests that were refused before any was permitted.
    refused: u32,
    is_permitted: bool,
    /// When a request's head that has begun must be whole.
    head_due: Option<Instant>,
    /// A request was permitted whose bodies masks look at.
    masks: bool,
    /// Values that they found.
    masked: u64,
    /// When what they hold was held for long enough.
    mask_due: Option<Instant>,
    /// The first of `head_due` and `mask_due`.
    soonest: Option<Instant>,
    /// When the tunnel's token ends: nothing new is permitted after, so the client is told to come through a new tunnel.
    tunnel_ends: Option<Expiry>,
}

/// Requests of a connection that are refused before any was permitted. Each costs a line in the log; a client that goes on has to
/// connect again. As many as a browser sends at once with a token that has expired.
const MAX_REFUSED: u32 = 64;

/// Headers of which no recording holds the values, whichever of them the route takes tokens from.
const CREDENTIALS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "?access_token"];

/// A permitted request on its way.
struct Exchange {
    key: Key,
    started: Instant,
    first_byte: Option<Duration>,
    status: Option<u16>,
    head: Head,
    permit: Permit,
    ends: Option<Expiry>,
    /// When the upstream should have begun to answer, or is asked about again.
    answer_due: Option<Instant>,
    /// What masks found, for its line.
    masked: Option<String>,
    /// Its span, where traces are exported.
    span: Option<SpanContext>,
}

/// What the log keeps of a request's head.
struct Head {
    method: Box<[u8]>,
    path: Box<[u8]>,
    authority: Box<[u8]>,
    kind: Kind,
}

/// Whether a withheld request may pass.
pub enum Decision {
    /// It may.
    Permit(Permit),
    /// It may not.
    Deny(Denial),
}

enum Protocol {
    One(Box<Http1>),
    Two(Box<Http2>),
}

impl Protocol {
    /// As the log writes it.
    fn version(&self) -> &'static str {
        match self {
            Protocol::One(_) => "1.1",
            Protocol::Two(_) => "2",
        }
    }

    fn http(&mut self) -> &mut dyn Http {
        match self {
            Protocol::One(http) => &mut **http,
            Protocol::Two(http) => &mut **http,
        }
    }

    fn http_ref(&self) -> &dyn Http {
        match self {
            Protocol::One(http) => &**http,
            Protocol::Two(http) => &**http,
        }
    }
}

impl HttpTraffic {
    /// Starts with the protocol that was sniffed.
    pub fn new(session: Rc<Session>, route: Arc<Route>, sniffed: Sniffed) -> Self {
        let limits = &session.gateway.limits;
        let http = match sniffed {
            Sniffed::Http2 => {
                let limits = crate::protocol::http2::Limits {
                    head: limits.head,
                    fields: limits.fields,
                    streams: limits.streams,
                    resets: limits.resets,
                    resets_per_second: limits.resets_per_second,
                };
                Protocol::Two(Box::new(Http2::new(limits).of_session(session.id)))
            }
            _ => {
                let limits = crate::protocol::http1::Limits {
                    head_bytes: limits.head,
                    fields: limits.fields,
                    ..Default::default()
                };
                Protocol::One(Box::new(Http1::new(limits).of_session(session.id)))
            }
        };
        let strip = slots::strip_names(&route.slots);
        let identity = session.proven_identity().filter(|_| session.is_tunnelled());
        HttpTraffic {
            tunnel_ends: identity.map(|identity| Expiry::new(identity.expires)),
            http,
            gateway: session.gateway.clone(),
            session,
            route,
            route_gone: false,
            exchanges: Vec::new(),
            head_due: None,
            fetching: None,
            strip,
            fault: None,
            ticked: Instant::now(),
            over: false,
            requests: 0,
            refused: 0,
            is_permitted: false,
            masks: false,
            masked: 0,
            mask_due: None,
            soonest: None,
        }
    }

    /// The protocol's own rules.
    pub fn http(&mut self) -> &mut dyn Http {
        self.http.http()
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Takes policy, credential and whatever else a request meets from the configuration in force; between reloads this is
    /// a comparison of pointers.
    fn follow_configuration(&mut self) {
        let newer = self
            .session
            .shared
            .with_gateway(|current| (!Arc::ptr_eq(current, &self.gateway)).then(|| current.clone()));
        let Some(current) = newer else { return };
        match current.called(&self.route.name.0).filter(|route| route.protocol == RouteProtocol::Http) {
            Some(route) => {
                self.route = route.clone();
                self.route_gone = false;
                // Whoever's certificate proves nothing any more is asked for a token, as everybody is.
                let _ = authorise::identify_certificate(&self.session, route);
            }
            None => self.route_gone = true,
        }
        self.gateway = current;
    }

    /// Who sent the withheld request. `Pending` while an issuer's keys are fetched.
    pub fn poll_identify(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Identity>, Denial>> {
        let deny = |why, detail: &'static str| Poll::Ready(Err(Denial::new(why, detail)));
        if self.fetching.is_none() {
            self.follow_configuration();
        }
        if self.route_gone {
            return deny(RefusalReason::Forbidden, authorise::ROUTE_REMOVED);
        }
        let request = self.http.http_ref().request();
        match request.barred {
            None => {}
            Some(RefusalReason::BadRequest) => {
                let is_known = self.session.proven_identity().is_some();
                return match slots::find(&self.route.slots, &request.fields) {
                    // `Bearer ` before a variable that is empty.
                    Found::None if !is_known => {
                        let detail = slots::explain_missing(&self.route.slots, &request.fields);
                        Poll::Ready(Err(Denial::new(RefusalReason::NoToken, detail)))
                    }
                    _ => deny(
                        RefusalReason::BadRequest,
                        "a field value begins or ends with a blank (RFC 9113 8.2.1)",
                    ),
                };
            }
            Some(RefusalReason::TwoTokens) => {
                return deny(RefusalReason::TwoTokens, "more than one Authorization (RFC 9110 5.3)");
            }
            Some(why) => return deny(why, "no identity could have this"),
        }
        // Inside a tunnel the route was named before, and programs send whatever name they reach it by.
        if !self.session.is_tunnelled()
            && !authority::names_route(self.route.hosts.as_deref(), &request.authority)
        {
            return deny(RefusalReason::Misdirected, "the request names another host than the route's");
        }
        // Every slot that may hold a token goes, used or not.
        let found = slots::find(&self.route.slots, &request.fields);
        self.strip = match found {
            Found::One { token, .. } => slots::strip_names_holding(&self.route.slots, &request.fields, token),
            Found::None | Found::Two => slots::strip_names(&self.route.slots),
        };
        if let (true, Some(identity)) = (self.session.is_tunnelled(), self.session.proven_identity()) {
            // Clients that must send some key send any; it goes no further than every token does.
            return Poll::Ready(Ok(identity));
        }
        let token = match found {
            Found::Two => {
                return deny(RefusalReason::TwoTokens, "two tokens in one request, or one field twice");
            }
            Found::One { token, .. } => token,
            Found::None => {
                return match self.session.proven_identity() {
                    Some(identity) => Poll::Ready(Ok(identity)),
                    None => {
                        let detail = slots::explain_missing(&self.route.slots, &request.fields);
                        Poll::Ready(Err(Denial::new(RefusalReason::NoToken, detail)))
                    }
                };
            }
        };
        poll_verify(&self.session, token, &mut self.fetching, cx)
    }

    /// Asks the route's policy.
    pub fn authorise(&self, identity: Arc<Identity>) -> Decision {
        match authorise::permit(&self.session, &self.route, &identity) {
            Ok(permit) => match self.unmaskable() {
                None => Decision::Permit(permit),
                Some(detail) => {
                    Decision::Deny(Denial::new(RefusalReason::Unmaskable, detail).of(permit.identity()))
                }
            },
            Err(denial) => Decision::Deny(denial),
        }
    }

    /// Appends the withheld head to what the recording holds of the client, without what could be a credential of whomever.
    pub(super) fn write_view(&self, view: &mut Vec<u8>) {
        let hides = |name: &[u8]| {
            let is = |hidden: &str| name.eq_ignore_ascii_case(hidden.as_bytes());
            CREDENTIALS.into_iter().any(is)
                || self.route.inject.iter().any(|header| is(&header.name))
                || self.session.recording().is_some_and(|recording| recording.redacts(name))
        };
        self.http.http_ref().write_view(view, &hides);
    }

    /// Sends the withheld head on, without the token and with the credential.
    pub fn permit(&mut self, edit: &mut Edit<'_>, permit: Permit) {
        self.requests += 1;
        self.is_permitted = true;
        self.mask();
        let http = self.http.http();
        let request = http.request();
        let (key, head) = (request.key, Head::of(request));
        let id = RequestId { session: self.session.id, number: key }.to_string();
        let address = self.session.remote.0.ip().to_canonical().to_string();
        let mut set: Vec<(&str, &[u8])> = Vec::with_capacity(self.route.inject.len() + 4);
        set.push(("x-forwarded-for", address.as_bytes()));
        set.push(("x-forwarded-proto", b"https"));
        set.push(("x-request-id", id.as_bytes()));
        let traced =
            self.gateway.tracer.as_ref().map(|tracer| tracer.request(request.fields.all("traceparent")));
        let traceparent = traced.as_ref().map(|(span, _)| span.traceparent());
        set.extend(traceparent.iter().map(|value| ("traceparent", value.as_bytes())));
        if self.route.authority.is_some() && !head.authority.is_empty() {
            // By which the upstream writes links that lead back through the gateway.
            set.push(("x-forwarded-host", &head.authority));
        }
        for header in &self.route.inject {
            set.push((&header.name, header.value.expose()));
        }
        // What held the token goes, and so does whatever the gateway sets itself.
        let mut strip: Vec<&str> =
            self.strip.iter().copied().chain(set.iter().map(|(name, _)| *name)).collect();
        if self.route.masks.is_some() {
            strip.extend(ASKS_FOR_MORE);
            set.push(("accept-encoding", b"identity"));
        }
        if traced.is_some_and(|(_, goes_on)| !goes_on) {
            // It belongs to a trace that does not go on.
            strip.push("tracestate");
        }
        let authority = self.route.authority.as_deref();
        http.permit(edit, &Rewrite { strip: &strip, set: &set, authority });
        self.session.counters().request_begun();
        self.session.permitted(&permit);
        let ends = permit.ends().map(Expiry::new);
        let started = Instant::now();
        let answer_due = self.route.timeouts.response.map(|response| started + response);
        let (first_byte, status, masked) = (None, None, None);
        self.exchanges.push(Exchange {
            key,
            started,
            first_byte,
            status,
            head,
            permit,
            ends,
            answer_due,
            masked,
            span: traced.map(|(span, _)| span),
        });
    }

    /// Answers the withheld request in its place and writes its line.
    pub fn deny(&mut self, denial: &Denial) {
        self.requests += 1;
        let http = self.http.http();
        let request = http.request();
        let id = RequestId { session: self.session.id, number: request.key };
        let head = Head::of(request);
        // Strangers cause as many spans as lines.
        let tracer =
            self.gateway.tracer.as_ref().filter(|_| audit::has_room_for_unpermitted(self.session.remote));
        let span = tracer.map(|tracer| tracer.request(request.fields.all("traceparent")).0);
        http.set_time(http_date());
        http.refuse(&Refusal { id, why: denial.why });
        self.refused += u32::from(!self.is_permitted);
        if self.refused == MAX_REFUSED {
            // Behind the answer: some clients read none after a GOAWAY.
            http.drain();
        }
        self.session.counters().refused(denial.why.code());
        if denial.why == RefusalReason::Unmaskable {
            let up = self.route.masks.as_ref().and_then(|masks| masks.up.as_ref());
            up.iter().for_each(|mask| mask.counters.unmaskable());
        }
        let line = audit::RequestLine {
            id,
            remote: self.session.remote,
            route: &self.route.name,
            http: self.http.version(),
            method: &head.method,
            path: &head.path,
            authority: &head.authority,
            kind: head.kind,
            status: Some(denial.why.status()),
            up: 0,
            down: 0,
            first_byte: None,
            duration: Duration::ZERO,
            identity: denial.identity.as_deref(),
            verdict: audit::Verdict::Refused { why: denial.why, detail: Some(&denial.detail) },
            ended: Ended::ByGateway,
            masked: None,
        };
        audit::request(&line);
        self.trace(&line, span);
        self.session.fact(|| audit::json_line(&line));
    }

    /// Records the first fault and returns its close reason.
    pub fn record_fault(&mut self, fault: Fault) -> Close {
        self.http.http().set_time(http_date());
        let side = if fault.culprit == Culprit::Upstream { Side::Upstream } else { Side::Client };
        let close = if fault.section == UNMASKABLE { Close::Unmaskable } else { Close::Protocol(side) };
        self.fault.get_or_insert(fault);
        close
    }

    fn tick(&mut self) {
        let elapsed = self.ticked.elapsed().as_millis() as u64;
        if elapsed > 0 {
            match &mut self.http {
                Protocol::One(http) => http.tick(elapsed),
                Protocol::Two(http) => http.tick(elapsed),
            }
            self.ticked = Instant::now();
        }
    }
}

impl Head {
    fn of(request: &Request) -> Self {
        Head {
            method: request.method.as_slice().into(),
            path: request.path().into(),
            authority: request.authority.as_slice().into(),
            kind: request.kind,
        }
    }
}

impl Finish for HttpTraffic {
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        self.fault.iter().for_each(|fault| trail.explain(fault));
        // A client that broke a rule got what it was owed first.
        let close = match &self.fault {
            Some(Fault { culprit: Culprit::Client, .. }) if close == Close::Done => {
                Close::Protocol(Side::Client)
            }
            _ => close,
        };
        let http = self.http.http();
        http.set_time(http_date());
        // Requests that are not answered get a 502, so that only what had begun is cut.
        let why = match close {
            Close::Idle => Some(RefusalReason::UpstreamTimeout),
            _ if close.culprit() == Culprit::Upstream => Some(RefusalReason::BadAnswer),
            _ => None,
        };
        let answered = why.is_some_and(|why| http.upstream_lost(why));
        // With nothing under way, closing cuts nothing.
        let is_fault = matches!(close, Close::Protocol(_)) || close.culprit() == Culprit::Gateway;
        let is_cut = (is_fault || close.culprit() == Culprit::Upstream) && http.is_cut();
        let (idle, tunnel) = (answered || http.in_flight() == 0 && !is_cut, http.is_tunnel());
        if self.wants(Direction::Down) {
            // A 400, a 502, a GOAWAY.
            let mut out = Vec::new();
            if self.down(&mut Edit::new(&mut [], &mut out)).is_ok() {
                // A leg that cannot take them any more ends without them.
                let _ = client.queue(&out);
            }
        }
        self.abandon(close.culprit());
        trail.set_requests(self.requests);
        trail.set_masked(self.masked);
        let parting = match close {
            Close::Truncated(Side::Upstream) if answered && !tunnel => LegClose::Settled,
            Close::Record(_) | Close::Truncated(_) => LegClose::Cut,
            _ if !idle => LegClose::Cut,
            _ if tunnel => LegClose::Clean,
            _ => LegClose::Settled,
        };
        (close, parting)
    }
}

/// The time, as HTTP writes it.
pub(in crate::session) fn http_date() -> HttpDate {
    HttpDate(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
