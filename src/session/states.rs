//! The stages of a session as types: each is consumed by the step that leads to the next.

use super::ahead::Ahead;
use super::connected::ConnectedTo;
use super::ends::{LINGER, broken, farewell, flush, read, throw_away};
use super::http::{Conversation, Decision, Denial};
use super::mysql::traffic::Mysql;
use super::mysql::{self, start::MysqlStart};
use super::plaintext::{self, HTTP_ANSWER, LOOK, NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME};
use super::postgres::cancel::Cancel;
use super::postgres::start::PostgresStart;
use super::postgres::traffic::Postgres;
use super::postgres::{clear, start};
use super::raw::Raw;
use super::redis::start::RedisStart;
use super::redis::traffic::Redis;
use super::tunnel::{self, Opened};
use super::{Session, Shared, Trail};
use crate::close::{Close, Plaintext};
use crate::dial::{Application, H2, HTTP11, Negotiation};
use crate::gateway::{Gateway, Listener, Named, Route, RouteProtocol};
use crate::names::{Remote, SessionId, Side};
use crate::policy::{Identity, Permit};
use crate::protocol::mysql::Agreed;
use crate::protocol::postgres::ALPN as POSTGRESQL;
use crate::protocol::{Edit, Sniffed as Kind, Up, Why, sniff};
use crate::tls::handshake::{self, Hello, Shaken};
use crate::tls::leg::{Leg, LegFault};
use proxy_header::{ParseConfig, ProxyHeader};
use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A TCP connection, nothing more.
pub struct Accepted {
    pub(super) id: SessionId,
    pub(super) shared: Rc<Shared>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) listener: Listener,
    pub(super) remote: Remote,
    pub(super) tcp: TcpStream,
}

/// The client leg stands, and where its name leads is known.
pub struct Secured {
    session: Rc<Session>,
    named: Named,
    leg: Leg,
    early: Vec<u8>,
    application: Application,
}

/// The client's first bytes are known to fit the route.
pub enum Sniffed {
    /// HTTP, in either version.
    Http(Box<HttpStart>),
    /// Opaque bytes.
    Raw(Box<RawStart>),
    /// PostgreSQL.
    Postgres(Box<PostgresStart>),
    /// A CancelRequest of PostgreSQL's.
    Cancel(Box<Cancel>),
    /// MySQL.
    Mysql(Box<MysqlStart>),
    /// Redis.
    Redis(Box<RedisStart>),
}

/// HTTP before the first permit.
pub struct HttpStart {
    session: Rc<Session>,
    route: Arc<Route>,
    leg: Leg,
    application: Application,
    conversation: Conversation,
    /// Plaintext from the client that was not dealt with.
    plain: Vec<u8>,
    /// Plaintext for the upstream, once there is one: what HTTP/2 says before its first request.
    first: Vec<u8>,
}

/// Opaque bytes before the permit.
pub struct RawStart {
    session: Rc<Session>,
    route: Arc<Route>,
    leg: Leg,
    early: Vec<u8>,
    application: Application,
}

/// Somebody is known to speak.
pub struct Identified {
    start: Sniffed,
    identity: Arc<Identity>,
}

/// The policy said yes. Only now may the upstream be dialled.
pub struct Authorised {
    start: Sniffed,
    permit: Permit,
}

/// Both legs stand.
pub enum Connected {
    /// An HTTP conversation.
    Http(Box<ConnectedTo<Conversation>>),
    /// Opaque bytes.
    Raw(Box<ConnectedTo<Raw>>),
    /// PostgreSQL.
    Postgres(Box<ConnectedTo<Postgres>>),
    /// MySQL.
    Mysql(Box<ConnectedTo<Mysql>>),
    /// Redis.
    Redis(Box<ConnectedTo<Redis>>),
    /// What there was to say to the upstream was said, and there is nothing to relay.
    Done,
}

/// Bytes that HTTP/2 may say before its first request is permitted; settings and window updates, no bodies.
const MAX_FIRST: usize = 64 * 1024;
/// The longest PROXY protocol header: version 2 with 64 KiB of options would be absurd; 536 is the specification's advice.
const MAX_PROXY_HEADER: usize = 2048;

