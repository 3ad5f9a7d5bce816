//! The pipeline: each stage of one client connection, from accept to close.
//!
//! ```text
//!   accept ─▶ handshake ─▶ sniff ─▶ identify ─▶ authorise ─▶ dial ─▶ relay ─▶ close
//!             SNI→route             ▲               │ no: answered in the client's own protocol
//!                                   └───────────────┘ (HTTP and Redis may try again on the same connection)
//! ```
//! [`run`] is the only place that names every stage, and this file the only one of the path that names every protocol.
//! Each stage consumes the one before it ([`super::stage`]), so none can be skipped; an upstream cannot be dialled without
//! a [`crate::policy::Permit`]. One deadline runs from accept to permitted and is never reset by a stage.

use super::accepted::Accepted;
use super::admission::Admitted;
use super::http::start::HttpStart;
use super::mysql::{self, start::MysqlStart};
use super::polled::Polled;
use super::postgres::cancel::Cancel;
use super::postgres::start::{First, PostgresStart};
use super::postgres::{self};
use super::raw_start::RawStart;
use super::redis::{self, start::RedisStart};
use super::registry::Registration;
use super::stage::{Authorised, Routed, Secured, Start};
use super::state::{Origin, WorkerState};
use super::trail::Trail;
use super::tunnel::{self, Opened};
use crate::close::{Close, Stage};
use crate::gateway::{Gateway, Listener, Named, RouteProtocol};
use crate::metrics::LimitHit;
use crate::names::Remote;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// A connection fresh from the listener.
pub struct NewConnection {
    /// The socket.
    pub tcp: TcpStream,
    /// Who connected.
    pub remote: Remote,
    /// Where.
    pub listener: Listener,
    /// When.
    pub at: Instant,
    /// Its share of the connection counts.
    pub admitted: Admitted,
}

/// Runs one session from accept to close; `counted` is dropped at its end.
///
/// A session that goes on keeps nothing of the stages behind it: they stand on the heap and are given back.
pub fn run<C: 'static>(
    shared: Rc<WorkerState>,
    gateway: Arc<Gateway>,
    arrival: NewConnection,
    counted: C,
) -> impl Future<Output = ()> {
    shared.metrics.session_opened();
    let metrics = shared.metrics.clone();
    let id = shared.next_id();
    let deadline = arrival.at + gateway.limits.permit_deadline;
    let NewConnection { tcp, remote, listener, admitted, at } = arrival;
    let registration = shared.live.register(id, at, listener.address, remote);
    let (trail, entry) = (Box::new(Trail::new(&registration)), registration.entry().clone());
    let origin = Origin { id, shared, gateway, listener, remote, limit_reached: None, entry };
    let accepted = Box::new(Accepted { origin, tcp });
    let session = run_stages(accepted, StageContext { registration, admitted, deadline, trail }, counted);
    Polled { id, metrics, session }
}

/// A session's context through its stages.
struct StageContext {
    registration: Registration,
    admitted: Admitted,
    /// Deadline for the permit.
    deadline: Instant,
    trail: Box<Trail>,
}

async fn run_stages<C>(accepted: Box<Accepted>, mut course: StageContext, _counted: C) {
    let (id, shared) = (course.registration.id(), accepted.origin.shared.clone());
    let StageContext { registration, admitted, deadline, trail } = &mut course;
    let sniffed = run_unless_ended(&shared, registration, admitted, to_sniffed(accepted, admitted, trail));
    let sniffed = Box::pin(timeout_at(*deadline, sniffed)).await;
    let close = match sniffed {
        Err(_) => Close::Deadline(course.trail.stage()),
        Ok(Err(close)) => close,
        Ok(Ok(Sniffed::Http(start))) => Box::pin(from_start(start, &shared, &mut course)).await,
        Ok(Ok(Sniffed::Raw(start))) => Box::pin(from_start(start, &shared, &mut course)).await,
        Ok(Ok(Sniffed::Postgres(start))) => Box::pin(from_start(start, &shared, &mut course)).await,
        Ok(Ok(Sniffed::Mysql(start))) => Box::pin(from_start(start, &shared, &mut course)).await,
        Ok(Ok(Sniffed::Redis(start))) => Box::pin(from_start(start, &shared, &mut course)).await,
        Ok(Ok(Sniffed::Cancel(cancel))) => {
            course.permitted();
            Box::pin(cancel.forward(&mut course.trail)).await
        }
    };
    course.trail.count_end(close, &shared);
    course.trail.write(id, close, &shared);
}

