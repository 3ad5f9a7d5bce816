//! The way to a gateway's operator listener, for `staunch revoke` and `staunch top`.

use super::fault::Fault;
use crate::secret::Secret;
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
    /// The address of the gateway's [admin] section.
    #[arg(long, env = "STAUNCH_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// A file with the key of the [admin] section, where it asks for one.
    #[arg(long, env = "STAUNCH_ADMIN_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// How long an exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer: a thousand sessions are 2 MB.
const MAX_ANSWER: u64 = 16 << 20;

/// A client of the admin listener.
pub(super) struct OperatorClient {
    address: String,
    key: Option<Secret>,
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
        Ok(OperatorClient { address: self.admin.clone(), key })
    }
}

impl OperatorClient {
    /// Where it asks.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Fault> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        self.exchange(&head, body.as_bytes())
    }

    fn exchange(&self, head: &str, body: &[u8]) -> Result<Value, Fault> {
        let no = |why: String| Fault::Gateway { address: self.address.clone(), why };
        let io = |error: std::io::Error| no(format!("its operator's listener does not answer: {error}"));
        let address = self.address.to_socket_addrs().map_err(io)?.next();
        let address = address.ok_or_else(|| no("the name has no address".into()))?;
        let mut stream = TcpStream::connect_timeout(&address, EXCHANGE_TIMEOUT).map_err(io)?;
        stream.set_read_timeout(Some(EXCHANGE_TIMEOUT)).map_err(io)?;
        let mut request = Zeroizing::new(head.as_bytes().to_vec());
        request.extend_from_slice(format!("host: {}\r\nconnection: close\r\n", self.address).as_bytes());
        if let Some(key) = &self.key {
            request.extend_from_slice(b"authorization: Bearer ");
            request.extend_from_slice(key.expose());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        stream.write_all(&request).map_err(io)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(io)?;
        let (status, text) = parse(&answer).ok_or_else(|| no("what answers there is no gateway".into()))?;
        let said: Option<Value> = serde_json::from_slice(text).ok();
        match (status, said) {
            (200..300, Some(value)) => Ok(value),
            (_, Some(value)) if value["error"]["message"].is_string() => {
                Err(no(value["error"]["message"].as_str().unwrap_or_default().to_owned()))
            }
            (status, _) => Err(no(format!("status {status}"))),
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
