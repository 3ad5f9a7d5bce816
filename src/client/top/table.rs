//! Sessions as text, for both ways of showing them.

use crate::audit::printable;
use serde_json::Value;

pub(super) const HEADS: [&str; 10] =
    ["SESSION", "WHO", "ROUTE", "CLIENT LEG", "UPSTREAM LEG", "AGE", "UP", "DOWN", "RATE", "REQ"];

/// Characters of a column at most.
const WIDTH: usize = 30;

/// Columns whose figures stand at the right.
const FIRST_NUMBER: usize = 5;

pub(super) fn table(address: &str, answer: &Value) -> String {
    let sessions = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<[String; HEADS.len()]> = sessions.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for (column, width) in widths.iter_mut().enumerate() {
        let cells = rows.iter().map(|row| row[column].chars().count());
        *width = cells.max().unwrap_or(0).max(*width);
    }
    let mut text =
        format!("{address}: {} live, {} match, {} shown\n\n", answer["live"], answer["matching"], rows.len());
    for row in std::iter::once(HEADS.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column < FIRST_NUMBER {
                true => line.push_str(&format!("{cell:<width$}  ")),
                false => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn row(session: &Value) -> [String; HEADS.len()] {
    let word = |value: &Value| {
        let text = printable(value.as_str().unwrap_or("–"));
        match text.char_indices().nth(WIDTH) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    };
    let number = |name: &str| session[name].as_f64().unwrap_or(0.0);
    [
        word(&session["id"]),
        word(&session["identity"]["subject"]),
        word(&session["route"]),
        leg(&session["client"]),
        leg(&session["upstream"]),
        age(number("age_seconds")),
        bytes(number("up_bytes")),
        bytes(number("down_bytes")),
        format!("{}/s", bytes(number("up_rate") + number("down_rate"))),
        session["requests"].to_string(),
    ]
}

/// Version and key exchange, or that there is no TLS.
fn leg(leg: &Value) -> String {
    match (leg["tls"].as_bool(), leg["group"].as_str()) {
        (Some(false), _) => "NO TLS".into(),
        (Some(true), group) => {
            format!("{} {}", leg["version"].as_str().unwrap_or_default(), group.unwrap_or("resumed"))
        }
        (None, _) => "–".into(),
    }
}

fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m{}s", whole / 60, whole % 60),
        _ => format!("{}h{}m", whole / 3_600, whole % 3_600 / 60),
    }
}

fn bytes(n: f64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut n, mut unit) = (n, 0);
    while n >= 1024.0 && unit + 1 < units.len() {
        n /= 1024.0;
        unit += 1;
    }
    if unit == 0 || n >= 100.0 { format!("{n:.0}{}", units[unit]) } else { format!("{n:.1}{}", units[unit]) }
}

/// One session, a fact a line.
pub(super) fn detail_lines(session: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    collect(session, "", &mut lines);
    lines
}

fn collect(value: &Value, name: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name} {field}") };
                collect(value, &name, lines);
            }
        }
        Value::Array(words) => {
            let words: Vec<_> = words.iter().map(text).collect();
            lines.push(format!("{:<30} {}", name.replace('_', " "), words.join(", ")));
        }
        value => lines.push(format!("{:<30} {}", name.replace('_', " "), text(value))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => "–".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_is_a_line_with_both_legs_and_nothing_that_moves_the_cursor() {
        let session = json!({
            "id": "00000000000000ff", "route": "api", "identity": { "subject": "ann\u{1b}[2J" },
            "client": { "tls": true, "version": "TLSv1.3", "group": "X25519MLKEM768" },
            "upstream": { "tls": false, "version": "none" },
            "age_seconds": 61.2, "up_bytes": 10, "down_bytes": 1_536, "up_rate": 0.0, "down_rate": 2_048.0,
            "requests": 3,
        });
        let text = table("127.0.0.1:9901", &json!({ "live": 9, "matching": 1, "sessions": [session] }));
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let line = text.lines().last().unwrap();
        for shown in ["00000000000000ff", "api", "TLSv1.3 X25519MLKEM768", "NO TLS", "1m1s", "1.5K", "2.0K/s"]
        {
            assert!(line.contains(shown), "{shown} in {line}");
        }
        assert!(text.starts_with("127.0.0.1:9901: 9 live, 1 match, 1 shown\n"));
        assert!(table("x", &json!({ "live": 0, "matching": 0, "sessions": [] })).contains("SESSION"));
    }
}
