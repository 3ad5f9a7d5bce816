//! Certificates and TLS configurations of one run: a fresh authority, TLS 1.3 with AES-128-GCM only.
//!
//! Limit: keys are made for the run and written only where a relay process must read them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::error::Error;
use std::sync::Arc;

/// PEM text of an authority and of one server certificate for `localhost`.
pub(crate) struct Material {
    pub(crate) ca: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn make() -> Result<Material, Box<dyn Error>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    Ok(Material { ca: issuer.pem(), chain: leaf.pem(), key: key.serialize_pem() })
}

fn crypto() -> Arc<CryptoProvider> {
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(crypto)
}

pub(crate) fn server(material: &Material) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let chain = CertificateDer::pem_slice_iter(material.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

pub(crate) fn client(material: &Material, resume: bool) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(material.ca.as_bytes()) {
        roots.add(der?)?;
    }
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}
