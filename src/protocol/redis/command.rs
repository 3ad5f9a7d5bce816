//! One command that has come whole, and what of it is a login.

use super::{client, encode, encode_auth, number};
use crate::protocol::{Fault, hidden};
use std::fmt;
use zeroize::Zeroizing;

/// Words of a command that is read whole. A login has at most seven.
pub const MAX_WORDS: usize = 10;
/// Bytes of each of its words: the longest token that is verified at all.
pub const MAX_WORD: usize = 16 * 1024;
/// Bytes of a command in one line, as Redis has it.
pub const MAX_LINE: usize = 64 * 1024;
/// Bytes in which a command that is read whole is over, or has broken a rule.
pub const MAX_COMMAND: usize = MAX_WORDS * (MAX_WORD + 16) + 16;
/// Bytes of a line that holds a length or a count, its end included.
pub const MAX_NUMBER: usize = 24;
/// The largest word that passes. A server's own limit (`proto-max-bulk-len`, 512 MiB) may be lower.
pub const MAX_SIZE: u64 = u32::MAX as u64;

/// The words of a command.
pub type Words<'a> = Vec<&'a [u8]>;

/// The command at the front of `bytes` in words, and how long it is; `None` while more is needed. No words: nothing to
/// answer.
pub fn words(bytes: &[u8]) -> Result<Option<(Words<'_>, usize)>, Fault> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'*') => {}
        Some(_) => return line_words(bytes),
    }
    let Some((count, mut at)) = number_line(bytes)? else { return Ok(None) };
    if count > MAX_WORDS as i64 {
        return Err(client("too many words for a command that is to be read whole"));
    }
    let mut words = Vec::new();
    for _ in 0..count.max(0) {
        let Some((length, head)) = size_line(&bytes[at..])? else { return Ok(None) };
        if length > MAX_WORD as u64 {
            return Err(client("too long a word for a command that is to be read whole"));
        }
        at += head;
        let end = at + length as usize;
        let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
        if tail != b"\r\n" {
            return Err(client("a word that does not end where it says"));
        }
        words.push(&bytes[at..end]);
        at = end + 2;
    }
    Ok(Some((words, at)))
}

/// A command in one line. Quotes are understood nowhere here: where a word of a login could hold one, it is refused.
fn line_words(bytes: &[u8]) -> Result<Option<(Words<'_>, usize)>, Fault> {
    let end = memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_LINE)]);
    let Some(end) = end else {
        return if bytes.len() >= MAX_LINE { Err(client("too long a line")) } else { Ok(None) };
    };
    let line = &bytes[..end];
    // A server that takes a zero byte for the end of its input would find another command behind it.
    if line.contains(&0) {
        return Err(client("a zero byte in a line"));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
    let words: Words<'_> = line.split(blank).filter(|word| !word.is_empty()).collect();
    if let Some(name) = words.first() {
        if name.iter().any(|byte| matches!(byte, b'"' | b'\'' | b'\\')) {
            return Err(client("quotes in the name of a command"));
        }
        // A browser that was made to talk to a database.
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") {
            return Err(client("HTTP where commands are expected"));
        }
    }
    Ok(Some((words, end + 1)))
}

/// The number behind the type at the front of `bytes`, and where its line ends.
pub(super) fn number_line(bytes: &[u8]) -> Result<Option<(i64, usize)>, Fault> {
    let Some(end) = memchr::memchr(b'\r', &bytes[..bytes.len().min(MAX_NUMBER)]) else {
        let whole = bytes.len() >= MAX_NUMBER;
        return if whole { Err(client("too long a number")) } else { Ok(None) };
    };
    let value = number(&bytes[1..end]).ok_or_else(|| client("what should be a number is none"))?;
    match bytes.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((value, end + 2))),
        Some(_) => Err(client("a line that does not end as lines do")),
    }
}

/// The same for the size of a word.
pub(super) fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'$') => {}
        Some(_) => return Err(client("a word that does not begin with its size")),
    }
    let Some((size, at)) = number_line(bytes)? else { return Ok(None) };
    match u64::try_from(size) {
        Ok(size) if size <= MAX_SIZE => Ok(Some((size, at))),
        _ => Err(client("a word of an impossible size")),
    }
}

/// What the recording holds of the command at the front of `bytes`: of a login no word but those of the protocol's own.
pub fn view(bytes: &[u8]) -> Vec<u8> {
    let mut view = Vec::new();
    let Ok(Some((words, _))) = words(bytes) else { return view };
    let Some((name, arguments)) = words.split_first() else { return view };
    let is = |word: &[u8], known: &[u8]| word.eq_ignore_ascii_case(known);
    if !is(name, b"AUTH") && !is(name, b"HELLO") {
        encode(&words, &mut view);
        return view;
    }
    let plain = |word: &[u8]| [&b"2"[..], b"3", b"AUTH", b"SETNAME"].iter().any(|known| is(word, known));
    let shows = |word: &[u8]| is(name, b"HELLO") && plain(word);
    let shown: Vec<Vec<u8>> =
        arguments.iter().map(|word| if shows(word) { word.to_vec() } else { hidden(word) }).collect();
    let all: Words<'_> = std::iter::once(*name).chain(shown.iter().map(Vec::as_slice)).collect();
    encode(&all, &mut view);
    view
}

