//! One route: what is written, what is in force, and what about it could not work.

use super::context::{Context, choice, duration, seconds};
use super::database::{idle_settings, negotiation};
use super::masks;
use super::plaintext;
use crate::acme::Certificate;
use crate::config::advice;
use crate::config::certificates::{self, Revocations};
use crate::config::fault::FaultCollector;
use crate::config::model::{self, OneOrMany, Text};
use crate::config::summary::{AcmeSummary, RouteSummary};
use crate::credential::HeaderInjection;
use crate::gateway::{Alpn, Database, Route, RouteProtocol, Timeouts};
use crate::identify::certificate::{CertificateMapping, KnownIdentities};
use crate::identify::slots::Slot;
use crate::identify::subject::{SubjectPattern, SubjectSource};
use crate::names::{IssuerName, RouteName};
use crate::tls::server::{ClientCertificates, ExpiredCrl, ServerSettings, ServerVariants, server_config};
use crate::tls::{PostQuantum, post_quantum_available};
use rustls::pki_types::ServerName;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use toml::Spanned;

impl<'a> Context<'a> {
    pub(super) fn route(
        &mut self,
        written: &Spanned<model::Route>,
        notes: &mut FaultCollector<'_>,
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
        let sni = self.sni(written, &name, notes);
        let hosts = hosts(route, &sni, notes);
        let protocol = choice(&Some(&route.protocol), RouteProtocol::Http, &PROTOCOLS, notes);
        let raw = protocol == Some(RouteProtocol::Raw);
        let pq = self.pq(&route.pq, notes);
        let client_certificates =
            choice(&route.client_certificates.as_ref(), ClientCertificates::None, &CERTIFICATES, notes);
        let asks = client_certificates != Some(ClientCertificates::None);
        let mapping = self.mapping(route, asks, notes);
        // A tunnel leads to a route unless that demands what a tunnel has not.
        let by_tunnel = self.has_tunnel && client_certificates != Some(ClientCertificates::Required);
        let by_certificate = matches!(client_certificates, None | Some(ClientCertificates::Required))
            && route.certificate_identity.is_some();
        if raw && !by_certificate && !by_tunnel {
            let advice = "write client_certificates = \"required\", client_ca and certificate_identity, or give a \
                          listener a tunnel";
            notes.fault(
                route.protocol.span(),
                format!("a raw route knows clients by certificate or tunnel only; {advice}"),
            );
        }
        let slots = self.slots(&route.token_slots, protocol, notes);
        let reads_tokens = !slots.is_empty() || protocol.is_some_and(RouteProtocol::is_database) || by_tunnel;
        let policy = self.policy(written, mapping.as_ref(), reads_tokens, notes);
        let inject = self.headers(&route.inject, protocol, notes);
        let database = self.database(written, protocol, notes);
        let alpn = choice(&route.alpn.as_ref(), Alpn::Auto, &ALPN, notes);
        if let Some(protocol) = protocol {
            idle_settings(route, protocol, notes);
        }
        let server = self.server(written, &sni, client_certificates, pq, notes);
        let upstream = if plaintext::is_meant(route) {
            plaintext::upstream(route, protocol, notes)
                .map(|(upstream, authority)| (upstream, None, authority))
        } else {
            plaintext::idle_permission(route, notes);
            self.upstream(&route.upstream, notes)
                .map(|(upstream, pq, authority)| (upstream, Some(pq), authority))
        };
        let negotiation = negotiation(&route.upstream, protocol, notes);
        let keep_host = choice(&route.host.as_ref(), false, &[("upstream", false), ("keep", true)], notes);
        let masks = self.masks(route, protocol, &inject, database.as_deref(), notes);
        let timeouts = timeouts(&route.timeouts, notes);
        let dial_ahead = match &route.dial_ahead {
            Some(number) if *number.get_ref() > MAX_DIAL_AHEAD => {
                notes
                    .fault(number.span(), format!("dial_ahead is at most {MAX_DIAL_AHEAD}, for each worker"));
                None
            }
            number => Some(number.as_ref().map_or(0, |number| usize::from(*number.get_ref()))),
        };
        if notes.faults.len() > before {
            return None;
        }
        let (server, shown) = match server? {
            Some((server, shown)) => (Some(server), shown),
            None => (None, ServerSummary::default()),
        };
        let refuses_expired = route.client_crl_expired.as_ref().is_none_or(|text| text.get_ref() == "refuse");
        let crl = route.client_crl.as_ref();
        let crl = crl.and_then(|crl| certificates::revocations(crl.get_ref(), self.base).ok());
        let crl_next_update =
            crl.as_ref().and_then(|crl| crl.next_update).map(|next| (seconds(next), refuses_expired));
        let (upstream, upstream_pq, authority) = upstream?;
        let (policy, allow) = policy?;
        let masks = masks?;
        let summary = RouteSummary {
            name: name.clone(),
            sni: sni.clone(),
            protocol: route.protocol.get_ref().clone(),
            tunnel: by_tunnel,
            upstream: upstream.authority(),
            allow,
            inject: shown_credentials(&inject, database.as_deref()),
            statements: database.as_ref().and_then(|database| database.statements),
            client_certificates: name_of(&CERTIFICATES, client_certificates?),
            pq: (name_of(&PQ, pq?), upstream_pq.map_or("off (no TLS)".into(), |pq| name_of(&PQ, pq))),
            plaintext_upstream: upstream.is_plaintext(),
            masks: masks::summary(&masks),
            on_expiry: route.on_expiry.as_ref().map_or("drain".into(), |text| text.get_ref().clone()),
            records: None,
            certificate_names: shown.names,
            certificate_not_after: shown.not_after.map(seconds),
            acme: shown.acme.as_deref().map(AcmeSummary::of),
            crl_next_update,
            crl_serials: crl.map(|crl| crl.serials).unwrap_or_default(),
        };
        let route = Route {
            name: RouteName(name.into()),
            sni,
            hosts,
            protocol: protocol?,
            alpn: alpn?,
            server,
            client_certificates: client_certificates?,
            certificate_identity: mapping,
            slots,
            upstream: upstream.negotiating(negotiation?),
            dial_ahead: dial_ahead?,
            authority: (!keep_host?).then_some(authority),
            policy,
            inject,
            database,
            // Known once all routes are.
            recording: None,
            masks: masks.map(Box::new),
            timeouts: timeouts?,
        };
        Some((route, summary))
    }

