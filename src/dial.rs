//! Reaching the upstream: needs a permit, verifies always, never downgrades.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// A route's upstream.
pub struct Upstream {
    /// Host name or address, and port, as configured: `("api.example.com", 443)`.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The name sent as SNI and verified in the certificate: the host, unless `sni` overrides it.
    pub server_name: ServerName<'static>,
    /// The leg's configuration; ALPN is set per dial.
    pub tls: Arc<ClientConfig>,
}
