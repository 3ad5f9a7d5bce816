//! What is shown of a certificate. Each of a peer is read once by a thread, and all its connections to that peer share it.

use rustls::pki_types::CertificateDer;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// A certificate that a peer showed and that verified.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of its DER form.
    pub sha256: [u8; 32],
    /// Whose it is: its first alternative name, else its subject. At most 256 bytes.
    pub name: Box<str>,
    /// When it ends; `None` when that cannot be read.
    pub not_after: Option<SystemTime>,
    /// As it stands on the wire.
    pub der: CertificateDer<'static>,
    details: OnceLock<CertificateDetails>,
}

/// What an inventory of certificates asks for. Of a certificate that cannot be read, all is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Distinguished name of its subject. At most 256 bytes, as all texts.
    pub subject: String,
    /// Distinguished name of its issuer.
    pub issuer: String,
    /// Serial number, in hex.
    pub serial: String,
    /// Kind and size of its public key: `RSA 2048`, `ECDSA P-256`, `Ed25519`.
    pub key: String,
    /// Begin and end of its time, in seconds since 1970.
    pub validity: Option<(i64, i64)>,
    /// Its alternative names, at most `DETAILED_NAMES`.
    pub names: Vec<String>,
}

/// Alternative names that are kept as details: some certificates hold hundreds.
const DETAILED_NAMES: usize = 8;

/// Certificates that a thread remembers: of all upstreams, and of the clients that come often.
const CACHE_CAPACITY: usize = 512;

/// Bytes of a name that are kept.
const NAME_BYTES: usize = 256;

thread_local! {
    static SEEN: RefCell<HashMap<[u8; 32], Arc<PeerCertificate>>> = RefCell::default();
}

impl PeerCertificate {
    /// What is shown of `leaf`; shared with those that showed the same on this thread.
    pub fn of(leaf: &CertificateDer<'_>) -> Arc<Self> {
        let sha256 = fingerprint(leaf);
        SEEN.with_borrow_mut(|seen| {
            if let Some(known) = seen.get(&sha256) {
                return known.clone();
            }
            let read = Arc::new(Self::read(sha256, leaf));
            if seen.len() >= CACHE_CAPACITY {
                seen.retain(|_, known| Arc::strong_count(known) > 1);
            }
            if seen.len() < CACHE_CAPACITY {
                seen.insert(sha256, read.clone());
            }
            read
        })
    }

    /// True when its time is over at `now`.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|end| end < now)
    }

    /// What an inventory asks for; read when it is first wanted.
    pub fn details(&self) -> &CertificateDetails {
        self.details.get_or_init(|| CertificateDetails::read(&self.der).unwrap_or_default())
    }

    /// A certificate of the gateway's own.
    pub fn of_own(leaf: &CertificateDer<'_>) -> Arc<Self> {
        Arc::new(Self::read(fingerprint(leaf), leaf))
    }

    fn read(sha256: [u8; 32], leaf: &CertificateDer<'_>) -> Self {
        let (der, details) = (leaf.clone().into_owned(), OnceLock::new());
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            return PeerCertificate { sha256, name: "unreadable".into(), not_after: None, der, details };
        };
        let alternative = alternative_names(&certificate).into_iter().next();
        let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let mut name = alternative
            .or_else(|| common().map(str::to_owned))
            .unwrap_or_else(|| certificate.subject().to_string());
        limit(&mut name);
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok();
        let not_after = seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        PeerCertificate { sha256, name: name.into(), not_after, der, details }
    }
}

impl CertificateDetails {
    fn read(leaf: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let limited = |mut text: String| {
            limit(&mut text);
            text
        };
        let validity = certificate.validity();
        Some(CertificateDetails {
            subject: limited(certificate.subject().to_string()),
            issuer: limited(certificate.issuer().to_string()),
            serial: limited(serial_number(certificate.raw_serial())),
            key: limited(key_name(&certificate)),
            validity: Some((validity.not_before.timestamp(), validity.not_after.timestamp())),
            names: alternative_names(&certificate).into_iter().take(DETAILED_NAMES).map(limited).collect(),
        })
    }
}

/// A serial number as `openssl x509 -serial` prints it, in lower case: whole bytes, without those of DER that only say that
/// the number is positive (X.690 8.3.2).
fn serial_number(der: &[u8]) -> String {
    let first = der.iter().position(|byte| *byte != 0).unwrap_or(der.len().saturating_sub(1));
    der[first..].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn limit(text: &mut String) {
    text.truncate(text.floor_char_boundary(NAME_BYTES));
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    });
    names.collect()
}

/// Kind and size of a public key; of an unknown kind its object identifier.
fn key_name(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let kind = key.algorithm.algorithm.to_id_string();
    match (kind.as_str(), key.parsed()) {
        ("1.3.101.112", _) => "Ed25519".into(),
        ("1.3.101.113", _) => "Ed448".into(),
        (_, Ok(PublicKey::RSA(rsa))) => format!("RSA {}", rsa.key_size()),
        (_, Ok(PublicKey::EC(_))) => match curve.map(|curve| curve.to_id_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => "ECDSA P-256".into(),
            Some("1.3.132.0.34") => "ECDSA P-384".into(),
            Some("1.3.132.0.35") => "ECDSA P-521".into(),
            Some(other) => format!("ECDSA {other}"),
            None => "ECDSA".into(),
        },
        _ => kind,
    }
}

/// SHA-256 of a certificate as it stands on the wire.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common");
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_serial_number_is_spelt_as_openssl_does() {
        let spelt: [(&[u8], &str); 5] = [
            (&[0x0a, 0x1b], "0a1b"),
            (&[0, 0xeb, 0x2c], "eb2c"),
            (&[0, 0, 1], "01"),
            (&[0], "00"),
            (&[], ""),
        ];
        for (der, text) in spelt {
            assert_eq!(serial_number(der), text);
        }
    }

    #[test]
    fn a_certificate_is_read_once_and_shared() {
        let der = leaf(&["a.example", "b.example"]);
        let (first, second) = (PeerCertificate::of(&der), PeerCertificate::of(&der));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(&*first.name, "a.example");
        assert_eq!(first.not_after, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2_209_075_200)));
        assert_eq!(first.sha256, fingerprint(&der));
        assert_eq!(first.der, der);
        let details = first.details();
        assert_eq!((&*details.subject, &*details.issuer), ("CN=common", "CN=common"));
        assert_eq!((&*details.key, details.validity.unwrap().1), ("ECDSA P-256", 2_209_075_200));
        assert_eq!(details.names, ["a.example", "b.example"]);
        assert!(!details.serial.is_empty() && details.serial.bytes().all(|b| b.is_ascii_hexdigit()));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!first.has_expired(at(2_209_075_200)) && first.has_expired(at(2_209_075_201)));
        assert_eq!(&*PeerCertificate::of(&leaf(&[])).name, "common");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_unreadable_bytes_have_no_name() {
        for n in 0..2 * CACHE_CAPACITY as u32 {
            let known = PeerCertificate::of(&CertificateDer::from(n.to_be_bytes().to_vec()));
            assert_eq!((&*known.name, known.not_after), ("unreadable", None));
            assert_eq!(known.details(), &CertificateDetails::default());
        }
        assert!(SEEN.with_borrow(|seen| seen.len() <= CACHE_CAPACITY));
    }
}
