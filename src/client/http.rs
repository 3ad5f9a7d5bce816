//! Requests to an issuer: https only, no redirects, bounded in size and time.

use super::fault::Offence;
use super::secrets::text;
use crate::secret::Secret;
use crate::tls::PostQuantum;
use crate::tls::client::{ClientSettings, client_config};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Answers are a few KiB; an issuer with hundreds of groups in its tokens stays below this.
const MOST_BODY: usize = 512 * 1024;

/// From connecting to the last byte. A person waits; some issuers take seconds for a token.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A client that believes some authorities.
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What came back, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Secret,
}

impl Http {
    /// `ca`: a PEM file in place of the system's authorities.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let roots = ca.map_or_else(system_roots, own_roots)?;
        let settings = ClientSettings { roots, pin: None, certificate: None, pq: PostQuantum::Prefer };
        let tls = client_config(settings).map_err(|fault| fault.to_string())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.as_ref().clone())
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        // One connection per request: seconds or minutes lie between two.
        Ok(Http(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    pub(super) async fn get(&self, uri: Uri) -> Result<Answer, Offence> {
        let request = Request::get(uri).header(ACCEPT, JSON).body(Full::default());
        self.send(request.expect("a URI and constants make a request")).await
    }

    /// Sends a form, with `authorization` if the client authenticates by a header.
    pub(super) async fn post(
        &self,
        uri: Uri,
        form: &Form,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Offence> {
        let body = Full::new(Bytes::from_owner(Zeroizing::new(form.text.as_bytes().to_vec())));
        let request = Request::post(uri)
            .header(ACCEPT, JSON)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        let mut request = request.expect("a URI and constants make a request");
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Offence> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let unreachable = |why: String| Offence::Unreachable(format!("{host}: {why}"));
        let exchange = async {
            let response = self
                .0
                .request(request)
                .await
                .map_err(|error| unreachable(format!("no connection: {}", innermost(&error))))?;
            let status = response.status();
            if status.is_redirection() {
                return Err(unreachable(format!("redirects are not followed (status {})", status.as_u16())));
            }
            let body = Limited::new(response.into_body(), MOST_BODY).collect().await.map_err(|_| {
                unreachable(format!("the answer broke off or is larger than {MOST_BODY} bytes"))
            })?;
            Ok(Answer { status, body: Secret::new(body.to_bytes().to_vec()) })
        };
        let late = |_| unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
    }
}

const JSON: &str = "application/json";

/// A form to be posted, and which of its values are secrets.
#[derive(Default)]
pub(super) struct Form {
    text: Zeroizing<String>,
    secrets: Vec<Zeroizing<String>>,
}

impl Form {
    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        // Room from the start: a buffer that grew would leave its earlier copies in memory.
        let mut text = String::with_capacity(self.text.len() + name.len() + 3 * value.len() + 2);
        text.push_str(&self.text);
        let mut serializer = form_urlencoded::Serializer::for_suffix(text, 0);
        serializer.append_pair(name, value);
        self.text = Zeroizing::new(serializer.finish());
        self
    }

    pub(super) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    pub(super) fn secret(mut self, name: &str, value: &Secret) -> Self {
        self.secrets.push(Zeroizing::new(text(value).to_owned()));
        self.field(name, text(value))
    }

    /// Text of the answer with the secrets of the question taken out: an issuer may repeat what it refuses.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        self.secrets
            .iter()
            .filter(|s| s.len() >= 4)
            .fold(text.to_owned(), |text, s| text.replace(s.as_str(), "…"))
    }
}

/// An https URL without user information or fragment.
pub(super) fn https(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let good = uri.scheme_str() == Some("https")
        && !authority.as_str().contains('@')
        && !authority.host().is_empty()
        && !url.contains('#');
    good.then_some(uri)
}

fn own_roots(path: &Path) -> Result<RootCertStore, String> {
    let fault = |why: String| format!("{}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(fault("it holds no certificate in PEM".into())),
        false => Ok(roots),
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // System stores often hold a few certificates that rustls cannot read; the others serve.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err("the system has no authorities; install ca-certificates, or give --ca FILE".into()),
        false => Ok(roots),
    }
}

/// The innermost reason; the outer ones only say "error trying to connect".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}
