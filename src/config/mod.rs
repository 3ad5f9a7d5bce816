//! Configuration: reads TOML, reports every fault at once with file and line, and makes the [`Gateway`].
//!
//! It opens files and no sockets. Faults are gathered in three rounds: the text (TOML), the keys (against the schema),
//! the meaning (`resolve`); the meaning is looked at even when keys are unknown.

mod certificates;
mod fault;
pub mod model;
mod resolve;
mod secrets;
mod summary;
mod units;
mod unknown;

pub use fault::{Fault, Faults};
pub use summary::{RouteSummary, Summary};

use crate::audit::Format;
use crate::gateway::Gateway;
use crate::worker::Layout;
use fault::Notes;
use model::Config;
use std::net::SocketAddr;
use std::path::Path;

/// A configuration without faults.
pub struct Loaded {
    /// What sessions need to know.
    pub gateway: Gateway,
    /// Threads.
    pub workers: Layout,
    /// The operator's HTTP.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// What `check` prints.
    pub summary: Summary,
    /// What works and is not right.
    pub warnings: Faults,
}

/// The operator's HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// How it is written.
    pub format: Format,
    /// Which diagnostics.
    pub filter: String,
}

/// Reads and checks a file and everything that it names.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let faults = |list| Faults { path: path.to_owned(), list };
    let text = std::fs::read_to_string(path)
        .map_err(|error| faults(vec![Fault { line: 0, text: error.to_string() }]))?;
    let mut notes = Notes::new(&text);
    let base = path.parent().unwrap_or(Path::new(""));
    let loaded = read(&text, &mut notes).and_then(|config| resolve::resolve(config, base, &mut notes));
    let Notes { mut faults, warnings, .. } = notes;
    faults.sort_by_key(|fault| fault.line);
    match loaded {
        Some(mut loaded) if faults.is_empty() => {
            loaded.warnings = Faults { path: path.to_owned(), list: warnings };
            Ok(loaded)
        }
        _ => Err(Faults { path: path.to_owned(), list: faults }),
    }
}

/// Reads the text alone: no file is opened. Never panics, whatever the text.
pub fn parse(text: &str) -> Result<Config, Faults> {
    let mut notes = Notes::new(text);
    let config = read(text, &mut notes);
    match config {
        Some(config) if notes.faults.is_empty() => Ok(config),
        _ => {
            notes.faults.sort_by_key(|fault| fault.line);
            Err(Faults { path: "configuration".into(), list: notes.faults })
        }
    }
}

fn read(text: &str, notes: &mut Notes<'_>) -> Option<Config> {
    match toml::de::DeTable::parse(text) {
        Ok(table) => unknown::check(&table, &schema(), notes),
        Err(error) => {
            notes.fault(error.span().unwrap_or(0..0), error.message());
            return None;
        }
    }
    match toml::from_str(text) {
        Ok(config) => Some(config),
        // It stops at the first of what was just reported.
        Err(_) if !notes.faults.is_empty() => None,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            // serde repeats what it found, and that may be the secret itself.
            match is_among_secrets(text, span.start) {
                true => {
                    notes.fault(span, "a secret is named by where it stands, in quotes; write \"file:PATH\"")
                }
                false => notes.fault(span, error.message()),
            }
            None
        }
    }
}

/// True for a place below the header of the table of secrets.
fn is_among_secrets(text: &str, offset: usize) -> bool {
    let before = text.get(..offset).unwrap_or(text);
    let header = before.lines().rev().map(str::trim_start).find(|line| line.starts_with('['));
    header.is_some_and(|header| header.starts_with("[secrets"))
}

/// The JSON schema of the configuration, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