impl Accepted {
    /// PROXY header if the listener believes one, first byte, ClientHello, route, handshake.
    pub async fn handshake(mut self, trail: &mut Trail) -> Result<Secured, Close> {
        let mut first = Vec::new();
        if self.listener.proxy_protocol_from.iter().any(|n| n.contains(self.remote.0.ip())) {
            self.remote = Remote(self.proxied(&mut first, trail).await?);
            trail.came_from(self.remote);
        }
        let negotiation = match self.listener.mysql.clone() {
            Some(greets) => {
                mysql::clear::agree_on_tls(&mut self.tcp, &mut first, &greets, self.id, trail).await?;
                Negotiation::Greeting
            }
            None => self.refuse_plaintext(&mut first, trail).await?,
        };
        let hello = handshake::read_hello(&mut self.tcp, first).await.map_err(|fault| {
            trail.explain(fault);
            Close::Handshake(Side::Client)
        })?;
        trail.asked_for(hello.sni.as_deref());
        let Some(named) = self.named(&hello) else {
            trail.explain(if hello.sni.is_some() { "no route has this name" } else { "no name was sent" });
            self.goodbye(&UNRECOGNIZED_NAME).await;
            return Err(Close::NoRoute);
        };
        let application = match &named {
            Named::Route(route) => application(route, &hello, negotiation).await,
            Named::Tunnel(_) => application_of_tunnel(&hello, negotiation),
        };
        let server = match &named {
            Named::Route(route) => route.server.as_ref(),
            Named::Tunnel(tunnel) => Some(&tunnel.server),
        };
        let (Some(application), Some(server)) = (application, server) else {
            trail.explain("the client and the upstream have no application protocol in common");
            self.goodbye(&NO_APPLICATION_PROTOCOL).await;
            return Err(Close::Handshake(Side::Client));
        };
        let records_per_key = self.gateway.limits.records_per_key;
        let config = server.offering(application.alpn());
        let shaken = handshake::accept(self.tcp, hello, config, records_per_key).await;
        let Shaken { leg, facts, certificate, early } = shaken.map_err(|fault| {
            trail.explain(fault);
            Close::Handshake(Side::Client)
        })?;
        let session = Rc::new(Session {
            id: self.id,
            shared: self.shared,
            gateway: self.gateway,
            listener: self.listener,
            remote: self.remote,
            tunnelled: matches!(named, Named::Tunnel(_)),
            certificate_identity: OnceCell::new(),
            first_identity: OnceCell::new(),
            last_identity: RefCell::default(),
            other_identities: RefCell::default(),
        });
        trail.secured(&session, facts);
        if let Named::Route(route) = &named {
            trail.leads_to(route);
            if let (Some(mapping), Some(leaf)) = (&route.certificate_identity, &certificate) {
                match mapping.identify(leaf) {
                    Ok(identity) => drop(session.certificate_identity.set(Arc::new(identity))),
                    Err(fault) => trail.explain(fault),
                }
            }
        }
        Ok(Secured { session, named, leg, early, application })
    }

    /// Where the client's name leads, or that of its listener if it sent none.
    fn named(&self, hello: &Hello) -> Option<Named> {
        let default = || {
            let route = self.listener.mysql.as_ref()?.route.as_ref()?;
            self.gateway.called(&route.0).cloned().map(Named::Route)
        };
        match &hello.sni {
            Some(sni) => self.gateway.named(self.listener.number, sni),
            None => default(),
        }
    }

    /// Reads the header of the PROXY protocol and the bytes behind it.
    async fn proxied(&mut self, first: &mut Vec<u8>, trail: &mut Trail) -> Result<SocketAddr, Close> {
        loop {
            self.read_some(first).await?;
            match ProxyHeader::parse(first, ParseConfig::default()) {
                Ok((header, length)) => {
                    let source = header.proxied_address().map(|address| address.source);
                    first.drain(..length);
                    // LOCAL: the load balancer's own health check.
                    return Ok(source.unwrap_or(self.remote.0));
                }
                Err(proxy_header::Error::BufferTooShort) if first.len() < MAX_PROXY_HEADER => {}
                Err(fault) => {
                    trail.explain(format_args!("PROXY protocol header: {fault}"));
                    return Err(Close::Protocol(Side::Client));
                }
            }
        }
    }

