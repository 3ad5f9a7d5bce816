//! From text to what is written: TOML that goes on behind lines that cannot be read.

use super::brackets::{self, empty, key};
use super::fault::FaultCollector;
use super::model::{Config, schema};
use super::shape;
use serde::Deserialize;
use std::ops::Range;
use toml::de::DeTable;

/// Lines that cannot be read before the rest is left for the next run. A file in another format is nothing else.
const MAX_BAD_LINES: usize = 32;

/// Reads the file's text; notes what is wrong with it and goes on without. `None` when nothing of it could be understood.
pub(super) fn read(notes: &mut FaultCollector<'_>) -> Option<Config> {
    let schema = schema();
    close_brackets(notes, &schema);
    skip_bad_lines(notes)?;
    let text = notes.text().to_owned();
    let mut table = DeTable::parse(&text).ok()?;
    shape::check(&mut table, &schema, notes);
    // What the schema lets pass and the model does not would be a fault of ours; the value is not repeated.
    let place = |error: &toml::de::Error| error.span().unwrap_or(0..0);
    Config::deserialize(toml::Deserializer::from(table))
        .map_err(|error| notes.fault(place(&error), "this value cannot be understood"))
        .ok()
}

/// Notes brackets that are not closed, one fault for each.
fn close_brackets(notes: &mut FaultCollector<'_>, schema: &serde_json::Value) {
    let closed = brackets::close(notes.text(), schema);
    for fault in &closed.faults {
        notes.fault_at(fault.line, fault.text.clone());
    }
    for fault in &closed.faults {
        // What stands below a header that was put right is looked at.
        notes.continue_with(closed.text.clone(), fault.key_line);
    }
}

/// Notes each line that cannot be read. Its key, if it has one, keeps its place with an empty text, so that whoever needs
/// the key does not call it missing. `None` when there is too much of it.
fn skip_bad_lines(notes: &mut FaultCollector<'_>) -> Option<()> {
    let mut last = 0;
    for _ in 0..MAX_BAD_LINES {
        let mut text = notes.text().to_owned();
        let place = |error: &toml::de::Error| error.span().unwrap_or(0..0).start;
        // They come in the order in which the parser found them, which is not that of the lines.
        let errors = DeTable::parse_recoverable(&text).1;
        let Some(error) = errors.into_iter().min_by_key(place) else { return Some(()) };
        let part = bad_part(&text, place(&error));
        let line = notes.line(&part);
        let bad = &text[part.clone()];
        // What follows a bad line and sets nothing is the rest of its value.
        if last == 0 || line != last + 1 || key(bad).is_some() {
            notes.fault(part.clone(), spelling(&text, bad).unwrap_or_else(|| error.message().to_owned()));
        }
        let filler = match key(bad) {
            Some(key) if *bad != empty(key) => empty(key),
            _ if bad.trim().is_empty() => return None,
            _ => {
                notes.lost = true;
                "\n".repeat(bad.matches('\n').count())
            }
        };
        text.replace_range(part, &filler);
        notes.continue_with(text, line);
        last = line;
    }
    None
}

/// What somebody wrote who did not know TOML, or whose editor did not.
fn spelling(text: &str, bad: &str) -> Option<String> {
    let line = bad.lines().next().unwrap_or_default().trim();
    let is_key = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-\"".contains(&b))
    };
    let outside = line.split(['"', '\'']).step_by(2).collect::<String>();
    let invisible = |c: &char| {
        !c.is_ascii() && (c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'))
    };
    if line.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}']) {
        return Some("typographic quotes stand here; write the straight ones: \"".into());
    }
    if let Some(c) = outside.chars().find(invisible) {
        return Some(format!(
            "a character that only looks like a blank stands here (U+{:04X}); write an ordinary one",
            u32::from(c)
        ));
    }
    if text.trim_start().starts_with('{') {
        return Some(
            "this is JSON; a configuration is TOML: key = value, and [[route]] above each route".into(),
        );
    }
    if text.contains('\r') && !text.contains('\n') {
        return Some("lines end with a carriage return alone; save it with ordinary ends of lines".into());
    }
    let is_yaml = line.starts_with("- ") || line.ends_with(':') && is_key(line.trim_end_matches(':'));
    if is_yaml {
        return Some(
            "this is YAML; a configuration is TOML: key = value, and [[route]] above each route".into(),
        );
    }
    match line.split_once(':') {
        Some((name, _)) if is_key(name.trim_end()) => {
            Some("TOML has = between a key and its value, and no colon".into())
        }
        _ => None,
    }
}

/// The line around an offset, or the next that is not empty; for the header of a table, all that stands below it.
fn bad_part(text: &str, offset: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let start = memchr::memrchr(b'\n', &bytes[..offset]).map_or(0, |at| at + 1);
    let start = start + text[start..].len() - text[start..].trim_start().len();
    let offset = offset.max(start);
    let end = memchr::memchr(b'\n', &bytes[offset..]).map_or(bytes.len(), |at| offset + at);
    if !text[start..end].trim_start().starts_with('[') {
        return start..end;
    }
    let next = text[end..].find("\n[").map_or(bytes.len(), |at| end + at);
    start..next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(usize, String)> {
        let mut notes = FaultCollector::new(text);
        read(&mut notes);
        notes.faults.sort_by_key(|fault| fault.line);
        notes.faults.into_iter().map(|fault| (fault.line, fault.text)).collect()
    }

    #[test]
    fn each_line_that_cannot_be_read_is_told_and_the_rest_is_looked_at() {
        let told = faults("[limits]\nstreams = many\nhead = \nfields = \"x\"\nfeilds = 1\n");
        let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 5], "{told:?}");
    }

    #[test]
    fn a_value_over_many_lines_is_one_fault() {
        let told = faults("[[listener]]\naddress = \"[::]:443\"\nproxy_protocol_from = [ ,\n  1,\n  2,\n]\n");
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn a_bad_header_is_one_fault_and_its_table_is_looked_at() {
        let told = faults("[[listener]\naddress = 5\n[limits]\nstreams = \"x\"\n");
        let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 4], "{told:?}");
    }

    #[test]
    fn what_another_language_or_an_editor_made_of_it_is_named() {
        for (text, words) in [
            ("[limits]\nstreams = “1”\n", "typographic quotes"),
            ("[limits]\nstreams\u{a0}= 1\n", "U+00A0"),
            ("[limits]\n\u{200b}streams = 1\n", "U+200B"),
            ("[limits]\nstreams: 1\n", "no colon"),
            ("listener:\n  - address: x\n", "YAML"),
            ("{\"listener\": []}\n", "JSON"),
            ("[limits]\rstreams = 1\r", "carriage return"),
        ] {
            let told = faults(text);
            assert!(told.iter().any(|(_, said)| said.contains(words)), "{text}: {told:?}");
        }
        // The address of a listener in IPv6 and a blank of that kind within a text are the value's own affair.
        assert!(faults("[[listener]]\naddress = [::]:443\n").iter().all(|(_, said)| !said.contains("colon")));
    }

    #[test]
    fn a_file_of_another_kind_ends_soon() {
        let told = faults(&"{ \"a\": 1 }\n- b\n".repeat(1000));
        assert!((1..=MAX_BAD_LINES).contains(&told.len()), "{}", told.len());
    }
}
