//! HTTPS to an authority, through the one client that all of the gateway's own requests use.
//!
//! instant-acme's own client would verify by the platform's verifier, which this tree does not admit.

use crate::net::https::{HttpsClient, HttpsFault, HttpsUrl, Limits, authorities};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One exchange, from resolving the name to the last byte. Authorities sign while we wait.
const LIMITS: Limits = Limits { time: Duration::from_secs(60), body: 256 * 1024 };
/// How long renewal information counts if the authority does not say (RFC 9773 section 4.3.3).
const RENEWAL_INFO_PERIOD: HeaderValue = HeaderValue::from_static("21600");
const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");

/// A client of one authority, for one order.
#[derive(Clone)]
pub(super) struct AcmeClient {
    https: HttpsClient,
    retry_after: Arc<Mutex<Option<SystemTime>>>,
}

impl AcmeClient {
    /// A client that believes these authorities; `None`: the system's.
    pub(super) fn new(ca: Option<&[CertificateDer<'static>]>) -> Result<Self, String> {
        let https = match ca {
            Some(ca) => HttpsClient::with_authorities(authorities(ca)?, LIMITS)?,
            None => HttpsClient::with_system_authorities(LIMITS),
        };
        Ok(AcmeClient { https, retry_after: Arc::default() })
    }

    /// When the authority wants to be asked again after its last refusal, if it said so.
    pub(super) fn retry_after(&self) -> Option<SystemTime> {
        *self.retry_after.lock()
    }
}

impl HttpClient for AcmeClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move { client.exchange(request).await.map_err(|fault| Error::Other(Box::new(fault))) })
    }
}

impl AcmeClient {
    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, ExchangeFault> {
        let (head, body) = request.into_parts();
        let url: HttpsUrl = head.uri.to_string().parse().map_err(|()| ExchangeFault::Url)?;
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let mut headers = head.headers;
        // The chain is no JSON.
        headers.entry(ACCEPT).or_insert(ANY_TYPE);
        let is_get = head.method == Method::GET;
        let answer = self.https.send(head.method, &url, headers, body).await?;
        let mut headers = answer.headers;
        let said = headers.get(RETRY_AFTER).and_then(seconds);
        if !answer.status.is_success() {
            *self.retry_after.lock() = said.map(|delay| SystemTime::now() + delay);
            // What is no problem document would be reported as a fault of JSON.
            if !answer.body.expose().trim_ascii_start().starts_with(b"{") {
                return Err(ExchangeFault::Status(answer.status));
            }
        }
        if is_get {
            headers.entry(RETRY_AFTER).or_insert(RENEWAL_INFO_PERIOD);
        }
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(answer.body.expose())));
        *response.status_mut() = answer.status;
        *response.headers_mut() = headers;
        Ok(BytesResponse::from(response))
    }
}

/// Why there is no answer of the protocol.
#[derive(Debug, thiserror::Error)]
enum ExchangeFault {
    #[error("{0}")]
    Https(#[from] HttpsFault),
    #[error("the authority's directory names a URL that is not https")]
    Url,
    #[error("the authority answered {0}")]
    Status(StatusCode),
}

/// `Retry-After` in seconds. Dates are for browsers: no authority of note sends them here.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
