//! Fields of one line, in either format.
//!
//! The format is the formatter's alternate flag: `{}` writes the inside of a JSON object, `{:#}` writes
//! `event  name=value …`. So only the pipeline at the end needs to know which one is wanted, and every other
//! `tracing` subscriber gets something sensible, too.

use super::escape::{Style, escape};
use std::fmt::{Display, Formatter, Result, Write};
use std::time::Duration;

/// Writes fields one after the other.
pub(super) struct Line<'a, 'f> {
    out: &'a mut Formatter<'f>,
    style: Style,
}

impl<'a, 'f> Line<'a, 'f> {
    /// Starts with the event's name.
    pub(super) fn begin(
        out: &'a mut Formatter<'f>,
        event: &'static str,
    ) -> std::result::Result<Self, std::fmt::Error> {
        let style = if out.alternate() { Style::Human } else { Style::Json };
        match style {
            Style::Json => {
                out.write_str("\"event\":\"")?;
                out.write_str(event)?;
                out.write_char('"')?;
            }
            Style::Human => {
                out.write_str(event)?;
                for _ in event.len()..EVENT_WIDTH {
                    out.write_char(' ')?;
                }
            }
        }
        Ok(Line { out, style })
    }

    pub(super) fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    fn name(&mut self, name: &str) -> Result {
        match self.style {
            Style::Json => {
                self.out.write_str(",\"")?;
                self.out.write_str(name)?;
                self.out.write_str("\":")
            }
            Style::Human => {
                self.out.write_char(' ')?;
                self.out.write_str(name.strip_suffix("_us").unwrap_or(name))?;
                self.out.write_char('=')
            }
        }
    }

    /// One of our own words.
    pub(super) fn word(&mut self, name: &str, word: &'static str) -> Result {
        self.name(name)?;
        let quote = if self.is_json() { "\"" } else { "" };
        self.out.write_str(quote)?;
        self.out.write_str(word)?;
        self.out.write_str(quote)
    }

    /// What cannot need escaping: addresses, identifiers.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) -> Result {
        self.name(name)?;
        match self.style {
            Style::Json => write!(self.out, "\"{value}\""),
            Style::Human => write!(self.out, "{value}"),
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> Result {
        self.name(name)?;
        decimal(self.out, value)
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) -> Result {
        self.name(name)?;
        self.out.write_str(if value { "true" } else { "false" })
    }

    /// Microseconds in JSON; what reads well on a terminal.
    pub(super) fn time(&mut self, name: &str, value: Duration) -> Result {
        self.name(name)?;
        match self.style {
            Style::Json => decimal(self.out, u64::try_from(value.as_micros()).unwrap_or(u64::MAX)),
            Style::Human if value < Duration::from_secs(1) => {
                write!(self.out, "{:.1}ms", value.as_secs_f64() * 1e3)
            }
            Style::Human => write!(self.out, "{:.2}s", value.as_secs_f64()),
        }
    }

    pub(super) fn maybe_time(&mut self, name: &str, value: Option<Duration>) -> Result {
        value.map_or(Ok(()), |value| self.time(name, value))
    }

    /// Text that somebody else chose.
    pub(super) fn text(&mut self, name: &str, value: &[u8]) -> Result {
        self.cut(name, value, TEXT)
    }

    /// Text that somebody else chose and that was cut before.
    pub(super) fn whole_text(&mut self, name: &str, value: &[u8]) -> Result {
        self.cut(name, value, usize::MAX)
    }

    pub(super) fn path(&mut self, name: &str, value: &[u8]) -> Result {
        self.cut(name, value, PATH)
    }

    pub(super) fn maybe_text(&mut self, name: &str, value: Option<&str>) -> Result {
        value.map_or(Ok(()), |value| self.text(name, value.as_bytes()))
    }

    pub(super) fn texts<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>) -> Result {
        self.name(name)?;
        self.out.write_char('[')?;
        for (i, value) in values.enumerate() {
            if i > 0 {
                self.out.write_char(',')?;
            }
            self.value(value, TEXT)?;
        }
        self.out.write_char(']')
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) -> Result {
        self.name(name)?;
        let quote = if self.is_json() { "\"" } else { "" };
        self.out.write_str(quote)?;
        for byte in bytes {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            self.out.write_str(str::from_utf8(&digits).expect("digits are ASCII"))?;
        }
        self.out.write_str(quote)
    }

    fn cut(&mut self, name: &str, value: &[u8], limit: usize) -> Result {
        self.name(name)?;
        self.value(value, limit)
    }

    fn value(&mut self, value: &[u8], limit: usize) -> Result {
        // On a terminal, only what could be misread needs quotes.
        let bare = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\' | b',' | b'[' | b']');
        let quote = self.is_json() || value.is_empty() || !value.iter().all(bare);
        if quote {
            self.out.write_char('"')?;
        }
        if value.len() <= limit {
            escape(self.out, value, self.style)?;
        } else {
            // Not in the middle of a character: its first half would look like a foreign byte.
            let end = (limit - 3..=limit).rev().find(|i| value[*i] & 0xc0 != 0x80).unwrap_or(limit);
            escape(self.out, &value[..end], self.style)?;
            self.out.write_char('…')?;
        }
        if quote {
            self.out.write_char('"')?;
        }
        Ok(())
    }
}

/// Digits without `fmt`'s padding, signs and flags: a request line has six numbers.
fn decimal(out: &mut impl Write, mut value: u64) -> Result {
    // 2^64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.write_str(str::from_utf8(&digits[start..]).expect("digits are ASCII"))
}

/// Width of the longest event name, so that fields line up.
const EVENT_WIDTH: usize = "session opened".len();

/// Bytes of a text: longer than any sane name, short enough that a client cannot fill the disk with it.
const TEXT: usize = 512;

/// Bytes of a path.
const PATH: usize = 2048;

const HEX: &[u8; 16] = b"0123456789abcdef";
