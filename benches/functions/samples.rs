//! Requests and responses as they come, and what a route changes on them.

use staunch::protocol::hpack::encode;
use staunch::protocol::{Edit, Http, Rewrite, Up};
use std::time::{Duration, Instant};

/// As long as a token with a few claims and an RSA signature.
pub(crate) const TOKEN_LENGTH: usize = 800;

/// What a client library sends; the token comes on top.
pub(crate) const FIELDS: [(&str, &str); 12] = [
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python 1.109.1"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-async", "false"),
    ("x-stainless-lang", "python"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-package-version", "1.109.1"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-runtime", "CPython"),
    ("x-stainless-runtime-version", "3.12.3"),
];

/// What an upstream answers besides the length.
pub(crate) const ANSWERED: [(&str, &str); 8] = [
    ("content-type", "application/json"),
    ("date", "Mon, 02 Nov 2026 08:12:31 GMT"),
    ("openai-processing-ms", "412"),
    ("openai-version", "2020-10-01"),
    ("server", "upstream"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-request-id", "req_8f2c61f0a3d94e0c8c9df5a4b1f0c7e2"),
];

/// What a route with an injected key takes out and puts in.
pub(crate) const REWRITE: Rewrite<'static> = Rewrite {
    strip: &["authorization", "x-api-key", "api-key", "x-forwarded-for", "x-forwarded-proto", "x-request-id"],
    set: &[
        ("x-forwarded-for", b"192.0.2.17"),
        ("x-forwarded-proto", b"https"),
        ("x-request-id", b"5c1f0a9be2d34477-17"),
        ("authorization", b"Bearer sk-0123456789abcdef0123456789abcdef"),
    ],
    authority: Some("api.upstream.example"),
};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn bearer() -> String {
    // Every letter of base64url about equally often, as in a token.
    let letter = |n: usize| char::from(ALPHABET[n * 29 % ALPHABET.len()]);
    format!("Bearer {}", (0..TOKEN_LENGTH).map(letter).collect::<String>())
}

/// A block of literals without Huffman codes.
pub(crate) fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| encode(name.as_bytes(), value.as_bytes(), false, &mut out));
    out
}

/// Takes one request up and permits it; what goes on stands in `out`.
pub(crate) fn up(http: &mut impl Http, bytes: &mut [u8], out: &mut Vec<u8>) {
    out.clear();
    let mut edit = Edit::new(bytes, out);
    assert_eq!(http.up(&mut edit), Ok(Up::Request));
    http.permit(&mut edit, &REWRITE);
    assert_eq!(http.up(&mut edit), Ok(Up::Done));
}

/// Takes one response down.
pub(crate) fn down(http: &mut impl Http, bytes: &mut [u8], out: &mut Vec<u8>) {
    out.clear();
    http.down(&mut Edit::new(bytes, out)).unwrap();
    while http.event().is_some() {}
}

/// Times one half of `iterations` exchanges, `batch` of them at a time: that many requests go up, then their responses
/// come down.
pub(crate) fn half(
    iterations: u64,
    batch: u64,
    timed: Half,
    mut up: impl FnMut(u64),
    mut down: impl FnMut(u64),
) -> Duration {
    let (mut took, mut done) = (Duration::ZERO, 0);
    while done < iterations {
        let until = (done + batch).min(iterations);
        let start = Instant::now();
        (done..until).for_each(&mut up);
        let middle = Instant::now();
        (done..until).for_each(&mut down);
        took += if timed == Half::Up { middle - start } else { middle.elapsed() };
        done = until;
    }
    took
}

/// Which half is timed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Half {
    Up,
    Down,
}
