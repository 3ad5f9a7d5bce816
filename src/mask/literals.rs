//! The search for anchors that are texts: by their first bytes, with vector instructions.

use super::detector::Detector;
use super::keys::Key;
use aho_corasick::{AhoCorasick, MatchKind};

/// A text behind which a value may stand.
pub(super) struct Anchor {
    pub(super) rule: u16,
    pub(super) text: Box<[u8]>,
    pub(super) what: What,
}

pub(super) enum What {
    Key(Detector, &'static Key),
    Own,
    /// What follows of a credential, or of an encoding of it.
    Credential(Box<[u8]>),
}

/// Searches for some of the anchors.
pub(super) struct Searcher {
    literals: AhoCorasick,
    anchors: Vec<u16>,
    longest: usize,
}

/// Bytes of an anchor that are searched for: vector instructions compare no more at once.
const LITERAL: usize = 4;
/// What many anchors begin with, and no word of a text.
const FAMILIES: [&[u8]; 4] = [b"xox", b"sk_", b"rk_", b"sk-"];
/// Literals that one searcher has vector instructions for; with more of them, it steps from byte to byte.
const MAX_LITERALS: usize = 60;

impl Searcher {
    /// As many as these anchors need.
    pub(super) fn all(anchors: &[Anchor]) -> Result<Vec<Searcher>, String> {
        let mut literals: Vec<(&[u8], Vec<u16>)> = Vec::new();
        for (number, anchor) in anchors.iter().enumerate() {
            let family = FAMILIES.into_iter().find(|family| anchor.text.starts_with(family));
            let literal = family.unwrap_or(&anchor.text[..anchor.text.len().min(LITERAL)]);
            match literals.iter_mut().find(|(known, _)| *known == literal) {
                Some((_, numbers)) => numbers.push(number as u16),
                None => literals.push((literal, vec![number as u16])),
            }
        }
        let searcher = |some: &[(&[u8], Vec<u16>)]| {
            let numbers: Vec<u16> = some.iter().flat_map(|(_, numbers)| numbers).copied().collect();
            let length = |number: &u16| anchors[usize::from(*number)].text.len();
            let literals = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(some.iter().map(|(literal, _)| literal))
                .map_err(|fault| fault.to_string())?;
            Ok(Searcher {
                literals,
                longest: numbers.iter().map(length).max().unwrap_or(0),
                anchors: numbers,
            })
        };
        literals.chunks(MAX_LITERALS).map(searcher).collect()
    }

    /// Shows every anchor in `text` that ends behind `seen`: which, and where it ends.
    pub(super) fn each_anchor(
        &self,
        anchors: &[Anchor],
        text: &[u8],
        seen: usize,
        mut found: impl FnMut(u16, usize),
    ) {
        let mut from = (seen + 1).saturating_sub(self.longest);
        while let Some(place) = self.literals.find(&text[from..]).map(|place| from + place.start()) {
            for number in &self.anchors {
                let anchor = &anchors[usize::from(*number)].text;
                let end = place + anchor.len();
                if text[place] == anchor[0] && end > seen && text[place..].starts_with(anchor) {
                    found(*number, end);
                }
            }
            from = place + 1;
        }
    }
}
