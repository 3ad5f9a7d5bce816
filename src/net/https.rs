//! The HTTPS client for everything but sessions: issuers' keys, logins, and whatever else the gateway itself asks for.
//!
//! Promises: TLS verified against the given authorities, to exactly the URL that was given; one deadline from resolving to
//! the last byte; a bounded answer; no redirect is followed, since the hosts that may be asked come from the configuration.
//! Uses the system's resolver and no proxy. Each request has a connection of its own: minutes lie between two.
//! Faults hold nothing that the other side chose.

use crate::files::{self, MAX_PUBLIC_FILE};
use crate::secret::Secret;
use crate::tls::PostQuantum;
use crate::tls::client::{ClientSettings, client_config};
use crate::tls::explain::explain_within;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, HeaderMap};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A client that believes some authorities, within some limits.
#[derive(Clone, Debug)]
pub struct HttpsClient {
    /// `None`: the system's authorities, read for each request, so that a renewed store counts at once.
    tls: Option<Arc<ClientConfig>>,
    limits: Limits,
}

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From resolving the name to the last byte of the answer.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

/// Documents of issuers are a few KiB; token answers with hundreds of groups stay below this.
pub const MAX_DOCUMENT: usize = 512 * 1024;

/// A whole answer, whatever its status. Its body is wiped from memory when it is dropped: it may hold tokens.
#[derive(Debug)]
pub struct Answer {
    /// Never a redirect.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// At most [`Limits::body`] bytes.
    pub body: Secret,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsFault {
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Resolving, connecting, TLS, or HTTP itself.
    #[error("no connection: {0}")]
    Connection(String),
    /// A redirect, which may lead anywhere.
    #[error("redirects are not followed (status {})", .0.as_u16())]
    Redirect(StatusCode),
    /// The body ended early, or is too large.
    #[error("the answer broke off or is larger than {0} bytes")]
    Body(usize),
    /// The system's authorities cannot be read.
    #[error("{0}")]
    Authorities(String),
}

impl HttpsClient {
    /// A client that believes the system's authorities.
    pub fn with_system_authorities(limits: Limits) -> Self {
        HttpsClient { tls: None, limits }
    }

    /// A client that believes these authorities and no others.
    pub fn with_authorities(roots: RootCertStore, limits: Limits) -> Result<Self, String> {
        Ok(HttpsClient { tls: Some(tls_config(roots)?), limits })
    }

