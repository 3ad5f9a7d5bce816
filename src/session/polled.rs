//! A session future that records its id for the watchdog whenever it is polled.

use crate::metrics::WorkerMetrics;
use crate::names::SessionId;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pin_project_lite::pin_project! {
    /// A session's future, and what its name is told to. Not a box: that would be an allocation for each connection.
    pub(super) struct Polled<F> {
        pub(super) id: SessionId,
        pub(super) metrics: Arc<WorkerMetrics>,
        #[pin]
        pub(super) session: F,
    }
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.metrics.session_polled(*this.id);
        this.session.poll(cx)
    }
}
