//! One route: what is written, what is in force, and what about it could not work.

use super::database::{idle_settings, negotiation};
use super::duration;
use crate::config::certificates;
use crate::config::fault::Notes;
use crate::config::model::{self, OneOrMany, Text};
use crate::config::summary::RouteSummary;
use crate::credential::HeaderInjection;
use crate::gateway::{Alpn, Database, Route, RouteProtocol, Timeouts};
use crate::identify::certificate::{CertificateMapping, is_pattern};
use crate::identify::slots::Slot;
use crate::names::{IssuerName, RouteName};
use crate::secret::Secret;
use crate::tls::handshake::fingerprint;
use crate::tls::server::{ClientCertificates, ServerSettings, ServerVariants, server_config};
use crate::tls::{PostQuantum, post_quantum_available};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};
use toml::Spanned;

/// What routes share while they are resolved.
pub(super) struct Context<'a> {
    pub(super) base: &'a Path,
    pub(super) now: SystemTime,
    pub(super) secrets: &'a BTreeMap<&'a str, Option<Secret>>,
    pub(super) issuers: Vec<IssuerName>,
    /// True when the name of an issuer, or of a secret, could not be read: it may be any.
    pub(super) unread_issuers: bool,
    pub(super) unread_secrets: bool,
    pub(super) used_secrets: BTreeSet<&'a str>,
    pub(super) used_issuers: BTreeSet<String>,
    /// Route names that were seen.
    pub(super) names: BTreeMap<String, ()>,
    /// SNI names that were seen, and whose they are.
    pub(super) sni: BTreeMap<String, String>,
    /// The system's authorities, once a route wanted them: reading them takes milliseconds.
    pub(super) system_roots: Option<RootCertStore>,
}

