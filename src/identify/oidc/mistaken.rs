//! What people send in the place of a token: keys of services, other kinds of tokens, and tokens with something around them.
//!
//! Pure, linear, and nothing of the text is repeated: only its kind is named, and its length.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::fmt;

/// A text that is no signed token in compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistaken {
    /// Nothing.
    Empty,
    /// A name for a value that was to be put in.
    Placeholder,
    /// The header's name or scheme in front of it.
    Prefixed,
    /// Quotes around it.
    Quoted,
    /// Blanks or line breaks within.
    Broken,
    /// The token endpoint's answer, or another JSON document.
    Json,
    /// A SAML assertion or response, as XML or in base64.
    Saml,
    /// An encrypted token (JWE, RFC 7516).
    Encrypted,
    /// Other than three parts of a JWT.
    Cut,
    /// Parts in base64 in place of base64url.
    Base64,
    /// PASETO.
    Paseto,
    /// A key or certificate in PEM.
    Pem,
    /// A URL.
    Url,
    /// A user's name and password, as of Basic authentication.
    Basic,
    /// A key or opaque token of this service.
    KeyOf(&'static str, usize),
    /// Anything else, of this many bytes.
    Opaque(usize),
}

/// How keys and opaque tokens of services begin; longer beginnings first.
const KEYS: [(&str, &str); 30] = [
    ("sk-ant-", "Anthropic"),
    ("sk-or-", "OpenRouter"),
    ("sk_live_", "Stripe"),
    ("sk_test_", "Stripe"),
    ("sk-", "OpenAI"),
    ("sess-", "OpenAI"),
    ("AIza", "Google"),
    ("ya29.", "Google"),
    ("GOCSPX-", "Google"),
    ("1//", "Google"),
    ("AKIA", "AWS"),
    ("ASIA", "AWS"),
    ("gho_", "GitHub"),
    ("ghp_", "GitHub"),
    ("ghu_", "GitHub"),
    ("ghs_", "GitHub"),
    ("ghr_", "GitHub"),
    ("github_pat_", "GitHub"),
    ("glpat-", "GitLab"),
    ("xox", "Slack"),
    ("xapp-", "Slack"),
    ("hf_", "Hugging Face"),
    ("hvs.", "Vault"),
    ("hvb.", "Vault"),
    ("npm_", "npm"),
    ("pypi-", "PyPI"),
    ("dapi", "Databricks"),
    ("gsk_", "Groq"),
    ("xai-", "xAI"),
    ("nvapi-", "NVIDIA"),
];

/// What somebody copied along with the token, in small letters.
const PREFIXES: [&[u8]; 5] = [b"bearer ", b"bearer:", b"token ", b"authorization", "\u{feff}".as_bytes()];

/// Characters of base64 that are decoded to see what a text begins with; a multiple of four.
const LOOKED_AT: usize = 64;

/// Characters of a user's name and password in base64.
const MAX_BASIC: usize = 512;

impl Mistaken {
    /// What `text` is in place of a token; `None` where it has the form of one.
    pub fn of(text: &[u8]) -> Option<Mistaken> {
        let begins = |what: &str| text.starts_with(what.as_bytes());
        let dots = memchr::memchr_iter(b'.', text).count();
        let small: Vec<u8> = text.iter().take(LOOKED_AT).map(u8::to_ascii_lowercase).collect();
        Some(match text {
            [] => Mistaken::Empty,
            _ if PREFIXES.iter().any(|prefix| small.starts_with(prefix)) => Mistaken::Prefixed,
            [b'"' | b'\'' | b'`', ..] => Mistaken::Quoted,
            [b'$' | b'%' | b'*', ..] | [b'{', b'{', ..] => Mistaken::Placeholder,
            [b'{' | b'[', ..] => Mistaken::Json,
            [b'<', ..] if is_xml(text) => Mistaken::Saml,
            [b'<', ..] => Mistaken::Placeholder,
            _ if begins("-----BEGIN") => Mistaken::Pem,
            _ if small.starts_with(b"https://") || small.starts_with(b"http://") => Mistaken::Url,
            _ if begins_with_object(text) => return of_jose(text, dots),
            [b'v', _, rest @ ..] if rest.starts_with(b".public.") || rest.starts_with(b".local.") => {
                Mistaken::Paseto
            }
            _ => match KEYS.iter().find(|(prefix, _)| begins(prefix)) {
                Some(&(_, service)) => Mistaken::KeyOf(service, text.len()),
                None if is_xml(&beginning(text)) => Mistaken::Saml,
                None if is_basic(text) => Mistaken::Basic,
                None if dots == 2 => return None,
                None => Mistaken::Opaque(text.len()),
            },
        })
    }

