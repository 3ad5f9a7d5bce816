//! Sessions as a table, as JSON lines, as CSV.

use crate::audit::rfc3339;
use crate::recording::format::frame::Plane;
use crate::recording::reader::SessionSummary;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

/// How sessions are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// One object a line.
    Json,
    /// With a head.
    Csv,
}

/// A session and what its audit lines say.
pub(super) struct Row {
    pub(super) summary: SessionSummary,
    /// The last value of each field.
    pub(super) fields: Map<String, Value>,
    pub(super) is_held: bool,
    /// The entry of the log that erased it.
    pub(super) erased: Option<u64>,
}

/// A time stamp of a recording.
pub(super) fn time(ns: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_nanos(ns))
}

/// The day of a moment in seconds since 1970.
pub(super) fn date(seconds: i64) -> String {
    // Of a recording that somebody changed it may be anything; the calendar's last day is enough.
    let seconds = seconds.clamp(0, 253_402_300_799).unsigned_abs();
    rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).get(..10).unwrap_or_default().to_owned()
}

/// A value of an audit line, as text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Keeps the fields of an audit line that say something of the whole session, the last value of each.
pub(super) fn keep_fields(fields: &mut Map<String, Value>, event: &str, line: Map<String, Value>) {
    let is_of_session = !matches!(event, "request" | "statement" | "certificates");
    for (name, value) in line {
        if is_of_session || matches!(name.as_str(), "route" | "issuer" | "subject" | "proof") {
            fields.insert(name, value);
        }
    }
}

impl Row {
    fn text(&self, name: &str) -> String {
        self.fields.get(name).map(text).unwrap_or_default()
    }

    /// How far the recording is complete, and whether it can be opened.
    pub(super) fn state(&self) -> &'static str {
        match (self.erased, &self.summary.totals, self.summary.lost) {
            (Some(_), _, _) => "erased",
            (None, None, _) => "unfinished",
            (None, Some(_), 0) => "complete",
            (None, Some(_), _) => "gaps",
        }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let session = &self.summary;
        let segments: Vec<String> = session.segments.iter().map(u64::to_string).collect();
        let state = self.state();
        [
            session.session.to_string(),
            time(session.first),
            time(session.last),
            self.text("route"),
            self.text("subject"),
            self.text("client_version"),
            self.text("client_group"),
            self.text("upstream_version"),
            session.bytes[Plane::Down.index()].to_string(),
            session.bytes[Plane::Up.index()].to_string(),
            segments.join(" "),
            if self.is_held { format!("{state}, held") } else { state.into() },
        ]
    }

    /// The session as one object.
    pub(super) fn to_json(&self) -> Value {
        let session = &self.summary;
        let mut object = Map::new();
        let own = json!({
            "session": session.session.to_string(), "begun": time(session.first), "ended": time(session.last),
            "down_bytes": session.bytes[Plane::Down.index()], "up_bytes": session.bytes[Plane::Up.index()],
            "lost_bytes": session.lost, "segments": session.segments, "state": self.state(), "held": self.is_held,
        });
        object.extend(own.as_object().cloned().unwrap_or_default());
        if let Some(entry) = self.erased {
            object.insert("erased_by_entry".into(), entry.into());
        }
        // Bytes are those of the recording here, and those of the session there.
        let mut facts = self.fields.clone();
        ["session", "time", "level", "event"].iter().for_each(|name| drop(facts.remove(*name)));
        object.insert("route".into(), self.text("route").into());
        object.insert("subject".into(), self.text("subject").into());
        object.insert("facts".into(), facts.into());
        object.into()
    }
}

const COLUMNS: [&str; 12] = [
    "session",
    "begun",
    "ended",
    "route",
    "subject",
    "client_tls",
    "client_group",
    "upstream_tls",
    "down",
    "up",
    "segments",
    "state",
];

/// Prints sessions.
pub(super) fn print(out: &mut impl Write, rows: &[Row], output: Output) -> io::Result<()> {
    match output {
        Output::Json => rows.iter().try_for_each(|row| writeln!(out, "{}", row.to_json())),
        Output::Csv => {
            writeln!(out, "{}", COLUMNS.join(","))?;
            rows.iter().try_for_each(|row| {
                let cells: Vec<String> = row.cells().iter().map(|cell| quoted(cell)).collect();
                writeln!(out, "{}", cells.join(","))
            })
        }
        Output::Table => {
            let heads = std::iter::once(COLUMNS.map(str::to_owned));
            let shown = |cell: String| crate::audit::printable(&cell);
            let rows: Vec<_> = heads.chain(rows.iter().map(Row::cells)).map(|row| row.map(shown)).collect();
            let width = |at: usize| {
                rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
            rows.iter().try_for_each(|row| {
                let cells: Vec<String> =
                    row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
                writeln!(out, "{}", cells.join("  ").trim_end())
            })
        }
    }
}

/// A cell of CSV (RFC 4180). What a spreadsheet would take for a formula gets a quote in front.
pub(super) fn quoted(cell: &str) -> String {
    let safe = match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match safe.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}
