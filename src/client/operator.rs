//! The way to a gateway's operator listener, for `staunch revoke` and `staunch top`.

use super::fault::Fault;
use crate::net::https::{self, HttpsClient, HttpsUrl, Limits};
use crate::secret::{Secret, shown_url};
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// Where the operator is served, and the key to it.
#[derive(clap::Args)]
pub struct Place {
    /// The address of the gateway's [admin] section; with https:// in front where that has a certificate.
    #[arg(long, env = "STAUNCH_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// Authorities that vouch for the certificate of the [admin] section, in PEM, in place of the system's.
    #[arg(long, env = "STAUNCH_ADMIN_CA", value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// A file with the key of the [admin] section, or with a token, where it asks for one.
    #[arg(long, env = "STAUNCH_ADMIN_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// How long an exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer: a thousand sessions are 2 MB.
const MAX_ANSWER: usize = 16 << 20;

/// A client of the admin listener.
pub(super) struct OperatorClient {
    /// `host:port`.
    address: String,
    key: Option<Secret>,
    /// Where the listener speaks TLS.
    https: Option<HttpsClient>,
}

impl Place {
    pub(super) fn client(&self) -> Result<OperatorClient, Fault> {
        let key = match &self.key_file {
            None => None,
            Some(path) => {
                let text = fs::read(path)
                    .map(Zeroizing::new)
                    .map_err(|error| Fault::Machine(format!("{}: {error}", path.display())))?;
                Some(Secret::new(text.trim_ascii().to_vec()))
            }
        };
        let (scheme, address) = self.admin.split_once("://").unwrap_or(("http", &self.admin));
        let address = address.trim_end_matches('/');
        let is_address = address.contains(':') && !address.contains(['/', '@', ' ']);
        let https = match (is_address, scheme) {
            (true, "https") => {
                let roots =
                    self.admin_ca.as_deref().map_or_else(https::system_authorities, https::pem_authorities);
                let limits = Limits { time: EXCHANGE_TIMEOUT, body: MAX_ANSWER };
                Some(
                    roots
                        .and_then(|roots| HttpsClient::with_authorities(roots, limits))
                        .map_err(Fault::Usage)?,
                )
            }
            (true, "http") => None,
            _ => {
                let shown = shown_url(&self.admin);
                return Err(Fault::Usage(format!(
                    "--admin: {shown} is no address; write host:port or https://host:port"
                )));
            }
        };
        Ok(OperatorClient { address: address.to_owned(), key, https })
    }
}

impl OperatorClient {
    /// Where it asks.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Fault> {
        self.exchange(Method::GET, path, String::new())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.exchange(Method::POST, path, body.to_string())
    }

    pub(super) fn delete(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.exchange(Method::DELETE, path, body.to_string())
    }

    fn exchange(&self, method: Method, path: &str, body: String) -> Result<Value, Fault> {
        let no = |why: String| Fault::Gateway { address: self.address.clone(), why };
        let (status, text) = match &self.https {
            Some(https) => self.exchange_over_tls(https, method, path, body).map_err(no)?,
            None => self.exchange_in_clear(&method, path, &body).map_err(no)?,
        };
        let said: Option<Value> = serde_json::from_slice(&text).ok();
        match (status, said) {
            (200..300, Some(value)) => Ok(value),
            (_, Some(value)) if value["error"]["message"].is_string() => {
                Err(no(value["error"]["message"].as_str().unwrap_or_default().to_owned()))
            }
            (status, _) => Err(no(format!("status {status}"))),
        }
    }

    fn exchange_over_tls(
        &self,
        https: &HttpsClient,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(u16, Vec<u8>), String> {
        let url = format!("https://{}{path}", self.address);
        let url: HttpsUrl = url.parse().map_err(|()| format!("{} is no https URL", shown_url(&url)))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.key {
            let text = Zeroizing::new([b"Bearer ", key.expose()].concat());
            let value =
                HeaderValue::from_bytes(&text).map_err(|_| "the key is not one line of text".to_owned());
            let mut value = value?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let answer = runtime.block_on(https.send(method, &url, headers, body.into()));
        let answer = answer.map_err(|fault| format!("its operator's listener does not answer: {fault}"))?;
        Ok((answer.status.as_u16(), answer.body.expose().to_vec()))
    }

    fn exchange_in_clear(&self, method: &Method, path: &str, body: &str) -> Result<(u16, Vec<u8>), String> {
        let io = |error: std::io::Error| format!("its operator's listener does not answer: {error}");
        let address = self.address.to_socket_addrs().map_err(io)?.next();
        let address = address.ok_or("the name has no address")?;
        let mut stream = TcpStream::connect_timeout(&address, EXCHANGE_TIMEOUT).map_err(io)?;
        stream.set_read_timeout(Some(EXCHANGE_TIMEOUT)).map_err(io)?;
        let (host, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        let mut request = Zeroizing::new(head.into_bytes());
        if *method != Method::GET {
            let fields = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
            request.extend_from_slice(fields.as_bytes());
        }
        if let Some(key) = &self.key {
            request.extend_from_slice(b"authorization: Bearer ");
            request.extend_from_slice(key.expose());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.as_bytes());
        stream.write_all(&request).map_err(io)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER as u64).read_to_end(&mut answer).map_err(io)?;
        match parse(&answer) {
            Some((status, text)) => Ok((status, text.to_vec())),
            // What a listener with TLS answers to a request in clear.
            None if answer.starts_with(&[0x15, 3]) => {
                Err(format!("its operator's listener speaks TLS; write https://{host}"))
            }
            None => Err("what answers there is no gateway".into()),
        }
    }
}

/// The status and the body of a whole answer.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(answer).ok()? {
        httparse::Status::Complete(head) => Some((response.code?, &answer[head..])),
        httparse::Status::Partial => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, &b"{}"[..])));
        for cut in 0..answer.len() - 2 {
            assert_eq!(parse(&answer[..cut]), None, "{cut}");
        }
    }
}
