//! The way to a gateway: TLS to its tunnel name, and `CONNECT route` with a token that is fresh.

use crate::client::fault::{Fault, shown};
use crate::client::profile::Profile;
use crate::client::token::fresh;
use crate::net::https;
use crate::tls::PostQuantum;
use crate::tls::client::{ClientSettings, client_config};
use crate::tls::explain::explain;
use rustls::pki_types::ServerName;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// A gateway, and as whom it is spoken to.
pub(super) struct Gateway {
    /// `host:port`.
    at: String,
    /// Where else it may be: the port of the examples, when none was given.
    or_at: Option<String>,
    name: ServerName<'static>,
    tls: TlsConnector,
    profile: Profile,
}

/// An open tunnel.
pub(super) struct Opened {
    pub(super) tls: TlsStream<TcpStream>,
    /// What the route speaks, if the gateway said so.
    pub(super) protocol: Option<String>,
}

/// Why there is none. Never holds a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpened {
    /// The gateway cannot be reached just now, or broke off; it may come back.
    #[error("{0}")]
    Away(String),
    /// The gateway says no, and will say so again.
    #[error("{0}")]
    Refused(String),
    /// There is no token to show.
    #[error("{0}")]
    Token(Fault),
}

/// Where the gateways of the examples listen; tried where nobody listens on 443.
const EXAMPLE_PORT: u16 = 8443;
/// Connecting, both handshakes and the gateway's answer together.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an end is read to that the gateway has to come to as well.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the gateway's answer.
const MAX_ANSWER: usize = 16 * 1024;

impl Gateway {
    pub(super) fn new(
        gateway: &str,
        connect_to: Option<String>,
        ca: Option<&Path>,
        profile: Profile,
    ) -> Result<Gateway, Fault> {
        if let Some((_, rest)) = gateway.split_once("://") {
            let name = rest.split('/').next().unwrap_or_default();
            return Err(Fault::Usage(format!(
                "--gateway {gateway:?}: a gateway has a name and a port, no URL; write {name}"
            )));
        }
        let usage = |what: &str| Fault::Usage(format!("--gateway {gateway:?}: {what}"));
        let (host, port) = match gateway.rsplit_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().map_err(|_| usage("that is no port"))?),
            None => (gateway, 443),
        };
        let name = ServerName::try_from(host.to_owned()).ok().filter(|n| matches!(n, ServerName::DnsName(_)));
        let name = name.ok_or_else(|| usage("write the gateway's tunnel name, tunnel.example.com[:443]"))?;
        let roots =
            ca.map_or_else(https::system_authorities, https::pem_authorities).map_err(Fault::Usage)?;
        let settings = ClientSettings { roots, pin: None, certificate: None, pq: PostQuantum::Prefer };
        let mut tls = client_config(settings).map_err(|error| Fault::Machine(format!("TLS: {error}")))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let has_port = connect_to.is_some() || gateway.contains(':');
        let or_at = (!has_port).then(|| format!("{host}:{EXAMPLE_PORT}"));
        let at = connect_to.unwrap_or_else(|| format!("{host}:{port}"));
        Ok(Gateway { at, or_at, name, tls: TlsConnector::from(Arc::new(tls)), profile })
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        let name = self.name.to_str();
        if self.at.starts_with(&*name) { self.at.clone() } else { format!("{name} at {}", self.at) }
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let first = match TcpStream::connect(&self.at).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
            reached => return reached,
        };
        match &self.or_at {
            Some(other) => TcpStream::connect(other).await.map_err(|_| {
                io::Error::new(
                    first.kind(),
                    format!("{first}, nor on port {EXAMPLE_PORT}; write --gateway NAME:PORT"),
                )
            }),
            None => Err(first),
        }
    }

    /// Opens a tunnel to a route.
    pub(super) async fn open(&self, route: &str) -> Result<Opened, NotOpened> {
        let token = fresh(&self.profile).await.map_err(NotOpened::Token)?.token;
        let opening = async {
            let away = |error: io::Error| NotOpened::Away(error.to_string());
            let tcp = self.reach().await.map_err(away)?;
            tcp.set_nodelay(true).map_err(away)?;
            let mut tls = self.tls.connect(self.name.clone(), tcp).await.map_err(|error| {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    // It will not verify any better the next time.
                    Some(fault @ rustls::Error::InvalidCertificate(_)) => {
                        NotOpened::Refused(explain(fault, "--ca FILE"))
                    }
                    Some(fault @ rustls::Error::AlertReceived(_)) => NotOpened::Refused(format!(
                        "{fault}; is {} the gateway's tunnel name?",
                        self.name.to_str()
                    )),
                    _ => away(error),
                }
            })?;
            let mut head = Zeroizing::new(Vec::with_capacity(token.expose().len() + 256));
            head.extend_from_slice(format!("CONNECT {route}:1 HTTP/1.1\r\nHost: {route}:1\r\n").as_bytes());
            head.extend_from_slice(b"Proxy-Authorization: Bearer ");
            head.extend_from_slice(token.expose());
            head.extend_from_slice(b"\r\n\r\n");
            tls.write_all(&head).await.map_err(away)?;
            tls.flush().await.map_err(away)?;
            let answer = answer(&mut tls).await.map_err(away)?;
            let protocol = read(&answer).map_err(NotOpened::Refused)?;
            Ok(Opened { tls, protocol })
        };
        let late = |_| NotOpened::Away(format!("no answer within {LIMIT:?}"));
        timeout(LIMIT, opening).await.map_err(late)?
    }
}

