//! The exporter: a thread that sends spans in batches, and tries again what a collector could not take just now.

use super::otlp;
use super::span::Span;
use crate::metrics::{SpanOutcome, count_spans};
use crate::net::https::{HttpsClient, HttpsFault, HttpsUrl, Limits};
use crate::secret::Secret;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout_at};

/// Spans that wait to be sent: some 6 MB.
pub(super) const QUEUE: usize = 4_096;
/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Bounds of one request; what a collector answers is short.
pub const LIMITS: Limits = Limits { time: Duration::from_secs(5), body: 64 << 10 };
/// Waits between the tries to send a batch; then it is dropped.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The collector's endpoint for traces.
    pub url: HttpsUrl,
    /// Verifies it.
    pub client: HttpsClient,
    /// What is sent as `Authorization: Bearer`.
    pub key: Option<Arc<Secret>>,
}

/// What the exporter is handed.
pub(super) enum Message {
    Span(Box<Span>),
    /// A reload has spans go elsewhere.
    Destination(Destination),
    /// Send what there is, and answer.
    Flush(std::sync::mpsc::Sender<()>),
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportFault {
    #[error(transparent)]
    Silent(#[from] HttpsFault),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
}

impl ExportFault {
    /// True where the same batch may be taken later (OTLP: these statuses, and no answer).
    fn is_temporary(&self) -> bool {
        match self {
            ExportFault::Silent(fault) => !matches!(fault, HttpsFault::Redirect(_)),
            ExportFault::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

pub(super) fn start(destination: Destination, receiver: Receiver<Message>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(Exporter { destination, is_failing: false }.run(receiver));
    std::thread::Builder::new().name("traces".into()).spawn(run).map(drop)
}

struct Exporter {
    destination: Destination,
    /// The last batch was dropped, which was told.
    is_failing: bool,
}

impl Exporter {
    /// Sends what comes, until nothing can come any more.
    async fn run(mut self, mut receiver: Receiver<Message>) {
        let mut batch = Vec::new();
        loop {
            let interrupted = collect(&mut receiver, &mut batch).await;
            if !batch.is_empty() {
                self.send(&batch).await;
                batch.clear();
            }
            match interrupted {
                None => {}
                Some(Interruption::Destination(destination)) => self.destination = destination,
                // Who does not wait any more needs no answer.
                Some(Interruption::Flush(done)) => drop(done.send(())),
                Some(Interruption::End) => return,
            }
        }
    }

    /// Sends a batch, or drops it after some tries.
    async fn send(&mut self, batch: &[Span]) {
        let body = Bytes::from(otlp::request(batch).to_string());
        let mut waits = RETRIES.iter();
        let outcome = loop {
            match self.try_send(body.clone()).await {
                Ok(rejected) => break Ok(rejected.min(batch.len() as u64)),
                Err(fault) if fault.is_temporary() => match waits.next() {
                    // After a batch that was dropped, the next is tried once: the queue fills meanwhile.
                    Some(wait) if !self.is_failing => sleep(*wait).await,
                    _ => break Err(fault),
                },
                Err(fault) => break Err(fault),
            }
        };
        match outcome {
            Ok(rejected) => {
                count_spans(SpanOutcome::Exported, batch.len() as u64 - rejected);
                count_spans(SpanOutcome::Rejected, rejected);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("traces are exported again");
                }
            }
            Err(fault) => {
                count_spans(SpanOutcome::Dropped, batch.len() as u64);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%fault, "traces cannot be exported");
                }
            }
        }
    }

    /// How many of the spans the collector rejected.
    async fn try_send(&self, body: Bytes) -> Result<u64, ExportFault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.destination.key {
            let value = [b"Bearer ", key.expose()].concat();
            // A key that no header can hold is none that a collector asks for.
            if let Ok(mut value) = HeaderValue::from_bytes(&value) {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        let answer = self.destination.client.send(Method::POST, &self.destination.url, headers, body).await?;
        match answer.status.is_success() {
            true => Ok(rejected(answer.body.expose())),
            false => Err(ExportFault::Refused(answer.status)),
        }
    }
}

/// What ends a batch early.
enum Interruption {
    Destination(Destination),
    Flush(std::sync::mpsc::Sender<()>),
    /// No more come.
    End,
}

/// Takes messages until a batch is full, or has waited for long enough, or something else is to be done first.
async fn collect(receiver: &mut Receiver<Message>, batch: &mut Vec<Span>) -> Option<Interruption> {
    let mut due = None;
    while batch.len() < BATCH {
        let next = match due {
            None => receiver.recv().await,
            Some(due) => match timeout_at(due, receiver.recv()).await {
                Ok(next) => next,
                Err(_) => return None,
            },
        };
        match next {
            Some(Message::Span(span)) => batch.push(*span),
            Some(Message::Flush(done)) => return Some(Interruption::Flush(done)),
            Some(Message::Destination(destination)) => return Some(Interruption::Destination(destination)),
            None => return Some(Interruption::End),
        }
        due.get_or_insert_with(|| Instant::now() + BATCH_INTERVAL);
    }
    None
}

/// `rejectedSpans` of an answer (OTLP: partial success).
fn rejected(answer: &[u8]) -> u64 {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = &answer["partialSuccess"]["rejectedSpans"];
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_success_is_read_and_anything_else_is_whole() {
        for (answer, count) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":4}}"#, 4),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("", 0),
            ("nonsense", 0),
        ] {
            assert_eq!(rejected(answer.as_bytes()), count, "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_sent_when_it_is_full_or_has_waited_or_is_wanted() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(2 * BATCH);
        let mut batch = Vec::new();
        (0..BATCH + 1)
            .for_each(|_| drop(sender.try_send(Message::Span(Box::new(super::super::tests::span("{}"))))));
        assert!(collect(&mut receiver, &mut batch).await.is_none());
        assert_eq!(batch.len(), BATCH);
        batch.clear();
        let began = Instant::now();
        collect(&mut receiver, &mut batch).await;
        assert_eq!((batch.len(), began.elapsed()), (1, BATCH_INTERVAL));
        batch.clear();
        let (done, _wait) = std::sync::mpsc::channel();
        sender.try_send(Message::Flush(done)).ok().unwrap();
        assert!(matches!(collect(&mut receiver, &mut batch).await, Some(Interruption::Flush(_))));
        drop(sender);
        assert!(matches!(collect(&mut receiver, &mut batch).await, Some(Interruption::End)));
    }
}