    /// The first byte decides: what is not a TLS handshake is refused here, unless it asks for one as PostgreSQL does.
    async fn refuse_plaintext(
        &mut self,
        first: &mut Vec<u8>,
        trail: &mut Trail,
    ) -> Result<Negotiation, Close> {
        while first.len() < 2 {
            self.read_some(first).await?;
        }
        let Some(mut kind) = plaintext::look(first) else { return Ok(Negotiation::Direct) };
        // The length of a packet below 64 KiB; no other protocol begins so.
        if first.starts_with(&[0, 0]) && self.gateway.expects_postgres() {
            clear::agree_on_tls(&mut self.tcp, first, trail).await?;
            return match plaintext::look(first) {
                None => Ok(Negotiation::Request),
                Some(kind) => Err(Close::NotTls(kind)),
            };
        }
        // A few bytes more tell what it is; nobody is waited for long.
        while kind == Plaintext::Other && first.len() < LOOK {
            match timeout(LINGER / 10, self.read_some(first)).await {
                Ok(Ok(())) => kind = plaintext::look(first).unwrap_or(kind),
                _ => break,
            }
        }
        if kind == Plaintext::Http {
            self.goodbye(HTTP_ANSWER).await;
        }
        Err(Close::NotTls(kind))
    }

    async fn read_some(&mut self, first: &mut Vec<u8>) -> Result<(), Close> {
        first.reserve(1024);
        match self.tcp.read_buf(first).await {
            Ok(0) => Err(Close::Truncated(Side::Client)),
            Ok(_) => Ok(()),
            Err(_) => Err(Close::Reset(Side::Client)),
        }
    }

    /// Says something in clear and leaves the client time to read it.
    async fn goodbye(&mut self, words: &[u8]) {
        let farewell = async {
            self.tcp.write_all(words).await?;
            self.tcp.shutdown().await?;
            throw_away(&mut self.tcp).await
        };
        // Whether it was read or not: the connection ends.
        let _ = timeout(LINGER, farewell).await;
    }
}

/// The application protocol for both legs: what the client offers, the route allows and the upstream speaks.
///
/// TLS that was asked for as PostgreSQL does it leads to a PostgreSQL route; without that way the name of the protocol
/// must be offered, as PostgreSQL 17 has it, so that no other protocol's bytes are taken for a login (ALPACA).
async fn application(route: &Route, hello: &Hello, negotiation: Negotiation) -> Option<Application> {
    let offered = |name: &[u8]| hello.alpn.iter().any(|offer| offer == name);
    match (route.protocol, negotiation) {
        (RouteProtocol::Postgres, Negotiation::Request) if hello.alpn.is_empty() => {
            return Some(Application::None);
        }
        (RouteProtocol::Postgres, _) => return offered(POSTGRESQL).then_some(Application::Postgres),
        (_, Negotiation::Request) => return None,
        // MySQL has no name either, and its clients come to a listener that greets them.
        (RouteProtocol::Mysql, Negotiation::Greeting) if hello.alpn.is_empty() => {
            return Some(Application::None);
        }
        (RouteProtocol::Mysql, _) | (_, Negotiation::Greeting) => return None,
        // Redis has no name: a client that offers one speaks another protocol (ALPACA).
        (RouteProtocol::Redis, _) => return hello.alpn.is_empty().then_some(Application::None),
        (_, Negotiation::Direct) => {}
    }
    if route.protocol == RouteProtocol::Raw {
        return Some(Application::None);
    }
    if hello.alpn.is_empty() {
        // That means HTTP/1.1, which a plaintext upstream was perhaps not said to speak and cannot be asked for.
        let spoken = route.alpn.http1() || !route.upstream.is_plaintext();
        return spoken.then_some(Application::None);
    }
    let mut wanted = Vec::with_capacity(2);
    if route.alpn.http2() && offered(H2) {
        wanted.push(Application::Http2);
    }
    if route.alpn.http1() && offered(HTTP11) {
        wanted.push(Application::Http1);
    }
    route.upstream.choose(&wanted, route.timeouts.connect).await
}

