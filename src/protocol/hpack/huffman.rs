//! The Huffman code of RFC 7541 appendix B, decoded a symbol at a time.
//!
//! We never write Huffman: literals cost the upstream a few bytes and us no time. Nearly all that heads are made of has
//! codes of eight bits or fewer, and is looked up; the rest is walked bit by bit.
//!
//! ```text
//!   bits   | gone | at most 64 bits that are held, the next one foremost | not read |
//!                   bits.left
//! ```

use super::fault::HpackFault;
use std::sync::LazyLock;

/// Appends the decoded text. Refuses the end-of-string symbol, padding of more than seven bits and padding that is
/// not all ones (RFC 7541 section 5.2), and text beyond `most` bytes.
pub(super) fn decode(coded: &[u8], most: usize, text: &mut Vec<u8>) -> Result<(), HpackFault> {
    let codes = &*CODE;
    let most = text.len() + most;
    // No code is shorter than five bits.
    text.reserve((coded.len() * 8 / 5).min(most - text.len()));
    let mut bits = Bits { held: 0, left: 0, rest: coded };
    loop {
        if bits.fill() && most - text.len() >= SYMBOLS_PER_RUN && bits.run(codes, text) > 0 {
            continue;
        }
        let (symbol, length) = match codes.short[bits.peek()] {
            short if short.1 != 0 && u32::from(short.1) <= bits.left => short,
            _ if bits.is_padding() => return Ok(()),
            _ => codes.walk(&bits)?,
        };
        bits.skip(length);
        if text.len() == most {
            return Err(HpackFault::TooLarge);
        }
        text.push(symbol);
    }
}

/// Symbols that are decoded in one go where as many short codes as that are held for sure.
const SYMBOLS_PER_RUN: usize = 6;

/// Bits that were read and not used.
struct Bits<'a> {
    /// The next bit foremost, zeros behind the last.
    held: u64,
    left: u32,
    rest: &'a [u8],
}

impl Bits<'_> {
    /// Holds more than the longest code has, or all that there is. True: at least 56 bits.
    fn fill(&mut self) -> bool {
        if let Some(next) = self.rest.first_chunk() {
            let bytes = (63 - self.left) / 8;
            // Bits of the byte behind the last whole one come in, too, and come in again with it: they are the same.
            self.held |= u64::from_be_bytes(*next) >> self.left;
            self.rest = &self.rest[bytes as usize..];
            self.left += bytes * 8;
            return true;
        }
        while self.left <= 56
            && let Some((&byte, rest)) = self.rest.split_first()
        {
            // What a long load left there is what the byte brings.
            self.held |= u64::from(byte) << (56 - self.left);
            self.left += 8;
            self.rest = rest;
        }
        self.left >= 56
    }

    /// Decodes up to [`SYMBOLS_PER_RUN`] symbols of short codes, and says how many; 56 bits are held.
    fn run(&mut self, codes: &Code, text: &mut Vec<u8>) -> usize {
        let (mut symbols, mut count) = ([0; SYMBOLS_PER_RUN], 0);
        for place in &mut symbols {
            let (symbol, length) = codes.short[(self.held >> 56) as usize];
            if length == 0 {
                break;
            }
            *place = symbol;
            count += 1;
            self.skip(length);
        }
        text.extend_from_slice(&symbols[..count]);
        count
    }

    fn skip(&mut self, length: u8) {
        self.held <<= length;
        self.left -= u32::from(length);
    }

    /// The next eight bits, with ones behind the last.
    fn peek(&self) -> usize {
        let next = (self.held >> 56) as usize;
        if self.left < 8 { next | 0xff >> self.left } else { next }
    }

    /// True at the end: fewer than eight bits, all ones.
    fn is_padding(&self) -> bool {
        self.left < 8 && self.peek() == 0xff
    }
}

struct Code {
    tree: Vec<[Branch; 2]>,
    /// By the next eight bits: the symbol and the length of its code, or 0 where that is longer.
    short: [(u8, u8); 256],
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut short = [(0, 0); 256];
    for (symbol, &(code, length)) in CODES.iter().enumerate().filter(|(_, (_, length))| *length <= 8) {
        let first = (code as usize) << (8 - length);
        short[first..first + (1 << (8 - length))].fill((symbol as u8, length));
    }
    Code { tree: tree(), short }
});

impl Code {
    /// The next symbol, whatever its length.
    #[cold]
    fn walk(&self, bits: &Bits<'_>) -> Result<(u8, u8), HpackFault> {
        let mut node = 0;
        for length in 1..=bits.left {
            match self.tree[node][(bits.held >> (64 - length) & 1) as usize] {
                Branch::Node(next) => node = usize::from(next),
                Branch::Leaf(symbol) if symbol < 256 => return Ok((symbol as u8, length as u8)),
                // The end-of-string symbol must not appear.
                Branch::Leaf(_) | Branch::Open => return Err(HpackFault::Huffman),
            }
        }
        Err(HpackFault::Huffman)
    }
}

