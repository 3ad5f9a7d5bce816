//! The token endpoint: a grant goes in, tokens come out (RFC 6749 sections 4 to 6), or they are revoked (RFC 7009).

use super::claims::Claims;
use super::fault::{Fault, IssuerOffence, Refusal};
use super::issuer::Issuer;
use super::issuer_http::Form;
use super::secrets::text;
use super::settings::IssuerSettings;
use super::store::Tokens;
use crate::net::https::{Answer, HttpsUrl};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// A client as it shows itself to its issuer.
pub(super) struct Client<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) settings: &'a IssuerSettings,
    secret: Option<Secret>,
}

/// The token endpoint's response: tokens, or an OAuth error.
pub(super) enum Outcome {
    Tokens(Tokens),
    Refused(Refusal),
}

impl<'a> Client<'a> {
    /// Reads the client's secret, if it has one.
    pub(super) fn new(issuer: &'a Issuer, settings: &'a IssuerSettings) -> Result<Self, Fault> {
        let secret = settings.client_secret.as_ref().map(|reference| reference.read()).transpose()?;
        Ok(Client { issuer, settings, secret })
    }

    /// Sends a form as this client (RFC 6749 section 2.3.1): by `Authorization: Basic` or inside the form.
    pub(super) async fn post(&self, url: &HttpsUrl, form: Form) -> Result<(Answer, Form), Fault> {
        let id = &self.settings.client_id;
        let (form, authorization) = match &self.secret {
            None => (form.field("client_id", id), None),
            Some(secret) if self.issuer.takes("client_secret_basic") => (form, Some(basic(id, secret))),
            Some(secret) if self.issuer.takes("client_secret_post") => {
                (form.field("client_id", id).secret("client_secret", secret), None)
            }
            Some(_) => {
                let what = "it takes neither client_secret_basic nor client_secret_post".into();
                return Err(self.issuer.blame(IssuerOffence::Unable(what)));
            }
        };
        let answer = self.issuer.http.post(url, &form, authorization).await;
        Ok((answer.map_err(|offence| self.issuer.blame(offence))?, form))
    }

    /// Asks for tokens. `check` judges the ID token's claims.
    pub(super) async fn grant(
        &self,
        form: Form,
        check: impl FnOnce(&Claims) -> Result<(), String>,
    ) -> Result<Outcome, Fault> {
        // Before the request: a token is never believed to live longer than it does.
        let asked = SystemTime::now();
        let (answer, form) = self.post(&self.issuer.token, form).await?;
        if answer.status != StatusCode::OK {
            return refusal(&answer, &form).map(Outcome::Refused).map_err(|o| self.issuer.blame(o));
        }
        self.tokens(&answer, asked, check).map(Outcome::Tokens).map_err(|what| self.issuer.broken(what))
    }

    /// The answer of RFC 6749 section 5.1 and OpenID Connect Core 1.0 section 3.1.3.3.
    fn tokens(
        &self,
        answer: &Answer,
        asked: SystemTime,
        check: impl FnOnce(&Claims) -> Result<(), String>,
    ) -> Result<Tokens, String> {
        // What serde would say could quote a token.
        let granted: TokenResponse = serde_json::from_slice(answer.body.expose())
            .map_err(|_| "its token endpoint does not answer with the JSON of RFC 6749 section 5.1")?;
        if !granted.token_type.eq_ignore_ascii_case("Bearer") {
            return Err("it gives tokens of another type than Bearer".into());
        }
        let mut tokens = Tokens {
            issuer: self.settings.issuer.clone(),
            client_id: self.settings.client_id.clone(),
            ..Tokens::default()
        };
        if let Some(id) = granted.id_token {
            let claims = Claims::of(&id).ok_or("its ID token is no JWT")?;
            claims.check_id_token(&self.settings.issuer, &self.settings.client_id, asked)?;
            check(&claims)?;
            tokens.id_expires = claims.lifetime().map(|lifetime| seconds(asked + lifetime));
            tokens.subject = claims.text("sub").map(str::to_owned);
            let names = ["email", "preferred_username", "name"];
            tokens.person = names.into_iter().find_map(|name| claims.text(name)).map(str::to_owned);
            tokens.id = Some(token(id)?);
        }
        let lifetime = match &granted.expires_in {
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
            None => None,
        }
        .map(Duration::from_secs)
        .or_else(|| Claims::of(&granted.access_token)?.lifetime());
        tokens.access_expires = lifetime.map(|lifetime| seconds(asked + lifetime.min(MAX_LIFETIME)));
        tokens.access = Some(token(granted.access_token)?);
        tokens.refresh = granted.refresh_token.map(token).transpose()?;
        Ok(tokens)
    }

