//! What was there and what would do, for whoever reads the log. Never the token: a claim or two of it, cut.

use super::fault::TokenFault;
use super::jwt::Jwt;
use super::settings::IssuerSettings;
use crate::policy::CLOCK_SKEW;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Characters of a claim that are shown.
const SHOWN: usize = 60;

/// True for what is no JWT and not meant as one: a key as services give them out, such as `sk-…`.
pub(super) fn is_service_key(fault: TokenFault, token: &[u8]) -> bool {
    fault == TokenFault::Malformed && !token.contains(&b'.')
}

/// The fault with what the token says and what the settings accept.
pub(super) fn explain<'a>(
    fault: TokenFault,
    token: &[u8],
    issuers: impl Iterator<Item = &'a IssuerSettings> + Clone,
    now: SystemTime,
) -> String {
    if is_service_key(fault, token) {
        return format!("no token (JWT) but {} bytes of a key, as services give out", token.len());
    }
    let Ok(jwt) = Jwt::parse(token) else { return fault.to_string() };
    let claim = |name: &str| shown(jwt.claims.get(name));
    let settings = jwt.issuer().ok().and_then(|url| issuers.clone().find(|one| one.url == url));
    let accepted = |list: &[String]| list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
    let more = match (fault, settings) {
        (TokenFault::UnknownIssuer, _) => {
            let known: Vec<String> = issuers.map(|one| one.url.clone()).collect();
            format!("iss is {}; known: {}", claim("iss"), accepted(&known))
        }
        (TokenFault::Audience, Some(one)) => {
            format!("aud is {}; {} accepts {}", claim("aud"), one.name, accepted(&one.audience))
        }
        (TokenFault::AuthorizedParty, Some(one)) => {
            format!("azp is {}; {} accepts {}", claim("azp"), one.name, accepted(&one.azp))
        }
        (TokenFault::Algorithm, Some(one)) => {
            let names: Vec<&str> = one.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            let alg = shown(Some(&Value::String(jwt.header.alg.clone())));
            format!("alg is {alg}; {} accepts {}", one.name, names.join(", "))
        }
        (TokenFault::Expired, _) => {
            let ago = seconds(now) - jwt.claims.get("exp").and_then(Value::as_f64).unwrap_or_default() as i64;
            format!("exp was {ago} s ago; tolerance {} s", CLOCK_SKEW.as_secs())
        }
        (TokenFault::NotYetValid, _) => {
            let of = |name: &str| jwt.claims.get(name).and_then(Value::as_f64).unwrap_or_default() as i64;
            let ahead = of("nbf").max(of("iat")) - seconds(now);
            format!("nbf or iat is {ahead} s ahead; tolerance {} s; compare the clocks", CLOCK_SKEW.as_secs())
        }
        (TokenFault::UnknownKey | TokenFault::Unavailable, _) => match &jwt.header.kid {
            Some(kid) => format!("kid is {}", shown(Some(&Value::String(kid.clone())))),
            None => return fault.to_string(),
        },
        _ => return fault.to_string(),
    };
    format!("{fault}: {more}")
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// A claim as JSON, cut.
fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "missing".to_owned(), Value::to_string);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::oidc::Algorithm;
    use crate::names::IssuerName;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_was_there_and_what_would_do_stand_behind_the_fault() {
        let settings = IssuerSettings {
            name: IssuerName("corp".into()),
            url: "https://idp".into(),
            audience: vec!["staunch".into()],
            algorithms: vec![Algorithm::Es256],
            groups_claim: "groups".into(),
            azp: vec!["cli".into()],
            ca: None,
            jwks_hosts: vec![],
        };
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": "https://idp", "aud": "x", "azp": "web", "exp": 100, "nbf": 1300});
        let token = format!("{}.{}.c2ln", encode(&json!({"alg": "HS256", "kid": "k1"})), encode(&claims));
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let said = |fault| explain(fault, token.as_bytes(), std::iter::once(&settings), now);
        for (fault, part) in [
            (TokenFault::Audience, r#"audience is not accepted: aud is "x"; corp accepts "staunch""#),
            (TokenFault::AuthorizedParty, r#"azp is "web"; corp accepts "cli""#),
            (TokenFault::Algorithm, r#"alg is "HS256"; corp accepts ES256"#),
            (TokenFault::Expired, "expired: exp was 900 s ago; tolerance 30 s"),
            (TokenFault::NotYetValid, "300 s ahead; tolerance 30 s"),
            (TokenFault::UnknownKey, r#"unknown key: kid is "k1""#),
            (TokenFault::UnknownIssuer, r#"iss is "https://idp"; known: "https://idp""#),
            (TokenFault::Signature, "signature does not verify"),
        ] {
            assert!(said(fault).contains(part), "{}", said(fault));
            assert!(!said(fault).contains(&token[..20]));
        }
        let key = explain(TokenFault::Malformed, b"sk-live-123", std::iter::empty(), now);
        assert!(key.contains("11 bytes of a key") && !key.contains("sk-live"), "{key}");
        assert!(!is_service_key(TokenFault::Malformed, b"a.b.c"));
    }
}
