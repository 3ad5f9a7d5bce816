//! Where an issuer publishes its keys: its discovery document leads there.
//!
//! Connects to hosts that the configuration names, and to no others: the discovery document says where the keys are,
//! and is believed only for the issuer's own host or a listed one.

use super::keys::KeySetFault;
use super::settings::{IssuerSettings, Setting};
use crate::net::https::{self, Answer, HttpsClient, HttpsFault, HttpsUrl, Limits};
use crate::secret::Secret;
use crate::secret::shown_url;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderMap};
use serde::Deserialize;
use std::time::Duration;

/// Where an issuer's keys are, from its settings.
#[derive(Debug)]
pub(super) struct KeySource {
    discovery: HttpsUrl,
    /// Hosts that may serve keys, as `host:port` in lower case; the issuer's own first.
    hosts: Vec<String>,
    https: HttpsClient,
}

/// Where people log in at an issuer.
#[derive(Clone, Debug)]
pub struct LoginEndpoints {
    /// Where the browser is sent.
    pub authorization: String,
    /// Where the code is exchanged.
    pub token: HttpsUrl,
}

/// A key set as fetched.
pub(super) struct FetchedKeys {
    pub(super) document: Secret,
    pub(super) max_age: Option<Duration>,
}

/// Why a fetch failed. Names the offence and nothing that the other side chose.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFault {
    #[error(transparent)]
    Https(#[from] HttpsFault),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the discovery document is not the JSON that OpenID Connect Discovery asks for")]
    Discovery,
    #[error("the discovery document is for another issuer{0}")]
    OtherIssuer(&'static str),
    #[error("jwks_uri is not an https URL")]
    JwksScheme,
    #[error("jwks_uri is on a host that is neither the issuer's nor in jwks_hosts")]
    JwksHost,
    #[error("an endpoint of the discovery document is not an https URL")]
    EndpointScheme,
    #[error("token_endpoint is on a host that is neither the issuer's nor in jwks_hosts")]
    TokenHost,
    #[error(transparent)]
    Keys(#[from] KeySetFault),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct LoginDocument {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

impl KeySource {
    /// Reads the settings; no I/O. `time` bounds each exchange.
    pub(super) fn new(settings: &IssuerSettings, time: Duration) -> Result<Self, String> {
        let discovery = discovery_url(&settings.url)?;
        let mut hosts = vec![host(&settings.url)?];
        for host in &settings.jwks_hosts {
            hosts.push(jwks_host(host)?);
        }
        let limits = Limits { time, body: https::MAX_DOCUMENT };
        let https = match settings.ca.as_deref() {
            Some(ca) => HttpsClient::with_authorities(https::authorities(ca)?, limits)?,
            None => HttpsClient::with_system_authorities(limits),
        };
        Ok(KeySource { discovery, hosts, https })
    }

    /// The issuer's own host, for logs.
    pub(super) fn host(&self) -> &str {
        &self.hosts[0]
    }

    /// Fetches the discovery document and takes `jwks_uri` from it.
    pub(super) async fn discover(&self, issuer: &str) -> Result<HttpsUrl, FetchFault> {
        let answer = self.get(&self.discovery).await?;
        let document: Document =
            serde_json::from_slice(answer.body.expose()).map_err(|_| FetchFault::Discovery)?;
        // OpenID Connect Discovery 1.0 section 4.3: exactly the same, or somebody speaks for another issuer.
        if document.issuer != issuer {
            let by_slash = document.issuer.trim_end_matches('/') == issuer.trim_end_matches('/');
            return Err(FetchFault::OtherIssuer(match by_slash {
                true => ": only a `/` at the end differs; write `oidc` exactly as the issuer does",
                false => "",
            }));
        }
        let url: HttpsUrl = document.jwks_uri.parse().map_err(|()| FetchFault::JwksScheme)?;
        match self.hosts.iter().any(|host| host == url.host()) {
            true => Ok(url),
            false => Err(FetchFault::JwksHost),
        }
    }

    /// Fetches the discovery document and takes from it where people log in. Tokens come from the hosts that may serve keys.
    pub(super) async fn login_endpoints(&self, issuer: &str) -> Result<LoginEndpoints, FetchFault> {
        let answer = self.get(&self.discovery).await?;
        let document: LoginDocument =
            serde_json::from_slice(answer.body.expose()).map_err(|_| FetchFault::Discovery)?;
        if document.issuer != issuer {
            return Err(FetchFault::OtherIssuer(""));
        }
        let https = |text: &str| text.parse::<HttpsUrl>().map_err(|()| FetchFault::EndpointScheme);
        https(&document.authorization_endpoint)?;
        let token = https(&document.token_endpoint)?;
        match self.hosts.iter().any(|host| host == token.host()) {
            true => Ok(LoginEndpoints { authorization: document.authorization_endpoint, token }),
            false => Err(FetchFault::TokenHost),
        }
    }

    /// Posts a form.
    pub(super) async fn post(
        &self,
        url: &HttpsUrl,
        headers: HeaderMap,
        form: String,
    ) -> Result<Answer, FetchFault> {
        Ok(self.https.send(hyper::Method::POST, url, headers, form.into()).await?)
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self, url: &HttpsUrl) -> Result<FetchedKeys, FetchFault> {
        let answer = self.get(url).await?;
        Ok(FetchedKeys { max_age: max_age(&answer.headers), document: answer.body })
    }

    async fn get(&self, url: &HttpsUrl) -> Result<Answer, FetchFault> {
        let answer = self.https.get(url).await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            status => Err(FetchFault::Status(status)),
        }
    }
}

impl IssuerSettings {
    /// All that cannot work about this issuer by itself, and what to write instead. Opens nothing.
    pub fn faults(&self) -> Vec<(Setting, String)> {
        let mut faults = Vec::new();
        faults.extend(discovery_url(&self.url).err().map(|fault| (Setting::Url, fault)));
        faults.extend(
            self.jwks_hosts.iter().filter_map(|host| Some((Setting::JwksHosts, jwks_host(host).err()?))),
        );
        let ca = self.ca.as_deref().and_then(|ca| https::authorities(ca).err());
        faults.extend(ca.map(|fault| (Setting::Ca, fault)));
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            let fault = "has no audience, so tokens for anybody would pass; name at least one";
            faults.push((Setting::Audience, fault.into()));
        }
        if self.algorithms.is_empty() {
            let fault = "accepts no algorithm; name at least one, such as RS256";
            faults.push((Setting::Algorithms, fault.into()));
        }
        faults
    }
}

/// Where the discovery document of an issuer stands.
fn discovery_url(url: &str) -> Result<HttpsUrl, String> {
    if url.contains(['?', '#']) {
        return Err(format!("{} has a query or a fragment; an issuer has neither", shown_url(url)));
    }
    if let Some((issuer, _)) = url.split_once("/.well-known/") {
        return Err(format!(
            "{} is the issuer's discovery document; write the issuer: {}",
            shown_url(url),
            shown_url(issuer)
        ));
    }
    host(url)?;
    let discovery = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
    discovery.parse().map_err(|()| format!("{} is no URL", shown_url(url)))
}

fn host(url: &str) -> Result<String, String> {
    let read = url.parse::<HttpsUrl>().map(|url| url.host().to_owned());
    read.map_err(|()| format!("{} is no https URL; {}", shown_url(url), https_advice(url)))
}

/// What to write in place of what is no https URL; a user and a password in it are not repeated.
fn https_advice(url: &str) -> String {
    let usual = "write https://host[:port][/path]".to_owned();
    let trimmed = url.trim();
    let rest = match trimmed.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            rest
        }
        Some(_) => return usual,
        None => trimmed,
    };
    if rest.contains('@') {
        return "an issuer has no user and no password in its URL".into();
    }
    if rest.contains(['<', '>', '{', '}', '$']) {
        return "put the real name in place of the example's".into();
    }
    let meant = format!("https://{rest}");
    match meant.parse::<HttpsUrl>() {
        Ok(_) if rest.contains(['.', ':']) || rest.starts_with("localhost") => {
            format!("write {}", shown_url(&meant))
        }
        _ => usual,
    }
}

