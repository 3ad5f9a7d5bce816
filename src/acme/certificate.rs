//! One ACME certificate: its current key and chain, and the state of its renewal.

use super::schedule::Life;
use super::settings::{Name, Settings};
use crate::secret::Secret;
use crate::tls::peer_certificate::PeerCertificate;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A self-renewing certificate. A route's TLS configuration asks it for each handshake, so that a new one serves at
/// once and connections that live go on.
#[derive(Debug)]
pub struct Certificate {
    slot: ArcSwap<Slot>,
}

/// State shared by a certificate's task and the routes that serve it; it outlives reloads.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: String,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) issued: ArcSwapOption<Issued>,
    pub(super) status: Mutex<Status>,
    /// What was issued and could not be written down yet: key and chain in PEM.
    pub(super) unkept: Mutex<Option<Secret>>,
    /// Wakes the task: something about it has changed.
    pub(super) changed: Notify,
}

/// A certificate as it was issued.
#[derive(Debug)]
pub struct Issued {
    certified: Arc<CertifiedKey>,
    shown: Arc<PeerCertificate>,
    pub(super) life: Life,
}

/// Result of the last orders. Kept over restarts: a restart must not clear the back-off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Orders that failed since the last success.
    #[serde(default)]
    pub failures: u32,
    /// Why the last one failed.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When that was, in seconds since 1970.
    #[serde(default)]
    pub last_attempt: Option<u64>,
    /// No order before this moment, in seconds since 1970.
    #[serde(default)]
    pub next_attempt: Option<u64>,
    /// The directory of the authority that issued the certificate.
    #[serde(default)]
    pub directory: Option<String>,
    /// The profile that was asked for.
    #[serde(default)]
    pub profile: Option<String>,
}

impl Certificate {
    /// A configured certificate with its stored state.
    pub fn new(settings: Settings, issued: Option<Issued>, status: Status) -> Self {
        let slot = Slot {
            key: settings.key(),
            settings: ArcSwap::from_pointee(settings),
            issued: ArcSwapOption::from_pointee(issued),
            status: Mutex::new(status),
            unkept: Mutex::default(),
            changed: Notify::new(),
        };
        Certificate { slot: ArcSwap::from_pointee(slot) }
    }

    pub(super) fn slot(&self) -> Arc<Slot> {
        self.slot.load_full()
    }

    /// Shows from now on what an earlier one of the same names shows, and gives it the new settings.
    pub(super) fn adopt(&self, old: &Arc<Slot>) {
        old.settings.store(self.slot().settings.load_full());
        self.slot.store(old.clone());
    }

    /// False as long as nothing was issued.
    pub fn is_there(&self) -> bool {
        self.slot.load().issued.load().is_some()
    }

    /// What clients are shown now; `None`: there is none yet.
    pub fn shown(&self) -> Option<Arc<PeerCertificate>> {
        self.slot.load().issued.load().as_ref().map(|issued| issued.shown.clone())
    }

    /// When it ends; `None`: there is none yet.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.slot.load().issued.load().as_ref().map(|issued| issued.life.not_after)
    }

    /// Result of the last orders.
    pub fn status(&self) -> Status {
        self.slot.load().status.lock().clone()
    }

    /// Its names.
    pub fn names(&self) -> Vec<String> {
        self.slot.load().settings.load().name_texts()
    }

    /// The authorities that are asked, in turn, as the configuration calls them.
    pub fn authorities(&self) -> Vec<String> {
        self.slot.load().settings.load().authorities.iter().map(|one| one.name.clone()).collect()
    }

    /// Why it cannot serve: missing or expired, with the last error.
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let what = match self.not_after() {
            None => "there is no certificate yet",
            Some(end) if end < now => "the certificate has expired",
            Some(_) => return None,
        };
        let status = self.status();
        Some(match status.last_error {
            Some(error) => format!("{what}: {error}"),
            None => format!("{what}: ordered from {}", self.authorities().join(", ")),
        })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.slot.load().issued.load().as_ref().map(|issued| issued.certified.clone())
    }
}

