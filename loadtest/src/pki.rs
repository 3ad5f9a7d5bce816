//! Certificates, tokens and TLS configurations of one run: a fresh authority and issuer, kept in a folder of its owner.
//!
//! Everything speaks TLS 1.3 with AES-128-GCM, so that peers are compared on the same work.

use crate::Outcome;
use crate::options::{Certificate, Secure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use staunch::demo::ca::{Ca, Folder, Leaf};
use staunch::demo::issuer::{Issuer, User};
use staunch::tls::{PostQuantum, provider};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The name of the route that carries raw bytes, for clients with certificates.
pub(crate) const RAW: &str = "raw.test";
/// The name of the route that carries HTTP, for clients with tokens.
pub(crate) const HTTP: &str = "http.test";
/// The name of the route to a PostgreSQL server.
pub(crate) const POSTGRES: &str = "postgres.test";
/// The name of the same route, with statements in the log.
pub(crate) const LOGGED: &str = "logged.test";
/// The name of the route to a Redis server.
pub(crate) const REDIS: &str = "redis.test";
/// The names of both for bulk.
pub(crate) const COPY: &str = "copy.test";
pub(crate) const COPY_LOGGED: &str = "copy-logged.test";

const AUDIENCE: &str = "staunch-load";
/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a run trusts and shows.
pub(crate) struct Pki {
    pub(crate) folder: Folder,
    pub(crate) issuer: Issuer,
    ca: Ca,
    server: Leaf,
    client: Leaf,
}

impl Pki {
    pub(crate) fn new(certificate: Certificate) -> Outcome<Pki> {
        let ca = Ca::new("staunch-load")?;
        let names = [RAW, HTTP, POSTGRES, LOGGED, COPY, COPY_LOGGED, REDIS, "localhost", "127.0.0.1"];
        let server = match certificate {
            Certificate::Ecdsa => ca.leaf(&names)?,
            Certificate::Rsa => ca.leaf_with(&rsa_key()?, &names)?,
        };
        let client = ca.leaf(&["client.test"])?;
        let issuer = Issuer::start(ca.leaf(&["127.0.0.1"])?, AUDIENCE, Vec::<User>::new())?;
        let folder = Folder::new()?;
        folder.write("ca.pem", ca.pem())?;
        folder.write("chain.pem", server.certificate_pem())?;
        folder.write("key.pem", server.key_pem())?;
        folder.write("both.pem", &format!("{}{}", server.certificate_pem(), server.key_pem()))?;
        folder.write("jwks.json", &issuer.jwks().to_string())?;
        folder.write("issuer.pem", &issuer.public_key_pem())?;
        Ok(Pki { folder, issuer, ca, server, client })
    }

    /// Stops the issuer; what it signed stays valid. Where it was.
    pub(crate) fn stop_issuer(&mut self) -> Outcome<SocketAddr> {
        let at = self.issuer.url().trim_start_matches("https://").parse()?;
        // The other is asked by nobody.
        self.issuer = Issuer::start(self.ca.leaf(&["127.0.0.1"])?, AUDIENCE, Vec::<User>::new())?;
        Ok(at)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tokens for as many people.
    pub(crate) fn tokens(&self, people: u32) -> Vec<String> {
        let groups = ["load".to_owned()];
        (0..people.max(1)).map(|n| self.issuer.token(&format!("user-{n}"), &groups, LIFETIME)).collect()
    }

    pub(crate) fn server(&self, pq: PostQuantum) -> Outcome<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(crypto(pq)?)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.server.certificate.clone()], self.server.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The load's own client: it shows a certificate if it is asked for one.
    pub(crate) fn client(&self, secure: &Secure, alpn: &[&[u8]]) -> Outcome<Arc<ClientConfig>> {
        client(self.ca.roots(), secure, alpn, Some(&self.client))
    }
}

/// A client for somebody else's gateway.
pub(crate) fn foreign(ca: Option<&Path>, secure: &Secure, alpn: &[&[u8]]) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let pem = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
            for der in CertificateDer::pem_slice_iter(&pem) {
                roots.add(der?)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            if let (true, Some(error)) = (found.certs.is_empty(), found.errors.first()) {
                return Err(format!("the system's authorities: {error}").into());
            }
            roots.add_parsable_certificates(found.certs);
        }
    }
    client(roots, secure, alpn, None)
}

fn client(
    roots: RootCertStore,
    secure: &Secure,
    alpn: &[&[u8]],
    shown: Option<&Leaf>,
) -> Outcome<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(crypto(secure.pq.into())?)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(leaf) => builder.with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    if !secure.resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn crypto(pq: PostQuantum) -> Outcome<Arc<rustls::crypto::CryptoProvider>> {
    let base = provider(pq).ok_or("this processor cannot compute X25519MLKEM768")?;
    let mut crypto = base.as_ref().clone();
    crypto.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    Ok(Arc::new(crypto))
}

/// RSA keys are made by the `openssl` command, because ring does not make any.
fn rsa_key() -> Outcome<String> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .map_err(|e| format!("openssl, which makes RSA keys: {e}"))?;
    if !made.status.success() {
        return Err(format!("openssl genpkey: {}", String::from_utf8_lossy(&made.stderr).trim()).into());
    }
    Ok(String::from_utf8(made.stdout)?)
}