    /// True for what is no token and not meant as one: a key as services give them out.
    pub fn is_key(self) -> bool {
        matches!(self, Mistaken::KeyOf(..) | Mistaken::Opaque(_) | Mistaken::Basic)
    }

    /// What would do. Short: the log cuts what clients without a permit cause.
    pub fn remedy(self) -> &'static str {
        match self {
            Mistaken::Empty | Mistaken::Placeholder => "put the token there",
            Mistaken::Prefixed | Mistaken::Quoted | Mistaken::Broken => {
                "send the token alone, once, on one line"
            }
            Mistaken::Json => "send what stands in its access_token",
            Mistaken::Saml => "log in by OpenID Connect, or exchange it at the issuer (RFC 8693)",
            Mistaken::Encrypted => "have the issuer sign access tokens and not encrypt them",
            Mistaken::Cut => "copy the whole token, all three parts with the dots between them",
            Mistaken::Base64 => {
                "parts of a token are in base64url, without padding: send it as the issuer gave it"
            }
            Mistaken::Paseto => "gateways take signed JWTs",
            Mistaken::Pem | Mistaken::Url | Mistaken::Basic | Mistaken::KeyOf(..) => {
                "use a token of your issuer"
            }
            Mistaken::Opaque(_) => "use a token of your issuer, as a JWT (login --audience)",
        }
    }
}

impl fmt::Display for Mistaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mistaken::Empty => "no token: nothing was sent",
            Mistaken::Placeholder => "no token but a placeholder or a variable that nothing was put in for",
            Mistaken::Prefixed => {
                "a token with \"Bearer\", the header's name or a byte order mark in front of it"
            }
            Mistaken::Quoted => "a token with quotes around it",
            Mistaken::Broken => "a token with blanks or line breaks in it",
            Mistaken::Json => "no token but a JSON document, such as the token endpoint's answer",
            Mistaken::Saml => "no token (JWT) but a SAML assertion or response",
            Mistaken::Encrypted => "an encrypted token (JWE)",
            Mistaken::Cut => "a piece of a token (JWT), or one with something behind it",
            Mistaken::Base64 => "a token (JWT) that was encoded again",
            Mistaken::Paseto => "no JWT but a PASETO",
            Mistaken::Pem => "no token but a key or certificate in PEM",
            Mistaken::Url => "no token but a URL",
            Mistaken::Basic => "no token but a name and a password",
            Mistaken::KeyOf(service, bytes) => {
                return write!(f, "no token (JWT) but {bytes} bytes of a key, as {service} gives out");
            }
            Mistaken::Opaque(bytes) => {
                return write!(f, "no token (JWT) but {bytes} bytes of a key or an opaque token");
            }
        })
    }
}

/// What begins like a token of JOSE (RFC 7515, RFC 7516) and is none that can be read.
fn of_jose(text: &[u8], dots: usize) -> Option<Mistaken> {
    let has = |found: fn(&u8) -> bool| text.iter().any(found);
    match dots {
        _ if has(u8::is_ascii_whitespace) => Some(Mistaken::Broken),
        4 => Some(Mistaken::Encrypted),
        _ if has(|byte| matches!(byte, b'+' | b'/' | b'=')) => Some(Mistaken::Base64),
        2 => None,
        _ => Some(Mistaken::Cut),
    }
}

/// True where the first part is a JSON object in base64.
fn begins_with_object(text: &[u8]) -> bool {
    let part = text.split(|byte| matches!(byte, b'.' | b' ' | b'\n')).next().unwrap_or_default();
    let begin = beginning(part);
    let mut bytes = begin.trim_ascii_start().iter();
    bytes.next() == Some(&b'{') && matches!(bytes.as_slice().trim_ascii_start(), [b'"', ..] | [b'}', ..])
}

/// What a text in base64 begins with; nothing where it is none.
fn beginning(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(LOOKED_AT)];
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let bare = &text[..text.len() - padding];
    URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).unwrap_or_default()
}

fn is_xml(text: &[u8]) -> bool {
    text.starts_with(b"<?xml")
        || text.strip_prefix(b"<").is_some_and(|rest| {
            let name =
                rest.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b':').next().unwrap_or_default();
            name.ends_with(b"Assertion") || name.ends_with(b"Response")
        })
}

