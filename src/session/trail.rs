//! A session's trail: its facts, written as one line at its end.

use super::legs::{is_post_quantum, upstream_opened};
use super::recording::{Recording, WorkerRecordings};
use super::registry::{Connecting, Entry, Registration};
use super::state::{Session, WorkerState};
use crate::audit;
use crate::close::{Close, Stage};
use crate::gateway::Route;
use crate::names::{Reached, Remote, SessionId, Side};
use crate::protocol::postgres::Startup;
use crate::relay::Transferred;
use crate::telemetry::{Span, SpanContext, SpanKind, Tracer};
use crate::tls::handshake;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What a session keeps for its closing line; the facts that others may see stand in the registry.
pub struct Trail {
    entry: Arc<Entry>,
    session: Option<Rc<Session>>,
    /// What went wrong, in words for the log; never holds a token or a secret.
    detail: Option<String>,
    spent: audit::StageTimes,
    moved: Transferred,
    requests: u64,
    masked: u64,
    /// The opening line was written.
    is_opened: bool,
}

impl Trail {
    pub(super) fn new(registration: &Registration) -> Self {
        Trail {
            entry: registration.entry().clone(),
            session: None,
            detail: None,
            spent: audit::StageTimes::default(),
            moved: Transferred::default(),
            requests: 0,
            masked: 0,
            is_opened: false,
        }
    }

