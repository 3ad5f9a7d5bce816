//! Statements of a database session, each with its line in the log.

use crate::audit::{self, StatementLine};
use crate::gateway::Route;
use crate::policy::{Identity, Permit};
use crate::protocol::statement::{Statement, Watch};
use crate::session::state::Session;
use crate::telemetry::{Span, SpanKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// Watches a session, and writes a line for each of its statements.
pub(in crate::session) struct Statements<W> {
    session: Rc<Session>,
    route: Arc<Route>,
    identity: Arc<Identity>,
    watched: W,
    lines: u64,
}

impl<W: Watch> Statements<W> {
    /// `watch` is given how much of a text is to be kept. `None` where the route does not want it.
    pub(in crate::session) fn new(
        session: &Rc<Session>,
        route: &Arc<Route>,
        permit: &Permit,
        watch: impl FnOnce(usize) -> W,
    ) -> Option<Box<Self>> {
        let limit = route.database.as_ref()?.statements?;
        Some(Box::new(Statements {
            session: session.clone(),
            route: route.clone(),
            identity: permit.identity().clone(),
            watched: watch(limit),
            lines: 0,
        }))
    }

    /// These bytes go up.
    pub(in crate::session) fn up(&mut self, bytes: &[u8]) {
        let Statements { session, route, identity, watched, lines } = self;
        watched.up(bytes, Instant::now().into_std(), &mut writer(session, route, identity, lines));
    }

    /// These bytes go down.
    pub(in crate::session) fn down(&mut self, bytes: &[u8]) {
        let Statements { session, route, identity, watched, lines } = self;
        watched.down(bytes, Instant::now().into_std(), &mut writer(session, route, identity, lines));
    }

    /// The session is over. Returns how many lines there were.
    pub(in crate::session) fn end(&mut self) -> u64 {
        let Statements { session, route, identity, watched, lines } = self;
        watched.end(&mut writer(session, route, identity, lines));
        self.lines
    }
}

fn writer(
    session: &Session,
    route: &Route,
    identity: &Identity,
    lines: &mut u64,
) -> impl FnMut(&Statement<'_>) {
    move |statement| {
        *lines += 1;
        let line =
            StatementLine { session: session.id, number: *lines, route: &route.name, identity, statement };
        audit::statement(&line);
        let both =
            session.gateway.tracer.as_ref().zip(session.span.as_deref()).filter(|(_, span)| span.is_sampled);
        if let Some((tracer, span)) = both {
            let context = tracer.statement(span);
            tracer.finish(&context, || Span {
                kind: SpanKind::Statement,
                context,
                session: None,
                line: audit::json_line(&line),
                ended: SystemTime::now(),
                took: statement.took.unwrap_or_default(),
            });
        }
        if let Some(recording) = session.recording() {
            // What was asked of a database is for auditors.
            recording.sealed_fact(|| audit::json_line(&line));
        }
    }
}