/// True for printable text with a colon, in base64.
fn is_basic(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let bare = &text[..text.len() - padding];
    let printable =
        |pair: &Vec<u8>| pair.contains(&b':') && pair.iter().all(|byte| (b' '..=b'~').contains(byte));
    text.len() <= MAX_BASIC && STANDARD_NO_PAD.decode(bare).is_ok_and(|pair| printable(&pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn said(text: &[u8]) -> String {
        Mistaken::of(text)
            .map_or_else(|| "a token".into(), |mistaken| format!("{mistaken}; {}", mistaken.remedy()))
    }

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2kifQ.c2lnbmF0dXJl";

    #[test]
    fn keys_of_services_are_named_by_the_service_and_never_repeated() {
        for (key, service) in [
            ("sk-proj-0123456789", "OpenAI"),
            ("sk-ant-api03-0123456789", "Anthropic"),
            ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "Google"),
            ("ya29.a0AfH6SMBxyz", "Google"),
            ("AKIAIOSFODNN7EXAMPLE", "AWS"),
            ("gho_16C7e42F292c6912E7710c838347Ae178B4a", "GitHub"),
            ("github_pat_11ABCDEFG0123456789", "GitHub"),
            ("hvs.CAESIJlWxyz", "Vault"),
            ("xoxb-123-456", "Slack"),
        ] {
            let said = said(key.as_bytes());
            assert!(said.contains(service) && said.contains("use a token of your issuer"), "{key}: {said}");
            assert!(!said.contains(&key[key.len() - 4..]), "{said}");
            assert!(Mistaken::of(key.as_bytes()).is_some_and(Mistaken::is_key));
        }
        for opaque in
            ["8d6f9a9c-3f58-4a5e-9d4b-1c1f6d0a1b2c", "a94a8fe5ccb19ba61c4c0873d391e987", "a.b", "a.b.c.d.e"]
        {
            assert!(
                said(opaque.as_bytes()).contains("as a JWT (login"),
                "{opaque}: {}",
                said(opaque.as_bytes())
            );
        }
    }

    #[test]
    fn other_kinds_of_tokens_are_named() {
        let saml =
            r#"<saml2:Assertion xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion" ID="x" Version="2.0">"#;
        let response = r#"<?xml version="1.0"?><samlp:Response ID="y">"#;
        for text in [
            saml.to_owned(),
            STANDARD.encode(saml),
            STANDARD.encode(response),
            URL_SAFE_NO_PAD.encode(response),
        ] {
            assert_eq!(Mistaken::of(text.as_bytes()), Some(Mistaken::Saml), "{text}");
        }
        let jwe = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a2V5.aXY.Y2lwaGVy.dGFn";
        let dir = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..aXY.Y2lwaGVy.dGFn";
        assert!([jwe, dir].iter().all(|jwe| Mistaken::of(jwe.as_bytes()) == Some(Mistaken::Encrypted)));
        assert_eq!(Mistaken::of(b"v4.public.eyJzdWIiOiJhIn0"), Some(Mistaken::Paseto));
        assert_eq!(Mistaken::of(STANDARD.encode("ann:hunter2").as_bytes()), Some(Mistaken::Basic));
    }

    #[test]
    fn what_stands_around_a_token_is_named() {
        let standard = TOKEN.replace(".c2l", "+/c2l");
        for (text, wanted) in [
            (format!("Bearer {TOKEN}"), Mistaken::Prefixed),
            (format!("Authorization: Bearer {TOKEN}"), Mistaken::Prefixed),
            (format!("\u{feff}{TOKEN}"), Mistaken::Prefixed),
            (format!("\"{TOKEN}\""), Mistaken::Quoted),
            (format!(r#"{{"access_token":"{TOKEN}"}}"#), Mistaken::Json),
            (TOKEN.replace(".eyJ", ".\neyJ"), Mistaken::Broken),
            (TOKEN.rsplit_once('.').unwrap().0.to_owned(), Mistaken::Cut),
            (format!("{TOKEN}.x"), Mistaken::Cut),
            (format!("{standard}=="), Mistaken::Base64),
            ("$TOKEN".into(), Mistaken::Placeholder),
            ("${{ secrets.TOKEN }}".into(), Mistaken::Placeholder),
            ("<your token>".into(), Mistaken::Placeholder),
            ("{{ token }}".into(), Mistaken::Placeholder),
            (String::new(), Mistaken::Empty),
            ("-----BEGIN PRIVATE KEY-----".into(), Mistaken::Pem),
            ("https://idp.example.com/token".into(), Mistaken::Url),
        ] {
            assert_eq!(Mistaken::of(text.as_bytes()), Some(wanted), "{text}");
            assert!(!wanted.is_key());
        }
        assert_eq!(Mistaken::of(TOKEN.as_bytes()), None);
        assert_eq!(
            Mistaken::of(b"eyAiYWxnIjoibm9uZSJ9.e30."),
            None,
            "unsigned, which the verifier refuses by its algorithm"
        );
    }

    #[test]
    fn any_bytes_are_something() {
        for text in [&b"\xff\xfe"[..], b".", "…".as_bytes(), b"\0\0\0\0", b"<", b"{", b"v4.", b"=", b"PD"] {
            assert!(Mistaken::of(text).is_some(), "{text:?}");
        }
    }
}
