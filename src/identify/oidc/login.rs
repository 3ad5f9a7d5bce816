//! People who log in at an issuer through their browser (OpenID Connect Core 1.0 section 3.1): where it sends them, the
//! exchange of the code, and the ID token that comes of it.

use super::discovery::FetchFault;
use super::fault::TokenFault;
use super::jwt::Jwt;
use super::refresh::Keeper;
use super::security_event::verify_or_fetch;
use super::settings::IssuerSettings;
use crate::names::IssuerName;
use crate::net::https::HttpsUrl;
use crate::policy::Identity;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use std::sync::Arc;
use std::time::SystemTime;

/// Where people log in, as configured.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// The issuer.
    pub issuer: IssuerName,
    /// The gateway's name there.
    pub client_id: String,
    /// Its secret there; `None` for a public client.
    pub client_secret: Option<Arc<Secret>>,
    /// What is asked for, `openid` among it.
    pub scope: String,
    /// The URL to which the issuer sends browsers back.
    pub redirect: String,
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginFault {
    /// The issuer is not configured any more.
    #[error("the issuer is not configured")]
    NoIssuer,
    /// The issuer does not answer, or not as the standard says.
    #[error("the issuer does not answer as it should: {0}")]
    Issuer(String),
    /// It does not take the code.
    #[error("the issuer does not take the code (status {0})")]
    Code(u16),
    /// Its ID token does not verify.
    #[error("the issuer's ID token does not count: {0}")]
    Token(#[from] TokenFault),
    /// The ID token is of another log-in.
    #[error("the issuer's ID token is of another log-in")]
    Nonce,
}

impl From<FetchFault> for LoginFault {
    fn from(fault: FetchFault) -> Self {
        LoginFault::Issuer(fault.to_string())
    }
}

/// A code that a browser brought back, and what belongs to it.
#[derive(Debug)]
pub struct LoginCode<'a> {
    /// The code.
    pub code: &'a str,
    /// The URL to which the issuer sent the browser.
    pub redirect: &'a str,
    /// The gateway's name at the issuer.
    pub client_id: &'a str,
    /// The gateway's secret there, where it has one.
    pub client_secret: Option<&'a Secret>,
    /// The secret of PKCE (RFC 7636).
    pub verifier: &'a str,
    /// What the ID token must say again.
    pub nonce: &'a str,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

/// Exchanges a code, and returns whom the ID token proves.
pub(super) async fn log_in(
    keeper: &Keeper,
    endpoint: &HttpsUrl,
    code: &LoginCode<'_>,
    now: SystemTime,
) -> Result<Identity, LoginFault> {
    let (headers, form) = token_request(code);
    let answer = keeper.source.post(endpoint, headers, form).await?;
    if answer.status != hyper::StatusCode::OK {
        return Err(LoginFault::Code(answer.status.as_u16()));
    }
    let answer: TokenAnswer = serde_json::from_slice(answer.body.expose())
        .map_err(|_| LoginFault::Issuer("it sends no ID token".into()))?;
    let token = Secret::new(answer.id_token.into_bytes());
    id_token(keeper, token.expose(), code.client_id, code.nonce, now).await
}

/// The request that exchanges a code (RFC 6749 section 4.1.3).
fn token_request(code: &LoginCode<'_>) -> (HeaderMap, String) {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.code)
        .append_pair("redirect_uri", code.redirect)
        .append_pair("code_verifier", code.verifier);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    match code.client_secret {
        None => drop(form.append_pair("client_id", code.client_id)),
        Some(secret) => drop(headers.insert(AUTHORIZATION, basic(code.client_id, secret))),
    }
    (headers, form.finish())
}

/// The identity that an ID token for `client_id` proves (OpenID Connect Core 1.0 section 3.1.3.7).
async fn id_token(
    keeper: &Keeper,
    token: &[u8],
    client_id: &str,
    nonce: &str,
    now: SystemTime,
) -> Result<Identity, LoginFault> {
    let jwt = Jwt::parse(token)?;
    if jwt.issuer()? != keeper.settings.url {
        return Err(TokenFault::UnknownIssuer.into());
    }
    let settings =
        IssuerSettings { audience: vec![client_id.to_owned()], azp: Vec::new(), ..keeper.settings.clone() };
    let identity = jwt.identity(&settings, now)?;
    if jwt.text("azp")?.is_some_and(|azp| azp != client_id) {
        return Err(TokenFault::AuthorizedParty.into());
    }
    if jwt.text("nonce")? != Some(nonce) {
        return Err(LoginFault::Nonce);
    }
    verify_or_fetch(&jwt, keeper, now).await?;
    Ok(identity)
}

/// Client authentication of RFC 6749 section 2.3.1.
fn basic(client_id: &str, secret: &Secret) -> HeaderValue {
    let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encode(client_id.as_bytes()), encode(secret.expose())).into());
    let text = format!("Basic {}", STANDARD.encode(pair.expose()));
    let mut value = HeaderValue::from_str(&text).expect("base64 fits into a header");
    value.set_sensitive(true);
    value
}
