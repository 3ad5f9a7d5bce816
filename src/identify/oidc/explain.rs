//! What was there and what would do, for whoever reads the log. Never the token: a claim or two of it, cut.

use super::fault::TokenFault;
use super::jwt::{LAST_SECOND, MAX_BYTES, OTHER_KINDS, TYPES, use_of_another_kind};
use super::mistaken::Mistaken;
use super::settings::{Algorithm, IssuerSettings};
use crate::policy::CLOCK_SKEW;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// Characters of a claim that are shown.
const MAX_SHOWN_CHARS: usize = 60;

/// True for what is no JWT and not meant as one: a key as services give them out, such as `sk-…`.
pub(super) fn is_service_key(fault: TokenFault, token: &[u8]) -> bool {
    fault == TokenFault::Malformed && Mistaken::of(token).is_some_and(Mistaken::is_key)
}

/// The fault with what the token says and what the settings accept.
pub(super) fn explain<'a>(
    fault: TokenFault,
    token: &[u8],
    issuers: impl Iterator<Item = &'a IssuerSettings> + Clone,
    now: SystemTime,
) -> String {
    if fault == TokenFault::TooLong {
        return format!("{fault}: {} bytes; have the issuer put fewer claims into it", token.len());
    }
    if let Some(mistaken) = Mistaken::of(token) {
        return format!("{mistaken}; {}", mistaken.remedy());
    }
    let said = match Said::of(token) {
        Ok(said) => said,
        Err(why) => return format!("{fault}: {why}"),
    };
    let iss = said.claims.get("iss").and_then(Value::as_str);
    let settings = issuers.clone().find(|one| Some(one.url.as_str()) == iss);
    let known = issuers.map(|one| one.url.as_str()).collect();
    match said.more(fault, settings, known, now) {
        Some(more) => format!("{fault}: {more}"),
        None => fault.to_string(),
    }
}

/// Why nobody has groups of a token: where its claim is missing, and where they could stand instead. `None` if it has some.
pub(super) fn why_no_groups(token: &[u8], claim: &str) -> Option<String> {
    let said = Said::of(token).ok()?;
    if said.claims.get("_claim_names").is_some_and(|names| names.get(claim).is_some()) {
        return Some(format!(
            "the issuer left {claim:?} out, since there are too many; let it send those of the application alone"
        ));
    }
    let lists = |value: &Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_string));
    let mut elsewhere = Vec::new();
    for (name, value) in said.claims.iter().filter(|(name, _)| *name != "aud" && *name != "amr") {
        match value {
            Value::Object(inner) => {
                let inside = inner.iter().filter(|(_, value)| lists(value));
                elsewhere.extend(inside.map(|(inner, _)| format!("{name}.{inner}")));
            }
            value if lists(value) => elsewhere.push(name.clone()),
            _ => {}
        }
    }
    let there = match said.claims.get(claim) {
        Some(value) => format!("claim {claim} is {}, and a list of names is wanted", shown(Some(value))),
        None => format!("the token has no claim {claim:?}"),
    };
    elsewhere.truncate(MAX_NAMED);
    Some(match elsewhere.is_empty() {
        true => there,
        false => format!("{there}; names stand in {}: write that as groups_claim", elsewhere.join(", ")),
    })
}

/// What a token says of itself, for whoever has to find out why it is refused: a line for each of these claims that is there.
pub(super) fn claims_shown(token: &[u8]) -> Vec<(&'static str, String)> {
    let Ok(said) = Said::of(token) else { return Vec::new() };
    let named = [
        ("subject", "sub"),
        ("issuer", "iss"),
        ("audience", "aud"),
        ("client", "azp"),
        ("exp", "exp"),
        ("nbf", "nbf"),
    ];
    let there =
        named.into_iter().filter_map(|(what, claim)| Some((what, shown(Some(said.claims.get(claim)?)))));
    there.collect()
}

/// Claims that are named where groups are missing.
const MAX_NAMED: usize = 5;

/// What a token says, whether it may or not.
struct Said {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Said {
    /// Takes a token of three parts apart, or says which part cannot be read.
    fn of(token: &[u8]) -> Result<Said, String> {
        if token.len() > MAX_BYTES {
            return Err(format!("it has {} bytes", token.len()));
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let mut object = |what: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(parts.next().unwrap_or_default());
            let bytes = bytes
                .map_err(|_| format!("its {what} is no base64url; was it cut or changed on the way?"))?;
            serde_json::from_slice(&bytes).map_err(|_| format!("its {what} is no JSON object"))
        };
        Ok(Said { header: object("header")?, claims: object("payload")? })
    }

