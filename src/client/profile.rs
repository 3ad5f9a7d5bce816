//! A profile: the name of one login.

use std::fmt;
use std::str::FromStr;

/// The name of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile(String);

impl Profile {
    const DEFAULT: &'static str = "default";
    /// File names have room for it and what is put after it.
    const MAX_NAME_BYTES: usize = 64;

    pub(super) fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl Default for Profile {
    fn default() -> Self {
        Profile(Self::DEFAULT.into())
    }
}

impl FromStr for Profile {
    type Err = String;
    /// The name becomes part of file names: no separators, no leading dot.
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match text.chars().all(fits)
            && !text.starts_with(['.', '-'])
            && (1..=Self::MAX_NAME_BYTES).contains(&text.len())
        {
            true => Ok(Profile(text.to_owned())),
            false => Err(format!(
                "a profile is named by 1 to {} letters, digits, '-', '_' and '.', the first a letter or digit",
                Self::MAX_NAME_BYTES
            )),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
