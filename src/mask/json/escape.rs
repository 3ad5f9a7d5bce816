//! Escapes in strings (RFC 8259 section 7), byte by byte, and where their bytes stand.

use crate::mask::wire::{Fragment, Origin};

/// An escape that is not whole.
#[derive(Debug, Default)]
pub(super) struct Escape {
    bytes: [u8; PAIR],
    length: usize,
    fragments: Vec<Fragment>,
    /// Fragments of the bytes up to each.
    counts: [usize; PAIR],
}

/// `\uXXXX`
const UNIT: usize = 6;
/// Two of them, for a character beyond U+FFFF.
const PAIR: usize = 12;

/// What a byte does to an escape.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is taken, and more is to come.
    More,
    /// It is taken, and so many bytes stand for this character.
    Whole(usize, char),
    /// It is taken; two halves of pairs that are none.
    Halves,
    /// It belongs to what follows: what came so far stands for something, whatever that is.
    Broken,
}

impl Escape {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where its first byte stands.
    pub(super) fn wire(&self) -> Option<u64> {
        self.fragments.first().map(|fragment| fragment.wire).filter(|_| self.length > 0)
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.fragments.clear();
    }

    /// The stretches of its bytes up to the one of this number, which are gone then.
    pub(super) fn take(&mut self, length: usize) -> Vec<Fragment> {
        let count = if length == 0 { 0 } else { self.counts[length - 1] };
        let mut merged: Vec<Fragment> = Vec::with_capacity(1);
        for fragment in self.fragments.drain(..count) {
            match merged.last_mut() {
                Some(last)
                    if last.wire + u64::from(last.length) == fragment.wire
                        && last.length < Fragment::MAX - fragment.length =>
                {
                    last.length += fragment.length;
                }
                _ => merged.push(fragment),
            }
        }
        self.bytes.copy_within(length.., 0);
        self.counts.copy_within(length.., 0);
        self.counts.iter_mut().for_each(|one| *one = one.saturating_sub(count));
        self.length -= length;
        merged
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Takes one more byte; the first is the backslash.
    pub(super) fn step(&mut self, byte: u8, origin: Origin<'_>) -> Step {
        let fits = match self.length {
            0 | 1 => true,
            length => match length % UNIT {
                0 => byte == b'\\',
                1 => byte == b'u',
                _ => byte.is_ascii_hexdigit(),
            },
        };
        if !fits {
            return Step::Broken;
        }
        match origin {
            Origin::Wire(wire) => self.fragments.push(Fragment { wire, length: 1 }),
            Origin::Escape(fragments) => self.fragments.extend_from_slice(fragments),
        }
        self.bytes[self.length] = byte;
        self.counts[self.length] = self.fragments.len();
        self.length += 1;
        match self.length {
            2 if byte != b'u' => Step::Whole(2, short(byte)),
            UNIT => match unit(&self.bytes) {
                0xd800..0xdc00 => Step::More,
                first => Step::Whole(UNIT, char::from_u32(first).unwrap_or('\u{fffd}')),
            },
            PAIR => match (unit(&self.bytes), unit(&self.bytes[UNIT..])) {
                (high, low @ 0xdc00..0xe000) => {
                    let scalar = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    Step::Whole(PAIR, char::from_u32(scalar).unwrap_or('\u{fffd}'))
                }
                _ => Step::Halves,
            },
            _ => Step::More,
        }
    }

    /// What the last unit stands for.
    pub(super) fn last_unit(&self) -> u32 {
        unit(&self.bytes[self.length.saturating_sub(UNIT)..])
    }
}

fn unit(bytes: &[u8]) -> u32 {
    let digits = std::str::from_utf8(&bytes[2..UNIT]).ok();
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd)
}

fn short(byte: u8) -> char {
    match byte {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'"' | b'\\' | b'/' => char::from(byte),
        _ => '\u{fffd}',
    }
}
