//! A token as text (JWS compact form, RFC 7515) and the rules for its claims (RFC 7519, RFC 8725).
//!
//! Pure. Nothing here trusts the token: [`Jwt::parse`] reads it only far enough to choose the issuer and the key.

use super::fault::TokenFault;
use super::settings::IssuerSettings;
use crate::names::IssuerName;
use crate::policy::{CLOCK_SKEW, Identity, Proof};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longer tokens do not fit into a request head anyway, and are refused before any work is done on them.
pub(super) const MOST_BYTES: usize = 16 * 1024;
/// Claims kept for policies, and their size in all: an identity lives in each worker's cache.
const MOST_CLAIMS: usize = 64;
const MOST_CLAIM_BYTES: usize = 8 * 1024;
/// Objects inside objects that are flattened into claims.
const DEPTH: usize = 4;
/// 9999-12-31T23:59:59Z; a later date is a mistake, and could not be added to without overflow.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A token taken apart; not verified.
pub(super) struct Jwt<'a> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// What is signed: both first parts with the dot between them, as sent.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// `jwk`, `jku`, `x5u` and `x5c` have no place here on purpose: they would let a token bring its own key.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, TokenFault> {
        if token.len() > MOST_BYTES {
            return Err(TokenFault::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenFault::Malformed);
        };
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.decode(bytes).map_err(|_| TokenFault::Malformed);
        let header: Header =
            serde_json::from_slice(&part(&token[..first])?).map_err(|_| TokenFault::Malformed)?;
        // RFC 7515 section 4.1.11: whoever does not understand a critical parameter must refuse; we know none.
        if header.crit.is_some() {
            return Err(TokenFault::Critical);
        }
        let claims =
            serde_json::from_slice(&part(&token[first + 1..second])?).map_err(|_| TokenFault::Malformed)?;
        Ok(Jwt { header, claims, message: &token[..second], signature: part(&token[second + 1..])? })
    }

    /// Which issuer the token says it is from.
    pub(super) fn issuer(&self) -> Result<&str, TokenFault> {
        text(&self.claims, "iss")?.ok_or(TokenFault::Missing("iss"))
    }

    /// Holds the claims against the issuer's settings. What comes out is proven only if the signature verifies too.
    pub(super) fn identity(
        &self,
        settings: &IssuerSettings,
        now: SystemTime,
    ) -> Result<Identity, TokenFault> {
        let claims = &self.claims;
        let expires = date(claims, "exp")?.ok_or(TokenFault::Missing("exp"))?;
        if expires + CLOCK_SKEW < now {
            return Err(TokenFault::Expired);
        }
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|from| from > now + CLOCK_SKEW) {
                return Err(TokenFault::NotYetValid);
            }
        }
        let accepted = |audience: &str| settings.audience.iter().any(|a| a == audience);
        let audience = match claims.get("aud") {
            None => return Err(TokenFault::Missing("aud")),
            Some(Value::String(one)) => accepted(one),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).any(accepted)
            }
            Some(_) => return Err(TokenFault::Malformed),
        };
        if !audience {
            return Err(TokenFault::Audience);
        }
        if !settings.azp.is_empty() {
            let azp = text(claims, "azp")?.ok_or(TokenFault::Missing("azp"))?;
            if !settings.azp.iter().any(|a| a == azp) {
                return Err(TokenFault::AuthorizedParty);
            }
        }
        let subject = text(claims, "sub")?.filter(|s| !s.is_empty()).ok_or(TokenFault::Missing("sub"))?;
        Ok(Identity {
            issuer: IssuerName(settings.name.0.clone()),
            subject: subject.into(),
            groups: groups(claims, &settings.groups_claim),
            claims: flatten(claims).into_iter().collect(),
            proof: Proof::Token,
            expires,
        })
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, TokenFault> {
    claims.get(name).map(|v| v.as_str().ok_or(TokenFault::Malformed)).transpose()
}

/// NumericDate of RFC 7519 section 2: seconds since 1970, fractions allowed.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|s| (0.0..=LAST_SECOND).contains(s)).ok_or(TokenFault::Malformed)?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

/// The groups in the claim of this exact name, or at the end of this path (`realm_access.roles`). The exact name
/// comes first: names like `https://example.com/groups` hold dots and are no paths.
fn groups(claims: &Map<String, Value>, name: &str) -> Vec<Arc<str>> {
    let found = claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.as_object()?.get(step))
    });
    match found {
        Some(Value::String(one)) => vec![one.as_str().into()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Arc::from).collect(),
        _ => Vec::new(),
    }
}

