//! Why an upstream leg could not be opened.

use super::application::Application;
use crate::names::Reached;
use crate::tls::explain::explain;
use crate::tls::handshake::HandshakeFault;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why the upstream leg could not be opened. The culprit is the upstream, or the way to it.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    /// The name does not resolve.
    #[error("{0} does not resolve: {1}")]
    Resolve(String, Arc<io::Error>),
    /// No address of it accepts a connection.
    #[error("{0} does not accept a connection: {1}")]
    Connect(SocketAddr, io::Error),
    /// The socket of this machine does not accept a connection.
    #[error("{0} does not accept a connection: {1}")]
    Unix(Reached, io::Error),
    /// Somebody else than configured serves the socket of this machine.
    #[error("{0} is served by the user with id {1}, not by the one of peer_user")]
    PeerUser(Reached, u32),
    /// The handshake failed: not TLS, not verified, nothing in common.
    #[error("TLS with {at} failed: {why}", at = .0, why = explained(.1))]
    Tls(SocketAddr, HandshakeFault),
    /// It took longer than the route allows.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// It was asked for TLS and does not want it.
    #[error("{0} does not offer TLS")]
    NoTls(SocketAddr),
    /// It did not begin as a MySQL server does.
    #[error("{0} does not greet as a MySQL server that serves: {1}")]
    Greeting(Reached, String),
    /// The upstream agreed to another protocol than the one that the client speaks.
    #[error("{0} does not speak {1} any more")]
    Alpn(SocketAddr, Application),
}

/// The setting that names authorities is the route's.
fn explained(fault: &HandshakeFault) -> String {
    match fault {
        HandshakeFault::Tls(error) => explain(error, "the `ca` of this route's upstream"),
        other => other.to_string(),
    }
}
