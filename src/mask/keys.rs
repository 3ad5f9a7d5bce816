//! Detectors of secrets: each begins with a prefix that a machine gave it, and is held from behind that.

use super::cursor::{Class, Cursor, Hit, Rest, Stop};
use super::detector::Detector;

/// A kind of secret that begins with fixed text.
#[derive(Debug)]
pub(super) struct Key {
    /// What it begins with; may pass.
    pub(super) prefix: &'static [u8],
    /// What it consists of.
    class: Class,
    /// So many bytes at least, or it is none.
    least: usize,
    shape: Shape,
}

/// What a kind of secret asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A word of its own, of any length from `least`.
    Open,
    /// A word of its own, of exactly `least` bytes.
    Exact,
    /// As [`Shape::Open`], with a digit or a capital among the first `least`: words of a language have none.
    Mixed,
    /// Stands behind a name, not at a word's beginning.
    Setting,
}

/// What is known of key formats: (rule, its keys).
pub(super) const KEYS: [(Detector, &[Key]); 14] = {
    const fn open(prefix: &'static [u8], class: Class, least: usize) -> Key {
        Key { prefix, class, least, shape: Shape::Open }
    }
    const fn exact(prefix: &'static [u8], class: Class, least: usize) -> Key {
        Key { prefix, class, least, shape: Shape::Exact }
    }
    const fn setting(prefix: &'static [u8], class: Class, least: usize) -> Key {
        Key { prefix, class, least, shape: Shape::Setting }
    }
    const fn mixed(prefix: &'static [u8], class: Class, least: usize) -> Key {
        Key { prefix, class, least, shape: Shape::Mixed }
    }
    [
        (
            Detector::Aws,
            &[
                exact(b"AKIA", Class::Upper, 16),
                exact(b"ASIA", Class::Upper, 16),
                setting(b"aws_secret_access_key=", Class::Token, 40),
                setting(b"aws_secret_access_key = ", Class::Token, 40),
                setting(b"AWS_SECRET_ACCESS_KEY=", Class::Token, 40),
            ],
        ),
        (
            Detector::Gcp,
            &[
                exact(b"AIza", Class::Word, 35),
                open(b"ya29.", Class::Dotted, 20),
                open(b"GOCSPX-", Class::Word, 28),
            ],
        ),
        (
            Detector::Azure,
            &[setting(b"AccountKey=", Class::Token, 40), setting(b"SharedAccessKey=", Class::Token, 40)],
        ),
        (
            Detector::Github,
            &[
                open(b"ghp_", Class::Word, 36),
                open(b"gho_", Class::Word, 36),
                open(b"ghu_", Class::Word, 36),
                open(b"ghs_", Class::Word, 36),
                open(b"ghr_", Class::Word, 36),
                open(b"github_pat_", Class::Word, 40),
            ],
        ),
        (
            Detector::Gitlab,
            &[
                open(b"glpat-", Class::Dotted, 20),
                open(b"gldt-", Class::Dotted, 20),
                open(b"glrt-", Class::Dotted, 20),
                open(b"glptt-", Class::Dotted, 20),
            ],
        ),
        (
            Detector::Slack,
            &[
                open(b"xoxb-", Class::Word, 20),
                open(b"xoxp-", Class::Word, 20),
                open(b"xoxa-", Class::Word, 20),
                open(b"xoxr-", Class::Word, 20),
                open(b"xoxs-", Class::Word, 20),
                open(b"xapp-", Class::Word, 20),
                setting(b"hooks.slack.com/services/", Class::Token, 20),
            ],
        ),
        (
            Detector::Stripe,
            &[
                open(b"sk_live_", Class::Word, 16),
                open(b"sk_test_", Class::Word, 16),
                open(b"rk_live_", Class::Word, 16),
                open(b"rk_test_", Class::Word, 16),
                open(b"whsec_", Class::Token, 24),
            ],
        ),
        (Detector::Openai, &[mixed(b"sk-", Class::Word, 20)]),
        (Detector::Anthropic, &[open(b"sk-ant-", Class::Word, 16)]),
        (Detector::HuggingFace, &[open(b"hf_", Class::Word, 30)]),
        (Detector::Jwt, &[open(b"eyJ", Class::Dotted, 0)]),
        (Detector::PrivateKey, &[setting(b"-----BEGIN ", Class::Word, 0)]),
        (
            Detector::Password,
            &[
                setting(b"://", Class::Value, 0),
                setting(b"password=", Class::Value, 4),
                setting(b"Password=", Class::Value, 4),
                setting(b"PASSWORD=", Class::Value, 4),
                setting(b"Pwd=", Class::Value, 4),
                setting(b"pwd=", Class::Value, 4),
            ],
        ),
        (
            Detector::Authorization,
            &[
                mixed(b"Bearer ", Class::Token, 16),
                mixed(b"bearer ", Class::Token, 16),
                mixed(b"Basic ", Class::Token, 16),
                mixed(b"basic ", Class::Token, 16),
            ],
        ),
    ]
};

