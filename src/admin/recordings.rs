//! Recordings as the page shows them: what anybody who looks may know of each, and transcripts for those who bring a key.
//!
//! Reading is work for files, done beside the other requests, one reader at a time. The list is kept for a few seconds; a key
//! is used for the one answer to the request that brought it, and kept nowhere.

use super::fault::Fault;
use crate::audit::rfc3339;
use crate::evidence::transcript::{Item, Limits, TranscriptBuilder, render};
use crate::names::SessionId;
use crate::recording::directory::{Directory, DirectoryFault};
use crate::recording::format::envelope::Identities;
use crate::recording::format::frame::Plane;
use crate::recording::reader::log_view::LogView;
use crate::recording::reader::{Event, Observer, SessionSummary, list, play_segments};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long a list of all recordings is shown before the directory is read again, at least.
const LIST_TTL: Duration = Duration::from_secs(10);

/// The same as a multiple of the time that reading took: a large directory costs a twentieth of a core at most.
const LIST_KEPT_TIMES: u32 = 20;

/// Recordings of one page of the list.
pub(super) const PER_PAGE: usize = 50;

/// Audit lines of one recording that are shown.
const MAX_FACTS: usize = 500;

/// Items of a transcript that are shown; `staunch sessions show` prints all.
const MAX_ITEMS: usize = 2_000;

/// What is shown of one body, message or result.
const ITEM_LIMITS: Limits = Limits { body: 16 << 10, rows: 100 };

/// Bytes of a search.
const MAX_FILTER: usize = 256;

/// One recording, without a key.
#[derive(Clone, Serialize)]
pub(super) struct RecordingView {
    pub(super) session: String,
    pub(super) began: String,
    pub(super) last: String,
    pub(super) route: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) client_version: String,
    pub(super) upstream_version: String,
    pub(super) down_bytes: u64,
    pub(super) up_bytes: u64,
    pub(super) lost_bytes: u64,
    /// `complete`, `gaps`, `unfinished`, `erased`.
    pub(super) state: &'static str,
    pub(super) held: bool,
    pub(super) segments: Vec<u64>,
}

impl RecordingView {
    fn new(summary: SessionSummary, fields: &Map<String, Value>, log: &LogView) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let state = match (log.erased.contains_key(&summary.session), &summary.totals, summary.lost) {
            (true, _, _) => "erased",
            (false, None, _) => "unfinished",
            (false, Some(_), 0) => "complete",
            (false, Some(_), _) => "gaps",
        };
        RecordingView {
            session: summary.session.to_string(),
            began: time(summary.first),
            last: time(summary.last),
            route: text("route"),
            issuer: text("issuer"),
            subject: text("subject"),
            client_version: text("client_version"),
            upstream_version: text("upstream_version"),
            down_bytes: summary.bytes[Plane::Down.index()],
            up_bytes: summary.bytes[Plane::Up.index()],
            lost_bytes: summary.lost,
            state,
            held: log.held.contains(&summary.session),
            segments: summary.segments,
        }
    }
}

/// All recordings, the youngest first.
pub(super) struct Listing {
    at: Instant,
    /// How long reading took.
    took: Duration,
    pub(super) recordings: Vec<RecordingView>,
    /// What could not be read.
    pub(super) faults: Vec<String>,
}

impl Listing {
    /// True while it is shown without being read again.
    pub(super) fn is_fresh(&self) -> bool {
        self.age() < LIST_TTL.max(self.took * LIST_KEPT_TIMES)
    }

    /// Time since it was read.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// The last list.
#[derive(Default)]
pub(super) struct RecordingList {
    pub(super) last: tokio::sync::Mutex<Option<Arc<Listing>>>,
}

/// The query of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordingQuery {
    /// Part of id, route, issuer or subject.
    pub(super) q: String,
    /// From 1.
    pub(super) page: usize,
}

impl RecordingQuery {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut query = RecordingQuery { q: String::new(), page: 1 };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "q" if value.len() <= MAX_FILTER => query.q = value.trim().to_owned(),
                "q" => return Err(Fault::bad_request(format!("q is longer than {MAX_FILTER} bytes"))),
                "page" => {
                    let page = value.parse().ok().filter(|page| (1..=1_000_000).contains(page));
                    query.page = page.ok_or_else(|| Fault::bad_request("page is a number from 1"))?;
                }
                _ => {
                    let message = format!("there is no parameter {name}; there are q, page");
                    return Err(Fault::bad_request(message));
                }
            }
        }
        Ok(query)
    }

    /// The rows of the page, and how many fit in all.
    pub(super) fn choose<'a>(&self, all: &'a [RecordingView]) -> (Vec<&'a RecordingView>, usize) {
        let wanted = self.q.to_lowercase();
        let named = |text: &str| text.to_lowercase().contains(&wanted);
        let fits = |one: &&RecordingView| {
            [&one.session, &one.route, &one.issuer, &one.subject].iter().any(|text| named(text))
                || one.state == wanted
        };
        let fitting: Vec<_> = all.iter().filter(fits).collect();
        let matching = fitting.len();
        (fitting.into_iter().skip((self.page - 1) * PER_PAGE).take(PER_PAGE).collect(), matching)
    }
}

/// One recording and its audit lines.
#[derive(Serialize)]
pub(super) struct RecordingDetail {
    #[serde(flatten)]
    pub(super) view: RecordingView,
    /// The audit lines that anybody may read, in their order.
    pub(super) facts: Vec<Value>,
}

/// What was said in a session.
pub(super) struct Transcript {
    pub(super) items: Vec<Item>,
    /// There is more than is shown.
    pub(super) is_cut: bool,
    pub(super) faults: Vec<String>,
}

