//! Fields of one line, in either format.
//!
//! The format is the formatter's alternate flag: `{}` writes the inside of a JSON object, `{:#}` writes
//! `event  name=value …`. So only the pipeline at the end needs to know which one is wanted, and every other
//! `tracing` subscriber gets something sensible, too.

use super::escape::{Escape, Style};
use crate::names::{RequestId, SessionId};
use std::cell::Cell;
use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Takes fields one after the other. They gather in a buffer and reach the formatter together: a closing line has more than
/// a hundred pieces, and each would be a call through a table.
pub(super) struct Line {
    text: String,
    style: Style,
    /// Bytes of a text at most, whatever text it is.
    limit: usize,
}

thread_local! {
    /// Kept between lines, so that a line allocates nothing.
    static TEXT: Cell<String> = const { Cell::new(String::new()) };
}

impl Line {
    /// Writes the event's name and the fields that `fill` adds.
    pub(super) fn write(
        out: &mut Formatter<'_>,
        event: &'static str,
        fill: impl FnOnce(&mut Line),
    ) -> fmt::Result {
        let style = if out.alternate() { Style::Human } else { Style::Json };
        // A thread that is ending has none any more: rare, so a new one will do.
        let mut line = Line { text: TEXT.try_with(Cell::take).unwrap_or_default(), style, limit: usize::MAX };
        line.text.clear();
        line.begin(event);
        fill(&mut line);
        let written = out.write_str(&line.text);
        let _ = TEXT.try_with(|kept| kept.set(line.text));
        written
    }

    fn begin(&mut self, event: &'static str) {
        match self.style {
            Style::Json => {
                self.text.push_str("\"event\":\"");
                self.text.push_str(event);
                self.text.push('"');
            }
            Style::Human => {
                self.text.push_str(event);
                (event.len()..EVENT_WIDTH).for_each(|_| self.text.push(' '));
            }
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    fn name(&mut self, name: &str) {
        match self.style {
            Style::Json => {
                self.text.push_str(",\"");
                self.text.push_str(name);
                self.text.push_str("\":");
            }
            Style::Human => {
                self.text.push(' ');
                self.text.push_str(name.strip_suffix("_us").unwrap_or(name));
                self.text.push('=');
            }
        }
    }

    /// Around what cannot need escaping.
    fn quote(&mut self) {
        if self.is_json() {
            self.text.push('"');
        }
    }

    /// A fixed word.
    pub(super) fn word(&mut self, name: &str, word: &'static str) {
        self.name(name);
        self.quote();
        self.text.push_str(word);
        self.quote();
    }

    /// What cannot need escaping: identifiers.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        self.quote();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
        self.quote();
    }

    pub(super) fn address(&mut self, name: &str, address: SocketAddr) {
        let SocketAddr::V4(v4) = address else { return self.plain(name, address) };
        self.name(name);
        self.quote();
        for (octet, end) in v4.ip().octets().into_iter().zip(['.', '.', '.', ':']) {
            decimal(&mut self.text, octet.into());
            self.text.push(end);
        }
        decimal(&mut self.text, v4.port().into());
        self.quote();
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        decimal(&mut self.text, value);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.text.push_str(if value { "true" } else { "false" });
    }

    /// Microseconds in JSON; what reads well on a terminal.
    pub(super) fn time(&mut self, name: &str, value: Duration) {
        self.name(name);
        let _ = match self.style {
            Style::Json => {
                decimal(&mut self.text, u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
                Ok(())
            }
            Style::Human if value < Duration::from_secs(1) => {
                write!(self.text, "{:.1}ms", value.as_secs_f64() * 1e3)
            }
            Style::Human => write!(self.text, "{:.2}s", value.as_secs_f64()),
        };
    }

    pub(super) fn maybe_time(&mut self, name: &str, value: Option<Duration>) {
        value.into_iter().for_each(|value| self.time(name, value));
    }

    /// Text from a peer.
    pub(super) fn text(&mut self, name: &str, value: &[u8]) {
        self.cut(name, value, TEXT_BYTES);
    }

    /// Cuts all texts that follow: their author is not permitted.
    pub(super) fn shorten(&mut self) {
        self.limit = UNPERMITTED_TEXT_BYTES;
    }

    /// Text that somebody else chose and that was cut, or not, before.
    pub(super) fn whole_text(&mut self, name: &str, value: &[u8], is_cut: bool) {
        self.name(name);
        self.value(value, usize::MAX, is_cut);
    }

    pub(super) fn path(&mut self, name: &str, value: &[u8]) {
        self.cut(name, value, PATH_BYTES);
    }

    pub(super) fn maybe_text(&mut self, name: &str, value: Option<&str>) {
        value.into_iter().for_each(|value| self.text(name, value.as_bytes()));
    }

    pub(super) fn texts<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>) {
        self.name(name);
        self.text.push('[');
        for (i, value) in values.enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.value(value, TEXT_BYTES, false);
        }
        self.text.push(']');
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        self.quote();
        self.digits(bytes);
        self.quote();
    }

    fn digits(&mut self, bytes: &[u8]) {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        self.text.extend(digits.map(|digit| char::from(HEX[usize::from(digit)])));
    }

    pub(super) fn session(&mut self, id: SessionId) {
        self.hex("session", &id.0.to_be_bytes());
    }

    pub(super) fn request(&mut self, id: RequestId) {
        self.name("request");
        self.quote();
        self.digits(&id.session.0.to_be_bytes());
        self.text.push('-');
        decimal(&mut self.text, id.number.into());
        self.quote();
    }

    fn cut(&mut self, name: &str, value: &[u8], limit: usize) {
        self.name(name);
        self.value(value, limit, false);
    }

    fn value(&mut self, value: &[u8], limit: usize, is_cut: bool) {
        // On a terminal, only what could be misread needs quotes.
        let bare = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\' | b',' | b'[' | b']');
        let quote = self.is_json() || value.is_empty() || !value.iter().all(bare);
        if quote {
            self.text.push('"');
        }
        if !(Escape { style: self.style, limit: limit.min(self.limit), is_cut }).write(&mut self.text, value)
        {
            self.text.push('…');
        }
        if quote {
            self.text.push('"');
        }
    }
}

/// Digits without `fmt`'s padding, signs and flags: a request line has six numbers.
fn decimal(out: &mut String, mut value: u64) {
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
    out.push_str(str::from_utf8(&digits[start..]).expect("digits are ASCII"));
}

/// Width of most event names, so that fields line up.
const EVENT_WIDTH: usize = "session opened".len();

/// Bytes of a text: longer than any sane name, short enough that a client cannot fill the disk with it.
const TEXT_BYTES: usize = 512;

/// Bytes of a text of somebody who is not permitted.
const UNPERMITTED_TEXT_BYTES: usize = 128;

/// Bytes of a path.
const PATH_BYTES: usize = 2048;

const HEX: &[u8; 16] = b"0123456789abcdef";
