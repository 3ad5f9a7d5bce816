//! Requests to an issuer, and the forms that are posted to it.

use super::fault::IssuerOffence;
use super::secrets::text;
use crate::net::https::{self, Answer, HttpsClient, HttpsFault, HttpsUrl, Limits};
use crate::secret::Secret;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// One exchange with an issuer. A person waits; some issuers take seconds for a token.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that believes some authorities.
pub(super) struct IssuerClient(HttpsClient);

impl IssuerClient {
    /// `ca`: a PEM file in place of the system's authorities.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let limits = Limits { time: EXCHANGE_TIMEOUT, body: https::MAX_DOCUMENT };
        let roots = ca.map_or_else(https::system_authorities, https::pem_authorities)?;
        HttpsClient::with_authorities(roots, limits).map(IssuerClient)
    }

    pub(super) async fn get(&self, url: &HttpsUrl) -> Result<Answer, IssuerOffence> {
        self.0.get(url).await.map_err(|fault| unreachable(url, &fault))
    }

    /// Posts a form, with `authorization` if the client authenticates by a header.
    pub(super) async fn post(
        &self,
        url: &HttpsUrl,
        form: &Form,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, IssuerOffence> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let body = Bytes::from_owner(Zeroizing::new(form.text.as_bytes().to_vec()));
        self.0.send(Method::POST, url, headers, body).await.map_err(|fault| unreachable(url, &fault))
    }
}

fn unreachable(url: &HttpsUrl, fault: &HttpsFault) -> IssuerOffence {
    IssuerOffence::Unreachable(format!("{}: {fault}", url.host()))
}

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
