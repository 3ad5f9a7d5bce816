//! The client leg: one server configuration per route.

use super::peer_certificate::PeerCertificate;
use super::renewal::SecretCapture;
use super::{PostQuantum, provider};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// Whether a route asks clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientCertificates {
    /// Does not ask.
    #[default]
    None,
    /// Asks, verifies what is sent, and goes on without.
    Optional,
    /// The handshake fails without.
    Required,
}

/// How a server proves to clients who it is.
pub enum ServerIdentity {
    /// By a certificate that stays.
    Fixed {
        /// Certificate chain, leaf first.
        chain: Vec<CertificateDer<'static>>,
        /// The leaf's private key.
        key: PrivateKeyDer<'static>,
    },
    /// By one that is asked for in each handshake.
    Renewed(Arc<dyn ResolvesServerCert>),
}

/// What a route's client leg is made of.
pub struct ServerSettings {
    /// What clients are shown.
    pub identity: ServerIdentity,
    /// Post-quantum key exchange.
    pub pq: PostQuantum,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// Authorities for client certificates; must not be empty unless `client_certificates` is `None`.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// Revocation lists for client certificates. When any is given, every certificate of the chain must be covered.
    pub client_crl: Vec<CertificateRevocationListDer<'static>>,
    /// What becomes of clients when a list is past its next update.
    pub expired_crl: ExpiredCrl,
}

/// What a revocation list is worth whose next update has passed (RFC 5280 section 6.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredCrl {
    /// Nothing: certificates that it would speak of are refused.
    #[default]
    Refuse,
    /// It goes on to count.
    Accept,
}

/// A route's server configuration, once for each application protocol that may be settled on. All share one ticketer:
/// they are the same route.
pub struct ServerVariants {
    none: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    postgresql: Arc<ServerConfig>,
    leaf: LeafSource,
}

/// Gives the certificate that clients are shown now; `None` while there is none.
pub type LeafSource = Box<dyn Fn() -> Option<Arc<PeerCertificate>> + Send + Sync>;

impl ServerVariants {
    /// Makes the variants of a configuration that has no ALPN of its own; `leaf` tells which certificate it shows.
    pub fn new(base: Arc<ServerConfig>, leaf: LeafSource) -> Self {
        let with = |protocol: &[u8]| {
            let mut config = (*base).clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        ServerVariants {
            http1: with(b"http/1.1"),
            http2: with(b"h2"),
            postgresql: with(b"postgresql"),
            none: base,
            leaf,
        }
    }

    /// The certificate that clients are shown now.
    pub fn leaf(&self) -> Option<Arc<PeerCertificate>> {
        (self.leaf)()
    }

    /// The configuration that offers exactly this ALPN name; `None` offers nothing.
    pub fn offering(&self, alpn: Option<&[u8]>) -> Arc<ServerConfig> {
        match alpn {
            Some(b"h2") => self.http2.clone(),
            Some(b"postgresql") => self.postgresql.clone(),
            Some(b"http/1.1") => self.http1.clone(),
            Some(other) => {
                let mut config = (*self.none).clone();
                config.alpn_protocols = vec![other.to_vec()];
                Arc::new(config)
            }
            None => self.none.clone(),
        }
    }
}

/// Why a leg's configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// rustls refuses it: for example a key that does not fit the certificate.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The authorities or revocation lists for client certificates cannot be used.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// `pq = "require"` on a processor without the instructions for it.
    #[error("post-quantum key exchange is required and this processor cannot compute it")]
    PostQuantum,
}

/// Makes the server configuration of one route.
///
/// Each route has its own ticketer and no session cache, so that a session never resumes on another route
/// (nginx CVE-2025-23419). Early data is never accepted: it can be replayed.
pub fn server_config(settings: ServerSettings) -> Result<Arc<ServerConfig>, BuildError> {
    let provider = provider(settings.pq).ok_or(BuildError::PostQuantum)?;
    let versions: &[_] = match settings.pq {
        PostQuantum::Require => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match settings.client_certificates {
        ClientCertificates::None => builder.with_no_client_auth(),
        mode => {
            let mut roots = RootCertStore::empty();
            for ca in settings.client_ca {
                roots.add(ca)?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .with_crls(settings.client_crl);
            if settings.expired_crl == ExpiredCrl::Refuse {
                verifier = verifier.enforce_revocation_expiration();
            }
            if mode == ClientCertificates::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = match settings.identity {
        ServerIdentity::Fixed { chain, key } => builder.with_single_cert(chain, key)?,
        ServerIdentity::Renewed(resolver) => builder.with_cert_resolver(resolver),
    };
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    config.max_early_data_size = 0;
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
    Ok(Arc::new(config))
}

/// Session tickets sent after a TLS 1.3 handshake: one suffices for a client that opens one connection at a time.
const TICKETS: usize = 1;