impl Transcript {
    /// Each item as `staunch sessions show` prints it.
    pub(super) fn texts(&self) -> Vec<(Option<Plane>, String)> {
        let text = |item: &Item| {
            let mut out = Vec::new();
            // A Vec takes all.
            let _ = render(&mut out, item);
            (item.plane, String::from_utf8_lossy(&out).trim_end().to_owned())
        };
        self.items.iter().map(text).collect()
    }
}

pub(super) fn read_list(root: &std::path::Path) -> Result<Listing, DirectoryFault> {
    let began = Instant::now();
    let directory = Directory::read(root)?;
    let mut facts = FactsBySession::default();
    let (sessions, faults) = list(&directory, None, &mut facts)?;
    let mut faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let log = LogView::read(&directory).unwrap_or_else(|fault| {
        faults.push(fault.to_string());
        LogView::default()
    });
    let none = Map::new();
    let view = |summary: SessionSummary| {
        let fields = facts.0.get(&summary.session).unwrap_or(&none);
        RecordingView::new(summary, fields, &log)
    };
    let recordings = sessions.into_iter().rev().map(view).collect();
    Ok(Listing { at: Instant::now(), took: began.elapsed(), recordings, faults })
}

/// The audit lines of one recording that anybody may read.
pub(super) fn read_facts(
    root: &std::path::Path,
    segments: &[u64],
    session: SessionId,
) -> Result<Vec<Value>, DirectoryFault> {
    let mut facts = Vec::new();
    play_segments(&Directory::read(root)?, segments, session, None, |_, event| {
        if let Event::Fact(line) = event
            && facts.len() < MAX_FACTS
            && let Ok(line) = serde_json::from_slice(&line)
        {
            facts.push(line);
        }
    });
    Ok(facts)
}

/// True: the key opened something.
pub(super) fn read_transcript(
    directory: &Directory,
    segments: &[u64],
    session: SessionId,
    identities: &Identities,
) -> (Transcript, bool) {
    let mut transcript = TranscriptBuilder::new(None, ITEM_LIMITS);
    let (mut items, mut is_opened, mut is_sealed) = (Vec::new(), false, false);
    let faults = play_segments(directory, segments, session, Some(identities), |time, event| {
        match &event {
            Event::Data(_, Some(_)) | Event::SealedFact(Some(_)) => is_opened = true,
            Event::Data(_, None) | Event::SealedFact(None) => is_sealed = true,
            _ => {}
        }
        if items.len() <= MAX_ITEMS {
            transcript.take(time, &event, &mut items);
        }
    });
    if items.len() <= MAX_ITEMS {
        transcript.finish(&mut items);
    }
    let is_cut = items.len() > MAX_ITEMS;
    items.truncate(MAX_ITEMS);
    let faults = faults.iter().map(ToString::to_string).collect();
    (Transcript { items, is_cut, faults }, is_opened || !is_sealed)
}

/// The last value of the fields that the list shows, by session.
#[derive(Default)]
struct FactsBySession(HashMap<SessionId, Map<String, Value>>);

impl Observer for FactsBySession {
    fn fact(&mut self, session: SessionId, _: u64, line: &[u8]) {
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else { return };
        let shown = ["route", "issuer", "subject", "client_version", "upstream_version"];
        let fields = self.0.entry(session).or_default();
        fields.extend(line.into_iter().filter(|(name, _)| shown.contains(&name.as_str())));
    }
}

/// Reads files where that holds nobody up.
pub(super) async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DirectoryFault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    let fault = match done {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => "reading them failed".to_owned(),
    };
    let message = format!("the recordings cannot be read: {fault}");
    Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "recordings_unreadable", message))
}

fn time(ns: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(session: &str, subject: &str) -> RecordingView {
        let text = || String::from("x");
        RecordingView {
            session: session.into(),
            began: text(),
            last: text(),
            route: "api".into(),
            issuer: "corp".into(),
            subject: subject.into(),
            client_version: text(),
            upstream_version: text(),
            down_bytes: 1,
            up_bytes: 2,
            lost_bytes: 0,
            state: "complete",
            held: false,
            segments: vec![1],
        }
    }

    #[test]
    fn a_list_that_took_long_is_kept_for_long() {
        let read = |took: u64, ago: u64| Listing {
            at: Instant::now().checked_sub(Duration::from_secs(ago)).unwrap(),
            took: Duration::from_secs(took),
            recordings: Vec::new(),
            faults: Vec::new(),
        };
        assert!(read(0, 5).is_fresh() && !read(0, 11).is_fresh());
        assert!(read(3, 50).is_fresh() && !read(3, 61).is_fresh());
    }

    #[test]
    fn recordings_are_found_by_part_of_a_name_and_come_in_pages() {
        let all: Vec<_> = (0..120).map(|n| recording(&format!("{n:016x}"), "Ann")).collect();
        let choose = |text: &str| {
            let (rows, matching) = RecordingQuery::parse(text).unwrap().choose(&all);
            (rows.len(), matching)
        };
        assert_eq!(choose(""), (50, 120));
        assert_eq!(choose("page=3"), (20, 120));
        assert_eq!(choose("page=4"), (0, 120));
        assert_eq!(choose("q=ann&page=2"), (50, 120));
        assert_eq!(choose("q=000000000000000a"), (1, 1));
        assert_eq!(choose("q=gaps"), (0, 0));
        assert_eq!(choose("q=complete"), (50, 120));
        for wrong in ["page=0", "page=x", "colour=red", &format!("q={}", "x".repeat(300))] {
            assert_eq!(RecordingQuery::parse(wrong).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
