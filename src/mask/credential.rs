//! How a stored credential may be written where it is echoed.

/// Bytes of a credential that are worth looking for; shorter ones stand in any text.
pub const MIN_CREDENTIAL: usize = 8;

/// The credential itself, and its encodings: base64 in both alphabets wherever it stands in a longer text, hexadecimal, percent.
pub(super) fn written(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![secret.to_vec(), hex(secret, false), hex(secret, true)];
    all.extend([percent(secret, false), percent(secret, true)]);
    for alphabet in [STANDARD, URL_SAFE] {
        all.extend((0..3).map(|before| base64(secret, before, alphabet)));
    }
    all.sort();
    all.dedup();
    all.retain(|written| written.len() >= MIN_CREDENTIAL);
    all
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of base64 (RFC 4648) that this text alone decides, when so many bytes modulo three stand before it.
fn base64(text: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| text[at / 8] >> (7 - at % 8) & 1;
    // The first bits share a character with what stands before, and the last with what follows.
    let first = (6 - before * 8 % 6) % 6;
    let character = |at: usize| (at..at + 6).fold(0usize, |value, at| value << 1 | usize::from(bit(at)));
    (first..).step_by(6).take_while(|at| at + 6 <= text.len() * 8).map(|at| alphabet[character(at)]).collect()
}

fn hex(text: &[u8], upper: bool) -> Vec<u8> {
    text.iter().flat_map(|byte| digits(*byte, upper)).collect()
}

/// Everything but letters, digits and `-._~` as `%XX` (RFC 3986 section 2.3).
fn percent(text: &[u8], upper: bool) -> Vec<u8> {
    let byte = |byte: &u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => vec![*byte],
        other => [&b"%"[..], &digits(*other, upper)].concat(),
    };
    text.iter().flat_map(byte).collect()
}

fn digits(byte: u8, upper: bool) -> [u8; 2] {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}
