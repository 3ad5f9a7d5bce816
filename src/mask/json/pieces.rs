//! Texts that come in pieces, one in each event. To which text a piece belongs may stand behind it, so it waits for its event's end.

use super::paths;
use crate::mask::rules::Rules;
use crate::mask::text::Text;
use crate::mask::wire::{Copied, Found, Fragment, Held, Origin, Why};

/// Texts that go on in later events, at a time.
const MAX_TEXTS: usize = 256;
/// Bytes of pieces and copies that wait for their event's end. An event that is longer has one text, or none that goes on.
const MUCH: usize = 4 * 1024;

/// Which text a piece belongs to: its path, and the indexes around it.
type Key = (u8, u64);

/// A piece of a text.
#[derive(Debug)]
pub(super) struct Piece {
    path: u8,
    /// Levels around it whose indexes are not counted yet.
    depth: usize,
    index: u64,
    text: Vec<u8>,
    runs: Vec<Run>,
    copies: Vec<Copied>,
}

/// Bytes of a piece, and where they came from.
#[derive(Debug)]
struct Run {
    length: usize,
    wire: u64,
    /// Empty: they stand there as they are.
    fragments: Vec<Fragment>,
}

/// All texts that go on.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    texts: Vec<(Key, Text)>,
    /// Pieces of the event at hand.
    waiting: Vec<Piece>,
    /// What repeats the token at hand.
    pub(super) copies: Vec<Copied>,
    bytes: usize,
    /// The text of the piece at hand was chosen before its event ended.
    pub(super) is_early: bool,
}

impl Piece {
    pub(super) fn new(path: u8, depth: usize) -> Self {
        Piece { path, depth, index: 0, text: Vec::new(), runs: Vec::new(), copies: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8], origin: Origin<'_>) {
        self.text.extend_from_slice(bytes);
        let (wire, fragments) = match origin {
            Origin::Wire(wire) => match self.runs.last_mut() {
                Some(run) if run.fragments.is_empty() && run.wire + run.length as u64 == wire => {
                    run.length += bytes.len();
                    return;
                }
                _ => (wire, Vec::new()),
            },
            Origin::Escape(fragments) => {
                (fragments.first().map_or(0, |fragment| fragment.wire), fragments.to_vec())
            }
        };
        self.runs.push(Run { length: bytes.len(), wire, fragments });
    }
}

impl Pieces {
    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.waiting.clear();
        self.copies.clear();
        (self.bytes, self.is_early) = (0, false);
    }

    pub(super) fn begin(&mut self, piece: Piece) {
        self.waiting.push(piece);
    }

    /// Appends to the piece that began last.
    pub(super) fn push(&mut self, bytes: &[u8], origin: Origin<'_>) {
        if let Some(piece) = self.waiting.last_mut() {
            piece.push(bytes, origin);
            self.bytes += bytes.len();
        }
    }

    /// The level that is the one of this number is over: what stands in it has this index. `ends_token`: it was that of a token,
    /// with all that repeats it.
    pub(super) fn close_level(&mut self, depth: usize, index: u64, ends_token: bool) {
        if ends_token {
            let copies = std::mem::take(&mut self.copies);
            self.bytes += copies.len();
            if let Some(piece) = self.waiting.last_mut().filter(|piece| piece.depth == depth + 1) {
                piece.copies = copies;
            }
        }
        for piece in self.waiting.iter_mut().rev().take_while(|piece| piece.depth > depth) {
            piece.depth = depth;
            piece.index = piece.index.wrapping_mul(4_099).wrapping_add(index);
        }
    }

    /// True when the end of the event should not be waited for.
    pub(super) fn is_much(&self) -> bool {
        self.bytes > MUCH
    }

    /// Every piece's text is known: it goes there. `goes_on`: the last piece is not over.
    pub(super) fn end_event(
        &mut self,
        goes_on: bool,
        rules: &Rules,
        found: &mut Found,
    ) -> Result<(), &'static str> {
        // Its text was chosen, by what stood before it.
        let last = self.waiting.last().filter(|_| goes_on);
        let rest = last.map(|piece| Piece { index: piece.index, ..Piece::new(piece.path, 0) });
        self.is_early = goes_on;
        self.copies.clear();
        self.bytes = 0;
        for piece in std::mem::take(&mut self.waiting) {
            let key = (piece.path, piece.index);
            let place = match self.texts.iter().position(|(known, _)| *known == key) {
                Some(place) => place,
                None if self.texts.len() == MAX_TEXTS => {
                    return Err("more texts at a time than can be followed");
                }
                None => {
                    let text = if paths::may_be_json(piece.path) { Text::new(0) } else { Text::plain() };
                    self.texts.push((key, text));
                    self.texts.len() - 1
                }
            };
            let text = &mut self.texts[place].1;
            let mut at = 0;
            for run in &piece.runs {
                let origin = match run.fragments.is_empty() {
                    true => Origin::Wire(run.wire),
                    false => Origin::Escape(&run.fragments),
                };
                text.push(&piece.text[at..at + run.length], origin, rules, found);
                at += run.length;
            }
            text.push_copies(piece.text.len(), &piece.copies);
            text.scan(rules, false, found);
        }
        self.waiting.extend(rest);
        Ok(())
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        self.texts.iter_mut().for_each(|(_, text)| text.scan(rules, true, found));
        self.texts.clear();
    }

    /// The first byte of the wire that must not pass yet.
    pub(super) fn hold(&self) -> Option<Held> {
        let waiting = self.waiting.iter().filter_map(|piece| piece.runs.first()).map(|run| run.wire);
        let copies = self.waiting.iter().flat_map(|piece| &piece.copies).chain(&self.copies);
        let texts = self.texts.iter().filter_map(|(_, text)| text.hold());
        let waiting = waiting.chain(copies.map(|copied| copied.at.wire));
        waiting.map(|wire| Held { wire, why: Why::Event }).chain(texts).min()
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        self.texts.iter_mut().map(|(_, text)| text.force(passes, rules, found)).sum()
    }
}
