//! Unknown and missing keys and values of a wrong type, all of them, by what the JSON schema knows.

use super::fault::Notes;
use serde_json::Value as Schema;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Compares the file with the schema and notes every key that it does not have, every key that is missing, and every
/// value of a wrong type. Values are never repeated: one may be a secret in the wrong place.
pub(super) fn check(table: &Spanned<DeTable<'_>>, schema: &Schema, notes: &mut Notes<'_>) {
    walk_table(table.get_ref(), 0..0, schema, schema, notes);
}

fn walk(value: &Spanned<DeValue<'_>>, schema: &Schema, root: &Schema, notes: &mut Notes<'_>) {
    let variants = variants(schema, root);
    let wanted: Vec<&str> =
        variants.iter().flat_map(|variant| types(variant)).filter(|t| *t != "null").collect();
    let (found, shown) = type_of(value.get_ref());
    if !wanted.is_empty() && !wanted.contains(&found) {
        let wanted: Vec<&str> = wanted.into_iter().map(in_toml).collect();
        return notes.fault(value.span(), format!("{shown} stands here; write {}", wanted.join(" or ")));
    }
    match value.get_ref() {
        DeValue::Table(table) => walk_table(table, value.span(), schema, root, notes),
        DeValue::Array(items) => {
            if let Some(of) = variants.into_iter().find_map(|variant| variant.get("items")) {
                items.iter().for_each(|item| walk(item, of, root, notes));
            }
        }
        _ => {}
    }
}

fn walk_table(
    table: &DeTable<'_>,
    span: Range<usize>,
    schema: &Schema,
    root: &Schema,
    notes: &mut Notes<'_>,
) {
    let variants = variants(schema, root);
    let Some(known) = variants.iter().find_map(|variant| variant.get("properties")?.as_object()) else {
        // A map with names of the user's own.
        if let Some(of) = variants.iter().find_map(|variant| variant.get("additionalProperties")) {
            table.iter().for_each(|(_, value)| walk(value, of, root, notes));
        }
        return;
    };
    for (key, value) in table {
        match known.get(key.get_ref().as_ref()) {
            Some(schema) => walk(value, schema, root, notes),
            None => {
                let name = key.get_ref();
                let nearest = known.keys().min_by_key(|known| distance(known, name));
                let near = nearest.filter(|near| distance(near, name) <= NEAR);
                let hint = near.map(|near| format!("; the nearest key is `{near}`")).unwrap_or_default();
                notes.fault(key.span(), format!("unknown key `{name}`{hint}"));
            }
        }
    }
    let required = variants.iter().filter_map(|variant| variant.get("required")?.as_array()).flatten();
    for key in required.filter_map(Schema::as_str) {
        if !table.contains_key(key) {
            notes.fault(span.clone(), format!("`{key}` is missing"));
        }
    }
}

/// Changes between two names that may be a slip of the keyboard.
const NEAR: usize = 3;

fn types(schema: &Schema) -> Vec<&str> {
    match schema.get("type") {
        Some(Schema::String(one)) => vec![one],
        Some(Schema::Array(several)) => several.iter().filter_map(Schema::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A value's type as the schema and as a person calls it.
fn type_of(value: &DeValue<'_>) -> (&'static str, &'static str) {
    match value {
        DeValue::String(_) => ("string", "a text"),
        DeValue::Integer(_) => ("integer", "a number"),
        DeValue::Float(_) => ("number", "a fraction"),
        DeValue::Boolean(_) => ("boolean", "true or false"),
        DeValue::Datetime(_) => ("datetime", "a date"),
        DeValue::Array(_) => ("array", "a list"),
        DeValue::Table(_) => ("object", "a table"),
    }
}

fn in_toml(of: &str) -> &str {
    match of {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// The schema itself, or the alternatives that it offers, references followed.
fn variants<'a>(schema: &'a Schema, root: &'a Schema) -> Vec<&'a Schema> {
    let reference = schema.get("$ref").and_then(Schema::as_str).and_then(|r| r.strip_prefix('#'));
    let schema = reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema);
    match schema.get("anyOf").and_then(Schema::as_array) {
        Some(all) => all.iter().flat_map(|one| variants(one, root)).collect(),
        None => vec![schema],
    }
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_changes() {
        assert_eq!(distance("listener", "listener"), 0);
        assert_eq!(distance("listener", "listner"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
