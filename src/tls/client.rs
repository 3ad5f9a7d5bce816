//! The upstream leg: one client configuration per route; the upstream's certificate is verified always.

use super::renewal::SecretCapture;
use super::server::BuildError;
use super::{PostQuantum, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Settings of a route's upstream leg.
pub struct ClientSettings {
    /// Authorities that may vouch for the upstream: the system's, or the route's own.
    pub roots: RootCertStore,
    /// SHA-256 of the upstream key's SubjectPublicKeyInfo (RFC 7469 section 2.4). It must match in addition to the
    /// chain and the name; it never replaces them.
    pub pin: Option<[u8; 32]>,
    /// Client certificate to show, leaf first, with its key.
    pub certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Post-quantum key exchange.
    pub pq: PostQuantum,
}

/// Makes the client configuration of one route, with a session cache of its own. ALPN is chosen per dial.
pub fn client_config(settings: ClientSettings) -> Result<ClientConfig, BuildError> {
    let provider = provider(settings.pq).ok_or(BuildError::PostQuantum)?;
    let versions: &[_] = match settings.pq {
        PostQuantum::Require => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let inner =
        WebPkiServerVerifier::builder_with_provider(Arc::new(settings.roots), provider.clone()).build()?;
    let verifier = Arc::new(Verifier { inner, pin: settings.pin });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match settings.certificate {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.enable_early_data = false;
    Ok(config)
}

/// The same for upstream legs, whose records are opened and sealed by this gateway's own code.
pub fn leg_config(settings: ClientSettings) -> Result<Arc<ClientConfig>, BuildError> {
    let mut config = client_config(settings)?;
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
    Ok(Arc::new(config))
}

/// Session tickets kept per route; an upstream name keeps up to 8 of them.
const SESSIONS: usize = 64;

/// The usual verification by chain, name and time, and then the pin.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    pin: Option<[u8; 32]>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        match self.pin {
            Some(pin) if spki_sha256(end_entity)? != pin => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, DER-encoded: what `pin = "sha256/…"` compares with.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Result<[u8; 32], rustls::Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &parsed.subject_public_key_info());
    Ok(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
