//! Fetches an issuer's discovery document and keys over HTTPS.
//!
//! Connects to hosts that the configuration names, and to no others: the discovery document says where the keys are,
//! and is believed only for the issuer's own host or a listed one. Redirects are not followed. Every answer is bounded
//! in size and time, and its text never gets into an error.

use super::{IssuerSettings, Setting};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Discovery documents and key sets are a few KiB.
const MOST_BODY: usize = 512 * 1024;

/// Where an issuer is, from its settings.
#[derive(Debug)]
pub(super) struct Place {
    discovery: Uri,
    /// Hosts that may serve keys, as `host:port` in lower case; the issuer's own first.
    hosts: Vec<String>,
    /// The TLS configuration where the settings bring their own roots; else made at the first fetch.
    tls: Option<ClientConfig>,
}

/// A key set as fetched.
pub(super) struct Fetched {
    pub(super) document: Bytes,
    pub(super) max_age: Option<Duration>,
}

/// RefusalReason a fetch failed. Names the offence and nothing that the other side chose.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFault {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no connection: {0}")]
    Connection(String),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("redirects are not followed (status {0})")]
    Redirect(StatusCode),
    #[error("the answer broke off or is larger than {MOST_BODY} bytes")]
    Body,
    #[error("the discovery document is not the JSON that OpenID Connect Discovery asks for")]
    Discovery,
    #[error("the discovery document is for another issuer")]
    OtherIssuer,
    #[error("jwks_uri is not an https URL")]
    JwksScheme,
    #[error("jwks_uri is on a host that is neither the issuer's nor in jwks_hosts")]
    JwksHost,
    #[error("no system roots: {0}")]
    Roots(String),
    #[error(transparent)]
    Keys(#[from] super::keys::KeySetFault),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Place {
    /// Reads the settings; no I/O.
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, String> {
        let (discovery, own) = discovery(&settings.url)?;
        let mut hosts = vec![own];
        for host in &settings.jwks_hosts {
            hosts.push(jwks_host(host)?);
        }
        let tls = settings.ca.as_deref().map(own_roots).transpose()?;
        Ok(Place { discovery, hosts, tls })
    }

    /// Everything that [`Place::new`] would refuse, each with the setting that it is in.
    pub(super) fn faults(settings: &IssuerSettings) -> Vec<(Setting, String)> {
        let url = discovery(&settings.url).err().map(|fault| (Setting::Url, fault));
        let hosts =
            settings.jwks_hosts.iter().filter_map(|host| Some((Setting::JwksHosts, jwks_host(host).err()?)));
        let ca = settings.ca.as_deref().and_then(|ca| own_roots(ca).err()).map(|fault| (Setting::Ca, fault));
        url.into_iter().chain(hosts).chain(ca).collect()
    }

    /// The issuer's own host, for logs.
    pub(super) fn host(&self) -> &str {
        &self.hosts[0]
    }

    /// Fetches the discovery document and takes `jwks_uri` from it.
    pub(super) async fn discover(&self, issuer: &str, time: Duration) -> Result<Uri, FetchFault> {
        let (body, _) = self.get(self.discovery.clone(), time).await?;
        let document: Discovery = serde_json::from_slice(&body).map_err(|_| FetchFault::Discovery)?;
        // OpenID Connect Discovery 1.0 section 4.3: exactly the same, or somebody speaks for another issuer.
        if document.issuer != issuer {
            return Err(FetchFault::OtherIssuer);
        }
        let (uri, host) = https(&document.jwks_uri).ok_or(FetchFault::JwksScheme)?;
        if !self.hosts.contains(&host) {
            return Err(FetchFault::JwksHost);
        }
        Ok(uri)
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self, uri: Uri, time: Duration) -> Result<Fetched, FetchFault> {
        let (document, headers) = self.get(uri, time).await?;
        Ok(Fetched { document, max_age: max_age(&headers) })
    }

    async fn get(&self, uri: Uri, time: Duration) -> Result<(Bytes, HeaderMap), FetchFault> {
        tokio::time::timeout(time, self.exchange(uri)).await.map_err(|_| FetchFault::Timeout(time))?
    }

    async fn exchange(&self, uri: Uri) -> Result<(Bytes, HeaderMap), FetchFault> {
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            // Read each time: rare, and a renewed system store counts at once.
            None => tokio::task::spawn_blocking(system_roots)
                .await
                .map_err(|e| FetchFault::Roots(e.to_string()))?
                .map_err(FetchFault::Roots)?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        // One connection per fetch: minutes lie between two.
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let request = Request::get(uri)
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|_| FetchFault::Discovery)?;
        let response = client.request(request).await.map_err(|e| FetchFault::Connection(cause(&e)))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchFault::Redirect(status)),
            status => return Err(FetchFault::Status(status)),
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BODY).collect().await.map_err(|_| FetchFault::Body)?;
        Ok((body.to_bytes(), head.headers))
    }
}

/// Where the discovery document of an issuer stands, and the issuer's own host.
fn discovery(url: &str) -> Result<(Uri, String), String> {
    if url.contains(['?', '#']) {
        return Err(format!("{url:?} has a query or a fragment; an issuer has neither"));
    }
    let (_, host) =
        https(url).ok_or_else(|| format!("{url:?} is no https URL; write https://host[:port][/path]"))?;
    let discovery = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
    Ok((discovery.parse().map_err(|_| format!("{url:?} is no URL"))?, host))
}

fn jwks_host(host: &str) -> Result<String, String> {
    let read = https(&format!("https://{host}")).filter(|_| !host.contains('/'));
    read.map(|(_, host)| host)
        .ok_or_else(|| format!("{host:?} in jwks_hosts is no host; write host or host:port"))
}

/// An https URL without user information, and its `host:port` in lower case.
fn https(url: &str) -> Option<(Uri, String)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let port = match authority.as_str().len() > authority.host().len() {
        true => authority.port_u16()?,
        false => 443,
    };
    let host = format!("{}:{port}", authority.host().to_ascii_lowercase());
    Some((uri, host))
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

fn own_roots(list: &[CertificateDer<'static>]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in list {
        roots.add(certificate.clone()).map_err(|e| format!("a certificate of ca cannot be used: {e}"))?;
    }
    match roots.is_empty() {
        true => Err("ca holds no certificate".into()),
        false => config(roots),
    }
}

fn system_roots() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // System stores often hold a few certificates that rustls cannot read; the others serve.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match (added, found.errors.first()) {
        (0, Some(error)) => Err(error.to_string()),
        (0, None) => Err("the system's store is empty".into()),
        _ => config(roots),
    }
}

fn config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The innermost reason; the outer ones only say "error trying to connect".
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_with_a_plain_host_are_places() {
        let host = |url: &str| https(url).map(|(_, host)| host);
        assert_eq!(host("https://IdP.Example/realms/a").as_deref(), Some("idp.example:443"));
        assert_eq!(host("https://idp.example:8443").as_deref(), Some("idp.example:8443"));
        assert_eq!(host("https://[::1]:9").as_deref(), Some("[::1]:9"));
        for bad in [
            "http://idp.example/",
            "idp.example",
            "https://",
            "https://idp.example@evil.example/",
            "https://u:p@idp.example/",
            "https://idp.example:x/",
            "https://idp.example:99999/",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

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