    /// What belongs to a fault.
    fn more(
        &self,
        fault: TokenFault,
        settings: Option<&IssuerSettings>,
        known: Vec<&str>,
        now: SystemTime,
    ) -> Option<String> {
        let claim = |name: &str| shown(self.claims.get(name));
        let header = |name: &str| shown(self.header.get(name));
        let list = |list: &[String]| list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
        let date = |name: &str| self.claims.get(name).and_then(Value::as_f64).unwrap_or_default() as i64;
        Some(match (fault, settings) {
            (TokenFault::Malformed, _) => self.wrong_type(),
            (TokenFault::Critical, _) => {
                format!("crit is {}; no such parameter is understood here", header("crit"))
            }
            (TokenFault::Type, _) => self.other_type(),
            (TokenFault::Bound, _) => {
                "it has the claim cnf; ask for a token without DPoP and without a certificate bound to it"
                    .into()
            }
            (TokenFault::UnknownIssuer, _) => {
                let (iss, known): (_, Vec<String>) =
                    (claim("iss"), known.into_iter().map(str::to_owned).collect());
                let differs =
                    self.claims.get("iss").and_then(Value::as_str).and_then(|iss| near(iss, &known));
                format!("iss is {iss}; known: {}{}", list(&known), differs.unwrap_or_default())
            }
            (TokenFault::Audience, Some(one)) => {
                let hint = match self.looks_like_an_id_token() {
                    true => "; it looks like an ID token: send the access token",
                    false => "",
                };
                format!("aud is {}; {} accepts {}{hint}", claim("aud"), one.name, list(&one.audience))
            }
            (TokenFault::Missing("aud"), Some(one)) => {
                format!(
                    "{} accepts {}; let the issuer put it into its access tokens",
                    one.name,
                    list(&one.audience)
                )
            }
            (TokenFault::Missing("azp"), Some(one)) => format!("{} accepts {}", one.name, list(&one.azp)),
            (TokenFault::Missing("exp"), _) => "a token must say how long it is good".into(),
            (TokenFault::Missing("sub"), _) => "a token must name somebody".into(),
            (TokenFault::AuthorizedParty, Some(one)) => {
                format!("azp is {}; {} accepts {}", claim("azp"), one.name, list(&one.azp))
            }
            (TokenFault::Algorithm, Some(one)) => {
                let names: Vec<&str> = one.algorithms.iter().map(|algorithm| algorithm.name()).collect();
                let hint = match self.header.get("alg").and_then(Value::as_str) {
                    Some(alg) if alg.eq_ignore_ascii_case("none") => "; an unsigned token is never taken",
                    Some(alg) if alg.starts_with("HS") => {
                        "; a shared secret is never taken: let the issuer sign with a key pair"
                    }
                    Some(alg) if Algorithm::ALL.iter().any(|known| known.name() == alg) => {
                        "; add it to the issuer's algorithms if that is what it signs with"
                    }
                    _ => "",
                };
                format!("alg is {}; {} accepts {}{hint}", header("alg"), one.name, names.join(", "))
            }
            (TokenFault::Expired, _) => {
                let ago = seconds(now) - date("exp");
                format!("exp was {ago} s ago; tolerance {} s", CLOCK_SKEW.as_secs())
            }
            (TokenFault::NotYetValid, _) => {
                let name = if date("nbf") >= date("iat") { "nbf" } else { "iat" };
                let ahead = date(name) - seconds(now);
                format!("{name} is {ahead} s ahead; tolerance {} s; compare the clocks", CLOCK_SKEW.as_secs())
            }
            (TokenFault::UnknownKey | TokenFault::Unavailable, _) if self.header.contains_key("kid") => {
                format!("kid is {}", header("kid"))
            }
            (TokenFault::KeyMismatch, _) => format!("alg is {}, kid is {}", header("alg"), header("kid")),
            (TokenFault::Signature, _) => {
                format!(
                    "alg is {}, kid is {}; was the token cut or changed on the way?",
                    header("alg"),
                    header("kid")
                )
            }
            _ => return None,
        })
    }