/// Reads a secret, entered behind its prefix.
pub(super) fn key(detector: Detector, key: &Key, cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let before = cursor.behind(key.prefix.len() + 1);
    let inside_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if key.shape != Shape::Setting && inside_word {
        return Err(Stop::No);
    }
    match (detector, key.prefix) {
        (Detector::Jwt, _) => return jwt(cursor),
        (Detector::PrivateKey, _) => return private_key(cursor),
        (_, b"://") => return userinfo(cursor),
        _ => cursor.hold_here(),
    }
    let from = cursor.at();
    cursor.exactly(key.class, key.least)?;
    let begun = &cursor.text()[from..cursor.at()];
    if key.shape == Shape::Mixed
        && !begun[1..].iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    {
        return Err(Stop::No);
    }
    if key.shape == Shape::Exact && cursor.peek()?.is_some_and(|byte| key.class.has(byte)) {
        return Err(Stop::No);
    }
    let rest = (key.shape != Shape::Exact).then_some(Rest::Class(key.class));
    Ok(Hit { from, to: cursor.at(), keeps_shape: false, rest })
}

/// A JSON Web Token (RFC 7519): two parts that begin as JSON objects do in base64url.
fn jwt(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    cursor.hold_here();
    let from = cursor.at();
    if cursor.run(Class::Word, MAX_JWT_HEADER)? < 8 {
        return Err(Stop::No);
    }
    cursor.literal(b".eyJ")?;
    Ok(Hit { from, to: cursor.at(), keeps_shape: false, rest: Some(Rest::Class(Class::Dotted)) })
}

/// Bytes of a token's header that are looked at; a key in it (`jwk`) makes it long.
const MAX_JWT_HEADER: usize = 1_024;

/// A private key in PEM (RFC 7468), of any kind.
fn private_key(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    cursor.hold_here();
    let from = cursor.at();
    for _ in 0..=MAX_KEY_KIND {
        match cursor.peek()? {
            Some(b'-') => {
                let kind = &cursor.text()[from..cursor.at()];
                if !kind.ends_with(b"PRIVATE KEY") {
                    return Err(Stop::No);
                }
                cursor.literal(b"-----")?;
                // The label says what it is, and stays.
                let to = cursor.at();
                return Ok(Hit { from: to, to, keeps_shape: false, rest: Some(Rest::PrivateKey) });
            }
            Some(byte) if byte == b' ' || byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                cursor.skip(1)
            }
            _ => return Err(Stop::No),
        }
    }
    Err(Stop::No)
}

/// `ENCRYPTED PRIVATE KEY` and the like.
const MAX_KEY_KIND: usize = 40;

/// A password in a URL: `scheme://user:password@host`.
fn userinfo(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    let part = |byte: u8| {
        Class::Value.has(byte) && !matches!(byte, b'/' | b':' | b'@' | b'?' | b'#' | b'[' | b']' | b'{')
    };
    let mut user = 0;
    loop {
        match cursor.peek()? {
            Some(b':') => break,
            Some(byte) if part(byte) && user < MAX_USERINFO => cursor.skip(1),
            _ => return Err(Stop::No),
        }
        user += 1;
    }
    cursor.skip(1);
    cursor.hold_here();
    let from = cursor.at();
    loop {
        match cursor.peek()? {
            Some(b'@') if cursor.at() > from => break,
            Some(byte) if (part(byte) || byte == b':') && cursor.at() - from < MAX_USERINFO => cursor.skip(1),
            _ => return Err(Stop::No),
        }
    }
    Ok(Hit { from, to: cursor.at(), keeps_shape: false, rest: None })
}

/// Bytes of a user or a password in a URL.
const MAX_USERINFO: usize = 128;
