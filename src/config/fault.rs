//! Faults of a configuration, gathered so that one run reports them all.

use std::borrow::Cow;
use std::collections::BTreeSet;
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

impl Faults {
    /// The same as warnings, each marked as one.
    pub fn as_warnings(&self) -> Faults {
        let mark = |fault: &Fault| Fault { line: fault.line, text: format!("warning: {}", fault.text) };
        Faults { path: self.path.clone(), list: self.list.iter().map(mark).collect() }
    }
}

/// Where stand-ins stand: in no file. What is wrong about them was told when they were put there.
pub(super) const NO_SPAN: Range<usize> = usize::MAX..usize::MAX;

/// Gathers faults and warnings while a file is resolved.
pub(super) struct FaultCollector<'a> {
    original: &'a str,
    /// The text that spans lead into: the original, or one with the same lines that can be read.
    text: Cow<'a, str>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    /// Lines of which everything is told.
    told: BTreeSet<usize>,
    /// True when keys were lost, so that nothing can be called missing, unknown or unused any more.
    pub(super) lost: bool,
    /// True when users other than the file's owner can read it.
    pub(super) is_open_to_others: bool,
    /// True when users other than the file's owner and group can change it.
    pub(super) is_changed_by_others: bool,
}

impl<'a> FaultCollector<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        FaultCollector {
            original: text,
            text: text.into(),
            faults: Vec::new(),
            warnings: Vec::new(),
            told: BTreeSet::new(),
            lost: false,
            is_open_to_others: false,
            is_changed_by_others: false,
        }
    }

    /// Goes on with a text that has the same lines, after a fault on one of them about which nothing more is to be said.
    pub(super) fn continue_with(&mut self, text: String, told: usize) {
        self.told.insert(told);
        self.text = text.into();
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.as_bytes()[..span.start.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }

    pub(super) fn fault(&mut self, span: Range<usize>, text: impl Into<String>) {
        if !self.is_told(&span) {
            let line = self.line(&span);
            self.faults.push(Fault { line, text: text.into() });
        }
    }

    /// Notes a fault on a line, from 1.
    pub(super) fn fault_at(&mut self, line: usize, text: impl Into<String>) {
        self.faults.push(Fault { line, text: text.into() });
    }

    /// True for a stand-in, and for what stands in a line that could not be read.
    pub(super) fn is_told(&self, span: &Range<usize>) -> bool {
        *span == NO_SPAN || self.told.contains(&self.line(span))
    }

    /// True when nothing that could not be read can be the user of a name: when all was read, or when `words` stand in the
    /// file no more often than where it is given.
    pub(super) fn is_unused(&self, words: &str, given: usize) -> bool {
        self.faults.is_empty() || self.original.matches(words).count() <= given
    }

    pub(super) fn warn(&mut self, span: Range<usize>, text: impl Into<String>) {
        let line = self.line(&span);
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
