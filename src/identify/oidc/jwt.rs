//! A token as text (JWS compact form, RFC 7515) and the rules for its claims (RFC 7519, RFC 8725).
//!
//! Pure. Nothing here trusts the token: [`Jwt::parse`] reads it only far enough to choose the issuer and the key.

use super::fault::TokenFault;
use super::settings::IssuerSettings;
use crate::names::IssuerName;
use crate::policy::claims::{Claims, join};
use crate::policy::{CLOCK_SKEW, Identity, Proof};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longer tokens do not fit into a request head anyway, and are refused before any work is done on them.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Claims kept for policies, and their size in all: an identity lives in each worker's cache.
const MAX_CLAIMS: usize = 64;
const MAX_CLAIM_BYTES: usize = 8 * 1024;
/// Objects inside objects that are flattened into claims.
const MAX_DEPTH: usize = 4;
/// What `typ` may say, with or without `application/` (RFC 7515 section 4.1.9): JWTs of no kind, and access tokens of
/// RFC 9068. Logout tokens, security events, answers of introspection, DPoP proofs and others name themselves here.
pub(super) const TYPES: [&str; 2] = ["JWT", "at+jwt"];
const APPLICATION: &str = "application/";
/// Claims that make another kind of token of a JWT without a `typ` of its own: security events and logout tokens (RFC
/// 8417 section 2.2, OpenID Connect Back-Channel Logout 1.0 section 2.4), answers of introspection (RFC 9701 section 5).
pub(super) const OTHER_KINDS: [&str; 2] = ["events", "token_introspection"];
/// Claims in which issuers say what a token is for: Keycloak, Cognito, and what common libraries write.
const USES: [&str; 4] = ["typ", "token_use", "token_type", "type"];
/// What stands there, letters alone and in lower case, in tokens that are for the issuer itself.
const NOT_FOR_SERVICES: [&str; 7] = [
    "refresh",
    "refreshtoken",
    "offline",
    "logout",
    "logouttoken",
    "initialaccesstoken",
    "registrationaccesstoken",
];
/// 9999-12-31T23:59:59Z; a later date is a mistake, and could not be added to without overflow.
pub(super) const LAST_SECOND: f64 = 253_402_300_799.0;

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
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
    typ: Option<String>,
}

/// What stands there, also if it is null.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

impl<'a> Jwt<'a> {
    /// Takes an access or ID token apart.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, TokenFault> {
        Jwt::parse_of(token, &TYPES, "JWT")
    }

    /// Takes a token apart whose `typ` is one of these, or `unnamed` where it has none.
    pub(super) fn parse_of(token: &'a [u8], types: &[&str], unnamed: &str) -> Result<Self, TokenFault> {
        if token.len() > MAX_BYTES {
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
        let typ = header.typ.as_deref().unwrap_or(unnamed);
        let typ = typ
            .split_at_checked(APPLICATION.len())
            .map_or(typ, |(prefix, rest)| if prefix.eq_ignore_ascii_case(APPLICATION) { rest } else { typ });
        if !types.iter().any(|known| known.eq_ignore_ascii_case(typ)) {
            return Err(TokenFault::Type);
        }
        let claims =
            serde_json::from_slice(&part(&token[first + 1..second])?).map_err(|_| TokenFault::Malformed)?;
        Ok(Jwt { header, claims, message: &token[..second], signature: part(&token[second + 1..])? })
    }

    /// Which issuer the token says it is from.
    pub(super) fn issuer(&self) -> Result<&str, TokenFault> {
        text(&self.claims, "iss")?.ok_or(TokenFault::Missing("iss"))
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, TokenFault> {
        text(&self.claims, name)
    }

    /// A claim that is a date.
    pub(super) fn date(&self, name: &str) -> Result<Option<SystemTime>, TokenFault> {
        date(&self.claims, name)
    }

    /// Holds `aud` against what is accepted.
    pub(super) fn is_for(&self, audience: &[String]) -> Result<(), TokenFault> {
        let accepted = |one: &str| audience.iter().any(|a| a == one);
        let is_for_us = match self.claims.get("aud") {
            None => return Err(TokenFault::Missing("aud")),
            Some(Value::String(one)) => accepted(one),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).any(accepted)
            }
            Some(_) => return Err(TokenFault::Malformed),
        };
        if is_for_us { Ok(()) } else { Err(TokenFault::Audience) }
    }

    /// Holds the claims against the issuer's settings. What comes out is proven only if the signature verifies too.
    pub(super) fn identity(
        &self,
        settings: &IssuerSettings,
        now: SystemTime,
    ) -> Result<Identity, TokenFault> {
        let claims = &self.claims;
        if OTHER_KINDS.iter().any(|kind| claims.contains_key(*kind)) || use_of_another_kind(claims).is_some()
        {
            return Err(TokenFault::Type);
        }
        if claims.contains_key("cnf") {
            return Err(TokenFault::Bound);
        }
        let expires = date(claims, "exp")?.ok_or(TokenFault::Missing("exp"))?;
        if expires + CLOCK_SKEW < now {
            return Err(TokenFault::Expired);
        }
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|from| from > now + CLOCK_SKEW) {
                return Err(TokenFault::NotYetValid);
            }
        }
        self.is_for(&settings.audience)?;
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
            claims: flatten(claims),
            proof: Proof::Token,
            expires,
        })
    }
}

