//! Unknown keys, all of them, each with the nearest key that exists. Known is what the JSON schema knows.

use super::fault::Notes;
use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Compares the file with the schema and notes every key that the schema does not have.
pub(super) fn check(table: &Spanned<DeTable<'_>>, schema: &Schema, notes: &mut Notes<'_>) {
    walk_table(table.get_ref(), schema, schema, notes);
}

fn walk(value: &Spanned<DeValue<'_>>, schema: &Schema, root: &Schema, notes: &mut Notes<'_>) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(table, schema, root, notes),
        DeValue::Array(items) => {
            let of = variants(schema, root).into_iter().find_map(|variant| variant.get("items"));
            if let Some(of) = of {
                items.iter().for_each(|item| walk(item, of, root, notes));
            }
        }
        _ => {}
    }
}

fn walk_table(table: &DeTable<'_>, schema: &Schema, root: &Schema, notes: &mut Notes<'_>) {
    let known = variants(schema, root).into_iter().find_map(|variant| variant.get("properties")?.as_object());
    // A map with names of the user's own.
    let Some(known) = known else { return };
    for (key, value) in table {
        match known.get(key.get_ref().as_ref()) {
            Some(schema) => walk(value, schema, root, notes),
            None => {
                let name = key.get_ref();
                let nearest = known.keys().min_by_key(|known| distance(known, name));
                let hint = nearest.map(|near| format!("; the nearest key is `{near}`")).unwrap_or_default();
                notes.fault(key.span(), format!("unknown key `{name}`{hint}"));
            }
        }
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
