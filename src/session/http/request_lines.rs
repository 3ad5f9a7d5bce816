//! What becomes of requests: each has its line in the log, whichever way it ends.

use super::{Exchange, HttpTraffic};
use crate::audit;
use crate::names::{Culprit, RequestId};
use crate::protocol::{Ended, Event};
use crate::telemetry::{Span, SpanContext, SpanKind};
use std::time::SystemTime;

impl HttpTraffic {
    /// Records the protocol's events.
    pub fn notice(&mut self) {
        while let Some(event) = self.http.http().event() {
            match event {
                Event::Response { key, status } => {
                    if let Some(exchange) = self.exchanges.iter_mut().find(|e| e.key == key) {
                        let took = exchange.started.elapsed();
                        exchange.first_byte = Some(took);
                        exchange.status = Some(status);
                        exchange.answer_due = None;
                        self.session.counters().first_byte(took);
                    }
                }
                Event::Held => self.note_holds(),
                Event::Masked => self.notice_masks(),
                Event::Ended { key, up, down, how } => {
                    if self.masks {
                        self.notice_masks();
                    }
                    if let Some(place) = self.exchanges.iter().position(|e| e.key == key) {
                        let exchange = self.exchanges.swap_remove(place);
                        self.write_line(&exchange, up, down, how);
                    }
                }
            }
        }
    }

    /// Writes the lines of what is still under way when the session ends.
    pub(super) fn abandon(&mut self, culprit: Culprit) {
        let how = match culprit {
            Culprit::Client => Ended::ByClient,
            Culprit::Upstream => Ended::ByUpstream,
            Culprit::Gateway | Culprit::Nobody => Ended::ByGateway,
        };
        self.http.http().end_all(how);
        self.notice();
        // Whatever the protocol has forgotten is still owed its line.
        for exchange in std::mem::take(&mut self.exchanges) {
            self.write_line(&exchange, 0, 0, how);
        }
    }

    fn write_line(&self, exchange: &Exchange, up: u64, down: u64, how: Ended) {
        self.session.counters().request(exchange.status);
        let line = audit::RequestLine {
            id: RequestId { session: self.session.id, number: exchange.key },
            remote: self.session.remote,
            route: &self.route.name,
            http: self.http.version(),
            method: &exchange.head.method,
            path: &exchange.head.path,
            authority: &exchange.head.authority,
            kind: exchange.head.kind,
            status: exchange.status,
            up,
            down,
            first_byte: exchange.first_byte,
            duration: exchange.started.elapsed(),
            identity: Some(exchange.permit.identity()),
            verdict: audit::Verdict::Permitted { rule: exchange.permit.rule() },
            ended: how,
            masked: exchange.masked.as_deref(),
        };
        audit::request(&line);
        self.trace(&line, exchange.span);
        self.session.fact(|| audit::json_line(&line));
    }

    /// Exports the span of a request that is over, where that is wanted.
    pub(super) fn trace(&self, line: &audit::RequestLine<'_>, context: Option<SpanContext>) {
        if let Some((tracer, context)) = self.gateway.tracer.as_ref().zip(context) {
            tracer.finish(&context, || Span {
                kind: SpanKind::Request,
                context,
                session: self.session.span.as_deref().copied(),
                line: audit::json_line(line),
                ended: SystemTime::now(),
                took: line.duration,
            });
        }
    }
}
