//! Sessions as a table, as JSON lines, as CSV.

use crate::audit::rfc3339;
use crate::recording::format::frame::Plane;
use crate::recording::reader::SessionSummary;
use serde_json::{Value, json};
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

/// A time stamp of a recording.
pub(super) fn time(ns: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_nanos(ns))
}

/// A field of an audit line, as text.
pub(super) fn field(line: &str, name: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// How far the recording of a session is complete.
fn state(session: &SessionSummary) -> &'static str {
    match (&session.totals, session.lost) {
        (None, _) => "unfinished",
        (Some(_), 0) => "complete",
        (Some(_), _) => "gaps",
    }
}

const COLUMNS: [&str; 9] =
    ["session", "begun", "ended", "route", "subject", "down", "up", "segments", "state"];

fn cells(session: &SessionSummary) -> [String; 9] {
    let fact = |name: &str| {
        field(&session.closed, name).or_else(|| field(&session.opened, name)).unwrap_or_default()
    };
    let segments: Vec<String> = session.segments.iter().map(u64::to_string).collect();
    [
        session.session.to_string(),
        time(session.first),
        time(session.last),
        fact("route"),
        fact("subject"),
        session.bytes[Plane::Down.index()].to_string(),
        session.bytes[Plane::Up.index()].to_string(),
        segments.join(" "),
        state(session).into(),
    ]
}

/// Prints sessions.
pub(super) fn print(out: &mut impl Write, sessions: &[SessionSummary], output: Output) -> io::Result<()> {
    match output {
        Output::Json => sessions.iter().try_for_each(|session| {
            let [id, begun, ended, route, subject, _, _, _, state] = cells(session);
            let line = json!({
                "session": id, "begun": begun, "ended": ended, "route": route, "subject": subject,
                "down_bytes": session.bytes[Plane::Down.index()], "up_bytes": session.bytes[Plane::Up.index()],
                "lost_bytes": session.lost, "segments": session.segments, "state": state,
            });
            writeln!(out, "{line}")
        }),
        Output::Csv => {
            writeln!(out, "{}", COLUMNS.join(","))?;
            sessions.iter().try_for_each(|session| {
                let cells: Vec<String> = cells(session).iter().map(|cell| quoted(cell)).collect();
                writeln!(out, "{}", cells.join(","))
            })
        }
        Output::Table => {
            let rows: Vec<[String; 9]> =
                std::iter::once(COLUMNS.map(str::to_owned)).chain(sessions.iter().map(cells)).collect();
            let shown = |cell: &String| crate::audit::printable(cell);
            let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
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
fn quoted(cell: &str) -> String {
    let safe = match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match safe.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}
