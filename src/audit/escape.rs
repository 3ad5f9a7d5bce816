//! Text that clients and upstreams chose, made safe to print.
//!
//! Whoever reads a log in a terminal or line by line must see what was sent, not be steered by it: control
//! characters forge lines and move the cursor, bidirectional and invisible characters show another text than the
//! one that is there (CVE-2021-42574). Bytes that are not UTF-8 are shown as `\xNN`.

use std::fmt::{Result, Write};

/// How characters that cannot stand for themselves are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Inside a JSON string: `\u202e`.
    Json,
    /// On a terminal, inside quotes: `\u{202e}`.
    Human,
}

/// Writes `bytes` escaped, without the quotes around them.
///
/// What looks like a JWT is cut after its first characters: a client may put its token into a path, and an error
/// text may quote it.
pub(crate) fn escape(out: &mut impl Write, bytes: &[u8], style: Style) -> Result {
    if bytes.len() < TOKEN_MIN {
        return plain(out, bytes, style);
    }
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, TOKEN_START) {
        let len = rest[at..].iter().take_while(|b| is_token(**b)).count();
        let keep = at + if len >= TOKEN_MIN { TOKEN_START.len() } else { len };
        plain(out, &rest[..keep], style)?;
        if len >= TOKEN_MIN {
            out.write_str("…")?;
        }
        rest = &rest[at + len..];
    }
    plain(out, rest, style)
}

/// Base64url of `{"`, with which the header of every JWT begins.
const TOKEN_START: &[u8] = b"eyJ";

/// Shorter than any JWT header that names an algorithm: `{"alg":"x"}`.
const TOKEN_MIN: usize = 15;

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=')
}

fn plain(out: &mut impl Write, bytes: &[u8], style: Style) -> Result {
    // Nearly every text: one pass over a table, one copy.
    if bytes.iter().all(|b| HARMLESS[usize::from(*b)])
        && let Ok(text) = str::from_utf8(bytes)
    {
        return out.write_str(text);
    }
    for chunk in bytes.utf8_chunks() {
        valid(out, chunk.valid(), style)?;
        for byte in chunk.invalid() {
            match style {
                Style::Json => write!(out, "\\\\x{byte:02x}")?,
                Style::Human => write!(out, "\\x{byte:02x}")?,
            }
        }
    }
    Ok(())
}

fn valid(out: &mut impl Write, text: &str, style: Style) -> Result {
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if !special(c) {
            continue;
        }
        out.write_str(&text[start..at])?;
        start = at + c.len_utf8();
        match (c, style) {
            ('"' | '\\', _) => {
                out.write_char('\\')?;
                out.write_char(c)?;
            }
            ('\n', _) => out.write_str("\\n")?,
            ('\r', _) => out.write_str("\\r")?,
            ('\t', _) => out.write_str("\\t")?,
            (c, Style::Json) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            (c, Style::Human) => write!(out, "\\u{{{:x}}}", u32::from(c))?,
        }
    }
    out.write_str(&text[start..])
}

/// Printable ASCII without what JSON escapes.
const HARMLESS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    table
};

/// True for what must not stand in a line as it is.
fn special(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        ' '..='~' => false,
        '\u{61c}'                    // Arabic letter mark
        | '\u{ad}'                   // soft hyphen
        | '\u{180e}'                 // Mongolian vowel separator
        | '\u{200b}'..='\u{200f}'    // zero width, left-to-right and right-to-left marks
        | '\u{2028}'..='\u{202e}'    // line and paragraph separators, embeddings and overrides
        | '\u{2060}'..='\u{206f}'    // invisible operators, isolates
        | '\u{feff}'                 // zero width no-break space
        | '\u{fff9}'..='\u{fffb}'    // interlinear annotation
        | '\u{e0000}'..='\u{e007f}'  // tags
        => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(bytes: &[u8]) -> [String; 2] {
        [Style::Json, Style::Human].map(|style| {
            let mut out = String::new();
            escape(&mut out, bytes, style).unwrap();
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
    fn a_token_in_a_path_is_cut() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
        let [json, human] = both(format!("/x/{token}/y/{token}").as_bytes());
        assert_eq!(json, "/x/eyJ…/y/eyJ…");
        assert_eq!(human, json);
        assert_eq!(both(b"/eyJack/eyJ")[0], "/eyJack/eyJ");
    }
}
