//! Text that clients and upstreams chose, made safe to print.
//!
//! Whoever reads a log in a terminal or line by line must see what was sent, not be steered by it: control
//! characters forge lines and move the cursor, bidirectional and invisible characters show another text than the
//! one that is there (CVE-2021-42574). Bytes that are not UTF-8 are shown as `\xNN`.

use super::token;
use std::fmt::Write;

/// How characters that cannot stand for themselves are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Inside a JSON string: `\u202e`.
    Json,
    /// On a terminal, inside quotes: `\u{202e}`.
    Human,
}

/// How a text is written, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escape {
    /// For whom.
    pub(crate) style: Style,
    /// Bytes that may be written, counted after escaping: six bytes for one would be an amplifier.
    pub(crate) limit: usize,
    /// The text goes on beyond what is given: a token may have been cut in two.
    pub(crate) is_cut: bool,
}

impl Escape {
    /// Writes as much of `bytes` as the limit allows, without the quotes around them. True when that is all of them.
    ///
    /// A JWT is left out, since a client may put its token into a path, and an error text may quote it. In its place stands
    /// `eyJ…` and the beginning of its SHA-256 ([`token::find`]). Linear in the length of the text.
    pub(crate) fn write(self, out: &mut String, bytes: &[u8]) -> bool {
        let end = out.len().saturating_add(self.limit);
        let mut rest = bytes;
        while let Some(found) = token::find(rest, self.is_cut) {
            if !self.plain(out, &rest[..found.start], end) {
                return false;
            }
            let start = out.len();
            token::write_digest(out, &rest[found.clone()]);
            if out.len() > end {
                out.truncate(start);
                return false;
            }
            rest = &rest[found.end..];
        }
        self.plain(out, rest, end)
    }

    /// Writes up to `end`, whole characters only.
    fn plain(self, out: &mut String, bytes: &[u8], end: usize) -> bool {
        // Nearly every text: one pass over a table, one copy.
        if bytes.len() <= end - out.len()
            && bytes.iter().all(|b| UNESCAPED[usize::from(*b)])
            && let Ok(text) = str::from_utf8(bytes)
        {
            out.push_str(text);
            return true;
        }
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let start = out.len();
                self.character(out, c);
                if out.len() > end {
                    out.truncate(start);
                    return false;
                }
            }
            for byte in chunk.invalid() {
                let start = out.len();
                // Writing to a String cannot fail.
                let _ = match self.style {
                    Style::Json => write!(out, "\\\\x{byte:02x}"),
                    Style::Human => write!(out, "\\x{byte:02x}"),
                };
                if out.len() > end {
                    out.truncate(start);
                    return false;
                }
            }
        }
        true
    }

    fn character(self, out: &mut String, c: char) {
        match (c, self.style) {
            ('"' | '\\', _) => {
                out.push('\\');
                out.push(c);
            }
            ('\n', _) => out.push_str("\\n"),
            ('\r', _) => out.push_str("\\r"),
            ('\t', _) => out.push_str("\\t"),
            (c, _) if !is_misleading(c) => out.push(c),
            (c, Style::Json) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            (c, Style::Human) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
}

/// Printable ASCII without what JSON escapes.
const UNESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    table
};

/// True for what shows nothing, or something else than what it is: control characters, separators of lines, and all that
/// Unicode says may be ignored in display, bidirectional controls among it.
fn is_misleading(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        c => c.is_control() || DEFAULT_IGNORABLE.iter().any(|(first, last)| (*first..=*last).contains(&c)),
    }
}

