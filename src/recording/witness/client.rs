//! Asks witnesses to cosign this gateway's log.
//!
//! One task for each witness: it looks at the log's newest checkpoint, proves that it continues the one that the witness
//! has cosigned last, and keeps the answer. It reads files and writes one; sessions and the log's signer never wait for it.

use super::super::directory::{Directory, DirectoryFault};
use super::super::log::note::{SignedCheckpoint, Verifier};
use super::super::log::proof::consistency;
use super::super::log::witness::AddCheckpoint;
use super::super::newest_checkpoint::{self, blocking};
use super::cosigned;
use crate::net::https::{Answer, HttpsClient, HttpsFault, HttpsUrl, Limits};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Bounds of one request: an answer is a few signature lines.
pub const LIMITS: Limits = Limits { time: Duration::from_secs(5), body: 64 * 1024 };

/// A witness that is asked.
#[derive(Clone, Debug)]
pub struct AskedWitness {
    /// Its public key.
    pub key: Verifier,
    /// Where it takes checkpoints: its submission prefix and `/add-checkpoint`.
    pub url: HttpsUrl,
    /// Verifies its server.
    pub client: HttpsClient,
    /// Between two requests at least.
    pub interval: Duration,
}

/// Status of a witness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessStatus {
    /// The name of its key.
    pub name: String,
    /// Entries of the log that it has cosigned.
    pub size: u64,
    /// When it has cosigned last, seconds since 1970; 0: never.
    pub time: u64,
    /// Requests that it cosigned, refused, and did not answer.
    pub requests: [u64; 3],
}

/// What became of a request, also an index into [`WitnessStatus::requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Cosigned,
    Refused,
    Silent,
}

/// Why a checkpoint is refused.
#[derive(Debug, thiserror::Error)]
enum AskFault {
    #[error(transparent)]
    Silent(#[from] HttpsFault),
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error(
        "it has seen {seen} entries, and this log has {has}: the log was rolled back, or a copy of it is in use elsewhere"
    )]
    RolledBack { seen: u64, has: u64 },
    #[error("it does not take that the log continues what it has seen: one of the two was changed")]
    Forked,
    #[error("its answer holds no cosignature of its key")]
    NotSigned,
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
}

impl AskFault {
    fn outcome(&self) -> Outcome {
        match self {
            AskFault::Silent(_) | AskFault::Directory(_) => Outcome::Silent,
            _ => Outcome::Refused,
        }
    }
}

/// The tasks that ask; they end when this is dropped.
#[derive(Default)]
pub struct Witnesses {
    tasks: Vec<AbortHandle>,
    statuses: Vec<Arc<Mutex<WitnessStatus>>>,
}

impl Witnesses {
    /// Begins to ask, for the log in the directory of recordings `root`.
    pub fn start(
        root: &std::path::Path,
        settings: Vec<AskedWitness>,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let mut started = Witnesses::default();
        for settings in settings {
            let status = WitnessStatus { name: settings.key.name().to_owned(), ..WitnessStatus::default() };
            let status = Arc::new(Mutex::new(status));
            let client = Client { root: root.to_owned(), settings, status: status.clone(), last: None };
            started.tasks.push(runtime.spawn(client.run()).abort_handle());
            started.statuses.push(status);
        }
        started
    }

