//! The lines of sessions that somebody watches, kept for a while: what an operator sees of requests and statements as they
//! end. Holds what the log holds, and nothing while nobody watches.

use crate::names::SessionId;
use parking_lot::Mutex;
use serde_json::{Value, from_str};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// How long a session is watched after somebody looked.
const LEASE: Duration = Duration::from_secs(30);

/// Sessions that are watched at a time; one more takes the place of the one that was looked at longest ago.
const MAX_SESSIONS: usize = 32;

/// Lines that are kept of a session.
const MAX_LINES: usize = 100;

/// Bytes of a text in a line.
const MAX_TEXT: usize = 1_000;

/// How many sessions are watched: all that is asked where none is.
static WATCHED_SESSIONS: AtomicUsize = AtomicUsize::new(0);

static SESSIONS: Mutex<BTreeMap<u64, Watch>> = Mutex::new(BTreeMap::new());

/// Heard by all who wait for a line of a session that is watched.
static NEWS: Notify = Notify::const_new();

struct Watch {
    until: Instant,
    lines: VecDeque<Value>,
}

/// Watches a session for a while, and returns the lines since that began, the youngest first.
pub fn watch(session: SessionId) -> Vec<Value> {
    let (mut sessions, now) = (SESSIONS.lock(), Instant::now());
    sessions.retain(|_, one| one.until > now);
    if !sessions.contains_key(&session.0)
        && sessions.len() >= MAX_SESSIONS
        && let Some(oldest) = sessions.iter().min_by_key(|(_, one)| one.until).map(|(id, _)| *id)
    {
        sessions.remove(&oldest);
    }
    let watch = sessions.entry(session.0).or_insert_with(|| Watch { until: now, lines: VecDeque::new() });
    watch.until = now + LEASE;
    let lines = watch.lines.iter().rev().cloned().collect();
    WATCHED_SESSIONS.store(sessions.len(), Relaxed);
    lines
}

/// Keeps a line where its session is watched.
pub(super) fn note(session: SessionId, line: &dyn Display) {
    if WATCHED_SESSIONS.load(Relaxed) == 0 {
        return;
    }
    let (mut sessions, now) = (SESSIONS.lock(), Instant::now());
    sessions.retain(|_, one| one.until > now);
    WATCHED_SESSIONS.store(sessions.len(), Relaxed);
    let Some(watch) = sessions.get_mut(&session.0) else { return };
    // A line is the inside of a JSON object.
    let Ok(Value::Object(mut fields)) = from_str(&format!("{{{line}}}")) else { return };
    fields.insert("at".into(), super::rfc3339(SystemTime::now()).into());
    for value in fields.values_mut() {
        if let Value::String(text) = value
            && text.len() > MAX_TEXT
        {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push('…');
        }
    }
    if watch.lines.len() >= MAX_LINES {
        watch.lines.pop_front();
    }
    watch.lines.push_back(Value::Object(fields));
    NEWS.notify_waiters();
}

/// Waits for the next line of any session that is watched.
pub async fn next_watched_line() {
    NEWS.notified().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_that_are_watched_keep_lines_and_few_of_them() {
        let (watched, other) = (SessionId(u64::MAX - 7), SessionId(u64::MAX - 8));
        note(watched, &r#""n":0"#);
        assert!(watch(watched).is_empty());
        note(other, &r#""n":1"#);
        for n in 0..MAX_LINES + 5 {
            note(watched, &format!(r#""event":"request","n":{n},"path":"{}""#, "é".repeat(600)));
        }
        let lines = watch(watched);
        assert_eq!((lines.len(), &lines[0]["n"]), (MAX_LINES, &Value::from(MAX_LINES + 4)));
        assert!(lines[0]["path"].as_str().unwrap().len() < MAX_TEXT + 8 && lines[0]["at"].is_string());
        assert!(watch(other).is_empty());
        (0..MAX_SESSIONS as u64 + 3).for_each(|n| drop(watch(SessionId(u64::MAX - 100 - n))));
        assert_eq!(SESSIONS.lock().len(), MAX_SESSIONS);
    }
}