    /// Asks for tokens with the client's own secret (RFC 6749 section 4.4).
    pub(super) async fn client_credentials(&self) -> Result<Tokens, Fault> {
        let form = Form::default()
            .field("grant_type", "client_credentials")
            .maybe("scope", self.settings.scope.as_deref())
            .maybe("audience", self.settings.audience.as_deref())
            .maybe("resource", self.settings.resource.as_deref());
        match self.grant(form, |_| Ok(())).await? {
            Outcome::Tokens(tokens) => Ok(tokens),
            Outcome::Refused(refusal) => Err(self.issuer.blame(IssuerOffence::Refused(refusal))),
        }
    }

    /// Revokes a token (RFC 7009 section 2.1). `false`: the issuer cannot revoke tokens of this type.
    pub(super) async fn revoke(&self, url: &HttpsUrl, token: &Secret, hint: &str) -> Result<bool, Fault> {
        let form = Form::default().secret("token", token).field("token_type_hint", hint);
        let (answer, form) = self.post(url, form).await?;
        if answer.status == StatusCode::OK {
            return Ok(true);
        }
        match refusal(&answer, &form).map_err(|offence| self.issuer.blame(offence))? {
            refusal if refusal.code == "unsupported_token_type" => Ok(false),
            refusal => Err(self.issuer.blame(IssuerOffence::Refused(refusal))),
        }
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    token_type: String,
    /// A number of seconds; some issuers write it as text.
    expires_in: Option<Value>,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct Error {
    error: String,
    error_description: Option<String>,
}

/// The error answer of RFC 6749 section 5.2.
pub(super) fn refusal(answer: &Answer, form: &Form) -> Result<Refusal, IssuerOffence> {
    let error: Error = serde_json::from_slice(answer.body.expose()).map_err(|_| {
        IssuerOffence::Unreachable(format!("status {} without an error code", answer.status.as_u16()))
    })?;
    let description = error.error_description.map(|text| form.without_secrets(&text));
    Ok(Refusal::new(&form.without_secrets(&error.error), description.as_deref()))
}

/// Visible ASCII (RFC 6749 appendix A.12): safe in a header, a password field and a terminal.
fn token(text: String) -> Result<Secret, String> {
    let secret = Secret::new(text.into_bytes());
    match !secret.expose().is_empty() && secret.expose().iter().all(u8::is_ascii_graphic) {
        true => Ok(secret),
        false => Err("it gives a token that holds other characters than RFC 6749 allows".into()),
    }
}

fn basic(id: &str, secret: &Secret) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(id), *Zeroizing::new(encode(text(secret)))));
    let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(pair.as_bytes()))));
    let mut value = HeaderValue::from_str(&value).expect("base64 fits into a header");
    value.set_sensitive(true);
    value
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A hundred years: a later date is a mistake, and could not be added to without overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_credentials_are_form_encoded_before_base64() {
        let value = basic("a:b", &Secret::new(b"p%s +\xc3\xa9".to_vec()));
        assert!(value.is_sensitive());
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        assert_eq!(STANDARD.decode(text).unwrap(), b"a%3Ab:p%25s+%2B%C3%A9");
    }

    #[test]
    fn an_error_answer_never_repeats_what_was_secret() {
        let form = Form::default().secret("refresh_token", &Secret::new(b"rt-canary".to_vec()));
        let body = br#"{"error":"invalid_grant","error_description":"rt-canary \u001b[31mis eyJhbGciOiJFUzI1NiJ9.e30.x"}"#;
        let body = Secret::new(body.to_vec());
        let answer = Answer { status: StatusCode::BAD_REQUEST, headers: Default::default(), body };
        let refusal = refusal(&answer, &form).unwrap().to_string();
        assert_eq!(refusal, "invalid_grant (… \\u{1b}[31mis eyJ…0a131e44)");
    }

    #[test]
    fn tokens_that_could_steer_a_terminal_are_refused() {
        assert!(token("eyJ.a_b-c~".into()).is_ok());
        for bad in ["", "a b", "a\n", "a\u{1b}", "ä"] {
            assert!(token(bad.into()).is_err(), "{bad:?}");
        }
    }
}
