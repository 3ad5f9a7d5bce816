//! Where commands begin and end, whatever the pieces in which they come, and which of them are withheld.

use super::client;
use super::command::{Login, MAX_LINE, MAX_NUMBER, number_line, size_line, view, words};
use super::work::{Kind, Work};
use crate::protocol::{Edit, Fault};
use zeroize::Zeroizing;

/// Bytes of a name that are looked at: the longest that means something here is PUNSUBSCRIBE.
const MAX_NAME: usize = 12;

/// Follows the client's commands by their lengths.
///
/// ```text
///   | *count CR LF | $size CR LF | name CR LF | $size CR LF | word CR LF | …
///     withheld until the name is known         followed by lengths
/// ```
#[derive(Default)]
pub struct Commands {
    place: Place,
    /// The front of a command of which more is needed.
    held: Zeroizing<Vec<u8>>,
    /// SYNC or PSYNC went up.
    replicates: bool,
}

/// What the next byte is.
#[derive(Clone, Copy, Default)]
enum Place {
    /// The first of a command.
    #[default]
    Between,
    /// One of the line that holds a word's size; `have` of it are here.
    Size { line: [u8; MAX_NUMBER], have: usize, words: i64 },
    /// One of a word and the line's end behind it, `left` together; `words` follow.
    Word { left: u64, words: i64 },
}

/// What [`Commands::pass`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// All input was dealt with.
    All,
    /// A login was taken out. What goes up in its place is to be put in before the next call.
    Login(Login),
}

/// What the front of a command tells.
enum Front {
    /// Nothing to do, nothing to answer.
    Nothing { length: usize },
    /// It passes: `length` bytes at once, the rest by lengths.
    Passes { kind: Kind, length: usize, then: Place },
    /// It is withheld and whole.
    Login { login: Login, length: usize },
}

impl Commands {
    /// True between two commands.
    pub fn is_between(&self) -> bool {
        matches!(self.place, Place::Between) && self.held.is_empty()
    }

    /// True once the client asked to replicate: what comes down is no sequence of replies.
    pub fn replicates(&self) -> bool {
        self.replicates
    }

    /// Lets commands pass up to the next login. `work` hears of each.
    pub fn pass(&mut self, edit: &mut Edit<'_>, work: &mut Work) -> Result<Passed, Fault> {
        while !edit.is_done() {
            if !matches!(self.place, Place::Between) {
                let taken = self.follow(edit.rest())?;
                edit.keep(taken);
                continue;
            }
            let before = self.held.len();
            // A line has its meaning at its end: what was searched for that once is not searched again.
            let no_line_yet = before > 0
                && self.held[0] != b'*'
                && before + edit.rest().len() < MAX_LINE
                && memchr::memchr(b'\n', edit.rest()).is_none();
            let front = if before == 0 {
                front(edit.rest())?
            } else if no_line_yet {
                self.held.extend_from_slice(edit.rest());
                None
            } else {
                self.held.extend_from_slice(edit.rest());
                front(&self.held)?
            };
            let Some(front) = front else {
                if before == 0 {
                    self.held.extend_from_slice(edit.rest());
                }
                edit.skip(edit.rest().len());
                break;
            };
            if let (Front::Login { .. }, true) = (&front, edit.view().is_some()) {
                let shown = view(if before == 0 { edit.rest() } else { &self.held });
                edit.view().into_iter().for_each(|view| view.extend_from_slice(&shown));
            }
            match front {
                Front::Nothing { length } | Front::Login { length, .. } => edit.skip(length - before),
                Front::Passes { length, then, kind } => {
                    self.place = then;
                    if before == 0 {
                        edit.keep(length);
                    } else {
                        let held = std::mem::take(&mut self.held);
                        // More was waited for than passes now: it belongs to the same command.
                        let (mut at, end) = (length, length.max(before));
                        while at < end {
                            at += self.follow(&held[at..end])?;
                        }
                        edit.skip(end - before);
                        edit.put_back(&held[..end]);
                    }
                    self.replicates |= kind == Kind::Replication;
                    work.up(kind);
                }
            }
            if before > 0 {
                self.held = Zeroizing::default();
            }
            if let Front::Login { login, .. } = front {
                return Ok(Passed::Login(login));
            }
        }
        Ok(Passed::All)
    }

    /// Goes on in a command whose name is known; returns how many bytes that is.
    fn follow(&mut self, data: &[u8]) -> Result<usize, Fault> {
        match &mut self.place {
            Place::Between => Ok(0),
            Place::Word { left, words } => {
                if *left > 2 {
                    let here = (*left - 2).min(data.len() as u64);
                    *left -= here;
                    return Ok(here as usize);
                }
                let expected = if *left == 2 { b'\r' } else { b'\n' };
                if data[0] != expected {
                    return Err(client("a word that does not end where it says"));
                }
                *left -= 1;
                if *left == 0 {
                    self.place = behind_word(*words);
                }
                Ok(1)
            }
            Place::Size { line, have, words } => {
                let (before, words) = (*have, *words);
                let new = data.len().min(MAX_NUMBER - before);
                line[before..before + new].copy_from_slice(&data[..new]);
                let Some((size, length)) = size_line(&line[..before + new])? else {
                    *have = before + new;
                    return Ok(new);
                };
                self.place = Place::Word { left: size + 2, words: words - 1 };
                Ok(length - before)
            }
        }
    }
}

