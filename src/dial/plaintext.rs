//! Upstreams without TLS: on this machine, and only where the configuration says so in so many words.
//!
//! A plaintext upstream is a literal loopback address or the path of a Unix socket. A name is none: what it resolves to
//! is somebody else's choice, and may be another one tomorrow. An upstream is plaintext from the configuration on or
//! never; a `tls://` upstream has no way here.
//!
//! There is no ALPN to ask with: which version of HTTP is spoken is the configuration's word. A Unix socket is held as a
//! `TcpStream`, which is nothing but a stream socket that the runtime reads, writes and shuts down with the same system
//! calls; so a leg has one type, and the path of bytes no branch for it. Options of TCP cannot be set on it, and nobody
//! asks for its address: [`PlaintextUpstream`] knows it.

use super::fault::DialFault;
use super::socket::connect_to;
use crate::names::Reached;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};

/// Where an upstream without TLS listens. It can only be on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaintextUpstream {
    place: Place,
    /// User id that must own the process behind a Unix socket.
    peer_user: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Loopback, with the port.
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(Arc<Path>),
}

/// `sun_path` has 108 bytes, the last of which is the NUL.
const MAX_UNIX_PATH: usize = 107;

/// Why an address may not be used without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocal {
    /// Neither form.
    #[error("write \"tcp://127.0.0.1:PORT\", \"tcp://[::1]:PORT\" or \"unix:/PATH\"")]
    Form,
    /// A name; also `localhost`, which the resolver answers for.
    #[error("without TLS only a literal loopback address will do; write 127.0.0.1 or [::1], or use tls://")]
    Name,
    /// Another machine's address, or every address of this one.
    #[error("it is not a loopback address, and without TLS all that is sent there can be read; use tls://")]
    Elsewhere,
    /// Relative, or longer than a socket's path can be.
    #[error("a socket's path is absolute, at most {MAX_UNIX_PATH} bytes long and without control characters")]
    Path,
    /// `peer_user` was set for a loopback port, which has no owner.
    #[error("only of a Unix socket can be told who serves it; use unix:/PATH, or remove peer_user")]
    PeerUser,
}

