//! Certificates and keys from PEM files, and what can be wrong with them.

use super::secrets::{read_file, read_private};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A certificate that ends sooner than this is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// A chain with its key, read and found to be well-formed.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) not_after: SystemTime,
    /// It ends soon: what to say about it.
    pub(super) warning: Option<String>,
}

/// Reads a chain and its key.
pub(super) fn pair(chain: &Path, key: &Path, now: SystemTime) -> Result<Pair, String> {
    let certificates = certificates(chain)?;
    let pem = Zeroizing::new(read_private(key)?);
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{} holds no private key in PEM", key.display()))?;
    let leaf = &certificates[0];
    let (not_after, warning) = validity(leaf, chain, now)?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|_| {
        format!("{} is of a kind that is not supported; use ECDSA, RSA or Ed25519", key.display())
    })?;
    let certified = rustls::sign::CertifiedKey::new(certificates.clone(), signing);
    if certified.keys_match().is_err() {
        return Err(format!("the key {} is not the key of {}", key.display(), chain.display()));
    }
    Ok(Pair { chain: certificates, key: private, not_after, warning })
}

/// Reads the certificates of a PEM file; there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// Reads the revocation lists of a PEM file; there is at least one.
pub(super) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let pem = read_file(path)?;
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{} holds no certificate revocation list in PEM", path.display())),
    }
}

/// True when the certificate is good for the name; a wildcard is tried with a label of its own.
pub(super) fn covers(leaf: &CertificateDer<'_>, sni: &str) -> bool {
    let name = match sni.strip_prefix("*.") {
        Some(parent) => format!("any.{parent}"),
        None => sni.to_owned(),
    };
    let (Ok(certificate), Ok(name)) =
        (webpki::EndEntityCert::try_from(leaf), ServerName::try_from(name.as_str()))
    else {
        return false;
    };
    certificate.verify_is_valid_for_subject_name(&name).is_ok()
}

fn validity(
    leaf: &CertificateDer<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<(SystemTime, Option<String>), String> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| format!("{} is malformed", path.display()))?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    let (begins, ends) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    if ends < now {
        return Err(format!("{} has expired; renew it", path.display()));
    }
    if begins > now {
        return Err(format!("{} is not valid yet", path.display()));
    }
    let warning = (ends < now + SOON).then(|| {
        let days = ends.duration_since(now).map_or(0, |left| left.as_secs() / 86_400);
        format!("{} ends in {days} days", path.display())
    });
    Ok((ends, warning))
}
