//! Questions to the person at the terminal.

use crate::client::{Fault, Reference};
use crate::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use zeroize::Zeroizing;

/// Bytes of an answer. Keys of services are shorter, and so is everything else that is asked.
const MAX_ANSWER: u64 = 16 * 1024;

/// Answers that are no answers before a question is given up.
const MAX_TRIES: usize = 5;

/// Prints a line for the person at the terminal.
pub(super) fn say(text: &str) {
    // Nobody reads on: there is no one to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A person who can be asked, or nobody.
pub(super) struct Terminal {
    is_there: bool,
}

impl Terminal {
    /// Standard input and standard error, where both are a terminal.
    pub(super) fn open() -> Terminal {
        Terminal { is_there: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    /// Nobody, for tests.
    #[cfg(test)]
    pub(super) fn nobody() -> Terminal {
        Terminal { is_there: false }
    }

    /// True when somebody can be asked.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// Asks until the answer can be read; an empty one is `default`.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Fault> {
        for _ in 0..MAX_TRIES {
            let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
            let Some(answer) = self.line(&format!("{question}{shown}: "))? else {
                say("  that is no text in UTF-8");
                continue;
            };
            let answer = match bare(&answer) {
                "" => default,
                answer => answer,
            };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(why) => say(&format!("  {why}")),
            }
        }
        Err(Fault::Person("no answer that can be used".into()))
    }

    /// Asks for a secret, which is not shown while it is typed, or for where it stands (`env:NAME`, `file:PATH`), until `check` says
    /// nothing against it.
    pub(super) fn ask_secret(
        &mut self,
        question: &str,
        check: impl Fn(&Secret) -> Result<(), String>,
    ) -> Result<Secret, Fault> {
        for _ in 0..MAX_TRIES {
            let answer = self.hidden_line(&format!("{question} (not shown; or env:NAME, file:PATH): "))?;
            let text = answer.trim();
            let secret = match text.parse::<Reference>() {
                _ if text.is_empty() => Err("there is nothing to store".to_owned()),
                Ok(reference) => reference.read().map_err(|fault| fault.to_string()),
                Err(_) => Ok(Secret::new(text.as_bytes().to_vec())),
            };
            match secret.and_then(|secret| check(&secret).map(|()| secret)) {
                Ok(secret) => return Ok(secret),
                Err(why) => say(&format!("  {why}")),
            }
        }
        Err(Fault::Person("no secret that can be stored; give --secret env:NAME or file:PATH".into()))
    }

    /// A line, or nothing where it is no text.
    fn line(&mut self, prompt: &str) -> Result<Option<String>, Fault> {
        let _ = io::stderr().write_all(prompt.as_bytes());
        let mut answer = String::new();
        match io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer) {
            Ok(0) => Err(nobody()),
            Ok(_) => Ok(Some(answer)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(Fault::Machine(format!("standard input: {error}"))),
        }
    }

    /// A line that is not shown. Keys that end or interrupt come as characters, so that the terminal shows again what is typed
    /// whatever happens.
    fn hidden_line(&mut self, prompt: &str) -> Result<Zeroizing<String>, Fault> {
        let _ = io::stderr().write_all(prompt.as_bytes());
        let hidden = Hidden::new();
        let mut answer = Zeroizing::new(Vec::with_capacity(512));
        let mut ended = false;
        for byte in io::stdin().lock().take(MAX_ANSWER).bytes() {
            match byte.map_err(|error| Fault::Machine(format!("standard input: {error}")))? {
                INTERRUPT | QUIT => break,
                END if answer.is_empty() => break,
                END => {}
                b'\n' | b'\r' => {
                    ended = true;
                    break;
                }
                ERASE | BACKSPACE => {
                    // A whole character of UTF-8.
                    while answer.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                ERASE_LINE => answer.clear(),
                byte => answer.push(byte),
            }
        }
        drop(hidden);
        say("");
        match ended {
            true => Ok(Zeroizing::new(String::from_utf8_lossy(&answer).into_owned())),
            false => Err(nobody()),
        }
    }
}

/// What the usual keys of a terminal send.
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: u8 = 8;
const ERASE_LINE: u8 = 21;
const QUIT: u8 = 28;
const ERASE: u8 = 127;

fn nobody() -> Fault {
    Fault::Person("nobody answered; nothing was written".into())
}

/// An answer without what people copy along: blanks, a terminal's marks of a paste, quotes.
fn bare(answer: &str) -> &str {
    let text = answer.trim();
    let text = text.strip_prefix("\u{1b}[200~").unwrap_or(text);
    let text = text.strip_suffix("\u{1b}[201~").unwrap_or(text).trim();
    for (open, close) in [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>')] {
        if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return inner.trim();
        }
    }
    text
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Option<Termios>);

impl Hidden {
    fn new() -> Hidden {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            // Where it cannot be set, the person sees what is typed.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        }
        Hidden(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn what_people_copy_along_is_no_part_of_an_answer() {
        for (written, read) in [
            (" https://i \n", "https://i"),
            ("\"https://i\"", "https://i"),
            ("<https://i>", "https://i"),
            ("\u{1b}[200~https://i\u{1b}[201~\n", "https://i"),
            ("'", "'"),
            ("a\"b", "a\"b"),
            ("\"\"", ""),
        ] {
            assert_eq!(bare(written), read);
        }
    }
}
