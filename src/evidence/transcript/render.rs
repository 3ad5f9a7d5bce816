//! Items as text for people. No byte of a session reaches the terminal as a control character.

use super::Item;
use crate::audit::printable;
use crate::evidence::table;
use crate::recording::format::frame::Plane;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::{self, Write};

/// Prints an item: a line, and what belongs to it indented.
pub fn render(out: &mut impl Write, item: &Item) -> io::Result<()> {
    let arrow = match item.plane {
        Some(Plane::Up) => "→",
        Some(Plane::Down) => "←",
        None => "·",
    };
    let field = |name: &str| item.fields.get(name);
    let text = |name: &str| field(name).map(plain).unwrap_or_default();
    let number = match (field("stream"), field("number")) {
        (Some(stream), _) => format!(" {{{stream}}}"),
        (None, Some(number)) => format!(" #{number}"),
        (None, None) => String::new(),
    };
    let headline = match item.kind {
        "fact" => fact(&text_of_line(field("line"))),
        "request" => format!("{} {} {}", text("method"), target(item), text("version")),
        "response" => format!("{} {} {}", text("version"), text("status"), text("reason")),
        "statement" if field("command").is_some() => format!("{}: {}", text("command"), text("text")),
        "statement" => text("text"),
        "command" => words(field("words")),
        "masked" => masked(item),
        "end" => {
            format!("{} bytes down, {} up, {} lost", text("down_bytes"), text("up_bytes"), text("lost_bytes"))
        }
        "error" => field("fields").map(fields_line).unwrap_or_default(),
        _ => String::new(),
    };
    let time = table::time(item.time);
    let line = format!("{time} {arrow} {}{number} {}", item.kind, printable(headline.trim_end()));
    writeln!(out, "{}", line.trim_end())?;
    if item.kind == "fact" {
        return fact_lists(out, &text_of_line(field("line")));
    }
    for (name, value) in &item.fields {
        if is_in_headline(item.kind, name) {
            continue;
        }
        detail(out, name, value)?;
    }
    Ok(())
}

fn is_in_headline(kind: &str, name: &str) -> bool {
    match kind {
        "request" => {
            matches!(name, "method" | "target" | "version" | "number" | "stream" | "scheme" | "authority")
        }
        "response" => matches!(name, "version" | "status" | "reason" | "number" | "stream"),
        "statement" => matches!(name, "text" | "command" | "number"),
        "command" => matches!(name, "words" | "number"),
        "end" | "masked" => true,
        "error" => matches!(name, "fields" | "number"),
        _ => matches!(name, "number" | "stream"),
    }
}

fn target(item: &Item) -> String {
    let part = |name: &str| item.fields.get(name).map(plain).unwrap_or_default();
    match item.fields.contains_key("authority") {
        true => format!("{}://{}{}", part("scheme"), part("authority"), part("target")),
        false => part("target"),
    }
}

/// A value without quotes where it is text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "NULL".into(),
        other => other.to_string(),
    }
}