    /// Gets a JSON document.
    pub async fn get(&self, url: &HttpsUrl) -> Result<Answer, HttpsFault> {
        self.send(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Sends a request that asks for JSON.
    pub async fn send(
        &self,
        method: Method,
        url: &HttpsUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, HttpsFault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.uri.clone();
        *request.headers_mut() = headers;
        request.headers_mut().entry(ACCEPT).or_insert(JSON);
        let Limits { time, .. } = self.limits;
        tokio::time::timeout(time, self.exchange(request)).await.map_err(|_| HttpsFault::Timeout(time))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, HttpsFault> {
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => tokio::task::spawn_blocking(|| tls_config(system_authorities()?))
                .await
                .map_err(|error| HttpsFault::Authorities(error.to_string()))?
                .map_err(HttpsFault::Authorities)?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.as_ref().clone());
        let connector = match request.uri().scheme_str() {
            // Of an URL that may be one of http alone.
            Some("http") => connector.https_or_http(),
            _ => connector.https_only(),
        };
        let connector = connector.enable_http1().wrap_connector(tcp);
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let response =
            client.request(request).await.map_err(|error| HttpsFault::Connection(reason(&error)))?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(HttpsFault::Redirect(head.status));
        }
        let max = self.limits.body;
        let body = Limited::new(body, max).collect().await.map_err(|_| HttpsFault::Body(max))?;
        let body = Secret::new(body.to_bytes().to_vec());
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

const JSON: hyper::header::HeaderValue = hyper::header::HeaderValue::from_static("application/json");

/// An https URL without user information or fragment (an http one only by [`HttpsUrl::parse_with_http`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsUrl {
    uri: Uri,
    host: String,
}

impl HttpsUrl {
    /// `host:port`, the host in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// An https URL, or one of http: for questions that anybody may see, and answers that are signed by themselves.
    pub fn parse_with_http(url: &str) -> Option<Self> {
        match url.strip_prefix("http://") {
            None => url.parse().ok(),
            Some(rest) => {
                let HttpsUrl { host, .. } = format!("https://{rest}").parse().ok()?;
                Some(HttpsUrl { uri: url.parse().ok()?, host })
            }
        }
    }

    /// The whole URL.
    pub fn text(&self) -> String {
        self.uri.to_string()
    }
}

impl FromStr for HttpsUrl {
    type Err = ();

    fn from_str(url: &str) -> Result<Self, ()> {
        let uri: Uri = url.parse().map_err(drop)?;
        let authority = uri.authority().ok_or(())?;
        let plain = !authority.as_str().contains('@') && !url.contains('#');
        if uri.scheme_str() != Some("https") || !plain || authority.host().is_empty() {
            return Err(());
        }
        let port = match authority.as_str().len() > authority.host().len() {
            true => authority.port_u16().ok_or(())?,
            false => 443,
        };
        let host = format!("{}:{port}", authority.host().to_ascii_lowercase());
        Ok(HttpsUrl { uri, host })
    }
}

/// The authorities of a PEM file.
pub fn pem_authorities(path: &Path) -> Result<RootCertStore, String> {
    let fault = |why: String| format!("{}: {why}", path.display());
    let pem = files::read(path, MAX_PUBLIC_FILE).map_err(|error| fault(error.to_string()))?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificates.push(certificate.map_err(|error| fault(error.to_string()))?);
    }
    if certificates.is_empty() {
        return Err(fault("it holds no certificate in PEM".into()));
    }
    authorities(&certificates).map_err(fault)
}

/// These authorities, at least one.
pub fn authorities(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("a certificate of ca cannot be used: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("ca holds no certificate".into()),
        false => Ok(roots),
    }
}

/// The system's authorities, at least one.
pub fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // System stores often hold a few certificates that rustls cannot read; the others serve.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (true, Some(error)) => Err(format!("the system's authorities cannot be read: {error}")),
        (true, None) => Err("the system has no authorities; install ca-certificates, or give --ca FILE \
                             (in the configuration: ca)"
            .into()),
        _ => Ok(roots),
    }
}

fn tls_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let settings = ClientSettings { roots, pin: None, certificate: None, pq: PostQuantum::Prefer };
    client_config(settings).map(Arc::new).map_err(|fault| fault.to_string())
}

/// Why there was no connection.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    explain_within(error, "`ca` (commands: --ca FILE)").unwrap_or_else(|| innermost(error))
}

/// The innermost reason; the outer ones only say "error trying to connect".
fn innermost(error: &dyn std::error::Error) -> String {
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
        let host = |url: &str| url.parse::<HttpsUrl>().ok().map(|url| url.host);
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
            "https://idp.example/#fragment",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_http_url_is_one_only_where_answers_are_signed_by_themselves() {
        let text = |url: &str| HttpsUrl::parse_with_http(url).map(|url| url.text());
        assert_eq!(text("http://tsa.example/a?b").as_deref(), Some("http://tsa.example/a?b"));
        assert_eq!(text("https://tsa.example/").as_deref(), Some("https://tsa.example/"));
        for bad in ["ftp://tsa.example/", "http://", "http://a@b/", "http://tsa.example:x/", "tsa.example"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_speaks_costs_the_deadline_and_no_more() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: HttpsUrl = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let ca = crate::demo::ca::Ca::new("authority").unwrap();
        let ca = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        let limits = Limits { time: Duration::from_millis(200), body: MAX_DOCUMENT };
        let client = HttpsClient::with_authorities(authorities(&[ca]).unwrap(), limits).unwrap();
        let begun = std::time::Instant::now();
        assert!(matches!(client.get(&url).await, Err(HttpsFault::Timeout(_))));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
