//! A certificate authority for one run, and the folder that its files stand in.
//!
//! The authority's key never leaves memory: what it signed cannot be added to once the demo has ended.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A certificate authority with an ECDSA P-256 key.
pub struct Ca {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// When it began, and when it and all that it signs ends; `None`: never.
    validity: Option<(SystemTime, SystemTime)>,
}

/// A certificate for some names, with its key.
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Ca {
    /// Makes the authority.
    pub fn new(name: &str) -> Result<Ca, rcgen::Error> {
        Self::with_validity(name, None)
    }

    /// Makes an authority that ends after a while, with all that it signs.
    pub fn lasting(name: &str, lifetime: Duration) -> Result<Ca, rcgen::Error> {
        let now = SystemTime::now();
        // Clocks of clients may be behind.
        Self::with_validity(name, Some((now - Duration::from_secs(3600), now + lifetime)))
    }

    fn with_validity(name: &str, validity: Option<(SystemTime, SystemTime)>) -> Result<Ca, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        set_validity(&mut params, validity);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Ca {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            validity,
        })
    }

    /// Makes a certificate for DNS names and addresses, for servers and clients.
    pub fn leaf(&self, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        self.sign(KeyPair::generate()?, names)
    }

    /// The same for a key that was made elsewhere: PEM, PKCS #8.
    pub fn leaf_with(&self, key: &str, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        self.sign(KeyPair::from_pem(key)?, names)
    }

    fn sign(&self, key: KeyPair, names: &[&str]) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>())?;
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        set_validity(&mut params, self.validity);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A store that trusts this authority alone.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate that was just made can be read");
        roots
    }
}

impl Leaf {
    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

fn set_validity(params: &mut CertificateParams, validity: Option<(SystemTime, SystemTime)>) {
    if let Some((begins, ends)) = validity {
        (params.not_before, params.not_after) = (begins.into(), ends.into());
    }
}

/// A folder that only its owner may enter, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one with a name that nobody can guess; fails rather than use one that is there.
    pub fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("staunch-demo-{}", random_hex::<8>()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a new file that only its owner may read.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `N` random bytes as hex digits.
pub(super) fn random_hex<const N: usize>() -> String {
    let bytes = ring::rand::generate::<[u8; N]>(&ring::rand::SystemRandom::new())
        .expect("the system has random bytes")
        .expose();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_for_their_owner_alone_and_gone_afterwards() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        let file = folder.write("key", "x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(folder.write("key", "y").is_err(), "nothing is written over");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_leaf_verifies_for_its_names_and_no_other() {
        use rustls::client::danger::ServerCertVerifier;
        let ca = Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example", "127.0.0.1"]).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let roots = std::sync::Arc::new(ca.roots());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let verify = |name: &str| {
            let name = name.to_owned().try_into().unwrap();
            verifier
                .verify_server_cert(&leaf.certificate, &[], &name, &[], rustls::pki_types::UnixTime::now())
                .is_ok()
        };
        assert!(verify("a.example") && verify("127.0.0.1"));
        assert!(!verify("b.example") && !verify("127.0.0.2"));
    }
}
