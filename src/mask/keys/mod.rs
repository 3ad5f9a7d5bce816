//! Detectors of secrets: each begins with a prefix that a machine gave it, or stands behind a name, and is held from behind that.

mod formats;

use super::cursor::{Class, Cursor, Hit, Keeps, Rest, Stop};
use super::detector::Detector;
use formats::{BASIC, Setting, Shape, USER_INFO, setting_named};
pub(super) use formats::{KEYS, Key, has_settings, is_secret_member};

/// Reads a secret, entered behind its prefix.
pub(super) fn key(detector: Detector, key: &Key, cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let before = cursor.behind(key.prefix.len() + 1);
    let inside_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match (key.shape, detector, key.prefix) {
        (Shape::Own, _, USER_INFO) => return userinfo(cursor),
        (Shape::Own, _, BASIC) => return basic(cursor),
        (Shape::Own, Detector::PrivateKey, _) => return private_key(cursor),
        (Shape::Suffix, ..) => {}
        _ if inside_word => return Err(Stop::No),
        (Shape::Own, ..) => return jwt(cursor),
        _ => {}
    }
    cursor.hold_here();
    let from = cursor.at();
    cursor.exactly(key.class, key.least)?;
    if key.shape == Shape::Mixed && !is_mixed(&cursor.text()[from + 1..cursor.at()]) {
        return Err(Stop::No);
    }
    if key.shape == Shape::Exact && cursor.peek()?.is_some_and(|byte| key.class.has(byte)) {
        return Err(Stop::No);
    }
    let rest = (key.shape != Shape::Exact).then_some(Rest::Class(key.class));
    Ok(Hit { from, to: cursor.at(), keeps: Keeps::Nothing, rest })
}

/// True for what no word of a language has.
fn is_mixed(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// The setting whose name stands before the sign at `at`, with or without quotation marks and spaces.
pub(super) fn setting_before(text: &[u8], at: usize) -> Option<&'static Setting> {
    let mut name = &text[at.saturating_sub(MAX_NAME)..at];
    let spaces = name.iter().rev().take(MAX_SPACES).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    name = &name[..name.len() - spaces];
    if let [rest @ .., b'"' | b'\'' | b'`'] = name {
        name = rest;
        while let [rest @ .., b'\\'] = name {
            name = rest;
        }
    }
    setting_named(name)
}

/// Bytes before a sign in which a name is looked for.
const MAX_NAME: usize = 40;

/// A value behind its name, entered at the sign: `name=value`, `name: 'value'`, `"name" => "value"`, `Pwd={value}`.
pub(super) fn setting(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let setting = setting_before(cursor.text(), cursor.at()).ok_or(Stop::No)?;
    let sign = cursor.take_one_of(b"=:")?.ok_or(Stop::No)?;
    cursor.take_one_of(b"=>")?;
    take_spaces(cursor)?;
    cursor.hold_here();
    let (quote, escaped) = take_quote(cursor)?;
    let from = cursor.at();
    let until = match quote {
        // Its end is written as its beginning was.
        Some(_) if escaped => Some(b'\\'),
        Some(b'{') => Some(b'}'),
        quote => quote,
    };
    if let Some(last) = until {
        if cursor.peek()?.is_none_or(|byte| byte == last || matches!(byte, b'\r' | b'\n')) {
            return Err(Stop::No);
        }
        cursor.skip(1);
        let rest = Some(Rest::Until(last));
        return Ok(Hit { from, to: cursor.at(), keeps: Keeps::Nothing, rest });
    }
    // What stands behind a colon may as well be prose.
    if sign == b':' && !has_digit_ahead(setting.class, cursor)? {
        return Err(Stop::No);
    }
    cursor.exactly(setting.class, setting.least)?;
    let rest = Some(Rest::Class(setting.class));
    Ok(Hit { from, to: cursor.at(), keeps: Keeps::Nothing, rest })
}

/// Takes a quotation mark, or the bracket that stands for one, and says whether it was escaped.
fn take_quote(cursor: &mut Cursor<'_>) -> Result<(Option<u8>, bool), Stop> {
    let mut escapes = 0;
    while escapes < 3 && cursor.peek_at(escapes)? == Some(b'\\') {
        escapes += 1;
    }
    let quote = cursor.peek_at(escapes)?.filter(|byte| b"\"'`{".contains(byte));
    if quote.is_some() {
        cursor.skip(escapes + 1);
    }
    Ok((quote, quote.is_some() && escapes > 0))
}

