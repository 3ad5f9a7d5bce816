//! What is spoken with an upstream, and how TLS with it begins.

use crate::protocol::postgres;

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
    /// Opaque bytes under one of the `REGISTERED` names.
    Named(&'static str),
    /// Nothing negotiated by TLS; these flags are wanted of a MySQL server.
    Mysql(u32),
}

/// Names that clients of raw routes may settle on: those that IANA has registered (TLS ALPN Protocol IDs). For others an
/// upstream is not asked: what anybody can make up would be asked for without end.
pub(super) const REGISTERED: [&str; 25] = [
    "h2",
    "http/1.1",
    "http/1.0",
    "postgresql",
    "mqtt",
    "imap",
    "pop3",
    "managesieve",
    "ftp",
    "nntp",
    "irc",
    "smb",
    "sunrpc",
    "xmpp-client",
    "xmpp-server",
    "sip/2",
    "stun.turn",
    "stun.nat-discovery",
    "webrtc",
    "coap",
    "dot",
    "ntske/1",
    "tds/8.0",
    "radius/1.0",
    "radius/1.1",
];

impl Application {
    /// The protocol of a raw route under this ALPN name.
    pub fn registered(name: &[u8]) -> Option<Self> {
        REGISTERED.iter().find(|known| known.as_bytes() == name).map(|known| Application::Named(known))
    }

    /// The ALPN name, if one is negotiated.
    pub fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Application::None | Application::Mysql(_) => None,
            Application::Http1 => Some(HTTP11),
            Application::Http2 => Some(H2),
            Application::Postgres => Some(postgres::ALPN),
            Application::Named(name) => Some(name.as_bytes()),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Application::None | Application::Mysql(_) => "without ALPN",
            Application::Http1 => "http/1.1",
            Application::Http2 => "h2",
            Application::Postgres => "postgresql",
            Application::Named(name) => name,
        }
    }
}
