//! A cursor over text that may still grow; detectors that need more text stop and are called again.

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
    /// What of it stays.
    pub(super) keeps: Keeps,
    /// The value goes on behind `to`, as far as this says.
    pub(super) rest: Option<Rest>,
}

/// What of a value stays that is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// Spaces, dots, dashes and brackets between digits, so that the shape can be seen.
    Separators,
    /// The same of an address, of which letters are digits too.
    Address,
    /// Ends of lines, and dashes, of which only labels have some.
    Lines,
}

impl Keeps {
    /// True for a byte that stays.
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Keeps::Nothing => false,
            Keeps::Separators | Keeps::Address => SEPARATORS[usize::from(byte)],
            Keeps::Lines => matches!(byte, b'\r' | b'\n' | b'-'),
        }
    }
}

/// Nothing else that is not ASCII stands between digits.
static SEPARATORS: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < table.len() {
        table[byte] = matches!(
            byte as u8,
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b':' | b'\r' | b'\n' | b'\t' | 0x80..
        );
        byte += 1;
    }
    table
};

/// Where a value ends whose beginning is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Up to the first byte that is not of the class.
    Class(Class),
    /// Up to the line that ends a private key.
    PrivateKey,
    /// Up to this byte, or to the line's end.
    Until(u8),
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
    #[inline]
    pub(super) fn has(self, byte: u8) -> bool {
        const TABLE: [u8; 256] = classes();
        TABLE[usize::from(byte)] >> self as u8 & 1 == 1
    }

    const ALL: [Class; 5] = [Class::Word, Class::Dotted, Class::Token, Class::Upper, Class::Value];

    const fn contains(self, byte: u8) -> bool {
        match self {
            Class::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Class::Dotted => Class::Word.contains(byte) || byte == b'.',
            Class::Token => Class::Dotted.contains(byte) || matches!(byte, b'~' | b'+' | b'/' | b'='),
            Class::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Class::Value => {
                !matches!(byte, 0..=b' ' | b'"' | b'\'' | b'`' | b';' | b',' | b'&' | b'<' | b'>')
            }
        }
    }
}

/// A bit of each byte for each class that has it.
const fn classes() -> [u8; 256] {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < table.len() {
        let mut class = 0;
        while class < Class::ALL.len() {
            table[byte] |= (Class::ALL[class].contains(byte as u8) as u8) << Class::ALL[class] as u8;
            class += 1;
        }
        byte += 1;
    }
    table
}

/// What stands between the digits of a number: a space, a dash or a dot, in ASCII or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Separator {
    /// The byte of ASCII that it is or stands for.
    pub(super) kind: u8,
    /// Bytes of it.
    pub(super) length: usize,
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
    #[inline]
    pub(super) fn new(text: &'a [u8], at: usize, ended: bool) -> Self {
        Cursor { text, at, ended, hold: None }
    }

    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The byte `back` before the place, counted from 1; `None` before the text's beginning.
    #[inline]
    pub(super) fn behind(&self, back: usize) -> Option<u8> {
        self.at.checked_sub(back).map(|at| self.text[at])
    }

    /// True where no word stands directly before the place.
    #[inline]
    pub(super) fn starts_word(&self) -> bool {
        !self.behind(1).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// The hold point: what stands before it may have passed already.
    #[inline]
    pub(super) fn hold_here(&mut self) {
        self.hold.get_or_insert(self.at);
    }

    /// The next byte; `None` at the end of the whole text.
    #[inline]
    pub(super) fn peek(&self) -> Result<Option<u8>, Stop> {
        self.peek_at(0)
    }

    #[inline]
    pub(super) fn peek_at(&self, ahead: usize) -> Result<Option<u8>, Stop> {
        match self.text.get(self.at + ahead) {
            Some(byte) => Ok(Some(*byte)),
            None if self.ended => Ok(None),
            None => Err(Stop::More),
        }
    }

    #[inline]
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Takes the next byte if it is one of these.
    #[inline]
    pub(super) fn take_one_of(&mut self, bytes: &[u8]) -> Result<Option<u8>, Stop> {
        let byte = self.peek()?.filter(|byte| bytes.contains(byte));
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    /// The separator that is next, if it is one of these or what typesetters put in their place.
    #[inline]
    pub(super) fn separator(&self, of: &[u8]) -> Result<Option<Separator>, Stop> {
        match self.text.get(self.at) {
            Some(byte) if byte.is_ascii() => {
                Ok(of.contains(byte).then_some(Separator { kind: *byte, length: 1 }))
            }
            _ => self.separator_at(0, of),
        }
    }

    pub(super) fn separator_at(&self, ahead: usize, of: &[u8]) -> Result<Option<Separator>, Stop> {
        let Some(byte) = self.peek_at(ahead)? else { return Ok(None) };
        if byte.is_ascii() {
            return Ok(of.contains(&byte).then_some(Separator { kind: byte, length: 1 }));
        }
        let separator = match byte {
            // A space that does not break a line.
            0xc2 if self.peek_at(ahead + 1)? == Some(0xa0) => Separator { kind: b' ', length: 2 },
            0xe2 if self.peek_at(ahead + 1)? == Some(0x80) => match self.peek_at(ahead + 2)? {
                // Spaces of other widths, U+2000 to U+200A and U+202F; dashes, U+2010 to U+2015.
                Some(0x80..=0x8a | 0xaf) => Separator { kind: b' ', length: 3 },
                Some(0x90..=0x95) => Separator { kind: b'-', length: 3 },
                _ => return Ok(None),
            },
            // A minus sign.
            0xe2 if self.peek_at(ahead + 1)? == Some(0x88) && self.peek_at(ahead + 2)? == Some(0x92) => {
                Separator { kind: b'-', length: 3 }
            }
            _ => return Ok(None),
        };
        Ok(of.contains(&separator.kind).then_some(separator))
    }

    /// The digit that is next, if there is one at hand.
    #[inline]
    pub(super) fn next_digit(&self) -> Option<u8> {
        self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
    }

    /// Takes digits, at most so many.
    #[inline]
    pub(super) fn take_digits(&mut self, most: usize) -> usize {
        let rest = &self.text[self.at..];
        let length = rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        length
    }

    /// [`Stop::More`] where the text ends here and may go on.
    #[inline]
    pub(super) fn needs_more(&self) -> Result<(), Stop> {
        if self.ended || self.at < self.text.len() { Ok(()) } else { Err(Stop::More) }
    }

    /// Why there is none.
    #[inline]
    pub(super) fn no_digit(&self) -> Stop {
        match self.ended || self.at < self.text.len() {
            true => Stop::No,
            false => Stop::More,
        }
    }

    /// Takes a digit if one is next.
    #[inline]
    pub(super) fn take_digit(&mut self) -> Result<Option<u8>, Stop> {
        let byte = self.peek()?.filter(u8::is_ascii_digit);
        self.at += usize::from(byte.is_some());
        Ok(byte.map(|byte| byte - b'0'))
    }

    /// Takes exactly so many digits, and says what number they are.
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
    #[inline]
    pub(super) fn number_ends(&self) -> Result<bool, Stop> {
        Ok(match self.peek()? {
            None => true,
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' => false,
            Some(b'.') => !self.peek_at(1)?.is_some_and(|byte| byte.is_ascii_digit()),
            Some(_) => true,
        })
    }
}