/// What is spoken on a tunnel's name: HTTP/1.1, under its own name or without one.
fn application_of_tunnel(hello: &Hello, negotiation: Negotiation) -> Option<Application> {
    let http1 = hello.alpn.iter().any(|offer| offer == HTTP11);
    match negotiation {
        Negotiation::Request | Negotiation::Greeting => None,
        Negotiation::Direct if http1 => Some(Application::Http1),
        Negotiation::Direct => hello.alpn.is_empty().then_some(Application::None),
    }
}

impl Secured {
    /// Looks at the first plaintext bytes without consuming them. A tunnel is opened before: what comes inside it is first.
    pub async fn sniff(self, trail: &mut Trail) -> Result<Sniffed, Close> {
        let Secured { session, named, leg, early, mut application } = self;
        let Opened { route, mut leg, early } = match named {
            Named::Route(route) => Opened { route, leg, early },
            Named::Tunnel(_) => Box::pin(tunnel::open(&session, leg, early, trail)).await?,
        };
        if route.protocol == RouteProtocol::Raw {
            return Ok(Sniffed::Raw(Box::new(RawStart { session, route, leg, early, application })));
        }
        if route.protocol == RouteProtocol::Postgres {
            return Box::pin(start::first(session, route, leg, early, trail)).await;
        }
        if route.protocol == RouteProtocol::Mysql {
            return Box::pin(mysql::start::first(session, route, leg, early, trail)).await;
        }
        if route.protocol == RouteProtocol::Redis {
            return Ok(Sniffed::Redis(RedisStart::new(session, route, leg, early)));
        }
        let mut plain = early;
        // An HTTP/2 client may wait for the server's settings before it says anything, so it is not sniffed.
        let kind = if application == Application::Http2 && !session.is_tunnelled() {
            Kind::Http2
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
                Kind::Http2 if route.alpn.http2() => Application::Http2,
                Kind::Http1 if route.alpn.http1() => Application::Http1,
                _ => Application::None,
            };
        }
        // A plaintext upstream cannot say no by itself.
        let unknown = route.upstream.is_plaintext() && kind == Kind::Http1 && !route.alpn.http1();
        // ALPN said one thing; bytes that say another are an attack or a mistake (ALPACA). Without ALPN only
        // HTTP/1.1 is spoken: the upstream was not asked for anything else.
        if unknown || kind == Kind::Unknown || (kind == Kind::Http2) != (application == Application::Http2) {
            trail.explain("the first bytes do not fit the negotiated application protocol");
            return Err(Close::WrongProtocol);
        }
        let conversation = Conversation::new(session.clone(), route.clone(), kind);
        let first = Vec::new();
        Ok(Sniffed::Http(Box::new(HttpStart {
            session,
            route,
            leg,
            application,
            conversation,
            plain,
            first,
        })))
    }
}

impl Sniffed {
    /// Finds out who speaks. Requests that cannot be identified are answered here, and the next one is awaited.
    pub async fn identify(self, trail: &mut Trail) -> Result<Identified, Close> {
        match self {
            Sniffed::Http(mut start) => match start.identify(trail).await {
                Ok(identity) => Ok(Identified { start: Sniffed::Http(start), identity }),
                Err(close) => Err(start.leave(close).await),
            },
            Sniffed::Raw(start) => match start.session.certificate_identity() {
                Some(identity) => Ok(Identified { start: Sniffed::Raw(start), identity }),
                None => {
                    trail.explain("no client certificate that maps to an identity");
                    let mut leg = start.leg;
                    leg.queue_alert(ACCESS_DENIED);
                    farewell(leg, false).await;
                    Err(Close::Refused)
                }
            },
            Sniffed::Postgres(start) => {
                let (start, identity) = Box::pin(start.identify(trail)).await?;
                Ok(Identified { start: Sniffed::Postgres(start), identity })
            }
            Sniffed::Mysql(start) => {
                let (start, identity) = Box::pin(start.identify(trail)).await?;
                Ok(Identified { start: Sniffed::Mysql(start), identity })
            }
            Sniffed::Redis(start) => {
                let (start, identity) = Box::pin(start.identify(trail)).await?;
                Ok(Identified { start: Sniffed::Redis(start), identity })
            }
            Sniffed::Cancel(cancel) => {
                let identity = cancel.permit().identity().clone();
                Ok(Identified { start: Sniffed::Cancel(cancel), identity })
            }
        }
    }
}

