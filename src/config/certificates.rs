//! Certificates and keys from PEM files, and what can be wrong with them.

use super::pem::{self, Expected};
use super::secrets::{read_file, read_private, read_public};
use super::summary::day;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

/// A certificate that ends sooner than this is worth a warning.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// A chain, read and found to be in its time.
pub(super) struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
    /// It ends soon: what to say about it.
    pub(super) warning: Option<String>,
}

/// A chain with its key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) not_after: SystemTime,
}

/// Reads a chain, the leaf first: a file, or `credential:NAME`.
pub(super) fn chain(written: &str, base: &Path, now: SystemTime) -> Result<Chain, String> {
    let shown = shown(written, base);
    let certificates = from_pem(&read_public(written, base)?, &shown, Expected::Chain)?;
    let (not_after, warning) = validity(&certificates[0], &shown, now)?;
    let warning = warning
        .or_else(|| doubts_about_order(&certificates, &shown))
        .or_else(|| doubts_about_lone_leaf(&certificates, &base.join(written)));
    Ok(Chain { certificates, not_after, warning })
}

/// Reads a private key: `credential:NAME`, or a file that only its owner and this service can read.
pub(super) fn key(written: &str, base: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = shown(written, base);
    // Whoever swapped the two is told so, and not that a certificate is open to others.
    let pem = read_private(written, base).map_err(|why| match read_public(written, base) {
        Ok(pem) if pem.starts_with(b"-----BEGIN CERTIFICATE-----") && !holds(&pem, "PRIVATE KEY") => {
            format!("{shown} holds no private key but a certificate; chain and key are swapped")
        }
        _ => why,
    })?;
    let pem = Zeroizing::new(pem);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        format!("{shown} holds no private key in PEM{}", pem::advice(&pem, Expected::PrivateKey))
    })
}

fn holds(pem: &[u8], words: &str) -> bool {
    memchr::memmem::find(pem, words.as_bytes()).is_some()
}

/// What is written in a configuration, as an error names it.
pub(super) fn shown(written: &str, base: &Path) -> String {
    match written.starts_with("credential:") {
        true => written.to_owned(),
        false => base.join(written).display().to_string(),
    }
}

/// Puts a chain and a key together, if they belong together. The names are for the error.
pub(super) fn pair(
    chain: Chain,
    key: PrivateKeyDer<'static>,
    chain_name: &str,
    key_name: &str,
) -> Result<Pair, String> {
    let signing = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| format!("{key_name} is of a kind that is not supported; use ECDSA (P-256, P-384), RSA (2048 bits or more) or Ed25519"))?;
    let matches = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], signing.clone()).keys_match().is_ok()
    };
    if !matches(&chain.certificates[0]) {
        let advice = match chain.certificates.iter().position(matches) {
            Some(at) => {
                format!("; it is that of certificate {} there: the gateway's own must stand first", at + 1)
            }
            None => String::new(),
        };
        return Err(format!("the key {key_name} is not the key of {chain_name}{advice}"));
    }
    Ok(Pair { chain: chain.certificates, key, not_after: chain.not_after })
}

/// The DNS names and addresses that a certificate is good for.
pub(super) fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// Reads the authorities of a PEM file; there is at least one.
pub(super) fn authorities(written: &str, base: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = base.join(written).display().to_string();
    from_pem(&read_file(written, base)?, &name, Expected::Authorities)
}

