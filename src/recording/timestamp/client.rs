//! Asks an authority for time-stamps of this gateway's log.
//!
//! One task: it has the log's newest checkpoint stamped while the log grows, at most once in an interval, verifies the answer,
//! keeps it, and has an entry of it in the log. Sessions and the log's signer never wait for it.

use super::super::archive::Archive;
use super::super::clock::system;
use super::super::directory::DirectoryFault;
use super::super::log::entry::Entry;
use super::super::log::note::SignedCheckpoint;
use super::super::log::store::read_last_entry;
use super::super::newest_checkpoint::{self, blocking};
use super::query::{Query, sha256};
use super::stored;
use super::token::{Stamp, TokenFault, verify};
use crate::net::https::{HttpsClient, HttpsFault, HttpsUrl, Limits};
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use rustls::pki_types::TrustAnchor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Bounds of one request: an answer is a token with a few certificates.
pub const LIMITS: Limits = Limits { time: Duration::from_secs(10), body: 64 * 1024 };
/// Between two tries while no answer counts, or the interval where that is shorter.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How far the authority's clock and the log's may lie apart. A token that is further away would show that the log was written
/// at another time than it says.
pub const MAX_SKEW: Duration = Duration::from_secs(600);

/// An authority that is asked.
#[derive(Clone, Debug)]
pub struct TimestampSettings {
    /// Where it takes queries.
    pub url: HttpsUrl,
    /// Verifies its server, where that has TLS.
    pub client: HttpsClient,
    /// Whom its tokens must lead to.
    pub authorities: Vec<TrustAnchor<'static>>,
    /// Between two requests at least.
    pub interval: Duration,
}

/// How time-stamping does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampStatus {
    /// Entries of the log that are stamped.
    pub size: u64,
    /// The newest token's time, seconds since 1970; 0: none since the start.
    pub time: u64,
    /// Requests that were stamped, whose answer did not count, and that had no answer.
    pub requests: [u64; 3],
}

/// What became of a request, also an index into [`TimestampStatus::requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stamped,
    Refused,
    Silent,
}

/// Why a checkpoint is not stamped.
#[derive(Debug, thiserror::Error)]
enum AskFault {
    #[error(transparent)]
    Silent(#[from] HttpsFault),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Token(#[from] TokenFault),
    #[error("its clock and this host's are more than {} s apart", MAX_SKEW.as_secs())]
    Skew,
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
}

impl AskFault {
    fn outcome(&self) -> Outcome {
        match self {
            AskFault::Silent(_) | AskFault::Directory(_) => Outcome::Silent,
            AskFault::Status(_) | AskFault::Token(_) | AskFault::Skew => Outcome::Refused,
        }
    }
}

/// The task that asks; it ends when this is dropped.
#[derive(Debug, Default)]
pub struct Timestamps {
    task: Option<(AbortHandle, Arc<Mutex<TimestampStatus>>)>,
}

impl Timestamps {
    /// Begins to ask for time-stamps of an archive's log.
    pub fn start(
        archive: Arc<Archive>,
        settings: TimestampSettings,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let status = Arc::<Mutex<TimestampStatus>>::default();
        let client = Client { archive, settings, status: status.clone(), told: None };
        Timestamps { task: Some((runtime.spawn(client.run()).abort_handle(), status)) }
    }

    /// How it does; `None` where nobody is asked.
    pub fn status(&self) -> Option<TimestampStatus> {
        self.task.as_ref().map(|(_, status)| *status.lock())
    }
}

impl Drop for Timestamps {
    fn drop(&mut self) {
        self.task.iter().for_each(|(task, _)| task.abort());
    }
}

struct Client {
    archive: Arc<Archive>,
    settings: TimestampSettings,
    status: Arc<Mutex<TimestampStatus>>,
    /// What was wrong last, so that it is logged once while it stays.
    told: Option<String>,
}

/// A checkpoint that can be stamped.
struct Prepared {
    text: String,
    size: u64,
    /// Of its last entry.
    time: u64,
}

impl Client {
    async fn run(mut self) {
        let log = self.log();
        if let Ok(Some(size)) = blocking(move || Ok(stored::list(&log)?.last().copied())).await {
            self.status.lock().size = size;
        }
        loop {
            let wait = match self.turn().await {
                // The newest is stamped; one that is younger will come.
                Ok(None) => self.settings.interval.min(RETRY_INTERVAL),
                Ok(Some(_)) => {
                    if self.told.take().is_some() {
                        tracing::info!(url = self.settings.url.text(), "the log is time-stamped again");
                    }
                    self.count(Outcome::Stamped);
                    self.settings.interval
                }
                Err(fault) => {
                    self.tell(&fault);
                    self.count(fault.outcome());
                    self.settings.interval.min(RETRY_INTERVAL)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn tell(&mut self, fault: &AskFault) {
        let why = fault.to_string();
        if self.told.as_ref() == Some(&why) {
            return;
        }
        let url = self.settings.url.text();
        match fault.outcome() {
            Outcome::Refused => {
                tracing::error!(url, "a time-stamping authority's answer does not count: {why}")
            }
            _ => tracing::warn!(url, "a time-stamping authority does not answer: {why}"),
        }
        self.told = Some(why);
    }

    fn count(&self, outcome: Outcome) {
        self.status.lock().requests[outcome as usize] += 1;
    }

    fn log(&self) -> PathBuf {
        self.archive.directory.log()
    }

    /// Has the newest checkpoint stamped; `None` where there is none to stamp.
    async fn turn(&mut self) -> Result<Option<Stamp>, AskFault> {
        let newest = newest_checkpoint::read(self.log(), |log, text, note| prepare(log, text, &note));
        let Prepared { text, size, time } = newest.await?;
        let skew = |other: u64| Duration::from_nanos(time.abs_diff(other));
        // An old one is that of a run before this, or the log cannot be signed.
        if size == self.status.lock().size || skew(system()) > MAX_SKEW / 2 {
            return Ok(None);
        }
        let query = Query::new(text.as_bytes());
        let TimestampSettings { url, client, authorities, .. } = &self.settings;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/timestamp-query"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/timestamp-reply"));
        let answer = client.send(Method::POST, url, headers, Bytes::from(query.encode())).await?;
        if answer.status != StatusCode::OK {
            return Err(AskFault::Status(answer.status));
        }
        let answer = answer.body.expose().to_vec();
        let stamp = verify(&answer, &query, Some(authorities))?;
        if skew(stamp.time) > MAX_SKEW {
            return Err(AskFault::Skew);
        }
        let (log, sum) = (self.log(), super::super::hex(&sha256(&answer)));
        blocking(move || stored::write(&log, size, &text, &query, &answer)).await?;
        self.archive.enter(format!("timestamp size={size} sha256={sum} at={}", stamp.time));
        let mut status = self.status.lock();
        (status.size, status.time) = (size, stamp.time / 1_000_000_000);
        Ok(Some(stamp))
    }
}

fn prepare(log: &Path, text: String, note: &SignedCheckpoint) -> Result<Prepared, DirectoryFault> {
    let size = note.checkpoint.size;
    if size == 0 {
        return Err(DirectoryFault::broken(&log.join("checkpoint"), "of an empty log"));
    }
    let last = read_last_entry(log, size)?;
    let time = Entry::parse(&last).and_then(|entry| entry.number("time")).unwrap_or(0);
    Ok(Prepared { text, size, time })
}
