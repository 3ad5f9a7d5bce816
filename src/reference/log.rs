//! Log fields: the contract in the documentation of [`crate::audit`].

use crate::audit::Verified;
use crate::close::Close;
use crate::protocol::statement::{Kind, Outcome};
use std::fmt::Write;

const SOURCE: &str = include_str!("../audit/mod.rs");

/// Opens the part of the documentation that is for readers of the log.
const BEGIN: &str = "//! # Fields of the JSON lines";

/// The contract's sentences and table. Links into the source become the words that stand there.
pub(super) fn table() -> String {
    let mut out = String::new();
    let lines = SOURCE.lines().skip_while(|line| *line != BEGIN).skip(1);
    for line in lines.map_while(|line| line.strip_prefix("//!")) {
        let _ = writeln!(out, "{}", words(line.strip_prefix(' ').unwrap_or(line)));
    }
    format!("{}\n", out.trim_matches('\n'))
}

/// A line of the documentation, with the words of an enumeration in place of the link to it.
fn words(line: &str) -> String {
    let listed = |names: Vec<&str>| format!("`{}`", names.join("`, `"));
    let kinds = [
        Kind::Query,
        Kind::Parse,
        Kind::Bind,
        Kind::Describe,
        Kind::Execute,
        Kind::Close,
        Kind::Sync,
        Kind::FunctionCall,
    ];
    let outcomes = [
        Outcome::Done,
        Outcome::Suspended,
        Outcome::Error,
        Outcome::Skipped,
        Outcome::Unanswered,
        Outcome::NotFollowed,
    ];
    let verified =
        [Verified::NotAsked, Verified::NotShown, Verified::NotAtAll, Verified::Chain, Verified::ChainAndPin];
    line.replace(
        "[`Kind::name`](crate::protocol::statement::Kind::name)",
        &listed(kinds.map(Kind::name).to_vec()),
    )
    .replace(
        "[`Outcome::name`](crate::protocol::statement::Outcome::name)",
        &listed(outcomes.map(Outcome::name).to_vec()),
    )
    .replace("[`Verified::name`]", &listed(verified.map(Verified::name).to_vec()))
    .replace(
        "[`Close::name`] and [`Close::detail`]",
        &format!(
            "{}; and at which stage, or what the plaintext looked like",
            listed(Close::ALL.map(Close::name).to_vec())
        ),
    )
    .replace("[`NO_TLS`]", &format!("`{}`", crate::audit::NO_TLS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_points_into_the_source() {
        let table = table();
        assert!(table.contains("| `first_byte_us` | r |"), "{table}");
        for link in ["::", "](crate", "[`"] {
            assert!(!table.contains(link), "{link} in\n{table}");
        }
    }
}