/// What an authority of servers is hardly meant to be; `name` is the file's.
pub(super) fn doubts_about_authority(authorities: &[CertificateDer<'_>], name: &str) -> Option<String> {
    authorities.iter().find_map(|der| {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        // A server may show a certificate that it signed itself, and that is then all there is to name.
        (!read.is_ca() && read.issuer() != read.subject()).then(|| {
            format!("{name} holds a certificate that is no authority's, and no server is verified by it; name the one that signed it")
        })
    })
}

/// Whether a file of certbot's was named that leaves out who signed the certificate.
fn doubts_about_lone_leaf(chain: &[CertificateDer<'_>], path: &Path) -> Option<String> {
    let is_leaf = chain.len() == 1 && path.file_name().is_some_and(|name| name == "cert.pem");
    let full = path.with_file_name("fullchain.pem");
    (is_leaf && full.exists()).then(|| {
        format!(
            "{} holds the certificate alone, and many clients find no way to its authority without the others; write {}",
            path.display(),
            full.display()
        )
    })
}

/// What is wrong with the order of a chain: each certificate was signed by the next (RFC 5246 section 7.4.2; clients of
/// TLS 1.3 may find the way through others).
fn doubts_about_order(chain: &[CertificateDer<'_>], name: &str) -> Option<String> {
    let read: Vec<_> = chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let broken = read.windows(2).position(|pair| pair[0].issuer() != pair[1].subject())?;
    Some(format!(
        "certificate {} of {name} did not sign certificate {} before it, so some clients find no way to their authority; put \
         each behind the one that it signed, and leave out others",
        broken + 2,
        broken + 1
    ))
}

/// What authorities of clients are hardly meant to be; `name` is the file's.
pub(super) fn doubts_about_client_ca(
    authorities: &[CertificateDer<'_>],
    name: &str,
    now: SystemTime,
) -> Option<String> {
    if authorities.len() > MAX_OWN_AUTHORITIES {
        return Some(format!(
            "{name} holds {} authorities, as collections of public ones do: whoever has a certificate of any of them is verified; \
             name the authority that issues to your clients",
            authorities.len()
        ));
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    authorities.iter().find_map(|der| {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        if read.validity().not_after.timestamp() < now {
            return Some(format!("{name} holds an authority that has expired; nobody gets in by it: replace it"));
        }
        (!read.is_ca()).then(|| {
            format!("{name} holds a certificate that is no authority's, and nobody gets in by it; name the one that signed it")
        })
    })
}

/// Authorities that issue to one gateway's clients: one, its successor, and those of some partners.
const MAX_OWN_AUTHORITIES: usize = 10;

fn from_pem(pem: &[u8], name: &str, expected: Expected) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{name} holds no certificate in PEM{}", pem::advice(pem, expected))),
    }
}

/// Lists of revoked certificates.
#[derive(Default)]
pub(super) struct Revocations {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them is to be replaced (RFC 5280 section 5.1.2.5).
    pub(super) next_update: Option<SystemTime>,
    /// Serial numbers of revoked certificates: lower-case hex without leading zeros.
    pub(super) serials: Vec<Arc<str>>,
}

/// Reads the revocation lists of a PEM file; there is at least one.
pub(super) fn revocations(written: &str, base: &Path) -> Result<Revocations, String> {
    let pem = read_file(written, base)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    let lists = lists.ok().filter(|lists| !lists.is_empty());
    let lists = lists.ok_or_else(|| {
        let (name, advice) = (base.join(written), pem::advice(&pem, Expected::RevocationList));
        format!("{} holds no certificate revocation list in PEM{advice}", name.display())
    })?;
    let next_update = |list: &CertificateRevocationListDer<'_>| {
        let (_, read) = CertificateRevocationList::from_der(list).ok()?;
        let seconds = u64::try_from(read.next_update()?.timestamp()).unwrap_or(0);
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let next_update = lists.iter().filter_map(next_update).min();
    let serials = lists.iter().flat_map(|list| serials(list)).collect();
    Ok(Revocations { lists, next_update, serials })
}

fn serials(list: &[u8]) -> Vec<Arc<str>> {
    let Ok((_, read)) = CertificateRevocationList::from_der(list) else { return Vec::new() };
    read.iter_revoked_certificates().map(|one| format!("{:x}", one.serial()).into()).collect()
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
    name: &str,
    now: SystemTime,
) -> Result<(SystemTime, Option<String>), String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| format!("{name} is malformed"))?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    let (begins, ends) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    let date =
        |at: SystemTime| day(at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    let clock = date(now);
    if ends < now {
        return Err(format!(
            "{name} has expired on {}; renew it, unless the clock of this machine is wrong, which says {clock}",
            date(ends)
        ));
    }
    if begins > now {
        return Err(format!(
            "{name} is not valid before {}; is the clock of this machine right, which says {clock}?",
            date(begins)
        ));
    }
    let warning = (ends < now + EXPIRY_WARNING).then(|| {
        let days = ends.duration_since(now).map_or(0, |left| left.as_secs() / 86_400);
        format!("{name} ends in {days} days")
    });
    Ok((ends, warning))
}