/// Default_Ignorable_Code_Point of Unicode 16.0 (DerivedCoreProperties.txt): 4,174 code points, unassigned ones among
/// them.
const DEFAULT_IGNORABLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // combining grapheme joiner
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark
    ('\u{115f}', '\u{1160}'),   // Hangul fillers
    ('\u{17b4}', '\u{17b5}'),   // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),   // Mongolian variation selectors, vowel separator
    ('\u{200b}', '\u{200f}'),   // zero width, left-to-right and right-to-left marks
    ('\u{202a}', '\u{202e}'),   // embeddings and overrides
    ('\u{2060}', '\u{206f}'),   // word joiner, invisible operators, isolates
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fe00}', '\u{fe0f}'),   // variation selectors
    ('\u{feff}', '\u{feff}'),   // zero width no-break space
    ('\u{ffa0}', '\u{ffa0}'),   // halfwidth Hangul filler
    ('\u{fff0}', '\u{fff8}'),   // unassigned
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical beams and slurs
    ('\u{e0000}', '\u{e0fff}'), // tags, variation selectors supplement
];

#[cfg(test)]
mod tests {
    use super::*;

    fn both(bytes: &[u8]) -> [String; 2] {
        [Style::Json, Style::Human].map(|style| {
            let mut out = String::new();
            assert!(Escape { style, limit: usize::MAX, is_cut: false }.write(&mut out, bytes));
            out
        })
    }

    #[test]
    fn what_could_forge_a_line_or_turn_it_round_is_escaped() {
        let table: [(&[u8], &str, &str); 9] = [
            (b"/v1/chat", "/v1/chat", "/v1/chat"),
            ("/grüße/🦀".as_bytes(), "/grüße/🦀", "/grüße/🦀"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\\"b\\\\c"),
            (b"a\r\nb\tc", "a\\r\\nb\\tc", "a\\r\\nb\\tc"),
            (b"\x1b[2J\x00\x7f", "\\u001b[2J\\u0000\\u007f", "\\u{1b}[2J\\u{0}\\u{7f}"),
            ("\u{202e}\u{2066}".as_bytes(), "\\u202e\\u2066", "\\u{202e}\\u{2066}"),
            ("\u{200e}\u{61c}\u{85}".as_bytes(), "\\u200e\\u061c\\u0085", "\\u{200e}\\u{61c}\\u{85}"),
            ("\u{e0041}".as_bytes(), "\\udb40\\udc41", "\\u{e0041}"),
            (b"a\xff\xc3b", "a\\\\xff\\\\xc3b", "a\\xff\\xc3b"),
        ];
        for (bytes, json, human) in table {
            assert_eq!(both(bytes), [json, human], "{bytes:?}");
        }
    }

    #[test]
    fn every_string_comes_back_from_json_as_it_was() {
        for c in (0..=0x10_ffff_u32).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            let [json, human] = both(text.as_bytes());
            let back: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
            assert_eq!(back, text);
            assert!(!json.contains(char::is_control) && !human.contains(char::is_control));
        }
    }

    #[test]
    fn all_that_shows_nothing_is_escaped() {
        let ignorable: usize =
            DEFAULT_IGNORABLE.iter().map(|(first, last)| *last as usize - *first as usize + 1).sum();
        assert_eq!(ignorable, 4174);
        for c in [
            '\u{200b}',
            '\u{34f}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0101}',
            '\u{2069}',
            '\u{2028}',
            '\u{fff9}',
            '\u{9f}',
        ] {
            assert!(both(c.to_string().as_bytes()).iter().all(|text| text.is_ascii()), "{c:?}");
        }
        assert_eq!(both("é한語🦀".as_bytes())[0], "é한語🦀");
    }

    #[test]
    fn the_limit_counts_what_is_written_and_cuts_between_characters() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln";
        for (text, limit, expected, whole) in [
            ("abcdef", 6, "abcdef", true),
            ("abcdef", 5, "abcde", false),
            ("\u{1}\u{1}\u{1}", 17, "\\u0001\\u0001", false),
            ("ab\"", 3, "ab", false),
            ("aüü", 4, "aü", false),
            ("🦀", 3, "", false),
            (token, 13, "", false),
            (token, 14, &both(token.as_bytes())[0], true),
        ] {
            let mut out = String::from("before ");
            let written =
                Escape { style: Style::Json, limit, is_cut: false }.write(&mut out, text.as_bytes());
            assert_eq!((out.strip_prefix("before "), written), (Some(expected), whole), "{text}");
        }
    }
}
