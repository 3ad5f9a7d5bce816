//! Where digits and signs stand in a text: blocks without any are passed over, the others become bits.

/// Bytes that are compared at once.
const BLOCK: usize = 32;

/// What anchors that are no plain words have in them: names and prefixes end with it, addresses go on behind it.
pub(super) const SIGNS: [u8; 7] = *b"-/:=@_~";

/// Something in a text, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A run of digits begins there, and has so many as far as the text goes; [`LONGEST_NUMBER`] stands for more as well.
    Number(usize, usize),
    /// One of [`SIGNS`].
    Sign(usize),
}

/// Digits of a run that are counted: as many as the longest payment card has, and one.
pub(super) const LONGEST_NUMBER: usize = 20;

/// Shows every run of digits that begins at `from` or behind, and every sign there, in order.
pub(super) fn each_mark(text: &[u8], from: usize, mut found: impl FnMut(Mark)) {
    let mut behind_digit = from.checked_sub(1).is_some_and(|before| text[before].is_ascii_digit());
    let mut at = from;
    while at < text.len() {
        let rest = &text[at..];
        let mut last = [0; BLOCK];
        let block = match rest.first_chunk() {
            Some(block) => block,
            None => {
                last[..rest.len()].copy_from_slice(rest);
                &last
            }
        };
        if !may_have_marks(block) {
            (at, behind_digit) = (at + BLOCK, false);
            continue;
        }
        let (digits, signs) = marks(block);
        let starts = digits & !(digits << 1 | u32::from(behind_digit));
        let mut marks = starts | signs;
        while marks != 0 {
            let bit = marks.trailing_zeros();
            let place = at + bit as usize;
            found(match starts >> bit & 1 {
                0 => Mark::Sign(place),
                _ => Mark::Number(place, run_of_digits(text, place, digits >> bit)),
            });
            marks &= marks - 1;
        }
        behind_digit = digits >> (BLOCK - 1) != 0;
        at += BLOCK;
    }
}

/// The digits of the run at `place`, by the bits of its block and, where those are all, by what stands behind.
fn run_of_digits(text: &[u8], place: usize, bits: u32) -> usize {
    let mut length = bits.trailing_ones() as usize;
    while length < LONGEST_NUMBER && text.get(place + length).is_some_and(u8::is_ascii_digit) {
        length += 1;
    }
    length.min(LONGEST_NUMBER)
}

/// True for every block that has a digit or a sign, and for some others.
fn may_have_marks(block: &[u8; BLOCK]) -> bool {
    // From the slash to the at there are digits, signs, and little else.
    let may = |byte: u8| {
        u8::from(byte.wrapping_sub(b'/') <= b'@' - b'/')
            | u8::from(byte == b'-')
            | u8::from(byte == b'_')
            | u8::from(byte == b'~')
    };
    block.iter().fold(0, |any, byte| any | may(*byte)) != 0
}

/// A bit for each digit, and one for each sign.
fn marks(block: &[u8; BLOCK]) -> (u32, u32) {
    let (mut digits, mut signs) = ([0; BLOCK], [0; BLOCK]);
    for ((byte, digit), sign) in block.iter().zip(&mut digits).zip(&mut signs) {
        *digit = u8::from(byte.wrapping_sub(b'0') < 10);
        *sign = SIGNS.iter().fold(0, |any, sign| any | u8::from(byte == sign));
    }
    (bits(&digits), bits(&signs))
}

/// The lowest bits of bytes, side by side.
fn bits(bytes: &[u8; BLOCK]) -> u32 {
    // Each byte's bit comes to stand at its number, from the highest byte's lowest bit on.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = bytes.as_chunks();
    let eight = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes).wrapping_mul(GATHER) >> 56;
    eights.iter().rev().fold(0, |all, bytes| all << 8 | eight(bytes) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_signs_are_found_where_they_are(text in "[0-9a/:@._~\u{ff} -]{0,99}|[a-z0]{0,99}", from in 0usize..99) {
            let text = text.as_bytes();
            let from = from.min(text.len());
            let mut found = Vec::new();
            each_mark(text, from, |mark| found.push(mark));
            let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
            let number = |at: usize| (at..text.len()).take_while(|at| digit(*at)).count().min(LONGEST_NUMBER);
            let expected: Vec<Mark> = (from..text.len())
                .filter_map(|at| match text[at] {
                    b'0'..=b'9' => (at == 0 || !digit(at - 1)).then(|| Mark::Number(at, number(at))),
                    sign => SIGNS.contains(&sign).then_some(Mark::Sign(at)),
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
