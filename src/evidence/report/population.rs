//! The sessions of a period, with what their audit lines say.

use super::super::EvidenceFault;
use super::super::progress::Progress;
use super::super::table::{Row, keep_fields, text};
use super::people::People;
use crate::names::SessionId;
use crate::recording::directory::Directory;
use crate::recording::reader::log_view::LogView;
use crate::recording::reader::{Observer, ReadFault, list};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Recorded sessions.
pub(super) struct Population {
    /// Those of the period and the route, the oldest first.
    pub(super) rows: Vec<Member>,
    /// All that have a recording, whenever they were.
    pub(super) all: HashSet<SessionId>,
    /// What could not be read.
    pub(super) faults: Vec<ReadFault>,
    /// The period.
    pub(super) period: (u64, u64),
}

/// A session and its requests.
pub(super) struct Member {
    pub(super) row: Row,
    /// Certificates that its legs showed.
    pub(super) certificates: Vec<Value>,
    /// Who spoke over it.
    pub(super) people: People,
    requests: Requests,
}

#[derive(Default)]
struct Requests {
    permitted: u64,
    refused: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    statements: u64,
}

#[derive(Default)]
struct Found {
    fields: Map<String, Value>,
    certificates: Vec<Value>,
    people: People,
    requests: Requests,
}

struct Reading {
    progress: Progress,
    sessions: HashMap<SessionId, Found>,
}

impl Observer for Reading {
    fn segment(&mut self, place: usize, count: usize) {
        self.progress.update(place, count);
    }

    fn offset(&mut self, offset: u64, length: u64) {
        self.progress.advance(offset, length);
    }

    fn fact(&mut self, session: SessionId, time: u64, line: &[u8]) {
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else { return };
        let found = self.sessions.entry(session).or_default();
        let event = line.get("event").map(text).unwrap_or_default();
        let field = |name: &str| line.get(name).map(text).unwrap_or_default();
        match event.as_str() {
            "request" => {
                match field("verdict").as_str() {
                    "refused" => *found.requests.refused.entry(field("refusal")).or_default() += 1,
                    _ => found.requests.permitted += 1,
                }
                if let Some(class) = field("status").chars().next() {
                    *found.requests.statuses.entry(format!("{class}xx")).or_default() += 1;
                }
            }
            "statement" => found.requests.statements += 1,
            "certificates" => {
                found.certificates.extend(line["certificates"].as_array().into_iter().flatten().cloned())
            }
            _ => {}
        }
        found.people.take(time, &event, &line);
        keep_fields(&mut found.fields, &event, line);
    }
}

impl Population {
    pub(super) fn read(
        directory: &Directory,
        log: &LogView,
        period: (u64, u64),
        route: Option<&str>,
    ) -> Result<Self, EvidenceFault> {
        let mut reading = Reading { progress: Progress::new("reading segment"), sessions: HashMap::new() };
        let (sessions, faults) = list(directory, None, &mut reading)?;
        let mut all = HashSet::new();
        let mut rows = Vec::new();
        for summary in sessions {
            all.insert(summary.session);
            let Found { fields, certificates, people, requests } =
                reading.sessions.remove(&summary.session).unwrap_or_default();
            let is_in_period = summary.first < period.1 && summary.last >= period.0;
            let is_of_route =
                route.is_none_or(|route| fields.get("route").map(text).as_deref() == Some(route));
            if is_in_period && is_of_route {
                let is_held = log.held.contains(&summary.session);
                let erased = log.erased.get(&summary.session).map(|(entry, _)| *entry);
                rows.push(Member {
                    row: Row { summary, fields, is_held, erased },
                    certificates,
                    people,
                    requests,
                });
            }
        }
        Ok(Population { rows, all, faults, period })
    }

    /// A line for each session, as it stands in `sessions.jsonl`.
    pub(super) fn lines(&self) -> Vec<Value> {
        self.rows.iter().map(Member::to_json).collect()
    }
}

impl Member {
    pub(super) fn to_json(&self) -> Value {
        let mut line = self.row.to_json();
        let requests = &self.requests;
        line["requests"] = json!({
            "permitted": requests.permitted, "refused": requests.refused, "statuses": requests.statuses,
            "statements": requests.statements,
        });
        let shown = ["gateway", "client", "upstream"].into_iter();
        let shown = shown.filter_map(|by| Some((by.to_owned(), Value::from(self.certificate(by)?))));
        line["certificates"] = Value::Object(shown.collect());
        line["people"] = self.people.to_json(self.row.summary.last);
        line["key_exchange"] = json!({ "client": self.class("client"), "upstream": self.class("upstream") });
        line
    }

    /// SHA-256 of the certificate that the gateway, the client or the upstream showed.
    pub(super) fn certificate(&self, by: &str) -> Option<String> {
        let described = self.certificates.iter().find(|one| one["by"] == by).map(|one| &one["sha256"]);
        // Recordings of earlier versions have the audit line's field alone.
        let found = described.or_else(|| self.row.fields.get(&format!("{by}_certificate")));
        found.map(text).filter(|sha256| !sha256.is_empty())
    }

    /// Whether a recording of this leg's traffic could be opened by a quantum computer later.
    pub(super) fn class(&self, leg: &str) -> &'static str {
        let field = |name: &str| self.row.fields.get(&format!("{leg}_{name}")).map(text).unwrap_or_default();
        let (version, group) = (field("version"), field("group"));
        match (version.as_str(), group.as_str()) {
            ("", _) => "unknown",
            (version, _) if !version.starts_with("TLS") => "none",
            (_, group) if group.contains("MLKEM") => "post-quantum hybrid",
            // A resumed session of TLS 1.2 has none of its own.
            (_, "") => "unknown",
            _ => "classical",
        }
    }
}
