//! Log-ins at an issuer by authorization code and PKCE (OpenID Connect Core 1.0, RFC 7636).
//!
//! Nothing is kept of an attempt: its cookie is a time and a random text, and `state`, `nonce` and the PKCE secret are
//! derived from it under a secret of the process. So nobody fills a table, and a code that was made for another browser
//! does not fit.

use super::access::{Access, AccessDenied, random};
use crate::identify::oidc::{Issuers, LoginCode, LoginEndpoints, LoginFault, LoginSettings};
use crate::names::IssuerName;
use crate::policy::Identity;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Mutex, Semaphore};

/// The cookie of an attempt.
pub(super) const ATTEMPT_COOKIE: &str = "__Host-staunch_login";

/// How long a log-in at the issuer may take.
pub(super) const ATTEMPT_LIFETIME: Duration = Duration::from_secs(600);

/// How long an issuer's endpoints are remembered.
const ENDPOINTS_LIFETIME: Duration = Duration::from_secs(300);

/// Codes that are exchanged at a time.
const MAX_EXCHANGES: usize = 8;

/// Bytes of a code.
const MAX_CODE: usize = 4_096;

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptFault {
    /// There is no cookie, it is of another attempt, or the attempt took too long.
    #[error("this log-in was not begun in this browser, or took too long; begin again")]
    Stale,
    /// The issuer said so.
    #[error("the issuer refused the log-in ({0})")]
    Refused(String),
    #[error(transparent)]
    Login(#[from] LoginFault),
    #[error(transparent)]
    AccessDenied(AccessDenied),
}

/// Log-ins at one issuer.
pub(super) struct OidcLogin {
    settings: LoginSettings,
    endpoints: Mutex<Option<(Instant, LoginEndpoints)>>,
    exchanges: Semaphore,
}

impl OidcLogin {
    pub(super) fn new(settings: LoginSettings) -> Self {
        OidcLogin { settings, endpoints: Mutex::default(), exchanges: Semaphore::new(MAX_EXCHANGES) }
    }

    /// How the configuration calls the issuer.
    pub(super) fn issuer(&self) -> &IssuerName {
        &self.settings.issuer
    }

    /// The cookie of a new attempt, and where the browser is sent.
    pub(super) async fn begin(
        &self,
        issuers: &Issuers,
        access: &Access,
    ) -> Result<(String, String), AttemptFault> {
        let endpoints = self.endpoints(issuers).await?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let attempt = format!("{}.{}", since.as_secs(), random());
        let derived = Derived::new(access, &attempt);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, derived.verifier.as_bytes()));
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect)
            .append_pair("scope", &self.settings.scope)
            .append_pair("state", &derived.state)
            .append_pair("nonce", &derived.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let joint = if endpoints.authorization.contains('?') { '&' } else { '?' };
        Ok((attempt, format!("{}{joint}{query}", endpoints.authorization)))
    }

    /// Whom the issuer names, from the cookie of the attempt and the query that the browser brought back.
    pub(super) async fn finish(
        &self,
        issuers: &Issuers,
        access: &Access,
        attempt: &str,
        query: &str,
    ) -> Result<Identity, AttemptFault> {
        let now = SystemTime::now();
        if !is_fresh(attempt, now) {
            return Err(AttemptFault::Stale);
        }
        let derived = Derived::new(access, attempt);
        let mut fields = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // What stands twice stands for nothing (RFC 6749 section 3.1).
            if fields.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(AttemptFault::Stale);
            }
        }
        let state = fields.get("state").map(String::as_str).unwrap_or_default();
        if access.derive("equal", state) != access.derive("equal", &derived.state) {
            return Err(AttemptFault::Stale);
        }
        // RFC 9207: an answer of another issuer is mixed up.
        if fields.get("iss").is_some_and(|iss| issuers.issuer_url(&self.settings.issuer) != Some(iss)) {
            return Err(AttemptFault::Stale);
        }
        if let Some(error) = fields.get("error") {
            let is_code = error.len() <= 64 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            return Err(AttemptFault::Refused(if is_code { error.clone() } else { "error".into() }));
        }
        let code = fields.get("code").filter(|code| (1..=MAX_CODE).contains(&code.len()));
        let code = LoginCode {
            code: code.ok_or(AttemptFault::Stale)?,
            redirect: &self.settings.redirect,
            client_id: &self.settings.client_id,
            client_secret: self.settings.client_secret.as_deref(),
            verifier: &derived.verifier,
            nonce: &derived.nonce,
        };
        let endpoints = self.endpoints(issuers).await?;
        let _permit = self.exchanges.acquire().await.expect("nobody closes it");
        Ok(issuers.log_in(&self.settings.issuer, &endpoints.token, &code, now).await?)
    }

    /// The issuer's endpoints; one request at a time asks for them.
    async fn endpoints(&self, issuers: &Issuers) -> Result<LoginEndpoints, LoginFault> {
        let mut known = self.endpoints.lock().await;
        if let Some((at, endpoints)) = &*known
            && at.elapsed() < ENDPOINTS_LIFETIME
        {
            return Ok(endpoints.clone());
        }
        let endpoints = issuers.login_endpoints(&self.settings.issuer).await?;
        *known = Some((Instant::now(), endpoints.clone()));
        Ok(endpoints)
    }
}

