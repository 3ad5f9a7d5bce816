//! The reference of every configuration key, log field and metric, as Markdown: what `staunch schema --markdown` prints and
//! `config/reference.md` holds.
//!
//! It says nothing of its own: keys come from the schema, whose texts are the doc comments of the model; examples from
//! `config/reference.toml`, which the tests load; log fields from the table in the documentation of [`crate::audit`]; metrics
//! from what the admin listener renders.

mod keys;
mod log;
mod metrics;

/// The whole reference.
pub fn markdown() -> String {
    format!(
        "<!-- Written by `staunch schema --markdown`: change the doc comments that it is made of, not this file. -->\n\
         # Reference\n\n\
         [Configuration keys](#configuration-keys) · [log fields](#log-fields) · [metrics](#metrics)\n\n\
         ## Configuration keys\n\n\
         The file is TOML; a key that is not listed here is a fault. All examples stand together in \
         [reference.toml](reference.toml). Durations are written `250ms`, `30s`, `5m`, `1h`, `400d`; sizes `512B`, `16KiB`, \
         `1MiB`, `1GiB`. Paths are relative to the file. Where no cost is named, a key costs nothing while bytes move.\n\n\
         {}\n## Log fields\n\n{}\n## Metrics\n\n{}",
        keys::sections(&crate::config::schema(), keys::EXAMPLE),
        log::table(),
        metrics::table(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_repository_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "run: cargo run -- schema --markdown > config/reference.md");
    }
}
