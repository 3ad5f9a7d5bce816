//! Text for the person at the terminal.

use std::io::Write;

/// Prints a line on standard error. Standard output belongs to the token.
pub(in crate::client) fn say(text: &str) {
    // Nobody reads on: there is no one to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
