//! Rules of the operator's own: a literal anchor that may pass, and a bounded regular expression for what follows it.

use super::cursor::{Cursor, Hit, Keeps, Stop};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// A compiled expression.
pub struct Pattern {
    dfa: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// Bytes that a value of an own rule may have: what is held before its verdict.
pub const MAX_PATTERN: usize = 512;
/// Memory for the automaton of one rule.
const MAX_AUTOMATON: usize = 1024 * 1024;

impl Pattern {
    /// Compiles an expression (bytes, ASCII classes); `Err` says why it cannot be a rule.
    pub fn new(expression: &str) -> Result<Self, String> {
        let config = syntax::Config::new().unicode(false).utf8(false);
        let parsed = syntax::parse_with(expression, &config).map_err(|fault| fault.to_string())?;
        let properties = parsed.properties();
        match properties.maximum_len() {
            Some(most) if most <= MAX_PATTERN => {}
            _ => {
                return Err(format!(
                    "has no bound; a value of at most {MAX_PATTERN} bytes can be held: write `{{1,40}}` in place of `+` or `*`"
                ));
            }
        }
        if properties.minimum_len().unwrap_or(0) == 0 {
            return Err("matches the empty text".into());
        }
        if !properties.look_set().is_empty() {
            return Err("looks around itself (`^`, `$`, `\\b`); it begins behind its anchor as it is".into());
        }
        let dfa = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .dfa_size_limit(Some(MAX_AUTOMATON))
                    .determinize_size_limit(Some(4 * MAX_AUTOMATON)),
            )
            .syntax(config)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_AUTOMATON)))
            .build(expression)
            .map_err(|fault| format!("is too large: {fault}"))?;
        let start = dfa
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|fault| fault.to_string())?;
        Ok(Pattern { dfa, start })
    }

    /// Reads a value, entered behind the anchor: the longest that the expression takes.
    pub(super) fn detect(&self, cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
        cursor.hold_here();
        let from = cursor.at();
        let (mut state, mut longest) = (self.start, None);
        // A match is told with the byte behind it.
        loop {
            match cursor.peek()? {
                Some(byte) => {
                    state = self.dfa.next_state(state, byte);
                    if self.dfa.is_match_state(state) {
                        longest = Some(cursor.at());
                    }
                    if self.dfa.is_dead_state(state) || self.dfa.is_quit_state(state) {
                        break;
                    }
                    cursor.skip(1);
                }
                None => {
                    if self.dfa.is_match_state(self.dfa.next_eoi_state(state)) {
                        longest = Some(cursor.at());
                    }
                    break;
                }
            }
        }
        let to = longest.ok_or(Stop::No)?;
        Ok(Hit { from, to, keeps: Keeps::Nothing, rest: None })
    }
}