/// A parsed command, as far as the gateway needs it.
#[derive(PartialEq, Eq)]
pub enum Login {
    /// AUTH, with or without a user's name, which counts for nothing beside a token.
    Auth {
        /// The name; empty: none.
        user: Vec<u8>,
        /// In the place of the password.
        token: Zeroizing<Vec<u8>>,
    },
    /// HELLO.
    Hello {
        /// 2 or 3, if one is named.
        version: Option<u8>,
        /// The user's name behind AUTH; empty: none.
        user: Vec<u8>,
        /// In the place of the password behind AUTH.
        token: Option<Zeroizing<Vec<u8>>>,
        /// What the connection is to be called.
        name: Option<Vec<u8>>,
    },
    /// RESET.
    Reset,
    /// QUIT.
    Quit,
    /// An AUTH or HELLO that is wrong, and what it is answered with.
    Wrong(&'static str),
    /// Anything else.
    Other,
    /// No command at all, which has no answer.
    Nothing,
}

impl Login {
    /// Reads a command's words.
    pub fn of(words: &[&[u8]]) -> Login {
        let Some((name, arguments)) = words.split_first() else { return Login::Nothing };
        match name.to_ascii_uppercase().as_slice() {
            b"AUTH" => match arguments {
                [token] => Login::Auth { user: Vec::new(), token: Zeroizing::new(token.to_vec()) },
                [user, token] => Login::Auth { user: user.to_vec(), token: Zeroizing::new(token.to_vec()) },
                _ => Login::Wrong("ERR wrong number of arguments for 'auth' command"),
            },
            b"HELLO" => hello(arguments),
            b"RESET" if arguments.is_empty() => Login::Reset,
            b"RESET" => Login::Wrong("ERR wrong number of arguments for 'reset' command"),
            b"QUIT" => Login::Quit,
            _ => Login::Other,
        }
    }

    /// The token that is to be verified, if there is one.
    pub fn token(&self) -> Option<&[u8]> {
        match self {
            Login::Auth { token, .. } | Login::Hello { token: Some(token), .. } => Some(token),
            _ => None,
        }
    }

    /// The user that the client names; empty: none.
    pub fn user(&self) -> &[u8] {
        match self {
            Login::Auth { user, .. } | Login::Hello { user, .. } => user,
            _ => &[],
        }
    }

    /// Appends what goes up in its place, with the stored account where there was a token; nothing for what is not
    /// AUTH or HELLO.
    pub fn encode(&self, account: Option<(&str, &[u8])>, into: &mut Vec<u8>) {
        match self {
            Login::Auth { .. } => {
                if let Some((user, password)) = account {
                    encode_auth(user, password, into);
                }
            }
            Login::Hello { version, name, .. } => {
                let version: &[u8] = match version {
                    Some(2) => b"2",
                    Some(_) => b"3",
                    None => b"",
                };
                let mut words: Words<'_> = vec![b"HELLO"];
                if !version.is_empty() {
                    words.push(version);
                }
                if let Some((user, password)) = account {
                    words.extend([&b"AUTH"[..], user.as_bytes(), password]);
                }
                if let Some(name) = name {
                    words.extend([&b"SETNAME"[..], name]);
                }
                encode(&words, into);
            }
            _ => {}
        }
    }
}

/// Names no token: neither does it stand in a panic's text.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Auth { .. } => "Auth(…)",
            Login::Hello { token: Some(_), .. } => "Hello(…)",
            Login::Hello { token: None, .. } => "Hello",
            Login::Reset => "Reset",
            Login::Quit => "Quit",
            Login::Wrong(words) => words,
            Login::Other => "Other",
            Login::Nothing => "Nothing",
        })
    }
}

fn hello(arguments: &[&[u8]]) -> Login {
    const SYNTAX: Login = Login::Wrong("ERR syntax error in HELLO");
    let Some((version, mut rest)) = arguments.split_first() else {
        return Login::Hello { version: None, user: Vec::new(), token: None, name: None };
    };
    let version = match *version {
        b"2" => 2,
        b"3" => 3,
        _ => return Login::Wrong("NOPROTO unsupported protocol version"),
    };
    let (mut user, mut token, mut name) = (Vec::new(), None, None);
    while let Some((option, values)) = rest.split_first() {
        match (option.to_ascii_uppercase().as_slice(), values) {
            (b"AUTH", [named, word, more @ ..]) if token.is_none() => {
                user = named.to_vec();
                token = Some(Zeroizing::new(word.to_vec()));
                rest = more;
            }
            (b"SETNAME", [word, more @ ..]) if name.is_none() => {
                name = Some(word.to_vec());
                rest = more;
            }
            _ => return SYNTAX,
        }
    }
    Login::Hello { version: Some(version), user, token, name }
}