/// Secrets of one log-in attempt.
struct Derived {
    state: String,
    nonce: String,
    verifier: String,
}

impl Derived {
    fn new(access: &Access, attempt: &str) -> Self {
        let derive = |purpose| access.derive(purpose, attempt);
        Derived { state: derive("state"), nonce: derive("nonce"), verifier: derive("verifier") }
    }
}

fn is_fresh(attempt: &str, now: SystemTime) -> bool {
    let began = attempt.split_once('.').and_then(|(seconds, _)| seconds.parse::<u32>().ok());
    let began = began.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()));
    began.is_some_and(|began| now.duration_since(began).is_ok_and(|age| age < ATTEMPT_LIFETIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn login() -> (OidcLogin, Access, Arc<Issuers>) {
        let settings = LoginSettings {
            issuer: IssuerName("corp".into()),
            client_id: "ops".into(),
            client_secret: None,
            scope: "openid".into(),
            redirect: "https://gw.test/login/callback".into(),
        };
        (OidcLogin::new(settings), Access::new(None, true, true), Issuers::new(Vec::new()).unwrap())
    }

    #[tokio::test]
    async fn only_the_answer_to_the_attempt_of_this_browser_is_looked_at() {
        let (login, access, issuers) = login();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (mine, old) = (format!("{since}.mine"), format!("{}.mine", since - 601));
        let state = Derived::new(&access, &mine).state;
        let good = format!("code=c&state={state}");
        let stale = |result: Result<Identity, AttemptFault>| matches!(result, Err(AttemptFault::Stale));
        for (attempt, query) in [
            ("", good.clone()),
            (&*format!("{since}.other"), good.clone()),
            (&*old, format!("code=c&state={}", Derived::new(&access, &old).state)),
            (&*format!("{}.mine", since + 100), good.clone()),
            (&*mine, "code=c".into()),
            (&*mine, "code=c&state=".into()),
            (&*mine, format!("state={state}")),
            (&*mine, format!("code=&state={state}")),
            (&*mine, format!("code=c&code=d&state={state}")),
            (&*mine, format!("{good}&iss=https%3A%2F%2Fevil.test")),
            (&*mine, format!("code={}&state={state}", "c".repeat(MAX_CODE + 1))),
        ] {
            assert!(stale(login.finish(&issuers, &access, attempt, &query).await), "{attempt} {query}");
        }
        // What passes is asked of the issuer, which is none here.
        let asked = login.finish(&issuers, &access, &mine, &good).await;
        assert!(matches!(asked, Err(AttemptFault::Login(LoginFault::NoIssuer))), "{asked:?}");
        let refused =
            login.finish(&issuers, &access, &mine, &format!("error=access_denied&state={state}")).await;
        assert_eq!(refused.unwrap_err().to_string(), "the issuer refused the log-in (access_denied)");
        let odd = login.finish(&issuers, &access, &mine, &format!("error=%3Cb%3E&state={state}")).await;
        assert_eq!(odd.unwrap_err().to_string(), "the issuer refused the log-in (error)");
    }

    #[test]
    fn what_is_derived_of_an_attempt_differs_by_purpose_attempt_and_process() {
        let (one, other) = (Access::new(None, true, true), Access::new(None, true, true));
        let mine = Derived::new(&one, "1.a");
        assert!(mine.state != mine.nonce && mine.nonce != mine.verifier && mine.state != mine.verifier);
        assert!(
            mine.state != Derived::new(&one, "1.b").state && mine.state != Derived::new(&other, "1.a").state
        );
        // RFC 7636 section 4.1: 43 to 128 characters.
        assert_eq!(mine.verifier.len(), 43);
    }
}
