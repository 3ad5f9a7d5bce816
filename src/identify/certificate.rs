//! Client certificates as identities.
//!
//! The handshake has already verified the chain, the dates, the purpose and the revocation lists. Here a leaf is
//! only read: which of its names is the subject, and which groups that subject is in.

use super::oidc::cache::TokenCache;
use super::provider::{Identification, IdentityProvider, Refused};
use super::subject::{SubjectPattern, SubjectSource};
use crate::names::IssuerName;
use crate::policy::claims::join;
use crate::policy::revocation::{ISSUED, SERIAL};
use crate::policy::{Identity, Proof};
use crate::protocol::RefusalReason;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How a client certificate becomes an identity.
#[derive(Debug)]
pub struct CertificateMapping {
    /// The name under which policies speak of this authority.
    pub authority: IssuerName,
    /// Where the subject stands, the most wanted first.
    pub subject_from: Vec<SubjectSource>,
    /// Patterns for the subject, and the groups of whoever matches.
    pub groups: Vec<(SubjectPattern, Vec<Arc<str>>)>,
    /// Identities of live sessions, by the fingerprint of the certificate: connections of one client share theirs.
    pub known: KnownIdentities,
}

/// Identities that somebody still holds.
#[derive(Debug, Default)]
pub struct KnownIdentities(Mutex<HashMap<[u8; 32], Weak<Identity>>>);

/// Capacity; what is over is forgotten first, then all.
const MAX_KNOWN: usize = 4_096;

impl KnownIdentities {
    /// The identity of this certificate, or what `read` makes of it.
    fn get_or_read<E>(
        &self,
        certificate: [u8; 32],
        read: impl FnOnce() -> Result<Identity, E>,
    ) -> Result<Arc<Identity>, E> {
        if let Some(known) = self.0.lock().get(&certificate).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let identity = Arc::new(read()?);
        let mut known = self.0.lock();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, identity| identity.strong_count() > 0);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(certificate, Arc::downgrade(&identity));
        Ok(identity)
    }
}

/// A verified certificate that cannot be an identity here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Not a certificate, or with an extension twice (RFC 5280 section 4.2).
    #[error("the client certificate is malformed")]
    Malformed,
    /// None of the configured places holds a name.
    #[error("the client certificate has no name in the places that the mapping reads")]
    NoSubject,
    /// A subject that reads like one of another place: a common name `spiffe://…`, say.
    #[error("the client certificate's subject has the form of a name that stands elsewhere")]
    Disguised,
    /// A control character in a name: a NUL once made `bank.example\0.evil.example` read as another name.
    #[error("a name in the client certificate holds a control character")]
    ControlCharacter,
}

impl CertificateMapping {
    /// The identity of whoever holds the key of `leaf`.
    pub fn identify(&self, leaf: &CertificateDer<'_>) -> Result<Identity, CertificateFault> {
        let (rest, read) = X509Certificate::from_der(leaf).map_err(|_| CertificateFault::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateFault::Malformed);
        }
        let names = Names::read(&read)?;
        let (source, subject) = self
            .subject_from
            .iter()
            .find_map(|source| Some((*source, names.of(*source).first()?)))
            .ok_or(CertificateFault::NoSubject)?;
        // Rules of policies compare subjects as texts.
        if self.subject_from.iter().any(|other| *other != source && other.has_form_of(subject)) {
            return Err(CertificateFault::Disguised);
        }
        let mut groups: Vec<Arc<str>> = Vec::new();
        let matching = self.groups.iter().filter(|(pattern, _)| pattern.matches(source, subject));
        for group in matching.flat_map(|(_, groups)| groups) {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        let mut claims: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        claims.insert("fingerprint".into(), hex(&fingerprint(leaf)).into());
        claims.insert("subject_from".into(), source.name().into());
        claims.insert(SERIAL.into(), serial(&read).into());
        claims.insert(ISSUED.into(), read.validity().not_before.timestamp().to_string().into());
        for (claim, list) in [("san.dns", &names.dns), ("san.uri", &names.uri)] {
            if !list.is_empty() {
                claims.extend(join(list.iter().cloned()).map(|all| (Arc::from(claim), Arc::from(all))));
            }
        }
        Ok(Identity {
            issuer: self.authority.clone(),
            subject: subject.as_str().into(),
            groups,
            claims: claims.into_iter().collect(),
            proof: Proof::Certificate,
            expires: end(&read),
        })
    }
}

