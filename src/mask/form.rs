//! Form fields (`application/x-www-form-urlencoded`, WHATWG URL section 5): `%XX` and `+` are read as what they stand for.

use super::lane::Lane;
use super::rules::Rules;
use super::wire::{Fill, Found, Held, Why};

/// Follows a form's body, names and values as one text.
#[derive(Debug)]
pub(super) struct Form {
    text: Lane,
    /// A `%XX` that is not whole, and where it begins.
    escape: Vec<u8>,
    wire: u64,
}

impl Form {
    pub(super) fn new() -> Self {
        Form { text: Lane::new(Fill::Text), escape: Vec::with_capacity(3), wire: 0 }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() {
            let here = wire + at as u64;
            if !self.escape.is_empty() {
                at += usize::from(self.escaped(bytes[at]));
                continue;
            }
            match bytes[at] {
                b'%' => {
                    self.escape.push(b'%');
                    self.wire = here;
                    at += 1;
                }
                b'+' => {
                    self.text.push_escape(b" ", here, 1);
                    at += 1;
                }
                _ => {
                    let plain = memchr::memchr2(b'%', b'+', &bytes[at..]).unwrap_or(bytes.len() - at);
                    self.text.push(&bytes[at..at + plain], here);
                    at += plain;
                }
            }
        }
        self.text.scan(rules, false, found);
    }

    /// One more byte of an escape; false if it is none and the byte is still to be read.
    fn escaped(&mut self, byte: u8) -> bool {
        if !byte.is_ascii_hexdigit() {
            self.end_escape();
            return false;
        }
        self.escape.push(byte);
        if let [_, high, low] = self.escape[..] {
            let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or_default() as u8;
            self.text.push_escape(&[digit(high) << 4 | digit(low)], self.wire, 3);
            self.escape.clear();
        }
        true
    }

    /// What began as an escape and is none stands for itself.
    fn end_escape(&mut self) {
        self.text.push(&self.escape, self.wire);
        self.escape.clear();
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        self.end_escape();
        self.text.scan(rules, true, found);
    }

    pub(super) fn hold(&self) -> Option<Held> {
        let escape = (!self.escape.is_empty()).then_some(Held { wire: self.wire, why: Why::Escape });
        self.text.hold().into_iter().chain(escape).min()
    }

    pub(super) fn force(&mut self, passes: bool, found: &mut Found) -> u32 {
        self.text.force(passes, found)
    }
}