    /// Which claim or header parameter is of a wrong type (RFC 7515 section 4.1, RFC 7519 section 4.1).
    fn wrong_type(&self) -> String {
        for name in ["alg", "kid", "typ"] {
            match self.header.get(name) {
                None if name == "alg" => return "its header has no alg".into(),
                None | Some(Value::String(_)) => {}
                other => return format!("{name} is {}, and a text is wanted", shown(other)),
            }
        }
        for name in ["iss", "sub", "azp"] {
            if let Some(value) = self.claims.get(name).filter(|value| !value.is_string()) {
                return format!("{name} is {}, and a text is wanted", shown(Some(value)));
            }
        }
        for name in ["exp", "nbf", "iat"] {
            match self.claims.get(name).map(|value| (value, value.as_f64())) {
                Some((value, Some(seconds))) if !(0.0..=LAST_SECOND).contains(&seconds) => {
                    return format!(
                        "{name} is {}, which is no date in seconds since 1970; milliseconds?",
                        shown(Some(value))
                    );
                }
                Some((value, None)) => {
                    return format!(
                        "{name} is {}, and a number of seconds since 1970 is wanted",
                        shown(Some(value))
                    );
                }
                _ => {}
            }
        }
        match self.claims.get("aud") {
            None | Some(Value::String(_)) => {}
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {}
            other => return format!("aud is {}, and a text or a list of texts is wanted", shown(other)),
        }
        "its signature is no base64url; was it cut or changed on the way?".into()
    }

    /// What other kind of token it is.
    fn other_type(&self) -> String {
        let kind = OTHER_KINDS.iter().find(|kind| self.claims.contains_key(**kind));
        let what = match (kind, use_of_another_kind(&self.claims)) {
            (Some(kind), _) => format!("it has the claim {kind}"),
            (None, Some((name, _))) => format!("its claim {name} is {}", shown(self.claims.get(name))),
            _ => format!("typ is {}; taken are {}", shown(self.header.get("typ")), TYPES.join(" and ")),
        };
        format!("{what}; send the access token")
    }