    /// How they do.
    pub fn statuses(&self) -> Vec<WitnessStatus> {
        self.statuses.iter().map(|status| status.lock().clone()).collect()
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

struct Client {
    root: PathBuf,
    settings: AskedWitness,
    status: Arc<Mutex<WitnessStatus>>,
    /// The last outcome, so that one that stays is logged once.
    last: Option<Outcome>,
}

/// A checkpoint that is ready to be sent.
struct Prepared {
    note: SignedCheckpoint,
    text: String,
    body: String,
}

impl Client {
    async fn run(mut self) {
        if let Ok(Some(cosigned)) = self.read_cosigned().await {
            let mut status = self.status.lock();
            (status.size, status.time) = (cosigned.note.checkpoint.size, cosigned.time);
        }
        let mut tick = tokio::time::interval(self.settings.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let outcome = match self.turn().await {
                Ok(false) => continue,
                Ok(true) => Outcome::Cosigned,
                Err(fault) => {
                    let outcome = fault.outcome();
                    if self.last != Some(outcome) {
                        let (witness, refused) = (self.settings.key.name(), outcome == Outcome::Refused);
                        match refused {
                            true => {
                                tracing::error!(witness, "a witness refuses the log of recordings: {fault}")
                            }
                            false => tracing::warn!(witness, "a witness does not answer: {fault}"),
                        }
                    }
                    outcome
                }
            };
            if outcome == Outcome::Cosigned && self.last.is_some_and(|last| last != outcome) {
                tracing::info!(witness = self.settings.key.name(), "a witness cosigns again");
            }
            self.last = Some(outcome);
            self.status.lock().requests[outcome as usize] += 1;
        }
    }

    async fn read_cosigned(&self) -> Result<Option<cosigned::Cosigned>, DirectoryFault> {
        let (root, key) = (self.root.clone(), self.settings.key.clone());
        blocking(move || {
            let log = Directory::read(&root)?.log();
            cosigned::read(&log, &key)
        })
        .await
    }

    /// Has the newest checkpoint cosigned; false where the log has not grown.
    async fn turn(&mut self) -> Result<bool, AskFault> {
        let old = self.status.lock().size;
        let mut prepared = self.prepare(old).await?;
        if prepared.note.checkpoint.size == old {
            return Ok(false);
        }
        let mut answer = self.send(&prepared).await?;
        let has = prepared.note.checkpoint.size;
        if let Some(seen) = conflict(&answer).filter(|seen| *seen != old) {
            // What was cosigned last is not known here: an answer was lost, or the log's directory is a copy.
            if seen > has {
                return Err(AskFault::RolledBack { seen, has });
            }
            prepared = self.prepare(seen).await?;
            answer = self.send(&prepared).await?;
        }
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(AskFault::Forked),
            status => return Err(AskFault::Refused(status)),
        }
        let lines = String::from_utf8_lossy(answer.body.expose()).into_owned();
        let text = format!("{}{}\n", prepared.text, lines.trim_end());
        let key = &self.settings.key;
        let time =
            SignedCheckpoint::parse(&text).and_then(|note| note.signed_at(key)).ok_or(AskFault::NotSigned)?;
        let (root, key) = (self.root.clone(), key.clone());
        blocking(move || cosigned::write(&Directory::read(&root)?.log(), &key, &text)).await?;
        let mut status = self.status.lock();
        (status.size, status.time) = (prepared.note.checkpoint.size, time);
        Ok(true)
    }

    /// The newest checkpoint and the proof that it continues the first `old` entries.
    async fn prepare(&self, old: u64) -> Result<Prepared, AskFault> {
        let root = self.root.clone();
        let log = blocking(move || Ok(Directory::read(&root)?.log())).await?;
        Ok(newest_checkpoint::read(log, move |log, text, note| prepare(log, old, text, note)).await?)
    }

    async fn send(&self, prepared: &Prepared) -> Result<Answer, AskFault> {
        let AskedWitness { client, url, .. } = &self.settings;
        let body = Bytes::from(prepared.body.clone());
        Ok(client.send(Method::POST, url, hyper::HeaderMap::new(), body).await?)
    }
}

fn prepare(
    log: &std::path::Path,
    old: u64,
    text: String,
    note: SignedCheckpoint,
) -> Result<Prepared, DirectoryFault> {
    // Of a log that is shorter than what was cosigned, the witness decides.
    let old = if old > note.checkpoint.size { 0 } else { old };
    let proof = consistency(log, old, note.checkpoint.size)?;
    let body = AddCheckpoint::body(old, &proof, &text);
    Ok(Prepared { note, text, body })
}

/// The size that a witness has seen, from its answer that it is another one.
fn conflict(answer: &Answer) -> Option<u64> {
    let is_conflict = answer.status == StatusCode::CONFLICT;
    is_conflict.then(|| std::str::from_utf8(answer.body.expose()).ok()?.trim().parse().ok())?
}