/// The alert `access_denied` (RFC 8446 section 6.2): a valid certificate, and access control said no.
const ACCESS_DENIED: u8 = 49;

impl Identified {
    /// Asks the policy. `Err` inside: refused and told so, and the client may try again.
    pub async fn authorise(self, trail: &mut Trail) -> Result<Result<Authorised, Sniffed>, Close> {
        match self.start {
            Sniffed::Http(mut start) => match start.conversation.authorise(self.identity) {
                Decision::Permit(permit) => {
                    trail.identified();
                    Ok(Ok(Authorised { start: Sniffed::Http(start), permit }))
                }
                Decision::Deny(denial) => match start.deny(&denial, trail).await {
                    Ok(()) => Ok(Err(Sniffed::Http(start))),
                    Err(close) => Err(start.leave(close).await),
                },
            },
            Sniffed::Raw(start) => {
                let now = std::time::SystemTime::now();
                match start.route.policy.permit(&start.route.name, &self.identity, now) {
                    Ok(permit) => {
                        trail.identified();
                        start.session.identified(&self.identity);
                        Ok(Ok(Authorised { start: Sniffed::Raw(start), permit }))
                    }
                    Err(_) => {
                        trail.explain("no rule of the route names this identity");
                        start.session.identified(&self.identity);
                        start.session.shared.metrics.refused(Why::Forbidden.code());
                        let mut leg = start.leg;
                        leg.queue_alert(ACCESS_DENIED);
                        farewell(leg, false).await;
                        Err(Close::Refused)
                    }
                }
            }
            Sniffed::Postgres(start) => {
                let (start, permit) = Box::pin(start.authorise(&self.identity, trail)).await?;
                Ok(Ok(Authorised { start: Sniffed::Postgres(start), permit }))
            }
            Sniffed::Mysql(start) => {
                let (start, permit) = Box::pin(start.authorise(&self.identity, trail)).await?;
                Ok(Ok(Authorised { start: Sniffed::Mysql(start), permit }))
            }
            Sniffed::Redis(start) => match Box::pin(start.authorise(&self.identity, trail)).await? {
                Ok((start, permit)) => Ok(Ok(Authorised { start: Sniffed::Redis(start), permit })),
                Err(start) => Ok(Err(Sniffed::Redis(start))),
            },
            // What the session was permitted, its end is, too: the key is the proof.
            Sniffed::Cancel(cancel) => {
                let permit = cancel.permit().clone();
                Ok(Ok(Authorised { start: Sniffed::Cancel(cancel), permit }))
            }
        }
    }
}

impl HttpStart {
    async fn identify(&mut self, trail: &mut Trail) -> Result<Arc<Identity>, Close> {
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
        broken(trail, Side::Client, fault)
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

    async fn deny(&mut self, denial: &Denial, trail: &mut Trail) -> Result<(), Close> {
        self.conversation.deny(denial);
        trail.requested(self.conversation.requests());
        trail.explain(&denial.detail);
        self.speak(trail).await
    }

    /// Sends what the gateway itself has to say; ends the session when that was the last.
    async fn speak(&mut self, trail: &mut Trail) -> Result<(), Close> {
        let http = self.conversation.http();
        if http.wants_down() {
            let mut out = Vec::new();
            let said = http.down(&mut Edit::new(&mut [], &mut out));
            said.map_err(|fault| self.conversation.blame(fault))?;
            self.leg.queue(&out).map_err(|fault| broken(trail, Side::Client, fault))?;
        }
        flush(&mut self.leg, trail).await?;
        if self.conversation.http().is_over() { Err(Close::Refused) } else { Ok(()) }
    }
}

impl HttpStart {
    /// Ends a session that never got to an upstream.
    async fn leave(self, close: Close) -> Close {
        farewell(self.leg, matches!(close, Close::Done | Close::Refused | Close::Dial)).await;
        close
    }

