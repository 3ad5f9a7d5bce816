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
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        let said = headers.get(RETRY_AFTER).and_then(|value| moment(value, SystemTime::now()));
        if !answer.status.is_success() {
            *self.retry_after.lock() = said;
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

/// Why there is no ACME response.
#[derive(Debug, thiserror::Error)]
enum ExchangeFault {
    #[error("{0}")]
    Https(#[from] HttpsFault),
    #[error("the authority's directory names a URL that is not https")]
    Url,
    #[error("the authority answered {0}")]
    Status(StatusCode),
}

/// When `Retry-After` says: in seconds, or as a date (RFC 9110 section 10.2.3).
fn moment(value: &HeaderValue, now: SystemTime) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => date(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that is sent today.
fn date(text: &str) -> Option<SystemTime> {
    let (_weekday, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let number = |word: Option<&str>| word?.parse::<u64>().ok();
    let day = number(words.next()).filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = 1 + MONTHS.iter().position(|month| *month == name)? as u64;
    let year = number(words.next()).filter(|year| (1970..=9999).contains(year))?;
    let clock: Vec<u64> = words.next()?.split(':').map(|part| number(Some(part))).collect::<Option<_>>()?;
    let [hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = clock[..] else { return None };
    // Years that begin in March end with their leap day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - TO_1970;
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Days from the 1st of March of the year 0 to the 1st of January 1970.
const TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http_date::HttpDate;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let read = |text: &str| {
            let at = moment(&HeaderValue::from_str(text).unwrap(), now)?;
            Some(at.duration_since(UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(read(" 120"), Some(1_120));
        for seconds in [784_111_777, 951_782_400, 951_868_800, 1_735_689_599, 4_107_542_400] {
            assert_eq!(read(&HttpDate(seconds).to_string()), Some(seconds));
        }
        for nothing in [
            "",
            "soon",
            "-1",
            "Sun, 06 Nov",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