/// The client's first bytes are known to fit the route.
enum Sniffed {
    Http(Box<HttpStart>),
    Raw(Box<RawStart>),
    Postgres(Box<PostgresStart>),
    Mysql(Box<MysqlStart>),
    Redis(Box<RedisStart>),
    /// A CancelRequest of PostgreSQL's. What the session was permitted that it names, its end is, too: the key is the proof.
    Cancel(Box<Cancel>),
}

/// Does `work` before the permit, unless the connection is evicted to make room for another, or ordered to end.
async fn run_unless_ended<T>(
    shared: &WorkerState,
    registration: &Registration,
    admitted: &Admitted,
    work: impl Future<Output = Result<T, Close>>,
) -> Result<T, Close> {
    tokio::select! {
        biased;
        done = work => done,
        () = admitted.wait_evicted() => {
            shared.metrics.limit(LimitHit::HalfOpen);
            Err(Close::Evicted)
        }
        close = registration.ended() => Err(close),
    }
}

/// accept → handshake → sniff, once it is this connection's turn. A tunnel is opened before: what comes inside it is sniffed.
async fn to_sniffed(
    accepted: Box<Accepted>,
    admitted: &Admitted,
    trail: &mut Trail,
) -> Result<Sniffed, Close> {
    accepted.turn(admitted).await;
    trail.enter(Stage::Handshake);
    let Secured { session, named, leg, early, application } = accepted.handshake(admitted, trail).await?;
    trail.enter(Stage::Sniff);
    let tunnel = match &named {
        Named::Tunnel(tunnel) => Some(tunnel.clone()),
        Named::Route(_) => None,
    };
    let Opened { route, mut leg, early } = match named {
        Named::Route(route) => Opened { route, leg, early },
        Named::Tunnel(_) => Box::pin(tunnel::open(&session, leg, early, trail)).await?,
    };
    let server = tunnel.as_ref().map(|tunnel| &tunnel.server).or(route.server.as_ref());
    session.start_recording(&route, server, &mut leg);
    let protocol = route.protocol;
    let routed = Routed { session, route, leg, early, application };
    Ok(match protocol {
        RouteProtocol::Http => Sniffed::Http(HttpStart::sniff(routed, trail).await?),
        RouteProtocol::Raw => Sniffed::Raw(RawStart::new(routed)),
        RouteProtocol::Postgres => match Box::pin(postgres::start::first(routed, trail)).await? {
            First::Startup(start) => Sniffed::Postgres(start),
            First::Cancel(cancel) => Sniffed::Cancel(cancel),
        },
        RouteProtocol::Mysql => Sniffed::Mysql(Box::pin(mysql::start::first(routed, trail)).await?),
        RouteProtocol::Redis => Sniffed::Redis(redis::start::first(routed)?),
    })
}

/// identify → authorise → dial → relay, until the end.
async fn from_start<S: Start>(start: Box<S>, shared: &WorkerState, course: &mut StageContext) -> Close {
    let StageContext { registration, admitted, deadline, trail } = &mut *course;
    let permitted = run_unless_ended(shared, registration, admitted, Box::pin(to_permitted(start, trail)));
    let permitted = timeout_at(*deadline, permitted).await;
    let authorised = match permitted {
        Err(_) => return Close::Deadline(course.trail.stage()),
        Ok(Err(close)) => return close,
        Ok(Ok(authorised)) => authorised,
    };
    course.permitted();
    let connected = match Box::pin(S::dial(authorised, &mut course.trail)).await {
        Err(close) => return close,
        Ok(connected) => connected,
    };
    course.trail.enter(Stage::Relay);
    connected.relay(&course.registration, &mut course.trail).await
}

async fn to_permitted<S: Start>(mut start: Box<S>, trail: &mut Trail) -> Result<Authorised<S>, Close> {
    loop {
        trail.enter(Stage::Identify);
        let identified = start.identify(trail).await?;
        trail.enter(Stage::Authorise);
        match S::authorise(identified, trail).await? {
            Ok(authorised) => return Ok(authorised),
            Err(again) => start = again,
        }
    }
}

impl StageContext {
    /// The deadline was met, and what counts the half-open counts this session no more.
    fn permitted(&mut self) {
        self.admitted.permitted();
        self.trail.enter(Stage::Dial);
    }
}