    async fn dial(mut self, permit: Permit, trail: &mut Trail) -> Result<Connected, Close> {
        let (upstream, early) = match dial(&self.route, &self.session, &permit, self.application, trail).await
        {
            Ok(upstream) => upstream,
            Err(detail) => {
                let identity = Some(permit.identity().clone());
                let denial = Denial { why: Why::BadGateway, detail: detail.into(), identity };
                // The client is told either way; what it does with it changes nothing here.
                let _ = self.deny(&denial, trail).await;
                return Err(self.leave(Close::Dial).await);
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

impl Authorised {
    /// Opens the upstream leg.
    pub async fn dial(self, trail: &mut Trail) -> Result<Connected, Close> {
        match self.start {
            Sniffed::Http(start) => Box::pin(start.dial(self.permit, trail)).await,
            Sniffed::Postgres(start) => Box::pin(start.dial(self.permit, trail)).await,
            Sniffed::Mysql(start) => Box::pin(start.dial(self.permit, trail)).await,
            Sniffed::Redis(start) => Box::pin(start.dial(self.permit, trail)).await,
            Sniffed::Cancel(cancel) => match Box::pin(cancel.forward(trail)).await {
                Close::Done => Ok(Connected::Done),
                close => Err(close),
            },
            Sniffed::Raw(start) => {
                let RawStart { session, route, leg, early, application } = *start;
                match dial(&route, &session, &self.permit, application, trail).await {
                    Ok((upstream, from_upstream)) => Ok(Connected::Raw(Box::new(ConnectedTo {
                        client: leg,
                        upstream,
                        early: from_upstream,
                        traffic: Raw::new(&self.permit, route.timeouts.idle),
                        stall: route.timeouts.stall,
                        first: early,
                        waiting: Vec::new(),
                    }))),
                    Err(_) => {
                        farewell(leg, false).await;
                        Err(Close::Dial)
                    }
                }
            }
        }
    }
}

/// Opens the upstream leg, or takes one that was dialled ahead, and takes note of it. `Err`: what a client may know of why
/// not.
pub(super) async fn dial(
    route: &Arc<Route>,
    session: &Session,
    permit: &Permit,
    application: Application,
    trail: &mut Trail,
) -> Result<(Leg, Vec<u8>), &'static str> {
    let dialled = dial_with_greeting(route, session, permit, application, trail).await;
    dialled.map(|(leg, early, _)| (leg, early))
}

/// The same, with what a MySQL server said first.
pub(super) async fn dial_with_greeting(
    route: &Arc<Route>,
    session: &Session,
    permit: &Permit,
    application: Application,
    trail: &mut Trail,
) -> Result<(Leg, Vec<u8>, Option<Agreed>), &'static str> {
    let started = Instant::now();
    let (shared, records_per_key) = (&session.shared, session.gateway.limits.records_per_key);
    let ahead = Ahead::take(shared, route, application);
    let is_ahead = ahead.is_some();
    let dialled = match ahead {
        Some(dialled) => Ok(dialled),
        None => route.upstream.dial(permit, application, route.timeouts.connect, records_per_key).await,
    };
    match dialled {
        Ok(dialled) => {
            Ahead::refill(shared, route, application, permit, records_per_key);
            trail.dialled(dialled.shaken.facts, dialled.address, started.elapsed(), is_ahead);
            Ok((dialled.shaken.leg, dialled.shaken.early, dialled.mysql))
        }
        Err(fault) => {
            tracing::warn!(route = %route.name, session = %session.id, %fault, "dial failed");
            session.shared.metrics.handshake_failed(Side::Upstream);
            trail.explain(&fault);
            Err("the upstream cannot be reached or does not verify")
        }
    }
}
