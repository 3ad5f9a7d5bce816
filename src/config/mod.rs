//! Configuration: reads TOML, reports faults together with file and line, and makes the [`crate::gateway::Gateway`].
//!
//! It opens files and no sockets. Faults are gathered in three rounds, each going on with what the one before could read:
//! the text (`text`), the keys and types (`shape`, against the schema), the meaning (`resolve`).

pub(crate) mod advice;
mod brackets;
mod certificates;
mod fault;
mod loaded;
pub mod model;
pub(crate) mod pasted;
mod paths;
mod pem;
mod resolve;
mod secrets;
mod shape;
mod summary;
mod text;
mod token_report;
mod units;

pub use fault::{Fault, Faults};
pub use loaded::{Admin, Loaded, Log};
pub use summary::{RouteSummary, Summary};
pub use token_report::token_report;

use crate::sandbox::Plan;
use fault::FaultCollector;
use model::Config;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Reads and checks a file and everything that it names.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let faults = |list| Faults { path: path.to_owned(), list };
    let text = std::fs::read(path)
        .map_err(|error| Fault { line: 0, text: unreadable(path, &error) })
        .and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| not_utf8(error.as_bytes(), error.utf8_error()))
        })
        .map_err(|fault| faults(vec![fault]))?;
    let mut notes = FaultCollector::new(&text);
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    notes.is_open_to_others = mode & 0o044 != 0;
    notes.is_changed_by_others = mode & 0o002 != 0;
    let loaded = text::read(&mut notes).and_then(|config| resolve::resolve(config, path, &mut notes));
    let FaultCollector { mut faults, mut warnings, .. } = notes;
    warnings.sort_by_key(|warning| warning.line);
    faults.sort_by_key(|fault| fault.line);
    match loaded {
        Some(mut loaded) if faults.is_empty() => {
            loaded.warnings = Faults { path: path.to_owned(), list: warnings };
            Ok(loaded)
        }
        _ => Err(Faults { path: path.to_owned(), list: faults }),
    }
}

/// What a gateway with this configuration needs of the system, without reading any file that it names; `None` where the text has
/// faults.
pub fn sandbox_plan(path: &Path) -> Option<Plan> {
    let config = parse(&std::fs::read_to_string(path).ok()?).ok()?;
    resolve::sandbox_plan(&config, path)
}

/// Why a configuration cannot be read, and what to do.
fn unreadable(path: &Path, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => format!("{error}; `staunch init` writes one, `--config FILE` names another"),
        ErrorKind::IsADirectory => {
            format!("{error}; name the file in it, such as {}", path.join("staunch.toml").display())
        }
        ErrorKind::PermissionDenied => format!("{error}; {}", paths::permission_denied(path)),
        _ => error.to_string(),
    }
}

/// Where a file is no text in UTF-8, and what made it so.
fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> Fault {
    let before = &bytes[..error.valid_up_to()];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Fault {
            line: 0,
            text: "this is text in UTF-16; a configuration is TOML in UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW".into(),
        },
        _ => Fault {
            line,
            text: "this is no text in UTF-8; a configuration is TOML (from Latin-1: iconv -f LATIN1 -t UTF-8 OLD > NEW)".into(),
        },
    }
}

/// Reads the text alone: no file is opened. Never panics, whatever the text.
pub fn parse(text: &str) -> Result<Config, Faults> {
    let mut notes = FaultCollector::new(text);
    let config = text::read(&mut notes);
    match config {
        Some(config) if notes.faults.is_empty() => Ok(config),
        _ => {
            notes.faults.sort_by_key(|fault| fault.line);
            Err(Faults { path: "configuration".into(), list: notes.faults })
        }
    }
}

/// The JSON schema of the configuration, for editors.
pub fn schema() -> serde_json::Value {
    model::schema()
}