fn jwks_host(host: &str) -> Result<String, String> {
    let read = format!("https://{host}").parse::<HttpsUrl>().ok().filter(|_| !host.contains('/'));
    read.map(|url| url.host().to_owned())
        .ok_or_else(|| format!("{host:?} in jwks_hosts is no host; write host or host:port"))
}

/// `max-age` of RFC 9111 section 5.2.2.1; zero where the answer must not be kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut age = None;
    for value in headers.get_all(CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok()) {
        for directive in value.split(',').map(|d| d.trim().to_ascii_lowercase()) {
            match directive.strip_prefix("max-age=") {
                Some(seconds) => {
                    age = age.or(seconds.trim_matches('"').parse().ok().map(Duration::from_secs))
                }
                None if directive == "no-store" || directive == "no-cache" => return Some(Duration::ZERO),
                None => {}
            }
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_from_cache_control() {
        let age = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|v| {
                headers.append(CACHE_CONTROL, v.parse().unwrap());
            });
            max_age(&headers).map(|d| d.as_secs())
        };
        assert_eq!(age(&[]), None);
        assert_eq!(age(&["public, max-age=600"]), Some(600));
        assert_eq!(age(&["public", "Max-Age=\"60\""]), Some(60));
        assert_eq!(age(&["max-age=600, no-store"]), Some(0));
        assert_eq!(age(&["max-age=-1"]), None);
        assert_eq!(age(&["s-maxage=9"]), None);
    }
}
