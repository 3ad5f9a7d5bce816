//! A reader over text that may still grow: what needs more text says so, and is asked again when there is more.

/// Why a detector stops without a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// This is no hit, whatever follows.
    No,
    /// The text ends here and may go on.
    More,
}

/// What a detector found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// First byte that is overwritten. Never before the hold point.
    pub(super) from: usize,
    /// One past the last byte that is overwritten.
    pub(super) to: usize,
    /// Spaces, dots, dashes and brackets between digits stay, so that the shape can be seen.
    pub(super) keeps_shape: bool,
    /// The value goes on behind `to`, as far as this says.
    pub(super) rest: Option<Rest>,
}

/// How far a value goes whose beginning is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Up to the first byte that is not of the class.
    Class(Class),
    /// Up to the line that ends a private key.
    PrivateKey,
}

/// A set of bytes that values consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `A-Z a-z 0-9 _ -`
    Word,
    /// [`Class::Word`] and `.`
    Dotted,
    /// [`Class::Dotted`] and `~ + / =`
    Token,
    /// `A-Z 0-9`
    Upper,
    /// Everything but white space, quotes and what separates settings.
    Value,
}

impl Class {
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Class::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Class::Dotted => Class::Word.has(byte) || byte == b'.',
            Class::Token => Class::Dotted.has(byte) || matches!(byte, b'~' | b'+' | b'/' | b'='),
            Class::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Class::Value => {
                !matches!(byte, 0..=b' ' | b'"' | b'\'' | b'`' | b';' | b',' | b'&' | b'<' | b'>')
            }
        }
    }
}

/// A place in a text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    /// The text is complete.
    ended: bool,
    /// Nothing from here on may pass before the verdict; `None`: the hold point is not reached.
    pub(super) hold: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], at: usize, ended: bool) -> Self {
        Cursor { text, at, ended, hold: None }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The byte `back` before the place, counted from 1; `None` before the text's beginning.
    pub(super) fn behind(&self, back: usize) -> Option<u8> {
        self.at.checked_sub(back).map(|at| self.text[at])
    }

    /// True where no word stands directly before the place.
    pub(super) fn starts_word(&self) -> bool {
        !self.behind(1).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// The hold point: what stands before it may have passed already.
    pub(super) fn hold_here(&mut self) {
        self.hold.get_or_insert(self.at);
    }

    /// The next byte; `None` at the end of the whole text.
    pub(super) fn peek(&self) -> Result<Option<u8>, Stop> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Result<Option<u8>, Stop> {
        match self.text.get(self.at + ahead) {
            Some(byte) => Ok(Some(*byte)),
            None if self.ended => Ok(None),
            None => Err(Stop::More),
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Takes the next byte if it is one of these.
    pub(super) fn take_one_of(&mut self, bytes: &[u8]) -> Result<Option<u8>, Stop> {
        let byte = self.peek()?.filter(|byte| bytes.contains(byte));
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    /// Takes a digit if one is next.
    pub(super) fn take_digit(&mut self) -> Result<Option<u8>, Stop> {
        let byte = self.peek()?.filter(u8::is_ascii_digit);
        self.at += usize::from(byte.is_some());
        Ok(byte.map(|byte| byte - b'0'))
    }

    /// Takes exactly so many digits.
    pub(super) fn digits(&mut self, count: usize) -> Result<u32, Stop> {
        let mut value = 0;
        for _ in 0..count {
            value = value * 10 + u32::from(self.take_digit()?.ok_or(Stop::No)?);
        }
        Ok(value)
    }

    /// Takes bytes of a class: all that follow, at most `most`. [`Stop::No`] where there are more.
    pub(super) fn run(&mut self, class: Class, most: usize) -> Result<usize, Stop> {
        let from = self.at;
        while let Some(byte) = self.text.get(self.at) {
            if !class.has(*byte) {
                return Ok(self.at - from);
            }
            if self.at - from == most {
                return Err(Stop::No);
            }
            self.at += 1;
        }
        if self.ended { Ok(self.at - from) } else { Err(Stop::More) }
    }

    /// Takes so many bytes of a class.
    pub(super) fn exactly(&mut self, class: Class, count: usize) -> Result<(), Stop> {
        for _ in 0..count {
            match self.peek()? {
                Some(byte) if class.has(byte) => self.at += 1,
                _ => return Err(Stop::No),
            }
        }
        Ok(())
    }

    /// Takes these bytes.
    pub(super) fn literal(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        for byte in bytes {
            match self.peek()? {
                Some(next) if next == *byte => self.at += 1,
                _ => return Err(Stop::No),
            }
        }
        Ok(())
    }

    /// True where no word goes on. A dot or a comma with a digit behind it is a number that goes on.
    pub(super) fn number_ends(&self) -> Result<bool, Stop> {
        Ok(match self.peek()? {
            None => true,
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' => false,
            Some(b'.') => !self.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit()),
            Some(_) => true,
        })
    }
}
