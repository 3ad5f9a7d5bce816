//! What the tour prints: plain text, coloured where somebody looks at it.

use std::io::{self, Write};

/// Where the tour prints to.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl<'a> Screen<'a> {
    pub(super) fn new(out: &'a mut dyn Write, colour: bool) -> Self {
        Screen { out, colour }
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// The title of a step.
    pub(super) fn step(&mut self, number: usize, title: &str) -> io::Result<()> {
        let title = self.paint("1", &format!("{number}  {title}"));
        writeln!(self.out, "\n{title}")
    }

    /// A name and what it is.
    pub(super) fn fact(&mut self, name: &str, value: &str) -> io::Result<()> {
        let name = self.paint("2", &format!("{name:<NAMES$}"));
        writeln!(self.out, "   {name} {value}")
    }

    /// Part of an answer, now.
    pub(super) fn piece(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    pub(super) fn done(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint("32", "✓");
        writeln!(self.out, "   {mark} {text}")
    }

    pub(super) fn failed(&mut self, text: &str) -> io::Result<()> {
        let mark = self.paint("31", "✗");
        writeln!(self.out, "   {mark} {text}")
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// Width of the longest name of a fact.
const NAMES: usize = "one byte flipped".len();