fn take_spaces(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    for _ in 0..MAX_SPACES {
        if cursor.take_one_of(b" \t")?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Spaces around the sign behind a name.
const MAX_SPACES: usize = 4;

/// True when a digit is among the next bytes of the class.
fn has_digit_ahead(class: Class, cursor: &Cursor<'_>) -> Result<bool, Stop> {
    for ahead in 0..DIGIT_WITHIN {
        match cursor.peek_at(ahead)? {
            Some(byte) if byte.is_ascii_digit() => return Ok(true),
            Some(byte) if class.has(byte) => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Bytes of a value in which a digit is looked for.
const DIGIT_WITHIN: usize = 32;

/// `Basic` and the base64 of a user, a colon and a password (RFC 7617). The word's first letter is either case.
fn basic(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let first = cursor.behind(BASIC.len() + 1);
    let inside_word = cursor.behind(BASIC.len() + 2).is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !matches!(first, Some(b'B' | b'b')) || inside_word {
        return Err(Stop::No);
    }
    cursor.hold_here();
    let from = cursor.at();
    let (mut bits, mut many, mut colon) = (0u32, 0, false);
    while let Some(value) = cursor.peek()?.and_then(sextet) {
        if cursor.at() - from == MAX_BASIC {
            return Err(Stop::No);
        }
        cursor.skip(1);
        (bits, many) = (bits << 6 | value, many + 6);
        if many >= 8 {
            many -= 8;
            let byte = (bits >> many) as u8;
            bits &= (1 << many) - 1;
            if byte.is_ascii_control() {
                return Err(Stop::No);
            }
            colon |= byte == b':';
        }
    }
    while cursor.take_one_of(b"=")?.is_some() {}
    if !colon {
        return Err(Stop::No);
    }
    Ok(Hit { from, to: cursor.at(), keeps: Keeps::Nothing, rest: None })
}

/// What a character of base64 stands for, in either alphabet (RFC 4648).
fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Characters of a user and a password in base64.
const MAX_BASIC: usize = 1_024;

/// A JSON Web Token (RFC 7519): a header that begins as JSON does in base64url, and two parts more; those of an encrypted one are
/// no JSON.
fn jwt(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    cursor.hold_here();
    let from = cursor.at();
    if cursor.run(Class::Word, MAX_JWT_PART)? < 8 {
        return Err(Stop::No);
    }
    cursor.literal(b".")?;
    if !(cursor.peek()? == Some(b'e') && cursor.peek_at(1)? == Some(b'y') && cursor.peek_at(2)? == Some(b'J'))
    {
        cursor.run(Class::Word, MAX_JWT_PART)?;
        cursor.literal(b".")?;
        if !cursor.peek()?.is_some_and(|byte| Class::Word.has(byte)) {
            return Err(Stop::No);
        }
    }
    let rest = Some(Rest::Class(Class::Dotted));
    Ok(Hit { from, to: cursor.at(), keeps: Keeps::Nothing, rest })
}

/// Bytes of a token's header that are looked at; a key in it (`jwk`) makes it long. An encrypted token's key is shorter.
const MAX_JWT_PART: usize = 1_024;

/// A private key in PEM (RFC 7468), of any kind.
fn private_key(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    cursor.hold_here();
    let from = cursor.at();
    for _ in 0..=MAX_KEY_KIND {
        match cursor.peek()? {
            Some(b'-') => {
                let kind = &cursor.text()[from..cursor.at()];
                if !kind.ends_with(b"PRIVATE KEY") && !kind.ends_with(b"PRIVATE KEY BLOCK") {
                    return Err(Stop::No);
                }
                cursor.literal(b"-----")?;
                // The label says what it is, and stays.
                let to = cursor.at();
                return Ok(Hit { from: to, to, keeps: Keeps::Nothing, rest: Some(Rest::PrivateKey) });
            }
            Some(byte) if byte == b' ' || byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                cursor.skip(1)
            }
            _ => return Err(Stop::No),
        }
    }
    Err(Stop::No)
}

/// `ENCRYPTED PRIVATE KEY` and the like.
const MAX_KEY_KIND: usize = 40;

/// A password in a URL: `scheme://user:password@host`.
fn userinfo(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let part = |byte: u8| {
        Class::Value.has(byte) && !matches!(byte, b'/' | b':' | b'@' | b'?' | b'#' | b'[' | b']' | b'{')
    };
    let mut user = 0;
    loop {
        match cursor.peek()? {
            Some(b':') => break,
            Some(byte) if part(byte) && user < MAX_USERINFO => cursor.skip(1),
            _ => return Err(Stop::No),
        }
        user += 1;
    }
    cursor.skip(1);
    cursor.hold_here();
    let (from, mut to) = (cursor.at(), None);
    // A password that was not encoded may have an `@` itself: the last one ends it.
    loop {
        match cursor.peek()? {
            Some(b'@') if cursor.at() > from => to = Some(cursor.at()),
            Some(byte) if part(byte) || byte == b':' => {}
            _ => break,
        }
        if cursor.at() - from == 2 * MAX_USERINFO {
            break;
        }
        cursor.skip(1);
    }
    Ok(Hit { from, to: to.ok_or(Stop::No)?, keeps: Keeps::Nothing, rest: None })
}

/// Bytes of a user or a password in a URL.
const MAX_USERINFO: usize = 128;
