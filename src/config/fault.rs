//! Faults of a configuration, gathered so that one run reports them all.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;

/// One fault: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub text: String,
}

/// All faults of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file.
    pub path: PathBuf,
    /// In order of lines.
    pub list: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            match fault.line {
                0 => write!(f, "{}: {}", self.path.display(), fault.text)?,
                line => write!(f, "{}:{line}: {}", self.path.display(), fault.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults and warnings while a file is resolved.
pub(super) struct Notes<'a> {
    text: &'a str,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Notes { text, faults: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn fault(&mut self, span: Range<usize>, text: impl Into<String>) {
        let line = line_of(self.text, span.start);
        self.faults.push(Fault { line, text: text.into() });
    }

    pub(super) fn warn(&mut self, span: Range<usize>, text: impl Into<String>) {
        let line = line_of(self.text, span.start);
        self.warnings.push(Fault { line, text: text.into() });
    }

    /// A list that may be left out. Written and empty it is a fault: emptying a list must never widen what it narrows.
    pub(super) fn list<T: Clone>(&mut self, written: &Option<Spanned<Vec<T>>>, key: &str) -> Vec<T> {
        let Some(list) = written else { return Vec::new() };
        if list.get_ref().is_empty() {
            self.fault(
                list.span(),
                format!("{key} is empty, which permits nothing; name some, or remove {key}"),
            );
        }
        list.get_ref().clone()
    }

    /// Keeps a value, or notes its fault.
    pub(super) fn take<T>(&mut self, span: Range<usize>, value: Result<T, String>) -> Option<T> {
        value.map_err(|text| self.fault(span, text)).ok()
    }
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