    /// True with claims that ID tokens alone have (OpenID Connect Core 1.0 sections 2 and 3.3.2.11), or Keycloak's word for them.
    fn looks_like_an_id_token(&self) -> bool {
        ["nonce", "at_hash", "c_hash"].iter().any(|name| self.claims.contains_key(*name))
            || self.claims.get("typ").is_some_and(|typ| typ == "ID")
    }
}

/// In what an issuer differs from one that is known, where that is easily overlooked.
fn near(iss: &str, known: &[String]) -> Option<&'static str> {
    let same = |change: fn(&str) -> String| known.iter().any(|one| change(one) == change(iss));
    if same(|url| url.trim_end_matches('/').to_owned()) {
        Some("; only the / at the end differs: write oidc exactly as iss")
    } else if same(|url| url.split_once("://").map_or(url, |(_, rest)| rest).to_owned()) {
        Some("; only http and https differ")
    } else if same(str::to_ascii_lowercase) {
        Some("; only capital letters differ: write oidc exactly as iss")
    } else {
        None
    }
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// A claim as JSON, cut.
fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "missing".to_owned(), Value::to_string);
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use serde_json::json;
    use std::time::Duration;

    fn corp() -> IssuerSettings {
        IssuerSettings {
            name: IssuerName("corp".into()),
            url: "https://idp".into(),
            audience: vec!["staunch".into()],
            algorithms: vec![Algorithm::Es256],
            groups_claim: "groups".into(),
            azp: vec!["cli".into()],
            ca: None,
            jwks_hosts: vec![],
        }
    }

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn token(header: &Value, claims: &Value) -> String {
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn said(fault: TokenFault, token: &str) -> String {
        let text = explain(
            fault,
            token.as_bytes(),
            std::iter::once(&corp()),
            UNIX_EPOCH + Duration::from_secs(1_000),
        );
        assert!(!text.contains(&token[..token.len().min(12)]), "{text}");
        text
    }

    #[test]
    fn what_was_there_and_what_would_do_stand_behind_the_fault() {
        let claims = json!({"iss": "https://idp", "aud": "x", "azp": "web", "exp": 100, "nbf": 1300});
        let token = token(&json!({"alg": "HS256", "kid": "k1"}), &claims);
        for (fault, part) in [
            (TokenFault::Audience, r#"audience is not accepted: aud is "x"; corp accepts "staunch""#),
            (TokenFault::AuthorizedParty, r#"azp is "web"; corp accepts "cli""#),
            (TokenFault::Algorithm, r#"alg is "HS256"; corp accepts ES256; a shared secret is never taken"#),
            (TokenFault::Expired, "expired: exp was 900 s ago; tolerance 30 s"),
            (TokenFault::NotYetValid, "nbf is 300 s ahead; tolerance 30 s"),
            (TokenFault::UnknownKey, r#"unknown key: kid is "k1""#),
            (TokenFault::UnknownIssuer, r#"iss is "https://idp"; known: "https://idp""#),
            (
                TokenFault::Signature,
                r#"signature does not verify: alg is "HS256", kid is "k1"; was the token cut"#,
            ),
            (TokenFault::Missing("aud"), r#"claim aud is missing: corp accepts "staunch""#),
        ] {
            assert!(said(fault, &token).contains(part), "{}", said(fault, &token));
        }
    }

    #[test]
    fn the_claim_of_a_wrong_type_is_named() {
        let header = json!({"alg": "ES256"});
        for (claims, part) in [
            (json!({"exp": "1700"}), r#"exp is "1700", and a number of seconds"#),
            (json!({"exp": 1_700_000_000_000_000_u64}), "milliseconds?"),
            (json!({"iss": 4}), "iss is 4, and a text"),
            (json!({"aud": {"a": 1}}), r#"aud is {"a":1}, and a text or a list of texts"#),
        ] {
            let said = said(TokenFault::Malformed, &token(&header, &claims));
            assert!(said.contains(part), "{said}");
        }
        assert!(said(TokenFault::Malformed, &token(&json!({"typ": "JWT"}), &json!({}))).contains("no alg"));
        assert!(
            said(TokenFault::Malformed, &token(&header, &json!([1]))).contains("payload is no JSON object")
        );
        assert!(
            said(TokenFault::Malformed, &format!("{}.!.c2ln", encode(&header)))
                .contains("payload is no base64url")
        );
    }

    #[test]
    fn another_kind_of_token_is_named_with_what_to_send_in_its_place() {
        let header = json!({"alg": "ES256", "typ": "logout+jwt", "crit": ["b64"]});
        let of = |fault, claims: &Value| said(fault, &token(&header, claims));
        assert!(
            of(TokenFault::Type, &json!({}))
                .contains(r#"typ is "logout+jwt"; taken are JWT and at+jwt; send the access"#)
        );
        assert!(
            of(TokenFault::Type, &json!({"typ": "Refresh"}))
                .contains(r#"its claim typ is "Refresh"; send the access"#)
        );
        assert!(of(TokenFault::Type, &json!({"events": {}})).contains("it has the claim events"));
        assert!(of(TokenFault::Critical, &json!({})).contains(r#"crit is ["b64"]"#));
        assert!(of(TokenFault::Bound, &json!({"cnf": {}})).contains("without DPoP"));
        let id = json!({"iss": "https://idp", "aud": "cli", "nonce": "n"});
        assert!(of(TokenFault::Audience, &id).ends_with("it looks like an ID token: send the access token"));
    }

    #[test]
    fn an_issuer_that_differs_in_a_trifle_is_told_so() {
        for (iss, part) in [
            ("https://idp/", "only the / at the end differs"),
            ("http://idp", "only http and https differ"),
            ("https://IdP", "only capital letters differ"),
        ] {
            let token = token(&json!({"alg": "ES256"}), &json!({"iss": iss}));
            assert!(
                said(TokenFault::UnknownIssuer, &token).contains(part),
                "{}",
                said(TokenFault::UnknownIssuer, &token)
            );
        }
        let other = token(&json!({"alg": "ES256"}), &json!({"iss": "https://other"}));
        assert!(said(TokenFault::UnknownIssuer, &other).ends_with(r#"known: "https://idp""#));
    }

    #[test]
    fn what_is_no_jwt_is_named_and_not_repeated() {
        let key = explain(TokenFault::Malformed, b"sk-live-123", std::iter::empty(), UNIX_EPOCH);
        assert!(
            key.contains("11 bytes of a key")
                && key.contains("token of your issuer")
                && !key.contains("sk-live"),
            "{key}"
        );
        assert!(is_service_key(TokenFault::Malformed, b"sk-live-123"));
        let jwe = format!("{}.a.b.c.d", encode(&json!({"alg": "dir", "enc": "A256GCM"})));
        assert!(
            said(TokenFault::Malformed, &jwe).contains("encrypted token")
                && !is_service_key(TokenFault::Malformed, jwe.as_bytes())
        );
    }

    #[test]
    fn missing_groups_are_explained_by_what_is_there() {
        let of = |claims: &Value| {
            why_no_groups(token(&json!({"alg": "ES256"}), claims).as_bytes(), "groups").unwrap()
        };
        assert_eq!(of(&json!({"aud": ["a"]})), r#"the token has no claim "groups""#);
        let keycloak = json!({"realm_access": {"roles": ["ml"]}, "roles": ["x"]});
        assert!(of(&keycloak).contains("names stand in realm_access.roles, roles"), "{}", of(&keycloak));
        assert!(of(&json!({"_claim_names": {"groups": "src1"}})).contains("too many"));
        assert!(of(&json!({"groups": {"ml": true}})).contains(r#"claim groups is {"ml":true}, and a list"#));
    }
}
