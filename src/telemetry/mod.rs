//! OpenTelemetry traces, where they are configured: a span for each session, request and statement.
//!
//! A span is the line that the log has, and where it stands in its trace. Sessions hand it over through a bounded queue and never
//! wait: what has no room is dropped and counted. A thread of its own makes OTLP of the lines (HTTP, JSON) and sends them in
//! batches. A span holds nothing that the log does not hold, so neither a token nor a secret.
//!
//! ```text
//!   session ── line, place in its trace ──▶ queue (4,096) ──▶ exporter's thread ── POST /v1/traces ──▶ collector
//! ```
//! A request that comes with `traceparent` is a span of its client's trace, and kept if the client says so; others, and sessions,
//! begin traces of their own, of which a share is kept. Statements are spans of their session's trace.

mod context;
mod export;
mod otlp;
mod span;

pub use context::SpanContext;
pub use export::{Destination, LIMITS};
pub use span::{Span, SpanKind};

use crate::metrics::{SpanOutcome, count_spans};
use export::{Message, QUEUE};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender};

/// Hands spans to the exporter.
pub struct Tracer {
    /// Traces that begin here and are kept, of 2^64.
    threshold: u64,
    destination: Destination,
    sender: Sender<Message>,
    /// Until the exporter's thread has it.
    receiver: Mutex<Option<Receiver<Message>>>,
}

impl Tracer {
    /// `share`: of the traces that begin here, those that are kept, from 0 to 1.
    pub fn new(destination: Destination, share: f64) -> Self {
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        // Saturates: 1 keeps all.
        let threshold = (share * u64::MAX as f64) as u64;
        Tracer { threshold, destination, sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Starts the exporter's thread, which ends with the last handle of this.
    pub fn start(&self) -> std::io::Result<()> {
        match self.receiver.lock().take() {
            Some(receiver) => export::start(self.destination.clone(), receiver),
            None => Ok(()),
        }
    }

    /// The same, with the exporter of the tracer before: after a reload.
    pub fn in_place_of(self, before: &Tracer) -> Tracer {
        match before.sender.try_send(Message::Destination(self.destination.clone())) {
            Ok(()) => Tracer { sender: before.sender.clone(), receiver: Mutex::new(None), ..self },
            // That one has no room even for this: a new one starts, and the old one ends with its sessions.
            Err(_) => self,
        }
    }

    /// The span of a session: the first of a trace.
    pub fn session(&self) -> SpanContext {
        self.root()
    }

    /// The span of a request, from what its client says: values of `traceparent`. One that cannot be read, and several, say
    /// nothing. True: the client's trace goes on, and its `tracestate` with it.
    pub fn request<'a>(&self, mut parents: impl Iterator<Item = &'a [u8]>) -> (SpanContext, bool) {
        let first = parents.next();
        let parent = first.filter(|_| parents.next().is_none()).and_then(context::parse);
        match parent {
            Some((trace, parent, is_sampled)) => {
                (SpanContext { trace, span: random_span(), parent: Some(parent), is_sampled }, true)
            }
            None => (self.root(), false),
        }
    }

    /// The span of a statement of a session.
    pub fn statement(&self, session: &SpanContext) -> SpanContext {
        SpanContext { span: random_span(), parent: Some(session.span), ..*session }
    }

    fn root(&self) -> SpanContext {
        let mut bytes = [0; 16];
        fill(&mut bytes);
        let trace = u128::from_be_bytes(bytes).max(1);
        // The last bytes decide, as OpenTelemetry's samplers have it.
        let is_sampled = trace as u64 <= self.threshold && self.threshold > 0;
        SpanContext { trace, span: random_span(), parent: None, is_sampled }
    }

    /// Hands over a span that is over, where its trace is kept. Never waits.
    pub fn finish(&self, context: &SpanContext, span: impl FnOnce() -> Span) {
        if context.is_sampled && self.sender.try_send(Message::Span(Box::new(span()))).is_err() {
            count_spans(SpanOutcome::Dropped, 1);
        }
    }

    /// Waits until all that was handed over is sent, up to `limit`: for the end of the process.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = channel();
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            // Who is not heard of in time is not waited for.
            let _ = wait.recv_timeout(limit);
        }
    }
}

fn random_span() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_be_bytes(bytes).max(1)
}

fn fill(bytes: &mut [u8]) {
    SystemRandom::new().fill(bytes).expect("the system has random numbers, or no TLS would work");
}

#[cfg(test)]
mod tests;
