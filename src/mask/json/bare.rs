//! Numbers and words: how far they go, and whether JSON has any that begin so.

/// A number or a word, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Bare {
    /// Its first bytes.
    begun: Vec<u8>,
    length: usize,
    part: Part,
}

/// Bytes that are kept.
const KEPT: usize = 20;
/// Words of JSON, and numbers that some write into it.
const WORDS: [&[u8]; 5] = [b"true", b"false", b"null", b"NaN", b"Infinity"];

/// What may follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Begin,
    Minus,
    Whole,
    Fraction,
    /// Behind an `e`, of which a sign may follow.
    Exponent,
    ExponentDigits,
    /// A word of this number, and so many bytes of it.
    Word(usize, usize),
    /// White space behind it.
    Blank,
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// What follows belongs to the structure.
    Over,
    /// What follows is not of JSON.
    NoJson,
}

impl Bare {
    pub(super) fn clear(&mut self) {
        self.begun.clear();
        (self.length, self.part) = (0, Part::Begin);
    }

    /// Bytes of it so far.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The whole number that it is; 0 for what is none.
    pub(super) fn number(&self) -> u64 {
        std::str::from_utf8(&self.begun).ok().and_then(|text| text.trim_end().parse().ok()).unwrap_or(0)
    }

    /// So many bytes belong to it, and what comes then.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, End) {
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(byte, b',' | b'}' | b']' | b':' | b'\t' | b'\r' | b'\n') && self.part != Part::Begin {
                return (at, End::Over);
            }
            let Some(part) = self.part.step(*byte) else { return (at, End::NoJson) };
            self.part = part;
            self.length += 1;
            if self.begun.len() < KEPT {
                self.begun.push(*byte);
            }
        }
        (bytes.len(), End::Open)
    }
}

impl Part {
    fn step(self, byte: u8) -> Option<Part> {
        let word = |known: usize, at: usize| WORDS[known].get(at) == Some(&byte);
        Some(match (self, byte) {
            (Part::Begin, b'-') => Part::Minus,
            (Part::Begin | Part::Minus | Part::Whole, b'0'..=b'9') => Part::Whole,
            (Part::Whole, b'.') => Part::Fraction,
            (Part::Fraction, b'0'..=b'9') => Part::Fraction,
            (Part::Whole | Part::Fraction, b'e' | b'E') => Part::Exponent,
            (Part::Exponent, b'+' | b'-') => Part::ExponentDigits,
            (Part::Exponent | Part::ExponentDigits, b'0'..=b'9') => Part::ExponentDigits,
            (Part::Begin | Part::Minus, _) => Part::Word((0..WORDS.len()).find(|known| word(*known, 0))?, 1),
            (Part::Word(known, at), _) if word(known, at) => Part::Word(known, at + 1),
            (Part::Word(known, at), b' ') if WORDS[known].len() == at => Part::Blank,
            (Part::Whole | Part::Fraction | Part::ExponentDigits | Part::Blank, b' ') => Part::Blank,
            _ => return None,
        })
    }
}