    fn sni(
        &mut self,
        written: &Spanned<model::Route>,
        route: &str,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<String> {
        let Some(sni) = &written.get_ref().sni else {
            if !self.has_tunnel && !notes.lost {
                notes.fault(written.span(), "`sni` is missing, and no listener has a tunnel that leads here");
            }
            return Vec::new();
        };
        let texts: Vec<(String, Range<usize>)> = match sni.get_ref() {
            OneOrMany::One(text) => vec![(text.clone(), sni.span())],
            OneOrMany::Many(all) => all.iter().map(|t| (t.get_ref().clone(), t.span())).collect(),
        };
        if texts.is_empty() {
            notes.fault(
                sni.span(),
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
                notes.fault(span, format!("{text:?} is no DNS name; {}", advice::name(&text)));
                continue;
            }
            let others = self.sni.get(&name).map(Vec::as_slice).unwrap_or_default();
            if let Some(other) = others.iter().find(|other| self.meet(other, route)) {
                let rule =
                    "a name leads to one route on each listener (`routes` of [[listener]] tells them apart)";
                notes.fault(span, format!("{name} leads to route `{other}` already; {rule}"));
            }
            self.sni.entry(name.clone()).or_default().push(route.to_owned());
            names.push(name);
        }
        names
    }

    pub(super) fn pq(&self, written: &Option<Text>, notes: &mut FaultCollector<'_>) -> Option<PostQuantum> {
        let pq = choice(&written.as_ref(), PostQuantum::Prefer, &PQ, notes)?;
        if let (PostQuantum::Require, false, Some(text)) = (pq, post_quantum_available(), written) {
            notes.fault(text.span(), "this processor cannot compute X25519MLKEM768; write \"prefer\"");
        }
        Some(pq)
    }

    fn mapping(
        &self,
        route: &model::Route,
        asks: bool,
        notes: &mut FaultCollector<'_>,
    ) -> Option<CertificateMapping> {
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
        let subject_from: Vec<SubjectSource> =
            sources.iter().filter_map(|t| notes.take(t.span(), t.get_ref().parse())).collect();
        let mut groups = Vec::new();
        for one in &written.groups {
            for text in one.groups.iter().filter(|text| text.is_empty()) {
                notes.fault(identity.span(), format!("a group is called {text:?}; give it a name"));
            }
            let pattern = subject_pattern(one, &subject_from, &identity.span(), notes);
            let groups_of = one.groups.iter().map(|group| group.as_str().into()).collect();
            groups.extend(pattern.map(|pattern| (pattern, groups_of)));
        }
        Some(CertificateMapping {
            authority: IssuerName(written.name.get_ref().as_str().into()),
            subject_from,
            groups,
            known: KnownIdentities::default(),
        })
    }

    fn slots(
        &self,
        written: &Option<Spanned<Vec<Text>>>,
        protocol: Option<RouteProtocol>,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<Slot> {
        let raw = protocol == Some(RouteProtocol::Raw);
        let password = match protocol {
            Some(RouteProtocol::Postgres) => "a postgres route takes the token from the password field",
            Some(RouteProtocol::Mysql) => "a mysql route takes the token as its password",
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

    /// The client leg, the names that its certificate is good for, and that one's end. `None` inside: there is no name.
    fn server(
        &mut self,
        written: &Spanned<model::Route>,
        sni: &[String],
        client_certificates: Option<ClientCertificates>,
        pq: Option<PostQuantum>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Option<(ServerVariants, ServerSummary)>> {
        let route = written.get_ref();
        let base = self.base;
        let path = |text: &Text| base.join(text.get_ref());
        let asks = client_certificates != Some(ClientCertificates::None);
        // Each part is looked at before any missing one ends the whole: one run tells every fault.
        let client_ca = match &route.client_ca {
            _ if !asks => Some(Vec::new()),
            Some(ca) => notes.take(ca.span(), certificates::authorities(ca.get_ref(), base)),
            None => {
                let span = route.client_certificates.as_ref().map_or(0..0, Spanned::span);
                notes.fault(span, "client certificates need an authority; write client_ca = \"ca.pem\"");
                None
            }
        };
        if let (Some(ca), Some(read)) = (&route.client_ca, &client_ca)
            && let Some(doubt) =
                certificates::doubts_about_client_ca(read, &path(ca).display().to_string(), self.now)
        {
            notes.warn(ca.span(), doubt);
        }
        let client_crl = match &route.client_crl {
            Some(crl) if asks => notes.take(crl.span(), certificates::revocations(crl.get_ref(), base)),
            _ => Some(certificates::Revocations::default()),
        };
        let expired = [("refuse", ExpiredCrl::Refuse), ("warn", ExpiredCrl::Accept)];
        let expired = choice(&route.client_crl_expired.as_ref(), ExpiredCrl::Refuse, &expired, notes);
        match (&route.client_crl, &client_crl, &route.client_crl_expired) {
            (Some(crl), Some(Revocations { next_update: Some(next), .. }), _) if *next < self.now => {
                let effect = match expired {
                    Some(ExpiredCrl::Accept) => "whoever was revoked since gets in",
                    _ => "clients with certificates are refused",
                };
                let at = crate::config::summary::day(seconds(*next));
                let path = path(crl);
                notes.warn(
                    crl.span(),
                    format!("{} was to be replaced by {at}: {effect}; fetch it anew", path.display()),
                );
            }
            (None, _, Some(written)) => {
                notes.fault(
                    written.span(),
                    "client_crl_expired has no effect without client_crl; set that or remove this",
                );
            }
            _ => {}
        }
        let certificate = match (&route.sni, &route.certificate) {
            (None, None) => return Some(None),
            (Some(_), Some(certificate)) => certificate,
            (Some(_), None) => {
                if !notes.lost {
                    notes.fault(written.span(), "`certificate` is missing");
                }
                return None;
            }
            (None, Some(certificate)) => {
                if self.has_tunnel && !notes.lost {
                    notes.fault(
                        certificate.span(),
                        "certificate has no effect without sni; set that or remove this",
                    );
                }
                return None;
            }
        };
        let shown = self.shown(certificate, route.name.get_ref(), sni, notes)?;
        let leaf = shown.leaf;
        let settings = ServerSettings {
            identity: shown.identity,
            pq: pq?,
            client_certificates: client_certificates?,
            client_ca: client_ca?,
            client_crl: client_crl?.lists,
            expired_crl: expired?,
        };
        let config =
            notes.take(certificate.span(), server_config(settings).map_err(|fault| fault.to_string()))?;
        let shown = ServerSummary { names: shown.names, not_after: shown.not_after, acme: shown.acme };
        Some(Some((ServerVariants::new(config, leaf), shown)))
    }
}

/// What is known of the certificate that clients are shown.
#[derive(Default)]
struct ServerSummary {
    names: Vec<String>,
    not_after: Option<SystemTime>,
    acme: Option<Arc<Certificate>>,
}

/// The pattern of one line of groups: the key says where the name stands.
fn subject_pattern(
    written: &model::SubjectGroups,
    sources: &[SubjectSource],
    whole: &Range<usize>,
    notes: &mut FaultCollector<'_>,
) -> Option<SubjectPattern> {
    use SubjectSource::{CommonName, Dns, Email, Uri};
    let named =
        [(&written.uri, Uri), (&written.dns, Dns), (&written.email, Email), (&written.cn, CommonName)];
    let mut all = named.into_iter().filter_map(|(text, source)| Some((text.as_ref()?, source)));
    let (text, source) = match (all.next(), all.next(), &written.subject) {
        (Some(one), None, None) => one,
        (None, None, Some(text)) => match sources {
            [only] => (text, *only),
            [] => return None,
            [first, ..] => {
                let advice = format!("write {} = {:?} in place of subject", first.name(), text.get_ref());
                notes.fault(
                    text.span(),
                    format!("a subject may stand in several places here, and a name of one must not pass for another; {advice}"),
                );
                return None;
            }
        },
        (None, None, None) => {
            if !notes.lost {
                notes.fault(whole.clone(), "a line of groups names nobody; write uri, dns, email or cn");
            }
            return None;
        }
        (_, _, Some(text)) | (Some((text, _)), ..) | (None, Some((text, _)), None) => {
            notes.fault(text.span(), "a line of groups has one pattern; write a line for each");
            return None;
        }
    };
    if !sources.is_empty() && !sources.contains(&source) {
        let place = source.name();
        notes.fault(
            text.span(),
            format!("no subject is taken from {place}; add it to subject, or remove this line"),
        );
    }
    let pattern = notes.take(text.span(), SubjectPattern::parse(source, text.get_ref()))?;
    if let Some(doubt) = pattern.doubt() {
        notes.warn(text.span(), format!("{:?} {doubt}", text.get_ref()));
    }
    Some(pattern)
}

/// Connections that one worker may dial ahead on one route.
const MAX_DIAL_AHEAD: u8 = 64;

const PROTOCOLS: [(&str, RouteProtocol); 5] = [
    ("http", RouteProtocol::Http),
    ("postgres", RouteProtocol::Postgres),
    ("raw", RouteProtocol::Raw),
    ("mysql", RouteProtocol::Mysql),
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

fn timeouts(written: &model::Timeouts, notes: &mut FaultCollector<'_>) -> Option<Timeouts> {
    let seconds = Duration::from_secs;
    let connect = duration(&written.connect, seconds(5), notes);
    let between_requests = duration(&written.between_requests, seconds(300), notes);
    let response = duration(&written.response, Duration::MAX, notes);
    let idle = duration(&written.idle, seconds(3600), notes);
    let stall = duration(&written.stall, seconds(120), notes);
    let (connect, between_requests, response) = (connect?, between_requests?, response?);
    let response = written.response.as_ref().map(|_| response);
    Some(Timeouts { connect, between_requests, response, idle: idle?, stall: stall? })
}

/// What requests may name: the names of the route and those of `hosts`; `None`: anything.
fn hosts(route: &model::Route, sni: &[String], notes: &mut FaultCollector<'_>) -> Option<Vec<String>> {
    let mut names = sni.to_vec();
    let Some(written) = &route.hosts else { return Some(names) };
    if ["postgres", "mysql", "redis", "raw"].contains(&route.protocol.get_ref().as_str()) {
        notes.fault(written.span(), "hosts is for routes of the protocol http; remove it");
    }
    let texts: Vec<(String, Range<usize>)> = match written.get_ref() {
        OneOrMany::One(text) if text == "any" => return None,
        OneOrMany::One(text) => vec![(text.clone(), written.span())],
        OneOrMany::Many(all) => all.iter().map(|text| (text.get_ref().clone(), text.span())).collect(),
    };
    for (text, span) in texts {
        let name = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        let host = name.strip_prefix("*.").unwrap_or(&name);
        match ServerName::try_from(host) {
            Ok(ServerName::DnsName(_)) if !host.contains('*') && text != "any" => names.push(name),
            Ok(ServerName::IpAddress(_)) if host == name => names.push(name),
            _ => {
                let advice = "write \"name.example.com\", \"*.example.com\", an address, or hosts = \"any\"";
                notes.fault(span, format!("{text:?} is no name of a host without port; {advice}"));
            }
        }
    }
    Some(names)
}
