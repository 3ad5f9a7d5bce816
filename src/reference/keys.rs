//! Configuration keys: one section for each table of the schema.

use crate::config::model::{DURATION, SIZE};
use serde_json::{Map, Value};
use std::fmt::Write;

/// A configuration that has every key.
pub(super) const EXAMPLE: &str = include_str!("../../config/reference.toml");

/// Every table of the schema with its keys, the tables that stand in the file itself first.
pub(super) fn sections(schema: &Value, example: &str) -> String {
    let example = example.parse::<toml::Table>().map(toml::Value::Table);
    let Ok(example) = example else { return "The example cannot be read.\n".into() };
    let tables = tables(schema, &example);
    let mut out = String::new();
    for table in &tables {
        let _ = writeln!(out, "### {}\n", table.places.join(", "));
        if let Some(text) = table.schema.get("description").and_then(Value::as_str) {
            let _ = writeln!(out, "{}\n", one_line(text));
        }
        for (name, key) in keys(table.schema) {
            out += &entry(name, key, table, schema);
        }
        out.push('\n');
    }
    out
}

/// A table of the file: where it stands, what the schema knows of it, and its examples.
struct Table<'a> {
    definition: &'a str,
    places: Vec<String>,
    schema: &'a Value,
    examples: Vec<&'a toml::Value>,
}

/// All tables, breadth first; one that stands in several places comes once.
fn tables<'a>(schema: &'a Value, example: &'a toml::Value) -> Vec<Table<'a>> {
    let root = Table { definition: "", places: vec!["The file".into()], schema, examples: vec![example] };
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let (place, of, examples) =
            (found[next].places[0].clone(), found[next].schema, &found[next].examples);
        let mut inner = Vec::new();
        for (name, key) in keys(of) {
            let examples: Vec<_> =
                examples.iter().filter_map(|one| one.get(name)).flat_map(elements).collect();
            for (definition, shape) in definitions(key, schema) {
                let map = key.get("additionalProperties").is_some_and(Value::is_object);
                let examples = match map {
                    true => examples
                        .iter()
                        .filter_map(|one| one.as_table())
                        .flat_map(|map| map.values())
                        .collect(),
                    false => examples.clone(),
                };
                inner.push(Table {
                    definition,
                    places: vec![written(&place, name, shape, map)],
                    schema: &schema["$defs"][definition],
                    examples,
                });
            }
        }
        for table in inner {
            match found.iter_mut().find(|known| known.definition == table.definition) {
                Some(known) => {
                    known.places.extend(table.places);
                    known.examples.extend(table.examples);
                }
                None => found.push(table),
            }
        }
        next += 1;
    }
    found
}

/// How a table's place is written: `[admin]`, `[[route]]`, or within another.
fn written(parent: &str, name: &str, is_list: bool, is_map: bool) -> String {
    match (parent, is_list, is_map) {
        ("The file", true, _) => format!("`[[{name}]]`"),
        ("The file", ..) => format!("`[{name}]`"),
        (parent, _, true) => format!("{}.{name}.NAME]`", parent.trim_end_matches("]`")),
        _ => format!("`{name}` of {parent}"),
    }
}

fn elements(value: &toml::Value) -> Vec<&toml::Value> {
    match value.as_array() {
        Some(list) => list.iter().collect(),
        None => vec![value],
    }
}

/// The tables that a key's value is made of, and whether it is a list of them.
fn definitions<'a>(key: &'a Value, root: &'a Value) -> Vec<(&'a str, bool)> {
    let mut found = Vec::new();
    for variant in alternatives(key) {
        let (of, is_list) = match (variant.get("items"), variant.get("additionalProperties")) {
            (Some(items), _) => (items, true),
            (None, Some(map)) if map.is_object() => (map, false),
            _ => (variant, false),
        };
        let Some(name) = reference(of) else { continue };
        match root["$defs"][name].get("properties") {
            Some(_) => found.push((name, is_list)),
            None => found.extend(definitions(&root["$defs"][name], root)),
        }
    }
    found.dedup_by_key(|(name, _)| *name);
    found
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(all) => all.iter().collect(),
        None => vec![schema],
    }
}

/// A table's keys: those that must be there first.
fn keys(table: &Value) -> Vec<(&str, &Value)> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let properties = table.get("properties").and_then(Value::as_object).unwrap_or(&NONE);
    let mut keys: Vec<_> = properties.iter().map(|(name, key)| (name.as_str(), key)).collect();
    keys.sort_by_key(|(name, _)| (!is_required(table, name), name.to_owned()));
    keys
}

fn is_required(table: &Value, name: &str) -> bool {
    table.get("required").and_then(Value::as_array).is_some_and(|list| list.iter().any(|one| one == name))
}