impl<'a> Context<'a> {
    pub(super) fn route(
        &mut self,
        written: &Spanned<model::Route>,
        notes: &mut Notes<'_>,
    ) -> Option<(Route, RouteSummary)> {
        let before = notes.faults.len();
        let route = written.get_ref();
        let name = route.name.get_ref().clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            notes.fault(
                route.name.span(),
                format!("{name:?} is no route name; use letters, digits, `.`, `_`, `-`"),
            );
        }
        if self.names.insert(name.clone(), ()).is_some() {
            notes.fault(route.name.span(), format!("two routes are called `{name}`; rename one"));
        }
        let sni = self.sni(&route.sni, &name, notes);
        let protocol = choice(&Some(&route.protocol), RouteProtocol::Http, &PROTOCOLS, notes);
        let raw = protocol == Some(RouteProtocol::Raw);
        let pq = self.pq(&route.pq, notes);
        let client_certificates =
            choice(&route.client_certificates.as_ref(), ClientCertificates::None, &CERTIFICATES, notes);
        let asks = client_certificates != Some(ClientCertificates::None);
        let mapping = self.mapping(route, asks, notes);
        if raw
            && (!matches!(client_certificates, None | Some(ClientCertificates::Required))
                || route.certificate_identity.is_none())
        {
            let advice = "write client_certificates = \"required\", client_ca and certificate_identity";
            notes.fault(
                route.protocol.span(),
                format!("a raw route knows clients by certificate only; {advice}"),
            );
        }
        let slots = self.slots(&route.token_slots, protocol, notes);
        let reads_tokens = !slots.is_empty() || protocol.is_some_and(RouteProtocol::is_database);
        let policy = self.policy(written, mapping.as_ref(), reads_tokens, notes);
        let inject = self.headers(&route.inject, protocol, notes);
        let database = self.database(written, protocol, notes);
        let alpn = choice(&route.alpn.as_ref(), Alpn::Auto, &ALPN, notes);
        if let Some(protocol) = protocol {
            idle_settings(route, protocol, notes);
        }
        let server = self.server(route, &sni, client_certificates, pq, notes);
        let upstream = self.upstream(&route.upstream, notes);
        let negotiation = negotiation(&route.upstream, protocol, notes);
        let keep_host = choice(&route.host.as_ref(), false, &[("upstream", false), ("keep", true)], notes);
        let timeouts = timeouts(&route.timeouts, notes);
        if notes.faults.len() > before {
            return None;
        }
        let (server, chain, names, not_after) = server?;
        let (upstream, upstream_pq, authority) = upstream?;
        let (policy, allow) = policy?;
        let summary = RouteSummary {
            name: name.clone(),
            sni: sni.clone(),
            protocol: route.protocol.get_ref().clone(),
            upstream: upstream.authority(),
            allow,
            inject: shown_credentials(&inject, database.as_deref()),
            statements: database.as_ref().and_then(|database| database.statements),
            client_certificates: name_of(&CERTIFICATES, client_certificates?),
            pq: (name_of(&PQ, pq?), name_of(&PQ, upstream_pq)),
            on_expiry: route.on_expiry.as_ref().map_or("drain".into(), |text| text.get_ref().clone()),
            certificate_names: names,
            certificate_not_after: not_after
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        };
        let route = Route {
            name: RouteName(name.into()),
            sni,
            protocol: protocol?,
            alpn: alpn?,
            server,
            server_certificate: chain,
            client_certificates: client_certificates?,
            certificate_identity: mapping,
            slots,
            upstream: upstream.negotiating(negotiation?),
            authority: (!keep_host?).then_some(authority),
            policy,
            inject,
            database,
            timeouts: timeouts?,
        };
        Some((route, summary))
    }

    fn sni(&mut self, written: &Spanned<OneOrMany>, route: &str, notes: &mut Notes<'_>) -> Vec<String> {
        let texts: Vec<(String, Range<usize>)> = match written.get_ref() {
            OneOrMany::One(text) => vec![(text.clone(), written.span())],
            OneOrMany::Many(all) => all.iter().map(|t| (t.get_ref().clone(), t.span())).collect(),
        };
        if texts.is_empty() {
            notes.fault(
                written.span(),
                "a route without a name cannot be reached; write sni = \"name.example.com\"",
            );
        }
        let mut names = Vec::new();
        for (text, span) in texts {
            let name = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
            let host = name.strip_prefix("*.").unwrap_or(&name);
            if !matches!(ServerName::try_from(host), Ok(ServerName::DnsName(_)))
                || host.contains('*')
                || host.ends_with('.')
            {
                notes.fault(
                    span,
                    format!("{text:?} is no DNS name; write \"name.example.com\" or \"*.example.com\""),
                );
                continue;
            }
            if let Some(other) = self.sni.insert(name.clone(), route.to_owned()) {
                notes.fault(
                    span,
                    format!("{name} leads to route `{other}` already; a name leads to one route"),
                );
            }
            names.push(name);
        }
        names
    }

    pub(super) fn pq(&self, written: &Option<Text>, notes: &mut Notes<'_>) -> Option<PostQuantum> {
        let pq = choice(&written.as_ref(), PostQuantum::Prefer, &PQ, notes)?;
        if let (PostQuantum::Require, false, Some(text)) = (pq, post_quantum_available(), written) {
            notes.fault(text.span(), "this processor cannot compute X25519MLKEM768; write \"prefer\"");
        }
        Some(pq)
    }

    fn mapping(&self, route: &model::Route, asks: bool, notes: &mut Notes<'_>) -> Option<CertificateMapping> {
        for (text, key) in [(&route.client_ca, "client_ca"), (&route.client_crl, "client_crl")] {
            if let (false, Some(text)) = (asks, text) {
                notes.fault(
                    text.span(),
                    format!("{key} has no effect without client_certificates; set it or remove this"),
                );
            }
        }
        let identity = route.certificate_identity.as_ref()?;
        if !asks {
            notes.fault(
                identity.span(),
                "certificate_identity has no effect without client_certificates; set it",
            );
        }
        let written = identity.get_ref();
        if self.issuers.iter().any(|issuer| *issuer.0 == **written.name.get_ref()) {
            let name = written.name.get_ref();
            notes.fault(
                written.name.span(),
                format!("`{name}` is the name of an issuer; policies could not tell them apart"),
            );
        }
        let sources = written.subject.get_ref();
        if sources.is_empty() {
            notes.fault(
                written.subject.span(),
                "no place for the subject; write for example [\"uri\", \"dns\"]",
            );
        }
        let subject_from = sources.iter().filter_map(|t| notes.take(t.span(), t.get_ref().parse())).collect();
        let mut groups = Vec::new();
        for one in &written.groups {
            let pattern = one.subject.get_ref();
            if !is_pattern(pattern) {
                notes.fault(
                    one.subject.span(),
                    format!("{pattern:?} is no pattern; one * may stand at its start or end"),
                );
            }
            groups.push((pattern.clone(), one.groups.iter().map(|group| group.as_str().into()).collect()));
        }
        Some(CertificateMapping {
            authority: IssuerName(written.name.get_ref().as_str().into()),
            subject_from,
            groups,
        })
    }

    fn slots(
        &self,
        written: &Option<Spanned<Vec<Text>>>,
        protocol: Option<RouteProtocol>,
        notes: &mut Notes<'_>,
    ) -> Vec<Slot> {
        let raw = protocol == Some(RouteProtocol::Raw);
        let password = match protocol {
            Some(RouteProtocol::Postgres) => "a postgres route takes the token from the password field",
            Some(RouteProtocol::Redis) => "a redis route takes the token from AUTH or HELLO",
            _ => "",
        };
        match written {
            None if raw || !password.is_empty() => Vec::new(),
            Some(slots) if !password.is_empty() => {
                notes.fault(slots.span(), format!("{password}; remove token_slots"));
                Vec::new()
            }
            None => SLOTS.iter().map(|(_, slot)| *slot).collect(),
            Some(slots) if raw => {
                notes.fault(slots.span(), "a raw route carries no tokens; remove token_slots");
                Vec::new()
            }
            Some(slots) => slots
                .get_ref()
                .iter()
                .map(|text| choice(&Some(text), Slot::Bearer, &SLOTS, notes).unwrap_or(Slot::Bearer))
                .collect(),
        }
    }

    fn server(
        &self,
        route: &model::Route,
        sni: &[String],
        client_certificates: Option<ClientCertificates>,
        pq: Option<PostQuantum>,
        notes: &mut Notes<'_>,
    ) -> Option<(ServerVariants, [u8; 32], Vec<String>, SystemTime)> {
        let path = |text: &Text| self.base.join(text.get_ref());
        let asks = client_certificates != Some(ClientCertificates::None);
        // Each part is looked at before any missing one ends the whole: one run tells every fault.
        let client_ca = match &route.client_ca {
            _ if !asks => Some(Vec::new()),
            Some(ca) => notes.take(ca.span(), certificates::certificates(&path(ca))),
            None => {
                let span = route.client_certificates.as_ref().map_or(0..0, Spanned::span);
                notes.fault(span, "client certificates need an authority; write client_ca = \"ca.pem\"");
                None
            }
        };
        let client_crl = match &route.client_crl {
            Some(crl) if asks => notes.take(crl.span(), certificates::revocations(&path(crl))),
            _ => Some(Vec::new()),
        };
        let chain = &route.certificate.chain;
        let pair = self.pair(&route.certificate, notes)?;
        for name in sni {
            if !certificates::covers(&pair.chain[0], name) {
                notes.fault(chain.span(), format!("{} is not good for {name}", path(chain).display()));
            }
        }
        let (leaf, names) = (fingerprint(&pair.chain[0]), certificates::names(&pair.chain[0]));
        let settings = ServerSettings {
            chain: pair.chain,
            key: pair.key,
            pq: pq?,
            client_certificates: client_certificates?,
            client_ca: client_ca?,
            client_crl: client_crl?,
        };
        let config = notes.take(chain.span(), server_config(settings).map_err(|fault| fault.to_string()))?;
        Some((ServerVariants::new(config), leaf, names, pair.not_after))
    }
}

