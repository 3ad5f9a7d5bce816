//! The application protocol of an upstream leg, and how its TLS begins.

use super::alpn_name::AlpnName;
use crate::protocol::postgres;
use std::fmt;

/// ALPN name of HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// How TLS with an upstream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Negotiation {
    /// With the first byte.
    #[default]
    Direct,
    /// After an SSLRequest that the server agrees to (PostgreSQL).
    Request,
    /// After the server's greeting and a request that needs no answer (MySQL): [`Application::Mysql`] says it.
    Greeting,
}

/// The protocol that both legs are to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Application {
    /// Nothing negotiated.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// `postgresql`.
    Postgres,
    /// Opaque bytes under this name.
    Named(AlpnName),
    /// Nothing negotiated by TLS; these flags are wanted of a MySQL server.
    Mysql(u32),
}

impl Application {
    /// The ALPN name, if one is negotiated.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Application::None | Application::Mysql(_) => None,
            Application::Http1 => Some(HTTP11),
            Application::Http2 => Some(H2),
            Application::Postgres => Some(postgres::ALPN),
            Application::Named(name) => Some(name.as_bytes()),
        }
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Application::None | Application::Mysql(_) => "without ALPN",
            Application::Http1 => "http/1.1",
            Application::Http2 => "h2",
            Application::Postgres => "postgresql",
            Application::Named(name) => return name.fmt(f),
        })
    }
}