/// The claim, and what it says, of a token that is for the issuer itself.
pub(super) fn use_of_another_kind(claims: &Map<String, Value>) -> Option<(&'static str, &str)> {
    USES.into_iter().find_map(|name| {
        let used_for = claims.get(name)?.as_str()?;
        let letters =
            used_for.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase());
        let is_it = NOT_FOR_SERVICES.iter().any(|known| letters.clone().eq(known.chars()));
        is_it.then_some((name, used_for))
    })
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

/// Claims as texts. A claim of the exact name wins over a path that reads the same. What is beyond the limits is
/// left out, which can only deny: a rule asks for a claim to be there. `aud` comes first, so that it always has room.
fn flatten(claims: &Map<String, Value>) -> Claims {
    let mut out = Flattened { map: BTreeMap::new(), bytes: 0 };
    if let Some(audience) = claims.get("aud") {
        out.put("aud", audience);
    }
    for (name, value) in claims.iter().filter(|(_, v)| !v.is_object()) {
        out.put(name, value);
    }
    for (name, value) in claims.iter().filter(|(_, v)| v.is_object()) {
        out.descend(name, value, MAX_DEPTH);
    }
    out.map.into_iter().collect()
}

struct Flattened {
    map: BTreeMap<Arc<str>, Arc<str>>,
    bytes: usize,
}

impl Flattened {
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
        let scalar = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        };
        let value = match value {
            Value::Array(list) => join(list.iter().filter_map(scalar)),
            // RFC 8693 section 4.2: a list with spaces between its words. The whole is one of its values, too.
            Value::String(text) if name == "scope" && text.contains(' ') => {
                join(std::iter::once(text.clone()).chain(text.split(' ').map(str::to_owned)))
            }
            _ => join(scalar(value)),
        };
        let Some(value) = value else { return };
        let bytes = self.bytes + name.len() + value.len();
        if self.map.len() < MAX_CLAIMS && bytes <= MAX_CLAIM_BYTES && !self.map.contains_key(name) {
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
            "a.b": "exact", "a": {"b": "path", "c": 7, "d": {"e": true}}, "l": ["x", "y"], "m": ["x y", 7, null, ["z"]],
            "n": null, "deep": {"1": {"2": {"3": {"4": {"5": "x"}}}}}, "scope": "read write", "empty": []
        })));
        for (name, values) in [
            ("a.b", "exact"),
            ("a.c", "7"),
            ("a.d.e", "true"),
            ("l", "x|y"),
            ("m", "x y|7"),
            ("n", ""),
            ("scope", "read write|read|write"),
            ("empty", ""),
            ("deep.1.2.3.4", ""),
        ] {
            assert_eq!(flat.values(name).collect::<Vec<_>>().join("|"), values, "{name}");
        }
        let many: Map<String, Value> = (0..1_000).map(|n| (format!("c{n:04}"), json!("v"))).collect();
        let kept = flatten(&many);
        assert_eq!((0..1_000).filter(|n| kept.has(&format!("c{n:04}"), "v")).count(), MAX_CLAIMS);
        let large = "v".repeat(1_000);
        let many: Map<String, Value> = (0..10).map(|n| (format!("a{n}"), json!(large))).collect();
        let mut many = many;
        many.insert("aud".into(), json!("staunch"));
        let kept = flatten(&many);
        assert_eq!((0..10).filter(|n| kept.has(&format!("a{n}"), &large)).count(), 8);
        assert!(kept.has("aud", "staunch"), "the audience always has room");
    }

    #[test]
    fn no_text_of_a_claim_reads_like_two() {
        let flat = flatten(&object(json!({"a": "x\0y", "l": ["x\0admin", "z"]})));
        assert!(!flat.has("a", "x") && !flat.has("a", "y") && !flat.has("l", "admin") && flat.has("l", "z"));
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
