//! The search for anchors that are texts: by a sign in them, or else by their first bytes, with vector instructions.

use super::detector::Detector;
use super::keys::Key;
use super::marks::SIGNS;
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

/// Searches for some of the anchors, by their first bytes.
pub(super) struct Searcher {
    literals: AhoCorasick,
    anchors: Vec<u16>,
    longest: usize,
}

/// Bytes of an anchor that are searched for: vector instructions compare no more at once.
const LITERAL: usize = 4;
/// Literals that one searcher looks for: with more, vector instructions compare half as many bytes at once.
const MAX_LITERALS: usize = 32;

impl Searcher {
    /// As many as these anchors need, but for those of [`Signed`].
    pub(super) fn all(anchors: &[Anchor]) -> Result<Vec<Searcher>, String> {
        let mut literals: Vec<(&[u8], Vec<u16>)> = Vec::new();
        for (number, anchor) in
            anchors.iter().enumerate().filter(|(_, anchor)| last_sign(&anchor.text).is_none())
        {
            let literal = &anchor.text[..anchor.text.len().min(LITERAL)];
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

/// The anchors that have a sign near their end, by that sign and the byte before it.
pub(super) struct Signed {
    /// For each pair a group, counted from 1; 0: no anchor has it.
    pairs: Box<[u16]>,
    /// Anchors, and where in them the sign stands.
    groups: Vec<Vec<(u16, usize)>>,
}

impl Signed {
    pub(super) fn new(anchors: &[Anchor]) -> Self {
        let signs: Vec<(u16, &[u8], usize)> = (0..)
            .zip(anchors)
            .filter_map(|(number, anchor)| Some((number, &anchor.text[..], last_sign(&anchor.text)?)))
            .collect();
        let (mut pairs, mut groups) = (vec![0; SIGN_ROWS * 256], Vec::new());
        for sign in SIGNS {
            for before in 0..=u8::MAX {
                let fits = |anchor: &[u8], at: usize| {
                    anchor[at] == sign && at.checked_sub(1).is_none_or(|at| anchor[at] == before)
                };
                let fitting = signs.iter().filter(|(_, anchor, at)| fits(anchor, *at));
                let group: Vec<(u16, usize)> = fitting.map(|(number, _, at)| (*number, *at)).collect();
                if group.is_empty() {
                    continue;
                }
                let known = groups.iter().position(|known| *known == group).unwrap_or_else(|| {
                    groups.push(group);
                    groups.len() - 1
                });
                pairs[pair(before, sign)] = known as u16 + 1;
            }
        }
        Signed { pairs: pairs.into(), groups }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Shows every anchor whose last sign is the one at `at`: which, and where it ends.
    pub(super) fn each_anchor(
        &self,
        anchors: &[Anchor],
        text: &[u8],
        at: usize,
        mut found: impl FnMut(u16, usize),
    ) {
        let before = at.checked_sub(1).map_or(0, |before| text[before]);
        let Some(group) = usize::from(self.pairs[pair(before, text[at])]).checked_sub(1) else { return };
        for (number, sign) in &self.groups[group] {
            let anchor = &anchors[usize::from(*number)].text;
            if let Some(from) = at.checked_sub(*sign)
                && text[from..].starts_with(anchor)
            {
                found(*number, from + anchor.len());
            }
        }
    }
}

/// No two signs have the same lowest five bits.
const SIGN_ROWS: usize = 32;

fn pair(before: u8, sign: u8) -> usize {
    usize::from(sign) % SIGN_ROWS * 256 + usize::from(before)
}

/// Where the last sign of an anchor stands, if little follows it.
fn last_sign(anchor: &[u8]) -> Option<usize> {
    let at = anchor.iter().rposition(|byte| SIGNS.contains(byte))?;
    (anchor.len() - 1 - at <= MAX_BEHIND_SIGN).then_some(at)
}

/// Bytes of an anchor behind its last sign.
pub(super) const MAX_BEHIND_SIGN: usize = 8;