/// Ends a tunnel that nothing was said in, so that it does not look broken off to the gateway.
pub(super) async fn end(mut tls: TlsStream<TcpStream>) {
    // Who is gone already needs no farewell.
    let _ = timeout(LIMIT, tls.shutdown()).await;
    // What the route's server says first would be answered by a reset if nobody read it.
    let rest = async move { tokio::io::copy(&mut tls, &mut tokio::io::sink()).await };
    drop(spawn_local(timeout(CLOSE_TIMEOUT, rest)));
}

/// Reads the head and not a byte beyond it: what follows is the route's. Behind a refusal its body is read, too.
async fn answer(tls: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // From rustls' own buffer: one system call reads it all.
        answer.push(tls.read_u8().await?);
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
        }
    }
    if !is_200(&answer) {
        // It ends by closing; what came until then is enough.
        let _ = tls.take(MAX_ANSWER as u64).read_to_end(&mut answer).await;
    }
    Ok(answer)
}

fn is_200(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

/// What the route speaks; or why not, in the gateway's words.
fn read(answer: &[u8]) -> Result<Option<String>, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    if is_200(answer) {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("staunch-protocol").then(|| shown(value.trim()))
        };
        return Ok(head.lines().find_map(field));
    }
    let status = head.lines().next().unwrap_or_default();
    let said = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|body| {
        let error = body.get("error")?;
        let (message, id) = (error.get("message")?.as_str()?, error.get("id")?.as_str()?);
        let code = error.get("code")?.as_str()?;
        // Whoever may not know which routes there are is told the same for one that is not there.
        let hint =
            if code == "forbidden" { "; a route of another name is refused in the same words" } else { "" };
        Some(format!("{message} ({code}, request {id}){hint}"))
    });
    Err(shown(&said.unwrap_or_else(|| format!("it answered {status:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_gateways_and_of_others() {
        let opened = b"HTTP/1.1 200 Connection Established\r\nStaunch-Protocol: postgres\r\n\r\n";
        assert_eq!(read(opened), Ok(Some("postgres".into())));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(None));
        let body = r#"{"error":{"code":"forbidden","message":"No.","id":"a-0"}}"#;
        let refused = format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}");
        assert_eq!(
            read(refused.as_bytes()),
            Err("No. (forbidden, request a-0); a route of another name is refused in the same words".into())
        );
        let other = read(b"HTTP/1.1 404 \x1b[2JNot Found\r\n\r\n<html>").unwrap_err();
        assert!(other.contains("404") && !other.contains('\x1b'), "{other}");
    }

    #[test]
    fn gateways_as_they_are_written() {
        let ca = crate::demo::ca::Ca::new("authority").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ca.pem()).unwrap();
        let new = |text, at: Option<&str>| {
            let gateway = Gateway::new(text, at.map(str::to_owned), Some(&path), Profile::default());
            gateway.map(|gateway| (gateway.at.clone(), gateway.shown())).map_err(|fault| fault.to_string())
        };
        let both = |text: &str| Ok((text.to_owned(), text.to_owned()));
        assert_eq!(new("t.example.com", None), both("t.example.com:443"));
        assert_eq!(new("t.example.com:8443", None), both("t.example.com:8443"));
        let elsewhere = new("t.example.com", Some("127.0.0.1:1")).unwrap();
        assert_eq!(elsewhere, ("127.0.0.1:1".into(), "t.example.com at 127.0.0.1:1".into()));
        for wrong in ["", "127.0.0.1", "t.example.com:x", "https://t.example.com"] {
            assert!(new(wrong, None).is_err(), "{wrong}");
        }
    }
}
