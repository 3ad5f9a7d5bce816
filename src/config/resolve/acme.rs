//! The certificates that clients are shown: from files, or from ACME authorities.

use super::context::{AcmeContext, Context};
use super::listen::socket_address;
use crate::acme::{
    Authority, Certificate, ChallengeKind, Eab, Name, Plan, Settings, Status, Store, built_in,
};
use crate::config::certificates;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, OneOrMany, ServerCertificate, Text};
use crate::names::RouteName;
use crate::net::https::HttpsUrl;
use crate::secret::shown_url;
use crate::tls::peer_certificate::PeerCertificate;
use crate::tls::server::{LeafSource, ServerIdentity};
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use toml::Spanned;

/// Where state stands that nobody says otherwise about.
const STATE: &str = "/var/lib/staunch/acme";

/// What a client leg shows, and what is known of it.
pub(super) struct Shown {
    pub(super) identity: ServerIdentity,
    pub(super) names: Vec<String>,
    pub(super) not_after: Option<SystemTime>,
    pub(super) acme: Option<Arc<Certificate>>,
    pub(super) leaf: LeafSource,
}

impl Context<'_> {
    /// Reads what all certificates that are ordered share. Comes before the routes.
    pub(super) fn acme(&mut self, written: &model::Acme, notes: &mut FaultCollector<'_>) {
        let http = written.http.as_ref();
        let mut acme = AcmeContext {
            state: state(written.state.as_ref(), self.base),
            has_http: http.is_some(),
            http: http.and_then(|text| notes.take(text.span(), socket_address(text.get_ref()))),
            dns_hook: hook(written, self.base, notes),
            contact: written
                .contact
                .iter()
                .filter_map(|text| notes.take(text.span(), contact(text.get_ref())))
                .collect(),
            ..AcmeContext::default()
        };
        for (name, authority) in &written.authority {
            let resolved = self.authority(name, authority, &acme.contact, notes);
            acme.authorities.insert(name.clone(), resolved.map(Arc::new));
        }
        self.acme = acme;
    }

    /// What is to be ordered; `None`: nothing. Comes after the routes.
    pub(super) fn acme_plan(&self, written: &model::Acme, notes: &mut FaultCollector<'_>) -> Option<Plan> {
        for (name, authority) in &written.authority {
            if !self.acme.used.contains(name) && notes.is_unused(&format!("\"{name}\""), 0) {
                let text = format!("authority `{name}` is named by no certificate; use it or remove it");
                notes.fault(authority.span(), text);
            }
        }
        let certificates: Vec<_> = self.acme.certificates.values().map(|(one, _)| one.clone()).collect();
        if certificates.is_empty() {
            return None;
        }
        Some(Plan { store: Store::at(self.acme.state.clone()), http: self.acme.http, certificates })
    }

    fn authority(
        &mut self,
        name: &str,
        written: &Spanned<model::AcmeAuthority>,
        contact: &[String],
        notes: &mut FaultCollector<'_>,
    ) -> Option<Authority> {
        let model::AcmeAuthority { directory, staging, ca, eab_key_id, eab_key, profile } = written.get_ref();
        let base = built_in(name);
        let ca = match ca {
            Some(ca) => super::context::server_authorities(ca, self.base, notes).map(Some),
            None => Some(None),
        };
        let eab = match (eab_key_id, eab_key) {
            (None, None) => Some(None),
            (Some(id), Some(key)) => self.eab(id, key, notes).map(Some),
            (Some(one), None) | (None, Some(one)) => {
                notes.fault(one.span(), "eab_key_id and eab_key belong together; write both, or neither");
                None
            }
        };
        let own_staging =
            staging.as_ref().and_then(|url| notes.take(url.span(), directory_url(url.get_ref())));
        let (url, staging) = match (directory, base) {
            (Some(directory), _) => (notes.take(directory.span(), directory_url(directory.get_ref())), None),
            (None, Some((directory, staging))) => {
                (directory.parse().ok(), staging.and_then(|url| url.parse().ok()))
            }
            (None, None) => {
                if !notes.lost {
                    notes.fault(
                        written.span(),
                        "`directory` is missing: the URL of the authority's directory",
                    );
                }
                (None, None)
            }
        };
        Some(Authority {
            name: name.to_owned(),
            directory: url?,
            staging: own_staging.or(staging),
            ca: ca?,
            eab: eab?.map(Arc::new),
            profile: profile.as_ref().map(|text| text.get_ref().clone()),
            contact: contact.to_vec(),
        })
    }

    fn eab(&mut self, id: &Text, key: &Text, notes: &mut FaultCollector<'_>) -> Option<Eab> {
        if !key.get_ref().contains("{secret:") {
            notes.fault(
                key.span(),
                "a key is named by where it stands, never written here; write {secret:NAME}",
            );
            return None;
        }
        let filled = self.fill(key, notes)?;
        let text = filled.expose();
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text));
        let decoded = decoded.map_err(|_| "this secret is no MAC key: those are base64url".to_owned());
        let key = notes.take(key.span(), decoded)?;
        Some(Eab { key_id: id.get_ref().clone(), key: crate::secret::Secret::new(key) })
    }

    /// The authority that a certificate names.
    fn authority_called(
        &mut self,
        text: &str,
        span: &Range<usize>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Arc<Authority>> {
        if let Some((name, authority)) = self.acme.authorities.get_key_value(text) {
            self.acme.used.insert(name.clone());
            return authority.clone();
        }
        let (directory, staging) = match built_in(text) {
            Some((directory, staging)) => (directory.parse(), staging.and_then(|url| url.parse().ok())),
            None => (text.parse(), None),
        };
        let Ok(directory) = directory else {
            let advice = "write \"letsencrypt\", the https URL of a directory, or a name of [acme.authority]";
            notes.fault(span.clone(), format!("{} is no authority; {advice}", shown_url(text)));
            return None;
        };
        let contact = self.acme.contact.clone();
        let name = text.to_owned();
        Some(Arc::new(Authority { name, directory, staging, ca: None, eab: None, profile: None, contact }))
    }

    /// What clients of these names are shown; `route` is how metrics call it.
    pub(super) fn shown(
        &mut self,
        written: &Spanned<ServerCertificate>,
        route: &str,
        sni: &[String],
        notes: &mut FaultCollector<'_>,
    ) -> Option<Shown> {
        let one = written.get_ref();
        let Some(acme) = &one.acme else {
            let of_acme = [
                (one.challenge.as_ref().map(Spanned::span), "challenge"),
                (one.names.as_ref().map(Spanned::span), "names"),
                (one.profile.as_ref().map(Spanned::span), "profile"),
            ];
            for (span, key) in of_acme {
                if let Some(span) = span {
                    notes.fault(span, format!("{key} has no effect without acme; set that or remove this"));
                }
            }
            return self.shown_from_files(written, sni, notes);
        };
        for text in [&one.chain, &one.key].into_iter().flatten() {
            notes.fault(text.span(), "the certificate comes from acme; remove chain and key, or acme");
        }
        let authorities: Vec<_> = texts(acme)
            .into_iter()
            .filter_map(|(text, span)| self.authority_called(&text, &span, notes))
            .map(|authority| with_profile(authority, one.profile.as_ref()))
            .collect();
        let challenge = self.challenge(one.challenge.as_ref(), notes);
        let names = names(sni, one, challenge, notes);
        let (challenge, names) = (challenge?, names?);
        if authorities.len() < texts(acme).len() || names.is_empty() {
            return None;
        }
        if authorities.is_empty() {
            notes.fault(acme.span(), "no authority is named; write for example \"letsencrypt\"");
            return None;
        }
        let dns_hook = match challenge {
            ChallengeKind::Dns01 => self.acme.dns_hook.clone(),
            _ => Vec::new(),
        };
        let settings = Settings { names, authorities, challenge, dns_hook };
        let certificate = self.ordered(settings, one, acme.span(), notes)?;
        self.acme.shown.push((RouteName(route.into()), certificate.clone()));
        Some(Shown {
            identity: ServerIdentity::Renewed(certificate.clone()),
            names: certificate.names(),
            not_after: certificate.not_after(),
            acme: Some(certificate.clone()),
            leaf: Box::new(move || certificate.shown()),
        })
    }

    /// The certificate for these settings, which routes with the same names share.
    fn ordered(
        &mut self,
        settings: Settings,
        written: &ServerCertificate,
        span: Range<usize>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Arc<Certificate>> {
        let key = settings.key();
        let profile = written.profile.as_ref().map(|text| text.get_ref().clone());
        let how = settings.authorities.iter().map(|one| one.name.clone()).collect();
        let how = (how, settings.challenge, profile);
        if let Some((certificate, other)) = self.acme.certificates.get(&key) {
            if *other != how {
                let text =
                    "the same names are ordered in another way elsewhere; write the same in both places";
                notes.fault(span, text);
                return None;
            }
            return Some(certificate.clone());
        }
        let store = Store::at(self.acme.state.clone());
        if let Some(why) = store.foreign_owner() {
            notes.fault(span, why);
            return None;
        }
        let issued = store.certificate(&key).unwrap_or_else(|why| {
            let text = format!("{why}; a gateway that cannot use it either orders a new certificate");
            notes.warn(span.clone(), text);
            None
        });
        let status = store.status(&key).unwrap_or_else(|why| {
            notes.warn(span.clone(), why);
            Status::default()
        });
        let certificate = Arc::new(Certificate::new(settings, issued, status));
        self.acme.certificates.insert(key, (certificate.clone(), how));
        Some(certificate)
    }

    fn challenge(&self, written: Option<&Text>, notes: &mut FaultCollector<'_>) -> Option<ChallengeKind> {
        let words = [ChallengeKind::TlsAlpn01, ChallengeKind::Http01, ChallengeKind::Dns01];
        let words = words.map(|kind| (kind.name(), kind));
        let kind = super::context::choice(&written, ChallengeKind::default(), &words, notes)?;
        let span = written.map_or(0..0, Spanned::span);
        match kind {
            ChallengeKind::Http01 if !self.acme.has_http && !notes.lost => {
                notes.fault(span, "http-01 needs a listener; write http = \"0.0.0.0:80\" under [acme]");
            }
            ChallengeKind::Dns01 if self.acme.dns_hook.is_empty() && !notes.lost => {
                notes.fault(span, "dns-01 needs a program that sets records; write dns_hook under [acme]");
            }
            _ => {}
        }
        Some(kind)
    }

    fn shown_from_files(
        &self,
        written: &Spanned<ServerCertificate>,
        sni: &[String],
        notes: &mut FaultCollector<'_>,
    ) -> Option<Shown> {
        let (chain, key) = match (&written.get_ref().chain, &written.get_ref().key) {
            (Some(chain), Some(key)) => (chain, key),
            (chain, key) => {
                if !notes.lost {
                    let text = match (chain, key) {
                        (Some(_), _) => "`key` is missing",
                        (_, Some(_)) => "`chain` is missing",
                        _ => "write chain and key (PEM files), or acme = \"letsencrypt\"",
                    };
                    notes.fault(written.span(), text);
                }
                return None;
            }
        };
        let pair = self.pair(chain, key, notes)?;
        for name in sni {
            if !certificates::covers(&pair.chain[0], name) {
                let path = self.base.join(chain.get_ref());
                let good = certificates::names(&pair.chain[0]).join(", ");
                let good = if good.is_empty() { "no name at all".into() } else { good };
                notes.fault(
                    chain.span(),
                    format!("{} is not good for {name}; it is for {good}", path.display()),
                );
            }
        }
        let names = certificates::names(&pair.chain[0]);
        let leaf = PeerCertificate::of_own(&pair.chain[0]);
        let identity = ServerIdentity::Fixed { chain: pair.chain, key: pair.key };
        let leaf: LeafSource = Box::new(move || Some(leaf.clone()));
        Some(Shown { identity, names, not_after: Some(pair.not_after), acme: None, leaf })
    }
}

/// The names to order: those of the route, and more.
fn names(
    sni: &[String],
    written: &ServerCertificate,
    challenge: Option<ChallengeKind>,
    notes: &mut FaultCollector<'_>,
) -> Option<Vec<Name>> {
    let span = written.acme.as_ref().map_or(0..0, Spanned::span);
    let mut names: Vec<Name> = sni.iter().cloned().map(Name::Dns).collect();
    for text in notes.list(&written.names, "names") {
        let lower = text.get_ref().to_ascii_lowercase();
        let host = lower.strip_prefix("*.").unwrap_or(&lower);
        match (lower.parse(), ServerName::try_from(host)) {
            (Ok(ip), _) => names.push(Name::Ip(ip)),
            (_, Ok(ServerName::DnsName(_))) if !host.ends_with('.') => names.push(Name::Dns(lower)),
            _ => {
                let name = text.get_ref();
                notes.fault(text.span(), format!("{name:?} is neither a DNS name nor an address"));
                return None;
            }
        }
    }
    for name in &names {
        match (name, challenge?) {
            (Name::Dns(name), ChallengeKind::TlsAlpn01 | ChallengeKind::Http01) if name.starts_with("*.") => {
                let advice = "a wildcard is proven by DNS alone; write challenge = \"dns-01\"";
                notes.fault(span.clone(), format!("{name}: {advice}"));
                return None;
            }
            (Name::Ip(ip), ChallengeKind::Dns01) => {
                let advice = "an address is not proven by DNS; write \"tls-alpn-01\" or \"http-01\"";
                notes.fault(span.clone(), format!("{ip}: {advice}"));
                return None;
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Some(names)
}

fn with_profile(authority: Arc<Authority>, profile: Option<&Text>) -> Arc<Authority> {
    match profile {
        None => authority,
        Some(profile) => {
            let mut own = (*authority).clone();
            own.profile = Some(profile.get_ref().clone());
            Arc::new(own)
        }
    }
}

fn directory_url(text: &str) -> Result<HttpsUrl, String> {
    text.parse()
        .map_err(|()| format!("{text:?} is no directory; write \"https://…\" as the authority tells it"))
}

fn texts(written: &Spanned<OneOrMany>) -> Vec<(String, Range<usize>)> {
    match written.get_ref() {
        OneOrMany::One(text) => vec![(text.clone(), written.span())],
        OneOrMany::Many(all) => all.iter().map(|text| (text.get_ref().clone(), text.span())).collect(),
    }
}

pub(super) fn state(written: Option<&Text>, base: &Path) -> PathBuf {
    if let Some(text) = written {
        return base.join(text.get_ref());
    }
    // systemd names several, with colons between them, where a unit has several.
    let given = std::env::var("STATE_DIRECTORY").ok();
    let first = given.as_deref().and_then(|all| all.split(':').next()).filter(|path| !path.is_empty());
    first.map_or_else(|| PathBuf::from(STATE), |path| Path::new(path).join("acme"))
}

fn hook(written: &model::Acme, base: &Path, notes: &mut FaultCollector<'_>) -> Vec<String> {
    let mut all: Vec<String> =
        notes.list(&written.dns_hook, "dns_hook").iter().map(|text| text.get_ref().clone()).collect();
    if let Some(program) = all.first_mut().filter(|program| program.contains('/')) {
        *program = base.join(&*program).to_string_lossy().into_owned();
    }
    all
}

/// Where an authority may write to, as a URL. Authorities refuse a whole account for an address that is none.
fn contact(text: &str) -> Result<String, String> {
    let is_address = |address: &str| {
        let plain = !address.contains([' ', ',', '?', '<', '"']);
        address.split_once('@').is_some_and(|(name, host)| plain && !name.is_empty() && host.contains('.'))
    };
    match text.split_once(':') {
        None if is_address(text) => Ok(format!("mailto:{text}")),
        Some(("mailto", address)) if is_address(address) => Ok(text.to_owned()),
        Some((scheme, _)) if scheme != "mailto" && !scheme.contains('@') => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no address to write to; write \"mailto:ops@example.com\"")),
    }
}
