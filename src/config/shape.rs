//! Unknown and missing keys and values of a wrong type, all of them, by what the JSON schema knows.

use super::advice;
use super::fault::{FaultCollector, NO_SPAN};
use super::model::{DURATION, SIZE};
use serde_json::Value as Schema;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Compares the file with the schema and notes every key that it does not have, every key that is missing, and every
/// value of a wrong type. Values are never repeated: one may be a secret in the wrong place.
///
/// What is missing or of a wrong type is replaced by a stand-in, so that the meaning of all the rest can be looked at in
/// the same run. Stand-ins stand [`NO_SPAN`], and what is said about that place is dropped: it was told here.
pub(super) fn check(table: &mut Spanned<DeTable<'_>>, schema: &Schema, notes: &mut FaultCollector<'_>) {
    walk_table(table.get_mut(), 0..0, schema, schema, notes);
}

/// `name`: of a key that stands in the file itself, in no table.
fn walk(
    name: Option<&str>,
    value: &mut Spanned<DeValue<'_>>,
    schema: &Schema,
    root: &Schema,
    notes: &mut FaultCollector<'_>,
) {
    let variants = variants(schema, root);
    let wanted: Vec<&str> =
        variants.iter().flat_map(|variant| types(variant)).filter(|t| *t != "null").collect();
    let (found, shown) = type_of(value.get_ref());
    if !wanted.is_empty() && !wanted.contains(&found) {
        let advice = match (name, found, items_are_tables(&variants)) {
            (Some(name), "object", true) => format!("[[{name}]], with two brackets, for each of them"),
            (Some(name), "array", false) if wanted == ["object"] => {
                format!("[{name}], with one bracket, once")
            }
            (_, "object", true) => "a list of them: [{ … }]".into(),
            (_, "string", _) if wanted.contains(&"array") && !items_are_tables(&variants) => {
                "a list: [\"…\"]".into()
            }
            (_, "integer", _) => variants
                .iter()
                .find_map(|variant| unit(variant))
                .map_or_else(|| in_words(&wanted), str::to_owned),
            _ => in_words(&wanted),
        };
        notes.fault(value.span(), format!("{shown} stands here; write {advice}"));
        return *value = stand_in(schema, root);
    }
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => walk_table(table, span, schema, root, notes),
        DeValue::Array(items) => {
            if let Some(of) = variants.into_iter().find_map(|variant| variant.get("items")) {
                items.iter_mut().for_each(|item| walk(None, item, of, root, notes));
            }
        }
        DeValue::Integer(number) => {
            let most = variants.iter().find_map(|variant| most(variant));
            let number = i128::from_str_radix(number.as_str(), number.radix());
            if let Some(most) = most
                && !number.is_ok_and(|number| (0..=most).contains(&number))
            {
                notes.fault(span, format!("this number is out of range; write 0 to {most}"));
                *value = stand_in(schema, root);
            }
        }
        // A path was meant; what reads it would repeat it.
        DeValue::String(text) if text.contains("-----BEGIN ") => {
            let text = "a certificate or a key itself stands here; keep it in a file, a key with chmod 600, and write the file's path";
            notes.fault(span, text);
            *value = stand_in(schema, root);
        }
        _ => {}
    }
}

fn walk_table(
    table: &mut DeTable<'_>,
    span: Range<usize>,
    schema: &Schema,
    root: &Schema,
    notes: &mut FaultCollector<'_>,
) {
    let variants = variants(schema, root);
    let Some(known) = variants.iter().find_map(|variant| variant.get("properties")?.as_object()) else {
        // A map with names of the user's own.
        if let Some(of) = variants.iter().find_map(|variant| variant.get("additionalProperties")) {
            table.iter_mut().for_each(|(_, value)| walk(None, value, of, root, notes));
        }
        return;
    };
    let is_file = std::ptr::eq(schema, root);
    for (key, value) in table.iter_mut() {
        let name = Some(key.get_ref().as_ref()).filter(|_| is_file);
        match known.get(key.get_ref().as_ref()) {
            Some(schema) => walk(name, value, schema, root, notes),
            None => {
                let name = key.get_ref();
                let near = advice::key(name, known.keys().map(String::as_str));
                let hint = near.map(|near| format!("; the nearest key is `{near}`")).unwrap_or_default();
                notes.fault(key.span(), format!("unknown key `{name}`{hint}"));
            }
        }
    }
    for key in required(&variants) {
        if !table.contains_key(key) {
            // The line that held it may be one that could not be read.
            if !notes.lost {
                notes.fault(span.clone(), format!("`{key}` is missing"));
            }
            let value = known.get(key).map_or_else(nothing, |schema| stand_in(schema, root));
            table.insert(Spanned::new(NO_SPAN, key.to_owned().into()), value);
        }
    }
}

/// A value of the right type for what was missing or of a wrong one. It holds one of everything that is required, so that
/// nobody finds that there is nothing.
fn stand_in<'a>(schema: &Schema, root: &Schema) -> Spanned<DeValue<'a>> {
    let variants = variants(schema, root);
    let wanted = variants.iter().flat_map(|variant| types(variant)).find(|of| *of != "null");
    let value = match wanted {
        Some("integer") => DeValue::Integer(Default::default()),
        // Every switch of this configuration complains less when it is on.
        Some("boolean") => DeValue::Boolean(true),
        Some("array") => {
            let of = variants.iter().find_map(|variant| variant.get("items"));
            DeValue::Array(of.into_iter().map(|of| stand_in(of, root)).collect())
        }
        Some("object") => {
            let known = variants.iter().find_map(|variant| variant.get("properties")?.as_object());
            let of = |key: &str| known.and_then(|known| known.get(key));
            let map = variants.iter().find_map(|variant| variant.get("additionalProperties"));
            let of_map = map.filter(|map| map.is_object()).map(|of| ("", of));
            let fields = required(&variants).filter_map(|key| Some((key, of(key)?)));
            let insert = |(key, of): (&str, &Schema)| {
                (Spanned::new(NO_SPAN, key.to_owned().into()), stand_in(of, root))
            };
            DeValue::Table(fields.chain(of_map).map(insert).collect())
        }
        _ => return nothing(),
    };
    Spanned::new(NO_SPAN, value)
}

fn nothing<'a>() -> Spanned<DeValue<'a>> {
    Spanned::new(NO_SPAN, DeValue::String("".into()))
}

fn required<'a>(variants: &[&'a Schema]) -> impl Iterator<Item = &'a str> {
    let lists: Vec<_> = variants.iter().filter_map(|variant| variant.get("required")?.as_array()).collect();
    lists.into_iter().flatten().filter_map(Schema::as_str)
}

/// The greatest value of a number that cannot be negative.
fn most(schema: &Schema) -> Option<i128> {
    match schema.get("format")?.as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        // TOML's own numbers have a sign.
        "uint" | "uint64" => Some(i64::MAX.into()),
        _ => None,
    }
}

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

/// What a text with a unit looks like.
fn unit(schema: &Schema) -> Option<&'static str> {
    match schema.get("pattern")?.as_str()? {
        DURATION => Some("a duration in quotes, such as \"30s\""),
        SIZE => Some("a size in quotes, such as \"16KiB\""),
        _ => None,
    }
}

fn items_are_tables(variants: &[&Schema]) -> bool {
    variants.iter().any(|variant| variant.get("items").is_some_and(|items| items.get("$ref").is_some()))
}

fn in_words(wanted: &[&str]) -> String {
    wanted.iter().map(|of| in_toml(of)).collect::<Vec<_>>().join(" or ")
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