impl Issued {
    /// Reads a private key and a chain, leaf first, from one PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "it holds no private key in PEM")?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| "it holds a certificate that cannot be read")?;
        let leaf = chain.first().ok_or("it holds no certificate in PEM")?;
        let life = life(leaf).ok_or("its certificate is malformed")?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|_| "its key is of a kind that is not supported")?;
        let shown = PeerCertificate::of_own(leaf);
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|_| "its key is not the certificate's")?;
        Ok(Issued { certified: Arc::new(certified), shown, life })
    }

    /// The first of these names that it is not good for.
    pub(super) fn missing_name<'a>(&self, names: &'a [Name]) -> Option<&'a Name> {
        let leaf = webpki::EndEntityCert::try_from(self.leaf()).ok();
        let is_good_for = |name: &Name| {
            let text = match name {
                Name::Dns(name) => {
                    name.strip_prefix("*").map_or(name.clone(), |parent| format!("any{parent}"))
                }
                Name::Ip(ip) => ip.to_string(),
            };
            let name = ServerName::try_from(text.as_str());
            leaf.as_ref()
                .zip(name.ok())
                .is_some_and(|(leaf, name)| leaf.verify_is_valid_for_subject_name(&name).is_ok())
        };
        names.iter().find(|name| !is_good_for(name))
    }

    /// The certificate itself.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certified.cert[0]
    }
}

fn life(leaf: &CertificateDer<'_>) -> Option<Life> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let at = |time: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    Some(Life { not_before: at(parsed.validity().not_before), not_after: at(parsed.validity().not_after) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{ChallengeKind, Name};

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused() {
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let (one, other) = (ca.leaf(&["a.example"]).unwrap(), ca.leaf(&["a.example"]).unwrap());
        let pem = |key: &str, chain: &str| format!("{key}{chain}").into_bytes();
        assert!(Issued::from_pem(&pem(one.key_pem(), one.certificate_pem())).is_ok());
        let fault = Issued::from_pem(&pem(one.key_pem(), other.certificate_pem())).unwrap_err();
        assert!(fault.contains("not the certificate's"), "{fault}");
        for (key, chain) in [("", one.certificate_pem()), (one.key_pem(), "")] {
            assert!(Issued::from_pem(&pem(key, chain)).is_err());
        }
    }

    #[test]
    fn what_was_issued_is_held_against_the_names() {
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example", "*.b.example", "192.0.2.7"]).unwrap();
        let issued =
            Issued::from_pem(format!("{}{}", leaf.key_pem(), leaf.certificate_pem()).as_bytes()).unwrap();
        let dns = |name: &str| Name::Dns(name.into());
        let (good, other) = (Name::Ip("192.0.2.7".parse().unwrap()), Name::Ip("192.0.2.8".parse().unwrap()));
        assert_eq!(issued.missing_name(&[dns("a.example"), dns("*.b.example"), good.clone()]), None);
        assert_eq!(issued.missing_name(&[good.clone(), dns("*.a.example")]), Some(&dns("*.a.example")));
        assert_eq!(issued.missing_name(&[good, other.clone()]), Some(&other));
    }

    #[test]
    fn a_certificate_that_has_ended_is_trouble_and_serves_on() {
        let settings = Settings {
            names: vec![Name::Dns("a.example".into())],
            authorities: Vec::new(),
            challenge: ChallengeKind::default(),
            dns_hook: Vec::new(),
        };
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example"]).unwrap();
        let mut issued =
            Issued::from_pem(format!("{}{}", leaf.key_pem(), leaf.certificate_pem()).as_bytes()).unwrap();
        let end = SystemTime::now();
        issued.life = Life { not_before: end - Duration::from_secs(60), not_after: end };
        let status = Status { last_error: Some("ca: no answer".into()), ..Status::default() };
        let certificate = Certificate::new(settings, Some(issued), status);
        assert_eq!(certificate.problem(end), None);
        let problem = certificate.problem(end + Duration::from_secs(1));
        assert_eq!(problem.as_deref(), Some("the certificate has expired: ca: no answer"));
        assert!(certificate.is_there());
    }

    #[test]
    fn a_reload_goes_on_with_what_is_there_and_with_new_settings() {
        let settings = |hook: &str| Settings {
            names: vec![Name::Dns("a.example".into())],
            authorities: Vec::new(),
            challenge: ChallengeKind::Dns01,
            dns_hook: vec![hook.into()],
        };
        let ca = crate::demo::ca::Ca::new("test").unwrap();
        let leaf = ca.leaf(&["a.example"]).unwrap();
        let issued =
            Issued::from_pem(format!("{}{}", leaf.key_pem(), leaf.certificate_pem()).as_bytes()).unwrap();
        let old = Certificate::new(settings("old"), Some(issued), Status::default());
        let new = Certificate::new(settings("new"), None, Status::default());
        assert!(!new.is_there() && new.problem(SystemTime::now()).is_some());
        new.adopt(&old.slot());
        assert!(new.is_there() && new.problem(SystemTime::now()).is_none());
        assert_eq!(old.slot().settings.load().dns_hook, ["new"]);
    }
}