/// One key: type, default, what it does, cost, example.
fn entry(name: &str, key: &Value, table: &Table<'_>, root: &Value) -> String {
    let text = key.get("description").and_then(Value::as_str).unwrap_or_default();
    let Described { what, default, cost } = Described::of(text);
    let default = match default {
        _ if is_required(table.schema, name) => "required".to_owned(),
        Some(default) => format!("default {default}"),
        None if key.get("default").is_some_and(Value::is_array) => "default none".into(),
        None => "optional".into(),
    };
    let mut out = format!("- **`{name}`** ({}; {default})", kind(key, root));
    if !what.is_empty() {
        let _ = write!(out, ": {what}");
    }
    if let Some(cost) = cost {
        let _ = write!(out, " *Cost: {cost}*");
    }
    let is_table = !definitions(key, root).is_empty();
    let example =
        table.examples.iter().filter_map(|one| one.get(name)).find(|value| !is_table || !value.is_table());
    match example.filter(|value| !is_table || value.is_str()) {
        Some(value) => {
            let _ = write!(out, "  \n  Example: `{name} = {value}`");
        }
        None if is_table => {
            out += "  \n  Its keys have a section of their own.";
        }
        None => {}
    }
    out + "\n"
}

/// A doc comment, taken apart.
struct Described {
    what: String,
    default: Option<String>,
    cost: Option<String>,
}

impl Described {
    fn of(text: &str) -> Described {
        let line = one_line(text);
        let (line, cost) = match line.split_once("Cost: ") {
            Some((before, cost)) => (before.trim_end().to_owned(), Some(cost.to_owned())),
            None => (line, None),
        };
        let start = match line.starts_with("Default") {
            true => Some(0),
            false => line.rfind(". Default").map(|at| at + 2),
        };
        let Some(start) = start else { return Described { what: line, default: None, cost } };
        let end = line[start..].find(". ").map_or(line.len(), |at| start + at + 1);
        let default = line[start..end].trim_start_matches("Default").trim_start_matches(':').trim();
        let default = default.trim_end_matches('.').to_owned();
        let what = [line[..start].trim_end(), line[end..].trim()].join(" ").trim().to_owned();
        Described { what, default: Some(default), cost }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A key's type as a reader calls it, with its unit.
fn kind(key: &Value, root: &Value) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for variant in alternatives(key) {
        if let Some(name) = reference(variant) {
            let of = &root["$defs"][name];
            match of.get("properties") {
                Some(_) => kinds.push("table".into()),
                None => kinds.push(kind(of, root)),
            }
            continue;
        }
        let types: Vec<&str> = match variant.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for of in types {
            match of {
                "null" => {}
                "array" => kinds.push(match variant.get("items") {
                    Some(items) if kind(items, root) == "table" => "list of tables".into(),
                    _ => "list of texts".into(),
                }),
                other => kinds.push(simple(other, variant)),
            }
        }
    }
    kinds.dedup();
    kinds.join(" or ")
}

fn simple(of: &str, schema: &Value) -> String {
    let pattern = schema.get("pattern").and_then(Value::as_str);
    match of {
        "string" if pattern == Some(DURATION) => "duration",
        "string" if pattern == Some(SIZE) => "size in bytes",
        "string" => "text",
        "integer" => "whole number",
        "boolean" => "true or false",
        "object" => "table, names of your own",
        other => other,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_has_a_default_or_is_required_and_has_an_example() {
        let (schema, example) = (crate::config::schema(), EXAMPLE.parse::<toml::Table>().unwrap());
        let example = toml::Value::Table(example);
        let mut lacking = Vec::new();
        for table in tables(&schema, &example) {
            for (name, key) in keys(table.schema) {
                let text = key.get("description").and_then(Value::as_str).unwrap_or_default();
                let Described { what, default, cost } = Described::of(text);
                let place = &table.places[0];
                if what.is_empty() {
                    lacking.push(format!("`{name}` of {place}: what it does"));
                }
                let kind = kind(key, &schema);
                let has_default = default.is_some() || is_required(table.schema, name);
                let is_measure =
                    ["duration", "size in bytes", "whole number", "true or false"].contains(&kind.as_str());
                if is_measure && !has_default {
                    lacking.push(format!("`{name}` of {place}: its default"));
                }
                if is_measure && cost.is_none() {
                    lacking.push(format!("`{name}` of {place}: its cost"));
                }
                if !table.examples.iter().any(|one| one.get(name).is_some()) {
                    lacking.push(format!("`{name}` of {place}: an example in config/reference.toml"));
                }
            }
        }
        assert!(lacking.is_empty(), "the doc comments lack\n{}", lacking.join("\n"));
    }

    #[test]
    fn default_and_cost_are_taken_out_of_the_text() {
        let of =
            Described::of("Waits, at most `1h`. Default `10s`. And then\nit goes on.\n\nCost: one lookup.");
        assert_eq!(of.what, "Waits, at most `1h`. And then it goes on.");
        assert_eq!((of.default.as_deref(), of.cost.as_deref()), (Some("`10s`"), Some("one lookup.")));
        let of = Described::of("Names. Default: none.");
        assert_eq!((of.what.as_str(), of.default.as_deref()), ("Names.", Some("none")));
    }
}
