//! A statement's text, cut at a limit.

use super::mask::{mask_identified, mask_passwords};

/// A statement's text as it goes by, of which no more is kept than a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    kept: Vec<u8>,
    whole: u64,
    limit: usize,
}

impl Text {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Text { kept: Vec::new(), whole: 0, limit }
    }

    /// The next piece, however the text was split.
    pub fn push(&mut self, piece: &[u8]) {
        let room = (self.limit - self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(&piece[..room]);
        self.whole += piece.len() as u64;
    }

    /// The text is whole: ends what was cut between two characters.
    pub fn end(&mut self) {
        if !self.is_cut() {
            return;
        }
        // UTF-8 has at most three bytes behind the first of a character.
        let first = (1..=4)
            .find(|back| self.kept.len().checked_sub(*back).is_none_or(|at| self.kept[at] & 0xc0 != 0x80));
        let length = self.kept.len();
        if let Some(back) = first.filter(|back| *back <= length) {
            let wanted = match self.kept[length - back] {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0.. => 4,
                _ => 1,
            };
            if wanted > back {
                self.kept.truncate(length - back);
            }
        }
    }

    /// What was kept.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// How long the text is, kept or not.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// True where the text is longer than the limit.
    pub fn is_cut(&self) -> bool {
        self.whole > self.limit as u64
    }

    /// Masks what identifies accounts, see [`mask_identified`](super::mask_identified).
    pub fn mask_identified(&mut self) {
        mask_identified(&mut self.kept);
    }

    /// Masks passwords, see [`mask_passwords`](super::mask_passwords). The length is still that of what was sent.
    pub fn mask_passwords(&mut self) {
        mask_passwords(&mut self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(text: &[u8], limit: usize, piece: usize) -> Text {
        let mut gathered = Text::new(limit);
        text.chunks(piece).for_each(|piece| gathered.push(piece));
        gathered.end();
        gathered
    }

    #[test]
    fn a_text_is_cut_between_characters_however_it_comes() {
        let text = "aü€🦀z".as_bytes();
        let ends = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11];
        for (limit, end) in ends.into_iter().enumerate() {
            for piece in 1..=text.len() {
                let found = gathered(text, limit, piece);
                assert_eq!(found.kept(), &text[..end], "{limit} {piece}");
                assert_eq!((found.whole(), found.is_cut()), (11, limit < 11));
            }
        }
        // Other encodings are cut where they are cut.
        assert_eq!(gathered(b"gr\xfc\xdf mich", 4, 3).kept(), b"gr\xfc");
        assert_eq!(gathered(b"\x80\x80\x80\x80\x80\x80", 5, 1).kept(), b"\x80\x80\x80\x80\x80");
    }
}