impl PlaintextUpstream {
    /// `tcp://127.0.0.1:port`, `tcp://[::1]:port` or `unix:/path`.
    pub fn parse(text: &str) -> Result<Self, NotLocal> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` is the same in the spelling of URLs.
            let path = path.strip_prefix("//").unwrap_or(path);
            let sane = path.len() > 1 && path.len() <= MAX_UNIX_PATH && !path.contains(char::is_control);
            return match sane && path.starts_with('/') && !path.ends_with('/') {
                true => Ok(PlaintextUpstream::at(Place::Unix(Path::new(path).into()))),
                false => Err(NotLocal::Path),
            };
        }
        let rest = text.strip_prefix("tcp://").ok_or(NotLocal::Form)?;
        let Ok(address) = rest.parse::<SocketAddr>() else {
            let (host, port) = rest.rsplit_once(':').ok_or(NotLocal::Form)?;
            let is_name = !host.is_empty() && !host.contains([':', '[', ']', '/', '@']);
            return Err(if is_name && port.parse::<u16>().is_ok() { NotLocal::Name } else { NotLocal::Form });
        };
        match (address.ip(), address.port()) {
            (_, 0) => Err(NotLocal::Form),
            // An IPv4-mapped address would be loopback too, and is written so only to confuse.
            (IpAddr::V4(ip), _) if ip.is_loopback() => Ok(PlaintextUpstream::at(Place::Tcp(address))),
            (IpAddr::V6(ip), _) if ip.is_loopback() => Ok(PlaintextUpstream::at(Place::Tcp(address))),
            _ => Err(NotLocal::Elsewhere),
        }
    }

    fn at(place: Place) -> Self {
        PlaintextUpstream { place, peer_user: None }
    }

    /// The same, served by this user or not used. Only of a Unix socket can be told who serves it.
    pub fn with_peer_user(self, user: u32) -> Result<Self, NotLocal> {
        match self.place {
            Place::Unix(_) => Ok(PlaintextUpstream { peer_user: Some(user), ..self }),
            Place::Tcp(_) => Err(NotLocal::PeerUser),
        }
    }

    /// What an HTTP request to it carries as its host.
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Unix(_) => "localhost".into(),
        }
    }

    /// Connects. There is no handshake.
    pub(super) async fn connect(&self) -> Result<(TcpStream, Reached), DialFault> {
        match &self.place {
            Place::Tcp(address) => Ok((connect_to(*address).await?, Reached::Tcp(*address))),
            Place::Unix(path) => {
                let fault = |error| DialFault::Unix(self.reached(), error);
                let stream = UnixStream::connect(path).await.map_err(fault)?;
                if let Some(wanted) = self.peer_user {
                    // The user at the time of listen(2): whoever binds the path while the service is down is found out.
                    let user = stream.peer_cred().map_err(fault)?.uid();
                    if user != wanted {
                        return Err(DialFault::PeerUser(self.reached(), user));
                    }
                }
                Ok((as_tcp(stream).map_err(fault)?, self.reached()))
            }
        }
    }

    /// Where every connection to it leads.
    pub(super) fn reached(&self) -> Reached {
        match &self.place {
            Place::Tcp(address) => Reached::Tcp(*address),
            Place::Unix(path) => Reached::Unix(path.clone()),
        }
    }
}

impl fmt::Display for PlaintextUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => write!(f, "tcp://{address}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn as_tcp(stream: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(StdTcpStream::from(OwnedFd::from(stream.into_std()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn only_this_machine_is_near_enough() {
        for good in ["tcp://127.0.0.1:50051", "tcp://127.8.7.6:1", "tcp://[::1]:6379", "unix:/run/x.sock"] {
            assert_eq!(PlaintextUpstream::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(PlaintextUpstream::parse("unix:///run/x").unwrap().to_string(), "unix:/run/x");
        for (wrong, fault) in [
            ("127.0.0.1:1", NotLocal::Form),
            ("http://127.0.0.1:1", NotLocal::Form),
            ("tcp://127.0.0.1", NotLocal::Form),
            ("tcp://127.0.0.1:0", NotLocal::Form),
            ("tcp://127.0.0.1:65536", NotLocal::Form),
            ("tcp://:80", NotLocal::Form),
            ("tcp://::1:80", NotLocal::Form),
            ("tcp://user@localhost:80", NotLocal::Form),
            ("tcp://localhost:80", NotLocal::Name),
            ("tcp://127.1:80", NotLocal::Name),
            ("tcp://2130706433:80", NotLocal::Name),
            ("tcp://10.0.0.1:80", NotLocal::Elsewhere),
            ("tcp://0.0.0.0:80", NotLocal::Elsewhere),
            ("tcp://[::]:80", NotLocal::Elsewhere),
            ("tcp://[::ffff:127.0.0.1]:80", NotLocal::Elsewhere),
            ("tcp://[fe80::1%1]:80", NotLocal::Elsewhere),
            ("unix:run/x", NotLocal::Path),
            ("unix:", NotLocal::Path),
            ("unix:/", NotLocal::Path),
            ("unix:/run/", NotLocal::Path),
            ("unix:/run/x\ny", NotLocal::Path),
            ("unix:@abstract", NotLocal::Path),
        ] {
            assert_eq!(PlaintextUpstream::parse(wrong), Err(fault), "{wrong}");
        }
        let long = |length: usize| format!("unix:/{}", "x".repeat(length - 1));
        assert!(PlaintextUpstream::parse(&long(MAX_UNIX_PATH)).is_ok());
        assert_eq!(PlaintextUpstream::parse(&long(MAX_UNIX_PATH + 1)), Err(NotLocal::Path));
    }

    #[tokio::test]
    async fn a_unix_socket_that_somebody_else_serves_is_not_spoken_to() {
        let path = std::env::temp_dir().join(format!("staunch-peer-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let upstream = PlaintextUpstream::parse(&format!("unix:{}", path.display())).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let of = |user| upstream.clone().with_peer_user(user).unwrap();
        assert!(of(own).connect().await.is_ok());
        let (mut accepted, _) = listener.accept().await.unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).await.unwrap(), 0);
        let fault = of(own + 1).connect().await.unwrap_err();
        assert!(matches!(fault, DialFault::PeerUser(_, user) if user == own), "{fault}");
        let (mut accepted, _) = listener.accept().await.unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).await.unwrap(), 0, "not a byte");
        std::fs::remove_file(&path).unwrap();
        let tcp = PlaintextUpstream::parse("tcp://127.0.0.1:1").unwrap();
        assert_eq!(tcp.with_peer_user(0), Err(NotLocal::PeerUser));
    }

    #[tokio::test]
    async fn a_unix_socket_is_read_written_and_shut_down_like_any_other() {
        let path = std::env::temp_dir().join(format!("staunch-dial-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let upstream = PlaintextUpstream::parse(&format!("unix:{}", path.display())).unwrap();
        let (dialled, accepted) = tokio::join!(upstream.connect(), listener.accept());
        let ((mut here, reached), (mut there, _)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(reached, Reached::Unix(path.as_path().into()));
        here.write_all(b"ask").await.unwrap();
        here.shutdown().await.unwrap();
        let mut got = String::new();
        there.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "ask");
        there.write_all(b"answer").await.unwrap();
        drop(there);
        got.clear();
        here.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "answer");
        std::fs::remove_file(&path).unwrap();
        let gone = upstream.connect().await.unwrap_err().to_string();
        assert!(gone.contains(&*path.to_string_lossy()), "{gone}");
    }
}
