//! Questions to the person at the terminal.

use crate::client::Fault;
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
            let answer = self.line(&format!("{question}{shown}: "))?;
            let answer = if answer.trim().is_empty() { default } else { answer.trim() };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(why) => say(&format!("  {why}")),
            }
        }
        Err(Fault::Person("no answer that can be used".into()))
    }

    /// Asks for a secret, which is not shown while it is typed.
    pub(super) fn ask_secret(&mut self, question: &str) -> Result<Secret, Fault> {
        let hidden = Hidden::new();
        let answer = self.line(&format!("{question} (not shown): "));
        drop(hidden);
        say("");
        let answer = answer?;
        match answer.trim() {
            "" => Err(Fault::Person("there is nothing to store; give --secret env:NAME or file:PATH".into())),
            text => Ok(Secret::new(text.as_bytes().to_vec())),
        }
    }

    fn line(&mut self, prompt: &str) -> Result<Zeroizing<String>, Fault> {
        let _ = io::stderr().write_all(prompt.as_bytes());
        let mut answer = Zeroizing::new(String::with_capacity(512));
        let read = io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer);
        match read {
            Ok(0) => Err(Fault::Person("nobody answered".into())),
            Ok(_) => Ok(answer),
            Err(error) => Err(Fault::Machine(format!("standard input: {error}"))),
        }
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Option<Termios>);

impl Hidden {
    fn new() -> Hidden {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
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
