//! Spans of masked values, for recordings and `staunch mask try`.

use super::wire::Cut;
use std::collections::VecDeque;

/// Bytes of one value that were overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The rule, by its place among all.
    pub rule: usize,
    /// Where, in the bytes of the body. Framing that the protocol puts around its pieces does not count; of a database's
    /// messages all bytes count.
    pub offset: u64,
    /// How many.
    pub length: usize,
}

impl Span {
    fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// Spans of a body, until somebody takes them.
#[derive(Debug)]
pub(super) struct Spans {
    list: Vec<Span>,
    counts_framing: bool,
    /// Framing that may still stand before a span: where on the wire, and how many bytes.
    framing: VecDeque<(u64, u64)>,
    /// Bytes of framing before those.
    framed: u64,
}

impl Spans {
    pub(super) fn new(counts_framing: bool) -> Self {
        Spans { list: Vec::new(), counts_framing, framing: VecDeque::new(), framed: 0 }
    }

    /// Notes framing at `wire`; nothing before `base` is overwritten any more.
    pub(super) fn add_framing(&mut self, wire: u64, length: u64, base: u64) {
        if self.counts_framing {
            return;
        }
        while self.framing.front().is_some_and(|(wire, length)| wire + length <= base) {
            self.framed += self.framing.pop_front().map_or(0, |(_, length)| length);
        }
        match self.framing.back_mut() {
            Some((at, have)) if *at + *have == wire => *have += length,
            _ => self.framing.push_back((wire, length)),
        }
    }

    /// Adds what is overwritten; what touches the span before it, by the same rule, continues that.
    pub(super) fn add(&mut self, cut: &Cut) {
        let before = self.framing.iter().take_while(|(wire, _)| *wire < cut.wire);
        let framed = self.framed + before.map(|(_, length)| length).sum::<u64>();
        let span = Span { rule: cut.rule.into(), offset: cut.wire - framed, length: cut.length };
        match self.list.last_mut() {
            Some(last) if last.rule == span.rule && (last.offset..=last.end()).contains(&span.offset) => {
                last.length = (last.end().max(span.end()) - last.offset) as usize;
            }
            _ => self.list.push(span),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All so far, in order, what touches joined.
    pub(super) fn take(&mut self) -> Vec<Span> {
        let mut spans = std::mem::take(&mut self.list);
        spans.sort_by_key(|span| span.offset);
        spans.dedup_by(|next, last| {
            let joins = last.rule == next.rule && last.end() >= next.offset;
            if joins {
                last.length = (last.end().max(next.end()) - last.offset) as usize;
            }
            joins
        });
        spans
    }
}
