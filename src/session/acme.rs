//! Connections of an authority that checks who controls a name (RFC 8737), and names whose certificate is not there yet.

use super::leg_close::close_leg;
use super::trail::Trail;
use crate::acme::TLS_ALPN;
use crate::close::Close;
use crate::gateway::{Gateway, Named};
use crate::names::Side;
use crate::tls::handshake::{self, Established, Hello};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpStream;

/// True for a hello that wants a challenge answered, and nothing else.
pub(super) fn is_challenge(hello: &Hello) -> bool {
    matches!(&*hello.alpn, [only] if only == TLS_ALPN)
}

/// What answers a challenge that is under way for the name, before and beside all routes. Without one the name is unknown.
pub(super) fn challenge(gateway: &Gateway, hello: &Hello) -> Option<Arc<ServerConfig>> {
    gateway.acme.challenges.as_ref()?.tls(hello.sni.as_deref()?)
}

/// Answers a challenge by a handshake, and ends the connection.
pub(super) async fn answer(
    tcp: TcpStream,
    hello: Hello,
    config: Arc<ServerConfig>,
    records_per_key: u64,
    trail: &mut Trail,
) -> Close {
    match handshake::accept(tcp, hello, config, records_per_key).await {
        Ok(Established { leg, .. }) => {
            trail.explain("an ACME challenge was answered");
            close_leg(leg, true).await;
            Close::Done
        }
        Err(fault) => {
            trail.explain(fault);
            Close::Handshake(Side::Client)
        }
    }
}

/// Why a name has no certificate yet; `None`: it has one.
pub(super) fn missing(gateway: &Gateway, named: &Named) -> Option<String> {
    let tunnel;
    let name = match named {
        Named::Route(route) => &*route.name.0,
        Named::Tunnel(one) => {
            tunnel = format!("tunnel:{}", one.sni);
            &*tunnel
        }
    };
    let (_, certificate) = gateway.acme.certificates.iter().find(|(of, _)| &*of.0 == name)?;
    if certificate.is_there() {
        return None;
    }
    certificate.problem(SystemTime::now())
}