fn words(value: Option<&Value>) -> String {
    let quoted = |word: &Value| match word.as_str() {
        Some(text) if !text.is_empty() && !text.contains([' ', '"', '\n']) => text.to_owned(),
        _ => word.to_string(),
    };
    value
        .and_then(Value::as_array)
        .map_or_else(String::new, |words| words.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

fn text_of_line(line: Option<&Value>) -> Value {
    line.cloned().unwrap_or(Value::Null)
}

/// An audit line: its event first, the rest as name=value; lists of more than texts have lines of their own.
fn fact(line: &Value) -> String {
    let Some(object) = line.as_object() else { return plain(line) };
    let rest = object.iter().filter(|(name, value)| {
        !matches!(name.as_str(), "event" | "time" | "level" | "session") && objects(value).next().is_none()
    });
    let pairs: Vec<String> = rest.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    let event = object.get("event").map(plain).unwrap_or_default();
    format!("{event} {}", pairs.join(" ")).trim().to_owned()
}

/// The objects of a list.
fn objects(value: &Value) -> impl Iterator<Item = &serde_json::Map<String, Value>> {
    value.as_array().into_iter().flatten().filter_map(Value::as_object)
}

/// A line for each object that a fact lists: `by=gateway key="ECDSA P-256" names=a.example,b.example`.
fn fact_lists(out: &mut impl Write, line: &Value) -> io::Result<()> {
    let quoted = |text: String| match printable(&text) {
        text if text.contains(' ') => format!("\"{text}\""),
        text => text.to_string(),
    };
    let told = |name: &str, value: &Value| match (name, value) {
        ("not_before" | "not_after", Value::Number(seconds)) => {
            seconds.as_i64().map_or_else(|| seconds.to_string(), table::date)
        }
        (_, Value::Array(all)) => all.iter().map(plain).collect::<Vec<_>>().join(","),
        (_, one) => plain(one),
    };
    for object in line.as_object().into_iter().flat_map(|all| all.values()).flat_map(objects) {
        let known = object.iter().filter(|(_, value)| !value.is_null());
        let pairs: Vec<_> =
            known.map(|(name, value)| format!("{name}={}", quoted(told(name, value)))).collect();
        writeln!(out, "    {}", pairs.join(" "))?;
    }
    Ok(())
}

/// Where masks overwrote: `request 1: card 57+2, email 80+12`.
fn masked(item: &Item) -> String {
    let field = |name: &str| item.fields.get(name).map(plain).unwrap_or_default();
    let request = match item.fields.get("request") {
        Some(request) => format!("request {}: ", plain(request)),
        None => String::new(),
    };
    let span = |span: &Value| format!("{} {}+{}", plain(&span["rule"]), span["offset"], span["length"]);
    let spans = item.fields.get("spans").and_then(Value::as_array).into_iter().flatten().map(span);
    let observed = if field("mode") == "observe" { " (observed, not overwritten)" } else { "" };
    format!("{request}{}{observed}", spans.collect::<Vec<_>>().join(", "))
}

fn fields_line(value: &Value) -> String {
    let Some(object) = value.as_object() else { return plain(value) };
    object.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" ")
}

fn detail(out: &mut impl Write, name: &str, value: &Value) -> io::Result<()> {
    match (name, value) {
        ("headers" | "trailers", Value::Array(pairs)) => pairs.iter().try_for_each(|pair| {
            writeln!(out, "    {}: {}", printable(&plain(&pair[0])), printable(&plain(&pair[1])))
        }),
        ("rows", Value::Array(rows)) => {
            rows.iter().try_for_each(|row| writeln!(out, "    {}", printable(&cells(row))))
        }
        ("columns", Value::Array(_)) => writeln!(out, "    {}", printable(&cells(value))),
        ("joined", Value::Array(parts)) => parts.iter().try_for_each(|part| {
            let head = match part["name"].as_str() {
                Some(called) => format!("{} {called}", plain(&part["part"])),
                None => plain(&part["part"]),
            };
            writeln!(out, "    ({})", printable(&head))?;
            lines(out, &plain(&part["text"]))
        }),
        ("text" | "body", Value::String(text)) => lines(out, text),
        ("body" | "value", Value::Object(object)) if object.contains_key("base64") => {
            let bytes =
                object["base64"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
            dump(out, &bytes)
        }
        ("json", value) => lines(out, &format!("{value:#}")),
        ("messages", Value::Array(messages)) => {
            messages.iter().try_for_each(|message| writeln!(out, "    {}", printable(&message.to_string())))
        }
        (_, value) => writeln!(out, "    ({name}: {})", printable(&plain(value))),
    }
}

fn cells(row: &Value) -> String {
    let cells = row.as_array().into_iter().flatten();
    cells.map(plain).collect::<Vec<_>>().join(" | ")
}

fn lines(out: &mut impl Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "    {}", printable(&line.replace('\t', "    "))))
}

/// Sixteen bytes a line, in hex and as characters.
fn dump(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for (at, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '.' };
        let text: String = chunk.iter().map(shown).collect();
        writeln!(out, "    {:08x}  {:47}  {text}", at * 16, hex.join(" "))?;
    }
    Ok(())
}
