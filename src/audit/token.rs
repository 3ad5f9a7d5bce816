//! JSON Web Tokens in texts that are logged: found, and replaced by a digest.
//!
//! Only what is one is taken out: three parts (RFC 7515 section 3.1) of which the first is base64url of a JSON object,
//! with whatever white space before it. Anything looser would let clients hide what they did: `select eyJhaaaaaaaaaaa.ssn`
//! names a table. The digest tells two tokens apart, and whoever holds one finds it.

use base64::Engine;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::IgnoredAny;
use std::ops::Range;

/// The first token of a text. `is_cut`: the text went on, so that its last part may be half of a token's.
pub(super) fn find(text: &[u8], is_cut: bool) -> Option<Range<usize>> {
    let mut part = 0;
    while let Some(dot) = memchr::memchr(b'.', &text[part..]).map(|at| part + at) {
        let header = dot - text[part..dot].iter().rev().take_while(|b| is_base64url(**b)).count();
        let second = dot + 1 + length(&text[dot + 1..]);
        let has_third = text.get(second) == Some(&b'.') || is_cut && second == text.len();
        if has_third && let Some(start) = header_start(&text[header..dot]) {
            let end = (second + 1).min(text.len());
            return Some(header + start..end + length(&text[end..]));
        }
        part = dot + 1;
    }
    None
}

/// Writes what stands in a token's place.
pub(super) fn write_digest(out: &mut String, token: &[u8]) {
    let digest = ring::digest::digest(&ring::digest::SHA256, token);
    out.push_str("eyJ…");
    for byte in &digest.as_ref()[..DIGEST_BYTES] {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// Bytes of the digest that are shown.
const DIGEST_BYTES: usize = 4;

const HEX: &[u8; 16] = b"0123456789abcdef";

fn length(text: &[u8]) -> usize {
    text.iter().take_while(|b| is_base64url(**b)).count()
}

fn is_base64url(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

/// Where a token's header begins in a part: at its start, or behind something that was put before it (`Bearer_eyJ…`).
fn header_start(part: &[u8]) -> Option<usize> {
    if is_header(part) {
        return Some(0);
    }
    let mut candidates =
        (1..part.len().saturating_sub(2)).filter(|at| matches!(part[*at..*at + 2], [b'e', b'w' | b'y']));
    // Each is decoded to its end: more of them would be work that grows with the square.
    candidates.by_ref().take(CANDIDATES).find(|at| is_header(&part[*at..]))
}

/// Places within a part at which a header is looked for.
const CANDIDATES: usize = 4;

fn is_header(part: &[u8]) -> bool {
    // The first six bits of `{`, of a blank, of a tab or line feed, of a carriage return.
    if !matches!(part.first(), Some(b'e' | b'I' | b'C' | b'D')) {
        return false;
    }
    BASE64URL.decode(part).is_ok_and(|json| {
        json.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(&json).is_ok()
    })
}

/// As lenient as a verifier may be that is not ours.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn shown(text: &str, is_cut: bool) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(found) = find(rest.as_bytes(), is_cut) {
            out.push_str(&rest[..found.start]);
            write_digest(&mut out, &rest.as_bytes()[found.clone()]);
            rest = &rest[found.end..];
        }
        out + rest
    }

    #[test]
    fn what_is_a_token_is_replaced_by_its_digest_wherever_it_stands() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
        let digest = shown(token, false);
        assert_eq!(digest.chars().count(), "eyJ…".chars().count() + 8);
        for around in ["/x/@/y/@", "@", "token=@&x", "select '@' from a.b", "Bearer_@", "@/.x"] {
            let expected = around.replace('@', &digest);
            assert_eq!(shown(&around.replace('@', token), false), expected);
        }
        // White space within and before the header, as a library may write it; no signature; encrypted.
        for header in
            ["{\"alg\":\"none\"}", " {\"alg\":\"ES256\"}", "\r\n\t{ \"alg\" : \"x\" }", "{\n \"alg\":1}"]
        {
            let header = URL_SAFE_NO_PAD.encode(header);
            for rest in ["cGF5bG9hZA.c2ln", "cGF5bG9hZA.", ".aXY.dGV4dA.dGFn"] {
                let text = shown(&format!("a {header}.{rest} b"), false);
                assert!(
                    text.starts_with("a eyJ…") && text.ends_with(" b") && !text.contains(&header),
                    "{text}"
                );
            }
        }
        assert_ne!(shown("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln", false), digest);
    }

    #[test]
    fn what_is_none_stays_whole() {
        for text in [
            "select eyJhaaaaaaaaaaa.ssn",
            "select eyJhaaaaaaaaaaa.ssn.x from t",
            "/eyJack/eyJ",
            "eyJhbGciOiJFUzI1NiJ9.only-two",
            "eyJhbGciOiJFUzI1NiJ9",
            "bm90IGpzb24.a.b",
            "WzFd.a.b",
            "api.example.com:443",
            "...",
            "e.e.e.e",
        ] {
            assert_eq!(shown(text, false), text);
        }
    }

    #[test]
    fn half_of_a_token_at_the_end_of_a_text_that_was_cut_is_replaced() {
        let text = "select 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJh";
        assert_eq!(shown(text, false), text);
        assert!(shown(text, true).starts_with("select 'eyJ…") && !shown(text, true).contains("sdWI"));
    }

    #[test]
    fn work_grows_with_the_length_of_a_hostile_text_only() {
        // Each of these made a search go back, or decode the same bytes again and again.
        for piece in ["ey", "eyJhbGciOiJ4In0", "eyJhbGciOiJ4In0.", "a.", ".", "e30.", "IHsg"] {
            let time = |bytes: usize| {
                let text = piece.repeat(bytes / piece.len());
                let begin = std::time::Instant::now();
                let mut rest = text.as_bytes();
                while let Some(found) = find(rest, true) {
                    rest = &rest[found.end..];
                }
                begin.elapsed()
            };
            time(1 << 16);
            let (small, large) = (time(1 << 16), time(1 << 20));
            assert!(
                large < (small + std::time::Duration::from_millis(1)) * 80,
                "{piece:?}: {small:?} → {large:?}"
            );
        }
    }
}