/// Claims as text. A claim of the exact name wins over a path that reads the same. What is beyond the limits is
/// left out, which can only deny: a rule asks for a claim to be there.
fn flatten(claims: &Map<String, Value>) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut out = Claims { map: BTreeMap::new(), bytes: 0 };
    for (name, value) in claims.iter().filter(|(_, v)| !v.is_object()) {
        out.put(name, value);
    }
    for (name, value) in claims.iter().filter(|(_, v)| v.is_object()) {
        out.descend(name, value, DEPTH);
    }
    out.map
}

struct Claims {
    map: BTreeMap<Arc<str>, Arc<str>>,
    bytes: usize,
}

impl Claims {
    fn descend(&mut self, path: &str, value: &Value, depth: usize) {
        match value {
            Value::Object(object) if depth > 0 => {
                object
                    .iter()
                    .for_each(|(name, inner)| self.descend(&format!("{path}.{name}"), inner, depth - 1));
            }
            Value::Object(_) => {}
            _ => self.put(path, value),
        }
    }

    fn put(&mut self, name: &str, value: &Value) {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(list) => {
                // An element with a space would read like two elements.
                let words = list.iter().map(|v| v.as_str().filter(|s| !s.contains(' ')));
                match words.collect::<Option<Vec<_>>>() {
                    Some(words) => words.join(" "),
                    None => return,
                }
            }
            Value::Null | Value::Object(_) => return,
        };
        let bytes = self.bytes + name.len() + value.len();
        if self.map.len() < MOST_CLAIMS && bytes <= MOST_CLAIM_BYTES && !self.map.contains_key(name) {
            self.bytes = bytes;
            self.map.insert(name.into(), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn groups_are_a_string_a_list_or_at_the_end_of_a_path() {
        let read = |claims: Value, name: &str| {
            groups(&object(claims), name).iter().map(|g| g.to_string()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(read(json!({"groups": "ml"}), "groups"), "ml");
        assert_eq!(read(json!({"groups": ["ml", 7, null, "ops"]}), "groups"), "ml|ops");
        assert_eq!(read(json!({"realm_access": {"roles": ["a", "b"]}}), "realm_access.roles"), "a|b");
        assert_eq!(read(json!({"https://x.example/groups": ["a"]}), "https://x.example/groups"), "a");
        assert_eq!(read(json!({"a.b": ["exact"], "a": {"b": ["path"]}}), "a.b"), "exact");
        assert_eq!(read(json!({"a": "text"}), "a.b"), "");
        assert_eq!(read(json!({"groups": {"ml": true}}), "groups"), "");
        assert_eq!(read(json!({}), "groups"), "");
    }

    #[test]
    fn claims_are_flattened_and_bounded() {
        let flat = flatten(&object(json!({
            "a.b": "exact", "a": {"b": "path", "c": 7, "d": {"e": true}}, "l": ["x", "y"], "m": ["x y"], "n": null,
            "deep": {"1": {"2": {"3": {"4": {"5": "x"}}}}}
        })));
        let flat: Vec<String> = flat.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(flat, ["a.b=exact", "a.c=7", "a.d.e=true", "l=x y"]);
        let many: Map<String, Value> = (0..1_000).map(|n| (format!("c{n}"), json!("v"))).collect();
        assert_eq!(flatten(&many).len(), MOST_CLAIMS);
        let large: Map<String, Value> =
            (0..10).map(|n| (format!("c{n}"), json!("v".repeat(1_000)))).collect();
        assert_eq!(flatten(&large).len(), 8);
    }

    #[test]
    fn dates_are_numbers_within_reason() {
        let read = |v: Value| date(&object(json!({ "exp": v })), "exp").map(|d| d.is_some());
        assert_eq!(read(json!(1_000)), Ok(true));
        assert_eq!(read(json!(1_000.5)), Ok(true));
        for bad in [json!("1000"), json!(-1), json!(1e300), json!(u64::MAX), json!(null), json!([1])] {
            assert_eq!(read(bad.clone()), Err(TokenFault::Malformed), "{bad}");
        }
    }

    #[test]
    fn parsing_never_panics_on_cut_or_strange_input() {
        let token = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.AAAA";
        for cut in 0..=token.len() {
            let parsed = Jwt::parse(&token[..cut]);
            assert_eq!(parsed.is_ok(), cut >= 37 && (cut - 37) % 4 != 1 || cut == token.len(), "{cut}");
        }
        for strange in [&b""[..], b".", b"..", b"...", b"\xff.\xff.\xff", b"e30.e30.", b"W10.e30.AA"] {
            assert!(Jwt::parse(strange).is_err());
        }
    }
}
