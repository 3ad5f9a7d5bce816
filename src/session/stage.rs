//! The stages of a session as types: each is consumed by the step that leads to the next.

use super::authorise::{self, NotPermitted, close_for_refusal};
use super::connected::ConnectedTo;
use super::dial::dial;
use super::http::start::HttpStart;
use super::http::{Conversation, Decision};
use super::leg_close::{close_leg, flush, read};
use super::mysql::traffic::Mysql;
use super::mysql::{self, start::MysqlStart};
use super::postgres::cancel::Cancel;
use super::postgres::start;
use super::postgres::start::PostgresStart;
use super::postgres::traffic::Postgres;
use super::raw::Raw;
use super::redis::start::RedisStart;
use super::redis::traffic::Redis;
use super::tunnel::{self, Opened};
use super::{Session, Trail};
use crate::close::Close;
use crate::dial::Application;
use crate::gateway::{Named, Route, RouteProtocol};
use crate::policy::{Identity, Permit};
use crate::protocol::{RefusalReason, Sniffed as Kind, sniff};
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
                Err(close) => Err(Box::pin(start.leave(close)).await),
            },
            Sniffed::Raw(start) => match start.session.proven_identity() {
                Some(identity) => Ok(Identified { start: Sniffed::Raw(start), identity }),
                None => {
                    trail.explain("no client certificate that maps to an identity");
                    let mut leg = start.leg;
                    leg.queue_alert(ACCESS_DENIED);
                    close_leg(leg, false).await;
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
/// The alert `internal_error`: the gateway has no room, which TLS has no other word for.
const INTERNAL_ERROR: u8 = 80;

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
                    Err(close) => Err(Box::pin(start.leave(close)).await),
                },
            },
            Sniffed::Raw(start) => match authorise::permit(&start.session, &start.route, &self.identity) {
                Ok(permit) => {
                    trail.identified();
                    start.session.identified(&self.identity);
                    Ok(Ok(Authorised { start: Sniffed::Raw(start), permit }))
                }
                Err(NotPermitted { why, detail }) => {
                    trail.explain(detail);
                    start.session.identified(&self.identity);
                    start.session.shared.metrics.refused(why.code());
                    let mut leg = start.leg;
                    leg.queue_alert(if why == RefusalReason::Overloaded {
                        INTERNAL_ERROR
                    } else {
                        ACCESS_DENIED
                    });
                    close_leg(leg, false).await;
                    Err(close_for_refusal(why))
                }
            },
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
            Sniffed::Raw(start) => Box::pin(start.dial(self.permit, trail)).await,
        }
    }
}

impl RawStart {
    async fn dial(self, permit: Permit, trail: &mut Trail) -> Result<Connected, Close> {
        let RawStart { session, route, leg, early, application } = self;
        match dial(&route, &session, &permit, application, trail).await {
            Ok((upstream, from_upstream)) => Ok(Connected::Raw(Box::new(ConnectedTo {
                client: leg,
                upstream,
                early: from_upstream,
                traffic: Raw::new(&permit, route.timeouts.idle),
                stall: route.timeouts.stall,
                first: early,
                waiting: Vec::new(),
            }))),
            Err(_) => {
                close_leg(leg, false).await;
                Err(Close::Dial)
            }
        }
    }
}
