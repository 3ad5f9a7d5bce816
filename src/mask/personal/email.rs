//! E-mail addresses.

use super::hit;
use crate::mask::cursor::{Class, Cursor, Hit, Keeps, Stop};

/// An e-mail address, entered at its `@`, from which on it is overwritten: the part before may pass.
pub(in crate::mask) fn email(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'\"".contains(&byte) || byte >= 0x80;
    if !cursor.behind(1).is_some_and(local) {
        return Err(Stop::No);
    }
    cursor.hold_here();
    cursor.skip(1);
    let from = cursor.at();
    loop {
        let ascii = cursor.text()[cursor.at()..].iter().take_while(|byte| Class::Dotted.has(**byte));
        let room = MAX_DOMAIN + 1 - (cursor.at() - from);
        cursor.skip(ascii.take(room).count());
        if cursor.at() - from > MAX_DOMAIN {
            return Err(Stop::No);
        }
        let Some(byte) = cursor.peek()? else { break };
        let goes_on = match byte {
            // Letters of two bytes, and what stands behind the first of more.
            0x80..=0xbf | 0xc3..=0xdf => true,
            // Scripts without blanks: behind a whole host such a letter begins the next word. None of 0xe2 is a letter.
            0xe0 | 0xe1 | 0xe3..=0xf4 => !is_whole(&cursor.text()[from..cursor.at()]),
            _ => false,
        };
        if !goes_on {
            break;
        }
        if cursor.at() - from == MAX_DOMAIN {
            return Err(Stop::No);
        }
        cursor.skip(1);
    }
    let text = &cursor.text()[from..cursor.at()];
    let length =
        text.iter().rposition(|byte| is_letter(*byte) || byte.is_ascii_digit()).map_or(0, |last| last + 1);
    let mut labels = text[..length].rsplit(|byte| *byte == b'.');
    let top = labels.next().unwrap_or_default();
    let is_top = top.len() >= 2 && (top.iter().all(|byte| is_letter(*byte)) || top.starts_with(b"xn--"));
    let mut rest = labels.peekable();
    if !is_top || rest.peek().is_none() || rest.any(|label| label.is_empty() || label.contains(&b'_')) {
        return Err(Stop::No);
    }
    hit(cursor, from + length, Keeps::Nothing)
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// True for a host that ends with a top-level domain of ASCII letters.
fn is_whole(host: &[u8]) -> bool {
    let dot = host.iter().rposition(|byte| *byte == b'.');
    dot.is_some_and(|dot| host[dot + 1..].len() >= 2 && host[dot + 1..].iter().all(u8::is_ascii_alphabetic))
}

/// Bytes of a host's name (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253;