/// What follows a word with `words` more to come.
fn behind_word(words: i64) -> Place {
    match words {
        0 => Place::Between,
        words => Place::Size { line: [0; MAX_NUMBER], have: 0, words },
    }
}

/// Reads as much of a command as tells what it is; `None` while more is needed.
fn front(bytes: &[u8]) -> Result<Option<Front>, Fault> {
    if bytes.first() != Some(&b'*') {
        return line(bytes);
    }
    let Some((count, at)) = number_line(bytes)? else { return Ok(None) };
    if count <= 0 {
        return Ok(Some(Front::Nothing { length: at }));
    }
    if count > i64::from(i32::MAX) {
        return Err(client("an impossible number of words"));
    }
    let Some((size, head)) = size_line(&bytes[at..])? else { return Ok(None) };
    let (at, seen) = (at + head, size.min(MAX_NAME as u64) as usize);
    let Some(name) = bytes.get(at..at + seen) else { return Ok(None) };
    // Servers look names up in tables of C strings: such a name may be found as what stands before the zero byte.
    if name.contains(&0) {
        return Err(client("a zero byte in the name of a command"));
    }
    let then = Place::Word { left: size - seen as u64 + 2, words: count - 1 };
    let passes = |kind| Ok(Some(Front::Passes { kind, length: at + seen, then }));
    if size > MAX_NAME as u64 {
        return passes(Kind::Ordinary);
    }
    match name.to_ascii_uppercase().as_slice() {
        b"AUTH" | b"HELLO" | b"RESET" => whole(bytes),
        b"CLIENT" if count == 3 => match is_reply(&bytes[at + seen..]) {
            Some(true) => whole(bytes),
            Some(false) => passes(Kind::Ordinary),
            None => Ok(None),
        },
        name => passes(kind(name)),
    }
}

/// A command in one line.
fn line(bytes: &[u8]) -> Result<Option<Front>, Fault> {
    let Some((words, length)) = words(bytes)? else { return Ok(None) };
    let Some(name) = words.first().map(|name| name.to_ascii_uppercase()) else {
        return Ok(Some(Front::Nothing { length }));
    };
    match name.as_slice() {
        b"AUTH" | b"HELLO" | b"RESET" => {
            let quoted = |word: &&[u8]| word.iter().any(|byte| matches!(byte, b'"' | b'\'' | b'\\'));
            if words.iter().any(quoted) {
                return Err(client("quotes in a login"));
            }
            whole(bytes)
        }
        b"CLIENT" if words.len() == 3 && words[1].eq_ignore_ascii_case(b"REPLY") => whole(bytes),
        name => Ok(Some(Front::Passes { kind: kind(name), length, then: Place::Between })),
    }
}

/// A command of which all is needed.
fn whole(bytes: &[u8]) -> Result<Option<Front>, Fault> {
    let Some((words, length)) = words(bytes)? else { return Ok(None) };
    let mode = match *words.as_slice() {
        [name, _, mode] if name.eq_ignore_ascii_case(b"CLIENT") => mode.to_ascii_uppercase(),
        _ => return Ok(Some(Front::Login { login: Login::of(&words), length })),
    };
    let kind = match mode.as_slice() {
        b"OFF" => Kind::ReplyOff,
        b"ON" => Kind::ReplyOn,
        b"SKIP" => Kind::ReplySkip,
        _ => Kind::Ordinary,
    };
    Ok(Some(Front::Passes { kind, length, then: Place::Between }))
}

/// Whether REPLY stands behind the name whose end is at the front of `bytes`; `None` while more is needed.
fn is_reply(bytes: &[u8]) -> Option<bool> {
    const WANTED: &[u8] = b"\r\n$5\r\nREPLY\r\n";
    let here = bytes.len().min(WANTED.len());
    if !bytes[..here].eq_ignore_ascii_case(&WANTED[..here]) {
        return Some(false);
    }
    (here == WANTED.len()).then_some(true)
}

fn kind(name: &[u8]) -> Kind {
    match name {
        b"MULTI" => Kind::Multi,
        b"EXEC" | b"DISCARD" => Kind::MultiEnds,
        b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" => Kind::Subscription,
        b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" => Kind::Subscription,
        b"SYNC" | b"PSYNC" => Kind::Replication,
        b"MONITOR" => Kind::Monitor,
        _ => Kind::Ordinary,
    }
}