/// A node of the code tree: where 0 and 1 lead.
#[derive(Clone, Copy)]
enum Branch {
    Open,
    Node(u16),
    Leaf(u16),
}

fn tree() -> Vec<[Branch; 2]> {
    let mut tree = vec![[Branch::Open; 2]];
    for (symbol, &(code, length)) in CODES.iter().enumerate() {
        let mut node = 0;
        for shift in (1..length).rev() {
            let bit = (code >> shift & 1) as usize;
            node = match tree[node][bit] {
                Branch::Node(next) => usize::from(next),
                _ => {
                    tree.push([Branch::Open; 2]);
                    let next = tree.len() - 1;
                    tree[node][bit] = Branch::Node(next as u16);
                    next
                }
            };
        }
        tree[node][(code & 1) as usize] = Branch::Leaf(symbol as u16);
    }
    tree
}

/// Code and its length in bits, for each byte and then the end-of-string symbol.
#[rustfmt::skip]
const CODES: [(u32, u8); 257] = [
    (0x1ff8, 13), (0x7fffd8, 23), (0xfffffe2, 28), (0xfffffe3, 28), (0xfffffe4, 28), (0xfffffe5, 28), (0xfffffe6, 28), (0xfffffe7, 28),
    (0xfffffe8, 28), (0xffffea, 24), (0x3ffffffc, 30), (0xfffffe9, 28), (0xfffffea, 28), (0x3ffffffd, 30), (0xfffffeb, 28), (0xfffffec, 28),
    (0xfffffed, 28), (0xfffffee, 28), (0xfffffef, 28), (0xffffff0, 28), (0xffffff1, 28), (0xffffff2, 28), (0x3ffffffe, 30), (0xffffff3, 28),
    (0xffffff4, 28), (0xffffff5, 28), (0xffffff6, 28), (0xffffff7, 28), (0xffffff8, 28), (0xffffff9, 28), (0xffffffa, 28), (0xffffffb, 28),
    (0x14, 6), (0x3f8, 10), (0x3f9, 10), (0xffa, 12), (0x1ff9, 13), (0x15, 6), (0xf8, 8), (0x7fa, 11),
    (0x3fa, 10), (0x3fb, 10), (0xf9, 8), (0x7fb, 11), (0xfa, 8), (0x16, 6), (0x17, 6), (0x18, 6),
    (0x0, 5), (0x1, 5), (0x2, 5), (0x19, 6), (0x1a, 6), (0x1b, 6), (0x1c, 6), (0x1d, 6),
    (0x1e, 6), (0x1f, 6), (0x5c, 7), (0xfb, 8), (0x7ffc, 15), (0x20, 6), (0xffb, 12), (0x3fc, 10),
    (0x1ffa, 13), (0x21, 6), (0x5d, 7), (0x5e, 7), (0x5f, 7), (0x60, 7), (0x61, 7), (0x62, 7),
    (0x63, 7), (0x64, 7), (0x65, 7), (0x66, 7), (0x67, 7), (0x68, 7), (0x69, 7), (0x6a, 7),
    (0x6b, 7), (0x6c, 7), (0x6d, 7), (0x6e, 7), (0x6f, 7), (0x70, 7), (0x71, 7), (0x72, 7),
    (0xfc, 8), (0x73, 7), (0xfd, 8), (0x1ffb, 13), (0x7fff0, 19), (0x1ffc, 13), (0x3ffc, 14), (0x22, 6),
    (0x7ffd, 15), (0x3, 5), (0x23, 6), (0x4, 5), (0x24, 6), (0x5, 5), (0x25, 6), (0x26, 6),
    (0x27, 6), (0x6, 5), (0x74, 7), (0x75, 7), (0x28, 6), (0x29, 6), (0x2a, 6), (0x7, 5),
    (0x2b, 6), (0x76, 7), (0x2c, 6), (0x8, 5), (0x9, 5), (0x2d, 6), (0x77, 7), (0x78, 7),
    (0x79, 7), (0x7a, 7), (0x7b, 7), (0x7ffe, 15), (0x7fc, 11), (0x3ffd, 14), (0x1ffd, 13), (0xffffffc, 28),
    (0xfffe6, 20), (0x3fffd2, 22), (0xfffe7, 20), (0xfffe8, 20), (0x3fffd3, 22), (0x3fffd4, 22), (0x3fffd5, 22), (0x7fffd9, 23),
    (0x3fffd6, 22), (0x7fffda, 23), (0x7fffdb, 23), (0x7fffdc, 23), (0x7fffdd, 23), (0x7fffde, 23), (0xffffeb, 24), (0x7fffdf, 23),
    (0xffffec, 24), (0xffffed, 24), (0x3fffd7, 22), (0x7fffe0, 23), (0xffffee, 24), (0x7fffe1, 23), (0x7fffe2, 23), (0x7fffe3, 23),
    (0x7fffe4, 23), (0x1fffdc, 21), (0x3fffd8, 22), (0x7fffe5, 23), (0x3fffd9, 22), (0x7fffe6, 23), (0x7fffe7, 23), (0xffffef, 24),
    (0x3fffda, 22), (0x1fffdd, 21), (0xfffe9, 20), (0x3fffdb, 22), (0x3fffdc, 22), (0x7fffe8, 23), (0x7fffe9, 23), (0x1fffde, 21),
    (0x7fffea, 23), (0x3fffdd, 22), (0x3fffde, 22), (0xfffff0, 24), (0x1fffdf, 21), (0x3fffdf, 22), (0x7fffeb, 23), (0x7fffec, 23),
    (0x1fffe0, 21), (0x1fffe1, 21), (0x3fffe0, 22), (0x1fffe2, 21), (0x7fffed, 23), (0x3fffe1, 22), (0x7fffee, 23), (0x7fffef, 23),
    (0xfffea, 20), (0x3fffe2, 22), (0x3fffe3, 22), (0x3fffe4, 22), (0x7ffff0, 23), (0x3fffe5, 22), (0x3fffe6, 22), (0x7ffff1, 23),
    (0x3ffffe0, 26), (0x3ffffe1, 26), (0xfffeb, 20), (0x7fff1, 19), (0x3fffe7, 22), (0x7ffff2, 23), (0x3fffe8, 22), (0x1ffffec, 25),
    (0x3ffffe2, 26), (0x3ffffe3, 26), (0x3ffffe4, 26), (0x7ffffde, 27), (0x7ffffdf, 27), (0x3ffffe5, 26), (0xfffff1, 24), (0x1ffffed, 25),
    (0x7fff2, 19), (0x1fffe3, 21), (0x3ffffe6, 26), (0x7ffffe0, 27), (0x7ffffe1, 27), (0x3ffffe7, 26), (0x7ffffe2, 27), (0xfffff2, 24),
    (0x1fffe4, 21), (0x1fffe5, 21), (0x3ffffe8, 26), (0x3ffffe9, 26), (0xffffffd, 28), (0x7ffffe3, 27), (0x7ffffe4, 27), (0x7ffffe5, 27),
    (0xfffec, 20), (0xfffff3, 24), (0xfffed, 20), (0x1fffe6, 21), (0x3fffe9, 22), (0x1fffe7, 21), (0x1fffe8, 21), (0x7ffff3, 23),
    (0x3fffea, 22), (0x3fffeb, 22), (0x1ffffee, 25), (0x1ffffef, 25), (0xfffff4, 24), (0xfffff5, 24), (0x3ffffea, 26), (0x7ffff4, 23),
    (0x3ffffeb, 26), (0x7ffffe6, 27), (0x3ffffec, 26), (0x3ffffed, 26), (0x7ffffe7, 27), (0x7ffffe8, 27), (0x7ffffe9, 27), (0x7ffffea, 27),
    (0x7ffffeb, 27), (0xffffffe, 28), (0x7ffffec, 27), (0x7ffffed, 27), (0x7ffffee, 27), (0x7ffffef, 27), (0x7fffff0, 27), (0x3ffffee, 26),
    (0x3fffffff, 30),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        let codes = text.iter().map(|&byte| CODES[usize::from(byte)]);
        let bits: Vec<bool> =
            codes.flat_map(|(code, length)| (0..length).rev().map(move |n| code >> n & 1 == 1)).collect();
        let byte = |bits: &[bool]| (0..8).fold(0, |b, n| b << 1 | u8::from(*bits.get(n).unwrap_or(&true)));
        bits.chunks(8).map(byte).collect()
    }

    /// The rules of RFC 7541 section 5.2, bit by bit.
    fn model(coded: &[u8]) -> Option<Vec<u8>> {
        let (mut text, mut code, mut length) = (Vec::new(), 0u32, 0u8);
        for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |n| u32::from(byte >> n & 1))) {
            (code, length) = (code << 1 | bit, length + 1);
            if let Some(symbol) = CODES.iter().position(|known| *known == (code, length)) {
                text.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            }
        }
        (length < 8 && code == (1 << length) - 1).then_some(text)
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_out(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut decoded = b"before".to_vec();
            prop_assert_eq!(decode(&encoded(&text), text.len(), &mut decoded), Ok(()));
            prop_assert_eq!(&decoded[6..], &text[..]);
            let less = text.len().saturating_sub(1);
            let short = decode(&encoded(&text), less, &mut Vec::new());
            prop_assert_eq!(short, if text.is_empty() { Ok(()) } else { Err(HpackFault::TooLarge) });
        }

        #[test]
        fn anything_decodes_as_the_rules_say(coded in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut text = Vec::new();
            let decoded = decode(&coded, 1 << 20, &mut text).ok().map(|()| text);
            prop_assert_eq!(decoded, model(&coded));
        }
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        for (coded, fine) in
            [(&b"\x1f"[..], true), (b"\x1f\xff", false), (b"\x1e", false), (b"", true), (b"\xff", false)]
        {
            assert_eq!(decode(coded, 10, &mut Vec::new()).is_ok(), fine, "{coded:?}");
            assert_eq!(model(coded).is_some(), fine, "{coded:?}");
        }
    }
}
