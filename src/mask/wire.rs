//! Where texts lie on the wire, and what their bytes become there.

use super::rules::Source;

/// Where a text came from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// It stands there as it is.
    Wire(u64),
    /// It is what these stretches of the wire stand for together.
    Escape(&'a [Fragment]),
}

impl Origin<'_> {
    /// Where the text is that stands `ahead` bytes further.
    pub(super) fn skip(self, ahead: usize) -> Self {
        match self {
            Origin::Wire(wire) => Origin::Wire(wire + ahead as u64),
            escape => escape,
        }
    }
}

/// A stretch of an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) wire: u64,
    /// At most [`Fragment::MAX`].
    pub(super) length: u8,
}

impl Fragment {
    /// Bytes of one.
    pub(super) const MAX: u8 = 128;
}

/// A stretch of the wire that repeats a text which stands elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) at: Fragment,
    pub(super) fill: Fill,
}

/// Replacement for masked bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// `*`
    Text,
    /// `0`: a JSON number stays one.
    Number,
    /// `1`: a number's first digit, for JSON has none that begins with another 0.
    First,
    /// Digits become `0`, letters `x`, and all else stays: what has a syntax keeps it.
    Words,
    /// Digits become `1`, letters `x`: dates among them stay some.
    WholeWords,
    /// The same, and what is no text becomes zero bytes.
    Mixed,
    /// Digits become `1`: dates and times stay some.
    Ones,
    /// Hexadecimal digits become `1`: addresses and identifiers stay some.
    Hex,
    /// The same, but noughts by themselves stay, and what stands behind a slash: addresses of networks end with noughts.
    Network,
    /// `f`: booleans stay some.
    False,
    /// Zero bytes: numbers that are not written as text.
    Zeros,
}

impl Fill {
    /// Overwrites bytes.
    pub(super) fn apply(self, bytes: &mut [u8]) {
        let each = |bytes: &mut [u8], of: fn(u8) -> u8| bytes.iter_mut().for_each(|byte| *byte = of(*byte));
        match self {
            Fill::Text => bytes.fill(b'*'),
            Fill::Number => bytes.fill(b'0'),
            Fill::First => bytes.fill(b'1'),
            Fill::Zeros => bytes.fill(0),
            Fill::Ones => each(bytes, |byte| if byte.is_ascii_digit() { b'1' } else { byte }),
            Fill::False => each(bytes, |byte| if byte == b't' { b'f' } else { byte }),
            Fill::Hex | Fill::Network => {
                each(bytes, |byte| if byte.is_ascii_hexdigit() { b'1' } else { byte })
            }
            Fill::Words | Fill::WholeWords | Fill::Mixed => {
                let digit = if self == Fill::Words { b'0' } else { b'1' };
                bytes.iter_mut().for_each(|byte| match *byte {
                    b'0'..=b'9' => *byte = digit,
                    b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => *byte = b'x',
                    ..b' ' if self == Fill::Mixed => *byte = 0,
                    _ => {}
                });
            }
        }
    }
}

/// Bytes of the wire that are to be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) wire: u64,
    pub(super) length: usize,
    pub(super) fill: Fill,
    /// Whose value it is.
    pub(super) rule: u16,
}

/// What a look at texts comes to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) cuts: Vec<Cut>,
    /// Values, by rule.
    pub(super) counts: Vec<u32>,
    /// Candidates of the text at hand: their rules, how they are read, and where.
    pub(super) fresh: Vec<(u16, Source, usize)>,
}

impl Found {
    pub(super) fn count(&mut self, rule: u16) {
        let rule = usize::from(rule);
        if self.counts.len() <= rule {
            self.counts.resize(rule + 1, 0);
        }
        self.counts[rule] += 1;
    }
}

/// Why bytes do not pass yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// This rule has a candidate without a verdict.
    Rule(u16),
    /// An escape is not whole.
    Escape,
    /// A piece of a text passes with the end of its event.
    Event,
    /// White space stands before what says how it is read.
    Blank,
    /// A message is not whole.
    Message,
}

/// The first byte of the wire that must not pass yet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) wire: u64,
    pub(super) why: Why,
}