/// The proof is the leaf whose key the handshake has shown to be held.
impl IdentityProvider for CertificateMapping {
    fn identify(&self, _: &mut TokenCache, proof: &[u8], _: SystemTime) -> Identification {
        let leaf = CertificateDer::from(proof);
        match self.known.get_or_read(fingerprint(&leaf), || self.identify(&leaf)) {
            Ok(identity) => Identification::Known(identity),
            Err(fault) => {
                let (why, detail) = (RefusalReason::Forbidden, fault.to_string().into());
                Identification::Refused(Refused { why, detail })
            }
        }
    }
}

fn end(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The serial number in lower-case hex, without leading zeros.
fn serial(certificate: &X509Certificate<'_>) -> String {
    format!("{:x}", certificate.serial)
}

/// The names of one certificate.
struct Names {
    dns: Vec<String>,
    uri: Vec<String>,
    email: Vec<String>,
    common: Vec<String>,
}

impl Names {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, CertificateFault> {
        let mut names = Names { dns: vec![], uri: vec![], email: vec![], common: vec![] };
        let san = certificate.subject_alternative_name().map_err(|_| CertificateFault::Malformed)?;
        for name in san.iter().flat_map(|san| &san.value.general_names) {
            match name {
                GeneralName::DNSName(n) => names.dns.push(n.to_ascii_lowercase()),
                GeneralName::URI(n) => names.uri.push((*n).to_owned()),
                GeneralName::RFC822Name(n) => names.email.push((*n).to_owned()),
                GeneralName::Invalid(..) => return Err(CertificateFault::Malformed),
                _ => {}
            }
        }
        for name in certificate.subject().iter_common_name() {
            names.common.push(name.as_str().map_err(|_| CertificateFault::Malformed)?.to_owned());
        }
        for list in [&mut names.dns, &mut names.uri, &mut names.email, &mut names.common] {
            list.retain(|name| !name.is_empty());
            if list.iter().any(|name| name.chars().any(char::is_control)) {
                return Err(CertificateFault::ControlCharacter);
            }
        }
        Ok(names)
    }

    fn of(&self, source: SubjectSource) -> &[String] {
        match source {
            SubjectSource::Dns => &self.dns,
            SubjectSource::Uri => &self.uri,
            SubjectSource::Email => &self.email,
            SubjectSource::CommonName => &self.common,
        }
    }
}

/// SHA-256 of the certificate.
fn fingerprint(leaf: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn leaf(common: Option<&str>, sans: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = sans;
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    type Group<'a> = (SubjectSource, &'a str, &'a [&'a str]);

    fn mapping(subject_from: &[SubjectSource], groups: &[Group<'_>]) -> CertificateMapping {
        CertificateMapping {
            authority: IssuerName("machines".into()),
            subject_from: subject_from.to_vec(),
            groups: groups
                .iter()
                .map(|(source, pattern, groups)| {
                    let pattern = SubjectPattern::parse(*source, pattern).unwrap();
                    (pattern, groups.iter().map(|g| Arc::from(*g)).collect())
                })
                .collect(),
            known: KnownIdentities::default(),
        }
    }

    #[test]
    fn a_spiffe_id_becomes_subject_groups_and_claims() {
        let leaf = leaf(Some("job"), vec![dns("Runner.Example"), uri("spiffe://corp/ci/runner")]);
        let map = mapping(
            &[SubjectSource::Uri, SubjectSource::Dns],
            &[
                (SubjectSource::Uri, "spiffe://corp/ci/*", &["ci", "all"]),
                (SubjectSource::Uri, "spiffe://corp/ci/runner", &["all", "exact"]),
                (SubjectSource::Dns, "*.example", &["runners"]),
                (SubjectSource::Uri, "spiffe://corp/ml/*", &["ml"]),
            ],
        );
        let identity = map.identify(&leaf).unwrap();
        assert_eq!(&*identity.subject, "spiffe://corp/ci/runner");
        assert_eq!(identity.groups.iter().map(|g| &**g).collect::<Vec<_>>(), ["ci", "all", "exact"]);
        assert_eq!(identity.issuer.0.as_ref(), "machines");
        assert_eq!(identity.proof, Proof::Certificate);
        assert_eq!(identity.claims.values("san.dns").collect::<Vec<_>>(), ["runner.example"]);
        assert_eq!(identity.claims.values("san.uri").collect::<Vec<_>>(), ["spiffe://corp/ci/runner"]);
        let serial: Vec<_> = identity.claims.values("serial").collect();
        assert!(serial.len() == 1 && !serial[0].is_empty() && !serial[0].starts_with('0'), "{serial:?}");
        assert_eq!(identity.claims.values("iat").count(), 1);
        assert_eq!(identity.claims.values("fingerprint").map(str::len).collect::<Vec<_>>(), [64]);
        let ends = identity.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(ends, 2_209_075_200, "2040-01-02T00:00:00Z");
    }

    #[test]
    fn the_first_configured_source_that_holds_a_name_wins() {
        let leaf = leaf(Some("common"), vec![dns("a.example"), dns("b.example")]);
        let subject =
            |sources: &[SubjectSource]| mapping(sources, &[]).identify(&leaf).map(|i| i.subject.to_string());
        assert_eq!(subject(&[SubjectSource::Uri, SubjectSource::Dns]).unwrap(), "a.example");
        assert_eq!(subject(&[SubjectSource::CommonName, SubjectSource::Dns]).unwrap(), "common");
        assert_eq!(subject(&[SubjectSource::Email]), Err(CertificateFault::NoSubject));
        assert_eq!(subject(&[]), Err(CertificateFault::NoSubject));
    }

    #[test]
    fn a_name_that_reads_like_one_of_another_place_is_nobodys() {
        use SubjectSource::{CommonName, Dns, Email, Uri};
        let all = [Uri, Email, Dns, CommonName];
        for disguised in ["spiffe://corp/ci/runner", "ann@corp.example"] {
            let map = mapping(&all, &[(Uri, "spiffe://corp/ci/*", &["ci"])]);
            assert_eq!(map.identify(&leaf(Some(disguised), vec![])), Err(CertificateFault::Disguised));
            // Where that place is not read, nothing can be taken for it.
            let identity = mapping(&[CommonName], &[]).identify(&leaf(Some(disguised), vec![])).unwrap();
            assert_eq!((&*identity.subject, identity.groups.len()), (disguised, 0));
        }
        let plain = mapping(&all, &[]).identify(&leaf(Some("runner"), vec![])).unwrap();
        assert!(plain.claims.has("subject_from", "cn"));
    }

    #[test]
    fn sessions_of_one_certificate_share_an_identity_for_as_long_as_one_lives() {
        let mapping = mapping(&[SubjectSource::CommonName], &[]);
        let (ann, bob) = (leaf(Some("ann"), vec![]), leaf(Some("bob"), vec![]));
        let known = |leaf: &CertificateDer<'_>| {
            mapping.known.get_or_read(fingerprint(leaf), || mapping.identify(leaf)).unwrap()
        };
        let (first, other) = (known(&ann), known(&bob));
        assert!(Arc::ptr_eq(&first, &known(&ann)) && *first.subject == *"ann" && *other.subject == *"bob");
        drop(first);
        assert!(mapping.known.0.lock()[&fingerprint(&ann)].upgrade().is_none(), "nothing keeps it");
        assert_eq!(&*known(&ann).subject, "ann");
    }

    #[test]
    fn who_is_over_makes_room_and_a_crowd_is_read_anew() {
        let known = KnownIdentities::default();
        let mapping = mapping(&[SubjectSource::CommonName], &[]);
        let identity = mapping.identify(&leaf(Some("ann"), vec![])).unwrap();
        let id = |n: usize| std::array::from_fn(|at| n.to_le_bytes().get(at).copied().unwrap_or(0));
        let read = || Ok::<_, CertificateFault>(identity.clone());
        let kept = known.get_or_read(id(0), read).unwrap();
        (1..MAX_KNOWN).for_each(|n| drop(known.get_or_read(id(n), read)));
        assert_eq!(known.0.lock().len(), MAX_KNOWN);
        let more = known.get_or_read(id(MAX_KNOWN), read).unwrap();
        assert_eq!(known.0.lock().len(), 2);
        assert!(Arc::ptr_eq(&kept, &known.get_or_read(id(0), read).unwrap()));
        let crowd: Vec<_> = (2..=MAX_KNOWN).map(|n| known.get_or_read(id(n), read).unwrap()).collect();
        assert!(known.0.lock().len() <= MAX_KNOWN && crowd.len() == MAX_KNOWN - 1);
        drop(more);
    }

    #[test]
    fn a_name_with_a_control_character_is_refused() {
        let leaf = leaf(Some("bank.example\0.evil.example"), vec![]);
        let map = mapping(&[SubjectSource::CommonName], &[]);
        assert_eq!(map.identify(&leaf), Err(CertificateFault::ControlCharacter));
    }

    #[test]
    fn what_is_no_certificate_is_refused_at_every_cut() {
        let whole = leaf(Some("x"), vec![]);
        let map = mapping(&[SubjectSource::CommonName], &[]);
        for cut in 0..whole.len() {
            let part = CertificateDer::from(&whole[..cut]);
            assert_eq!(map.identify(&part), Err(CertificateFault::Malformed), "{cut}");
        }
        let longer = CertificateDer::from([&whole[..], b"\0"].concat());
        assert_eq!(map.identify(&longer), Err(CertificateFault::Malformed));
    }
}
