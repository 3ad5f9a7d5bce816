//! What bodies begin with that are not what their head says: compressed, or in characters of several bytes.

/// The first bytes of a body.
#[derive(Debug)]
pub(super) struct Magic {
    seen: [u8; LONGEST],
    length: usize,
    /// Its head says that it has a syntax of ASCII, in which no byte is nought.
    has_syntax: bool,
}

const LONGEST: usize = 4;
/// Beginnings of what cannot be read.
const KNOWN: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "a body is compressed (gzip) and does not say so"),
    (b"\x28\xb5\x2f\xfd", "a body is compressed (zstd) and does not say so"),
    (b"\xff\xfe", "a body is in UTF-16 and does not say so"),
    (b"\xfe\xff", "a body is in UTF-16 and does not say so"),
    (b"PK\x03\x04", "a body is compressed (zip) and does not say so"),
    (b"\x00\x00\xfe\xff", "a body is in UTF-32 and does not say so"),
];

impl Magic {
    /// For a body of which nothing was read. `has_syntax`: its head says JSON, a form, events.
    pub(super) fn new(has_syntax: bool) -> Magic {
        Magic { seen: [0; LONGEST], length: 0, has_syntax }
    }

    /// Takes the next bytes of the body. `Err` says what it is.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let taken = bytes.len().min(LONGEST - self.length);
        self.seen[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
        let seen = &self.seen[..self.length];
        if let Some((_, fault)) = KNOWN.iter().find(|(known, _)| seen.starts_with(known)) {
            return Err(fault);
        }
        let is_ascii = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if let [a, 0, b, 0] | [0, a, 0, b] = self.seen
            && self.length == LONGEST
            && is_ascii(a)
            && is_ascii(b)
        {
            return Err("a body is in UTF-16 and does not say so");
        }
        match self.has_syntax && seen.contains(&0) {
            true => Err("a body is in characters of several bytes and does not say so"),
            false => Ok(()),
        }
    }

    /// True while more is to be seen.
    pub(super) fn is_open(&self) -> bool {
        self.length < LONGEST
    }
}
