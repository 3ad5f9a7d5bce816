//! The claims of a JWT, read without a signature check: see the module's contract for why that is enough here.

use crate::policy::CLOCK_SKEW;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a token says.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// `None` for a token that is no JWT (JWS compact form, RFC 7515 section 3.1).
    pub(super) fn of(token: &str) -> Option<Claims> {
        let mut parts = token.split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok().map(Claims)
    }

    /// True when the claim of this exact name is there, whatever it holds.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The texts of a claim, which is one or a list; dots lead into objects where no claim has the whole name.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        let found = self.0.get(name).or_else(|| {
            let mut steps = name.split('.');
            let first = self.0.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.as_object()?.get(step))
        });
        match found {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// From `iat` to `exp`: right even where the clocks differ. `None` without both.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        let (from, until) = (self.date("iat")?, self.date("exp")?);
        until.duration_since(from).ok()
    }

    /// `exp` (RFC 7519 section 4.1.4).
    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.date("exp")
    }

    /// The rules for an ID token (OpenID Connect Core 1.0 section 3.1.3.7, 2 to 5, 9 and 10).
    pub(super) fn check_id_token(&self, issuer: &str, client: &str, now: SystemTime) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("its ID token {what}"));
        if self.text("iss") != Some(issuer) {
            return wrong("is from another issuer");
        }
        let (ours, others) = match self.0.get("aud") {
            Some(Value::String(one)) => (one == client, false),
            Some(Value::Array(list)) => (list.iter().any(|aud| aud == client), list.len() > 1),
            _ => (false, false),
        };
        if !ours {
            return wrong("is for another client");
        }
        let azp = self.text("azp");
        if azp.map_or(others, |azp| azp != client) {
            return wrong("was asked for by another client");
        }
        if self.text("sub").is_none_or(str::is_empty) {
            return wrong("names nobody");
        }
        match (self.date("exp"), self.date("iat")) {
            (Some(until), Some(_)) if until + CLOCK_SKEW > now => Ok(()),
            (Some(_), Some(_)) => wrong("has expired; is this machine's clock right?"),
            _ => wrong("does not say how long it is good"),
        }
    }

    fn date(&self, name: &str) -> Option<SystemTime> {
        let seconds = self.0.get(name)?.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds))?;
        Some(UNIX_EPOCH + Duration::from_secs_f64(seconds))
    }
}

/// 9999-12-31T23:59:59Z; a later date is a mistake, and could not be added to without overflow.
const LAST_SECOND: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: &Value) -> Option<Claims> {
        Claims::of(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(value.to_string())))
    }

    #[test]
    fn only_an_id_token_for_this_client_from_this_issuer_is_taken() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let good = json!({"iss": "https://i", "aud": "c", "sub": "ann", "iat": 990, "exp": 1_600});
        let judged = |change: Value| {
            let mut value = good.clone();
            value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            claims(&value).unwrap().check_id_token("https://i", "c", now)
        };
        assert_eq!(judged(json!({})), Ok(()));
        assert_eq!(judged(json!({"aud": ["c"]})), Ok(()));
        assert_eq!(judged(json!({"aud": ["c", "d"], "azp": "c"})), Ok(()));
        for (change, why) in [
            (json!({"iss": "https://i/"}), "another issuer"),
            (json!({"aud": "d"}), "another client"),
            (json!({"aud": []}), "another client"),
            (json!({"aud": ["c", "d"]}), "asked for by another"),
            (json!({"azp": "d"}), "asked for by another"),
            (json!({"sub": ""}), "nobody"),
            (json!({"sub": 7}), "nobody"),
            (json!({"exp": 900}), "expired"),
            (json!({"exp": "1600"}), "how long"),
            (json!({"exp": 1e30}), "how long"),
            (json!({"iat": null}), "how long"),
        ] {
            let fault = judged(change.clone()).unwrap_err();
            assert!(fault.contains(why), "{change}: {fault}");
        }
    }

    #[test]
    fn lifetimes_are_spans_and_opaque_tokens_have_none() {
        let span = |value| claims(&value).unwrap().lifetime();
        assert_eq!(span(json!({"iat": 5_000, "exp": 5_600})), Some(Duration::from_secs(600)));
        assert_eq!(span(json!({"exp": 5_600})), None);
        assert_eq!(span(json!({"iat": 9, "exp": 5})), None);
        for opaque in ["", "opaque", "a.b", "a.b.c", "a.b.c.d.e", "e30.W10.x"] {
            assert!(Claims::of(opaque).is_none(), "{opaque}");
        }
    }
}