const PROTOCOLS: [(&str, RouteProtocol); 4] = [
    ("http", RouteProtocol::Http),
    ("postgres", RouteProtocol::Postgres),
    ("raw", RouteProtocol::Raw),
    ("redis", RouteProtocol::Redis),
];
const PQ: [(&str, PostQuantum); 3] =
    [("prefer", PostQuantum::Prefer), ("require", PostQuantum::Require), ("off", PostQuantum::Off)];
const ALPN: [(&str, Alpn); 3] = [("auto", Alpn::Auto), ("http/1.1", Alpn::Http1), ("h2", Alpn::Http2)];
const CERTIFICATES: [(&str, ClientCertificates); 3] = [
    ("none", ClientCertificates::None),
    ("optional", ClientCertificates::Optional),
    ("required", ClientCertificates::Required),
];
const SLOTS: [(&str, Slot); 4] = [
    ("bearer", Slot::Bearer),
    ("token", Slot::Token),
    ("x-api-key", Slot::XApiKey),
    ("api-key", Slot::ApiKey),
];

/// Picks the value of a word, or notes which words there are.
pub(super) fn choice<T: Copy>(
    written: &Option<&Text>,
    default: T,
    words: &[(&str, T)],
    notes: &mut Notes<'_>,
) -> Option<T> {
    let Some(text) = written else { return Some(default) };
    let found = words.iter().find(|(word, _)| word == text.get_ref()).map(|(_, value)| *value);
    if found.is_none() {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        notes.fault(text.span(), format!("{:?} is none of {}", text.get_ref(), all.join(", ")));
    }
    found
}

fn name_of<T: PartialEq>(words: &[(&str, T)], value: T) -> String {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word).to_owned()
}

/// What `check` shows of stored credentials: names of headers, users and whose they are.
fn shown_credentials(headers: &[HeaderInjection], database: Option<&Database>) -> Vec<String> {
    let accounts = database.iter().flat_map(|database| &database.accounts).map(|account| {
        let issuer = account.issuer.iter().map(|issuer| &issuer.0);
        let whose = issuer.chain(&account.groups).chain(&account.subjects);
        let whose: Vec<&str> = whose.map(|one| &**one).collect();
        if whose.is_empty() {
            return format!("user {}", account.user);
        }
        format!("user {} for {}", account.user, whose.join(" | "))
    });
    headers.iter().map(|header| header.name.to_string()).chain(accounts).collect()
}

fn timeouts(written: &model::Timeouts, notes: &mut Notes<'_>) -> Option<Timeouts> {
    let seconds = Duration::from_secs;
    let connect = duration(&written.connect, seconds(5), notes);
    let between_requests = duration(&written.between_requests, seconds(300), notes);
    let idle = duration(&written.idle, seconds(3600), notes);
    let stall = duration(&written.stall, seconds(120), notes);
    Some(Timeouts { connect: connect?, between_requests: between_requests?, idle: idle?, stall: stall? })
}
