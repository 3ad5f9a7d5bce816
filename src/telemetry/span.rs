//! What sessions hand over to be exported.

use super::context::SpanContext;
use std::time::{Duration, SystemTime};

/// What a span covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A client connection from accept to close.
    Session,
    /// An HTTP request.
    Request,
    /// A statement of a database session.
    Statement,
}

/// A span that is over.
#[derive(Debug)]
pub struct Span {
    /// What it covers.
    pub kind: SpanKind,
    /// Where it stands.
    pub context: SpanContext,
    /// The session's span, where that stands in another trace.
    pub session: Option<SpanContext>,
    /// The log's line.
    pub line: String,
    /// When it was over.
    pub ended: SystemTime,
    /// How long it took.
    pub took: Duration,
}
