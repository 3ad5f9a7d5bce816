//! An issuer: what its discovery document says (OpenID Connect Discovery 1.0 section 4, RFC 8414), and requests to it.

use super::fault::{Fault, IssuerOffence, shown};
use super::issuer_http::IssuerClient;
use crate::net::https::HttpsUrl;
use hyper::StatusCode;
use serde::Deserialize;
use std::path::Path;

/// A discovered issuer.
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) http: IssuerClient,
    pub(super) token: HttpsUrl,
    document: Document,
}

/// Asks an issuer for its discovery document and checks that it is its own, as a gateway does: nobody needs to be able to log in there,
/// as with those of workloads. Returns where its keys stand (`host` or `host:port`), if that is another host than its own.
pub async fn probe(url: &str, ca: Option<&Path>) -> Result<Option<String>, Fault> {
    let blame = |offence| Fault::Issuer { url: url.to_owned(), offence };
    let (_, document) = Issuer::fetch(url, ca).await?;
    let keys = document.jwks_uri.as_deref().map(str::parse::<HttpsUrl>);
    let keys = match keys {
        Some(Ok(keys)) => keys,
        _ => {
            return Err(blame(IssuerOffence::Broken(
                "its discovery document names no https URL of its keys (jwks_uri)".into(),
            )));
        }
    };
    let own = url.parse::<HttpsUrl>().map(|own| own.host().to_owned()).unwrap_or_default();
    Ok((keys.host() != own).then(|| keys.host().trim_end_matches(":443").to_owned()))
}

/// Only what is used here; issuers say much more.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: Option<String>,
    token_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    scopes_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Issuer {
    /// Fetches and checks the discovery document of an issuer where somebody can log in.
    pub(super) async fn discover(url: &str, ca: Option<&Path>) -> Result<Issuer, Fault> {
        let (http, document) = Self::fetch(url, ca).await?;
        let blame = |offence| Fault::Issuer { url: url.to_owned(), offence };
        let token = match document.token_endpoint.as_deref().map(str::parse) {
            Some(Ok(token)) => token,
            Some(Err(())) => {
                let what = "its discovery document names a token_endpoint that is no https URL";
                return Err(blame(IssuerOffence::Broken(what.into())));
            }
            None => {
                let what = "it has no token_endpoint, so nobody logs in there; where something else fetches its tokens, use --token-file";
                return Err(blame(IssuerOffence::Unable(what.into())));
            }
        };
        Ok(Issuer { url: url.to_owned(), http, token, document })
    }

    async fn fetch(url: &str, ca: Option<&Path>) -> Result<(IssuerClient, Document), Fault> {
        if let Some((issuer, _)) = url.split_once("/.well-known/") {
            return Err(Fault::Usage(format!(
                "{url:?} is the issuer's document; write the issuer: {issuer:?}"
            )));
        }
        let place = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
        let place: HttpsUrl = place.parse().ok().filter(|_| !url.contains('?')).ok_or_else(|| {
            let meant = match url.split_once("://") {
                Some(("http", rest)) => format!("\"https://{rest}\": an issuer's URL is always https"),
                None if !url.contains([' ', '?', '@']) && url.contains('.') => format!("\"https://{url}\""),
                _ => "https://host[:port][/path], without a query".into(),
            };
            Fault::Usage(format!("{url:?} is no issuer; write {meant}"))
        })?;
        let http = IssuerClient::new(ca).map_err(Fault::Machine)?;
        let document = Self::document(&http, place, url).await;
        match document {
            Ok(document) => Ok((http, document)),
            Err(offence) => Err(Fault::Issuer { url: url.to_owned(), offence }),
        }
    }

    async fn document(http: &IssuerClient, place: HttpsUrl, url: &str) -> Result<Document, IssuerOffence> {
        let broken = |what: String| Err(IssuerOffence::Broken(format!("its discovery document {what}")));
        let answer = http.get(&place).await?;
        if answer.status != StatusCode::OK {
            let status = answer.status.as_u16();
            return Err(IssuerOffence::Unable(format!(
                "it has no discovery document (status {status}); an issuer is what stands in a token's `iss`, path and all, \
                 such as https://idp.example.com/realms/NAME"
            )));
        }
        if answer.body.expose().trim_ascii_start().starts_with(b"<") {
            return broken("is a web page; an issuer is what stands in a token's `iss`, path and all".into());
        }
        let Ok(document) = serde_json::from_slice::<Document>(answer.body.expose()) else {
            return broken("is not the JSON that OpenID Connect Discovery asks for".into());
        };
        // OpenID Connect Discovery 1.0 section 4.3: exactly the same, or somebody speaks for another issuer.
        if document.issuer != url {
            return broken(format!(
                "is for {:?}; give --issuer exactly so if you trust it",
                shown(&document.issuer)
            ));
        }
        Ok(document)
    }

    /// Where people log in. Refuses an issuer that announces PKCE without S256 (RFC 7636 section 4.2).
    pub(super) fn authorization(&self) -> Result<&str, Fault> {
        let methods = self.document.code_challenge_methods_supported.as_deref();
        if methods.is_some_and(|methods| methods.iter().all(|method| method != "S256")) {
            return Err(self.blame(IssuerOffence::Unable("it does not offer PKCE with S256".into())));
        }
        let url = self.document.authorization_endpoint.as_deref();
        self.endpoint(url, "authorization_endpoint").map(|_| url.unwrap_or_default())
    }

    /// Where a device asks for its code (RFC 8628 section 3.1).
    pub(super) fn device_authorization(&self) -> Result<HttpsUrl, Fault> {
        self.endpoint(self.document.device_authorization_endpoint.as_deref(), "device_authorization_endpoint")
    }

    /// Where tokens are revoked (RFC 7009), if anywhere.
    pub(super) fn revocation(&self) -> Option<HttpsUrl> {
        self.document.revocation_endpoint.as_deref().and_then(|url| url.parse().ok())
    }

    /// True if the authorisation answer must carry `iss` (RFC 9207 section 3).
    pub(super) fn requires_iss(&self) -> bool {
        self.document.authorization_response_iss_parameter_supported
    }

    /// The scope for a person's login where none was chosen: offline access as far as the issuer says it has it.
    pub(super) fn scope(&self) -> &'static str {
        let offered = self.document.scopes_supported.as_deref().unwrap_or_default();
        match offered.iter().any(|scope| scope == "offline_access") {
            true => "openid offline_access",
            false => "openid",
        }
    }

    /// True if a client may authenticate this way. Without a list, only `client_secret_basic`
    /// (OpenID Connect Discovery 1.0 section 3).
    pub(super) fn takes(&self, method: &str) -> bool {
        match &self.document.token_endpoint_auth_methods_supported {
            Some(methods) => methods.iter().any(|offered| offered == method),
            None => method == "client_secret_basic",
        }
    }

    /// A fault of this issuer.
    pub(super) fn blame(&self, offence: IssuerOffence) -> Fault {
        Fault::Issuer { url: self.url.clone(), offence }
    }

    pub(super) fn broken(&self, what: impl Into<String>) -> Fault {
        self.blame(IssuerOffence::Broken(what.into()))
    }

    fn endpoint(&self, url: Option<&str>, name: &str) -> Result<HttpsUrl, Fault> {
        let url = url.ok_or_else(|| self.blame(IssuerOffence::Unable(format!("it has no {name}"))))?;
        url.parse().map_err(|()| self.broken(format!("its {name} is no https URL")))
    }
}