    /// The session enters a stage.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.entry.facts.lock().stage = stage;
    }

    /// The stage that it is in.
    pub(super) fn stage(&self) -> Stage {
        self.entry.facts.lock().stage
    }

    /// When the connection was accepted.
    pub(super) fn accepted(&self) -> Instant {
        self.entry.accepted
    }

    /// The client's address as the PROXY protocol tells it.
    pub(super) fn set_remote(&mut self, remote: Remote) {
        self.entry.facts.lock().remote = remote;
    }

    fn remote(&self) -> Remote {
        self.entry.facts.lock().remote
    }

    /// The name that the client asked for.
    pub(super) fn set_sni(&mut self, sni: Option<&str>) {
        self.entry.facts.lock().sni = sni.map(Arc::from);
    }

    /// The session's recording, where its route has one.
    pub(super) fn recording(&self) -> Option<&Recording> {
        self.session.as_ref()?.recording()
    }

    /// Adds words to the end.
    pub(super) fn explain(&mut self, detail: impl ToString) {
        self.detail.get_or_insert_with(|| detail.to_string());
    }

    /// Notes what a database client asks for.
    pub(super) fn set_startup(&mut self, startup: &Startup) {
        self.set_database(&startup.database, &startup.user, startup.application_name());
    }

    /// Notes the database that a client asks for, the user that it names, and what it calls itself.
    pub(super) fn set_database(&mut self, database: &[u8], client_user: &[u8], application: &[u8]) {
        let (database, client_user, application) = (database.into(), client_user.into(), application.into());
        let connecting = Connecting { database, client_user, application, user: None, statements: None };
        if let Some(session) = &self.session {
            session.on_database_user(&connecting.client_user);
        }
        self.entry.facts.lock().database = Some(Box::new(connecting));
    }

    /// What a client of a database without a startup message calls itself.
    pub(super) fn set_application_name(&mut self, application: &[u8]) {
        self.set_database(&[], &[], application);
    }

    /// How many lines of statements there were.
    pub(super) fn set_statement_lines(&mut self, lines: u64) {
        if let Some(database) = &mut self.entry.facts.lock().database {
            database.statements = Some(lines);
        }
    }

    /// The stored user as whom it gets in. Writes the opening line.
    pub(super) fn set_account(&mut self, user: &str) {
        if let Some(database) = &mut self.entry.facts.lock().database {
            database.user = Some(user.into());
        }
        self.open();
    }

    /// Notes the client leg, whose handshake is complete.
    pub(super) fn record_client_handshake(&mut self, session: &Rc<Session>, facts: handshake::Facts) {
        let took = self.entry.accepted.elapsed();
        self.spent.handshake = Some(took);
        let metrics = &session.shared.metrics;
        metrics.handshake(Side::Client, facts.resumed, is_post_quantum(&facts), took);
        self.entry.facts.lock().client = Some(facts);
        self.session = Some(session.clone());
    }

    /// The route is known. Writes the opening line, which for a database waits until it can tell who connects as whom.
    pub(super) fn set_route(&mut self, route: &Arc<Route>) {
        self.entry.facts.lock().route = Some(route.clone());
        if let Some(session) = &self.session {
            let _ = self.entry.counters.set(session.shared.metrics.route(&route.name));
        }
        if !route.protocol.is_database() && audit::has_room_for_unpermitted(self.remote()) {
            self.open();
        }
    }

    fn open(&mut self) {
        let (Some(session), false) = (&self.session, self.is_opened) else { return };
        let facts = self.entry.facts.lock();
        audit::opened(&session.opened(&facts));
        self.is_opened = true;
    }

    /// Notes when the session got its permit.
    pub(super) fn record_identity(&mut self) {
        self.spent.identify = Some(self.entry.accepted.elapsed());
        let is_database =
            self.entry.facts.lock().route.as_ref().is_none_or(|route| route.protocol.is_database());
        if !is_database {
            self.open();
        }
    }

    /// Notes the upstream leg, whose handshake is complete. `ahead`: it stood before it was asked for.
    pub(super) fn record_upstream(
        &mut self,
        facts: handshake::Facts,
        address: Reached,
        took: Duration,
        ahead: bool,
    ) {
        self.spent.dial = Some(took);
        if let Some(session) = &self.session {
            let metrics = &session.shared.metrics;
            session.counters().dialled(took);
            // The opening of one that was dialled ahead was counted then.
            if !ahead {
                upstream_opened(metrics, &facts, took);
            }
        }
        let mut shown = self.entry.facts.lock();
        (shown.upstream, shown.dialled_ahead) = (Some((facts, address)), ahead);
    }

    /// Notes and counts what the relay moved.
    pub(super) fn set_transferred(&mut self, moved: Transferred, renewals: (u64, u64)) {
        self.moved = moved;
        let Some(session) = &self.session else { return };
        let metrics = &session.shared.metrics;
        self.entry.count(&moved);
        metrics.relay_polls(moved.polls);
        (0..renewals.0).for_each(|_| metrics.key_update(Side::Client));
        (0..renewals.1).for_each(|_| metrics.key_update(Side::Upstream));
    }

    /// Notes how many values masks found.
    pub(super) fn set_masked(&mut self, values: u64) {
        self.masked = values;
    }

    /// Notes how many requests came.
    pub(super) fn set_requests(&mut self, requests: u64) {
        self.requests = requests;
    }

    /// Counts the session's end for its route.
    pub(super) fn count_end(&self, close: Close, shared: &WorkerState) {
        self.entry.counters.get().unwrap_or_else(|| shared.metrics.unrouted()).session_closed(close);
    }

    /// Writes the closing line.
    pub(super) fn write(&mut self, id: SessionId, close: Close, shared: &WorkerState) {
        match close {
            Close::NotTls(kind) => shared.metrics.not_tls(kind),
            Close::Handshake(side) => shared.metrics.handshake_failed(side),
            _ => {}
        }
        let is_permitted = self.session.as_ref().is_some_and(|session| session.first_identity().is_some());
        if !is_permitted && !audit::admit_unpermitted(self.remote(), self.is_opened) {
            shared.recordings.iter().for_each(WorkerRecordings::count_unrecorded);
            return;
        }
        // A session that came to nothing has both lines, too.
        self.open();
        let session = self.session.as_ref();
        let shown = self.entry.facts.lock();
        let route = shown.route.as_ref();
        let identity = self.session.as_ref().and_then(|session| session.first_identity());
        let (client, upstream) = (shown.client_leg(), shown.upstream_leg());
        let line = audit::Closed {
            session: id,
            remote: shown.remote,
            route: route.map(|route| &route.name),
            tunnel: shown.tunnel,
            reason: close,
            detail: self.detail.as_deref(),
            identity: identity.map(|identity| &**identity),
            identities: self.session.as_ref().map_or(0, |session| session.identities()),
            client,
            upstream,
            up: self.moved.up,
            down: self.moved.down,
            requests: self.requests,
            masked: self.masked,
            database: shown.database(),
            dialled_ahead: shown.dialled_ahead,
            spent: audit::StageTimes { total: self.entry.accepted.elapsed(), ..self.spent },
        };
        audit::closed(&line);
        trace(&line, session.map(|session| &**session), shared);
        let Some(recordings) = &shared.recordings else { return };
        let recorded = session.is_some_and(|session| {
            let opened = || audit::json_line(&session.opened(&shown));
            let facts = [shown.client.as_ref(), shown.upstream.as_ref().map(|(facts, _)| facts)];
            let peers = facts.map(|facts| facts.and_then(|facts| facts.peer_certificate.as_deref()));
            session
                .recording()
                .is_some_and(|recording| recording.end(opened, peers, &audit::json_line(&line)))
        });
        if !recorded {
            recordings.count_unrecorded();
        }
    }
}

/// Exports the span of a session that is over, where that is wanted.
fn trace(line: &audit::Closed<'_>, session: Option<&Session>, shared: &WorkerState) {
    let export = |tracer: &Tracer, context: SpanContext| {
        tracer.finish(&context, || Span {
            kind: SpanKind::Session,
            context,
            session: None,
            line: audit::json_line(line),
            ended: SystemTime::now(),
            took: line.spent.total,
        });
    };
    match session {
        Some(session) => {
            let both = session.gateway.tracer.as_ref().zip(session.span.as_deref());
            both.into_iter().for_each(|(tracer, context)| export(tracer, *context));
        }
        // It ended before it was one, in its handshake for example.
        None => shared.with_gateway(|gateway| {
            gateway.tracer.iter().for_each(|tracer| export(tracer, tracer.session()));
        }),
    }
}
