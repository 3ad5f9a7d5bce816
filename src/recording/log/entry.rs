//! Entries: one line of text each, `verb key=value key=value …`, the last one `time=` in ns since 1970.

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What happened.
    pub verb: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    /// Reads a line.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let verb = words.next().filter(|verb| !verb.is_empty())?;
        let fields = words.map(|word| word.split_once('=')).collect::<Option<_>>()?;
        Some(Entry { verb, fields })
    }

    /// A field's value.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// A number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// A SHA-256.
    pub fn hash(&self, key: &str) -> Option<[u8; 32]> {
        super::super::unhex(self.get(key)?)?.try_into().ok()
    }

    /// A session.
    pub fn session(&self) -> Option<crate::names::SessionId> {
        u64::from_str_radix(self.get("session")?, 16).ok().map(crate::names::SessionId)
    }
}

/// A text that somebody wrote, as one value: blanks and controls become `_`.
pub fn word(text: &str) -> String {
    let plain = |c: char| if c.is_whitespace() || c.is_control() || c == '=' { '_' } else { c };
    text.chars().take(200).map(plain).collect()
}
