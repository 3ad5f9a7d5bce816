//! Refusals, routes, certificates and revocations as they are shown.

use super::Admin;
use super::live::{Row, Seen};
use super::revoked::revocation_id;
use super::view::{CertificateView, days_left};
use crate::audit::{self, rfc3339};
use crate::metrics::{Dials, Quantiles, dials};
use crate::policy::OnExpiry;
use crate::policy::revocation::Revocation;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

/// A refusal.
#[derive(Serialize)]
pub(super) struct RefusalView {
    pub(super) at: String,
    pub(super) session: String,
    pub(super) remote: String,
    pub(super) route: Option<String>,
    pub(super) reason: &'static str,
    pub(super) detail: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<String>,
}

/// The last refusals, the youngest first.
pub(super) fn refusals() -> Vec<RefusalView> {
    let view = |refusal: audit::Refusal| {
        let (issuer, subject) = refusal.identity.map(|(i, s)| (i.into(), s.into())).unzip();
        RefusalView {
            at: rfc3339(refusal.at),
            session: refusal.session.to_string(),
            remote: refusal.remote.to_string(),
            route: refusal.route.map(|route| route.to_string()),
            reason: refusal.reason,
            detail: refusal.detail.map(Into::into),
            issuer,
            subject,
        }
    };
    audit::refusals().into_iter().map(view).collect()
}

/// A route, and what goes through it.
#[derive(Serialize)]
pub(super) struct RouteView {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) sni: Vec<String>,
    pub(super) upstream: String,
    /// Nothing protects the upstream leg.
    pub(super) plaintext_upstream: bool,
    pub(super) pinned: bool,
    pub(super) client_certificates: String,
    pub(super) rules: usize,
    pub(super) on_expiry: String,
    pub(super) recorded: bool,
    pub(super) sessions: usize,
    pub(super) up_rate: f64,
    pub(super) down_rate: f64,
    /// Whether the upstream was reached the last time that somebody wanted it: `reached`, `unreachable`, `not_dialled`.
    pub(super) health: &'static str,
    /// When it was.
    pub(super) last_dialled: Option<String>,
    pub(super) dial: DialView,
    /// The last time that the upstream could not be reached.
    pub(super) last_dial_fault: Option<DialFaultView>,
    /// Days that the certificate is good that the gateway shows.
    pub(super) certificate_days_left: Option<i64>,
    /// The same of the upstream's, among live sessions: the first that ends.
    pub(super) upstream_certificate_days_left: Option<i64>,
}

/// How long it took to reach an upstream, its handshake included, since the gateway started.
#[derive(Serialize)]
pub(super) struct DialView {
    /// Seconds.
    #[serde(flatten)]
    pub(super) seconds: Quantiles,
    pub(super) failed: u64,
}

/// An upstream that could not be reached.
#[derive(Clone, Serialize)]
pub(super) struct DialFaultView {
    pub(super) at: String,
    pub(super) detail: Option<String>,
}

/// All routes.
pub(super) fn routes(admin: &Admin, seen: &Seen) -> Vec<RouteView> {
    let gateway = admin.state.gateway();
    let mut faults = BTreeMap::new();
    for refusal in audit::refusals().into_iter().filter(|one| matches!(one.reason, "dial" | "bad_gateway")) {
        if let Some(route) = refusal.route {
            let fault = DialFaultView { at: rfc3339(refusal.at), detail: refusal.detail.map(Into::into) };
            faults.entry(route).or_insert(fault);
        }
    }
    let now = SystemTime::now();
    let own: HashMap<_, _> = admin.state.certificates().into_iter().collect();
    let mut dialled = dials(admin.state.workers());
    let mut traffic: BTreeMap<&str, RouteTraffic> = BTreeMap::new();
    for row in &seen.rows {
        if let Some(route) = &row.snapshot.facts.route {
            traffic.entry(&route.name.0).or_default().add(row);
        }
    }
    let mut view = |route: &std::sync::Arc<crate::gateway::Route>| {
        let RouteTraffic { sessions, up_rate, down_rate, upstream_ends } =
            traffic.get(&*route.name.0).copied().unwrap_or_default();
        let dials = dialled.remove(&route.name);
        let last_dial_fault = last_dial_fault(dials.as_ref(), faults.get(&route.name).cloned());
        RouteView {
            name: route.name.to_string(),
            protocol: route.protocol.name(),
            sni: route.sni.clone(),
            upstream: route.upstream.authority(),
            plaintext_upstream: route.upstream.is_plaintext(),
            pinned: route.upstream.is_pinned(),
            client_certificates: format!("{:?}", route.client_certificates).to_lowercase(),
            rules: route.policy.rules.len(),
            on_expiry: match route.policy.on_expiry {
                OnExpiry::Drain => "drain".into(),
                OnExpiry::Cut => "cut".into(),
                OnExpiry::Grace(extra) => format!("grace {}s", extra.as_secs()),
            },
            recorded: route.recording.is_some(),
            sessions,
            up_rate: up_rate.round(),
            down_rate: down_rate.round(),
            health: health(dials.as_ref()),
            last_dialled: dials.as_ref().and_then(|dials| dials.reached_at).map(rfc3339),
            last_dial_fault,
            dial: match dials {
                Some(Dials { seconds, failed, .. }) => DialView { seconds, failed },
                None => DialView { seconds: Quantiles { count: 0, p50: None, p99: None }, failed: 0 },
            },
            certificate_days_left: own.get(&route.name).map(|end| days_left(*end, now)),
            upstream_certificate_days_left: upstream_ends.map(|end| days_left(end, now)),
        }
    };
    gateway.routes.iter().map(&mut view).collect()
}

/// What live sessions of a route come to.
#[derive(Clone, Copy, Default)]
struct RouteTraffic {
    sessions: usize,
    up_rate: f64,
    down_rate: f64,
    /// When the first of the upstream's certificates ends.
    upstream_ends: Option<SystemTime>,
}

impl RouteTraffic {
    fn add(&mut self, row: &Row) {
        self.sessions += 1;
        self.up_rate += row.up_rate;
        self.down_rate += row.down_rate;
        let upstream = row.snapshot.facts.upstream.as_ref();
        let end = upstream.and_then(|(leg, _)| leg.peer_certificate.as_ref()?.not_after);
        self.upstream_ends = self.upstream_ends.into_iter().chain(end).min();
    }
}

fn health(dials: Option<&Dials>) -> &'static str {
    match dials.map(|dials| (dials.reached_at, dials.unreached_at)) {
        None | Some((None, None)) => "not_dialled",
        Some((reached, unreached)) if unreached > reached => "unreachable",
        Some(_) => "reached",
    }
}

/// When an upstream could not be reached last, in the words of the refusal where that is remembered.
fn last_dial_fault(dials: Option<&Dials>, told: Option<DialFaultView>) -> Option<DialFaultView> {
    told.or_else(|| Some(DialFaultView { at: rfc3339(dials?.unreached_at?), detail: None }))
}

/// A certificate and how long it is good.
#[derive(Serialize)]
pub(super) struct CertificateRow {
    /// `gateway` (shown to clients), `client` or `upstream` (shown to the gateway, in a live session).
    pub(super) shown_by: &'static str,
    /// The route, or `tunnel:NAME`.
    pub(super) route: String,
    pub(super) name: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) not_after: Option<String>,
    pub(super) days_left: Option<i64>,
    /// Live sessions with it.
    pub(super) sessions: usize,
}

/// The gateway's certificates, and those of live sessions' peers; those that end first, first.
pub(super) fn certificates(admin: &Admin, seen: &Seen) -> Vec<CertificateRow> {
    let now = SystemTime::now();
    let route_of =
        |row: &Row| row.snapshot.facts.route.as_ref().map_or(String::new(), |route| route.name.to_string());
    let mut sessions: HashMap<&str, usize> = HashMap::new();
    for route in seen.rows.iter().filter_map(|row| row.snapshot.facts.route.as_ref()) {
        *sessions.entry(&route.name.0).or_default() += 1;
    }
    let own = admin.state.certificates().into_iter().map(|(route, end)| CertificateRow {
        shown_by: "gateway",
        sessions: sessions.get(&*route.0).copied().unwrap_or_default(),
        route: route.to_string(),
        name: None,
        sha256: None,
        not_after: Some(rfc3339(end)),
        days_left: Some(days_left(end, now)),
    });
    let mut peers: BTreeMap<(&'static str, String, [u8; 32]), (CertificateView, usize)> = BTreeMap::new();
    for row in &seen.rows {
        let facts = &row.snapshot.facts;
        let legs =
            [("client", facts.client.as_ref()), ("upstream", facts.upstream.as_ref().map(|(leg, _)| leg))];
        for (side, leg) in legs {
            if let Some(certificate) = leg.and_then(|leg| leg.peer_certificate.as_ref()) {
                let known = peers.entry((side, route_of(row), certificate.sha256));
                known.or_insert_with(|| (CertificateView::of_peer(certificate, now), 0)).1 += 1;
            }
        }
    }
    let peers = peers.into_iter().map(|((shown_by, route, _), (view, sessions))| CertificateRow {
        shown_by,
        route,
        name: Some(view.name),
        sha256: Some(view.sha256),
        not_after: view.not_after,
        days_left: view.days_left,
        sessions,
    });
    let mut all: Vec<_> = own.chain(peers).collect();
    all.sort_by(|a, b| (a.days_left, &a.route).cmp(&(b.days_left, &b.route)));
    all
}

/// A revocation that stands.
#[derive(Serialize)]
pub(super) struct RevocationView {
    /// By which it is taken back.
    pub(super) id: String,
    pub(super) subject: Option<String>,
    pub(super) token_id: Option<String>,
    pub(super) group: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) email: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) at: String,
    pub(super) until: String,
}

/// Revocations in force.
pub(super) fn revocations(admin: &Admin) -> Vec<RevocationView> {
    admin.state.registry().revocations().list(SystemTime::now()).into_iter().map(revocation).collect()
}

/// One revocation.
pub(super) fn revocation(one: Revocation) -> RevocationView {
    let text = |name: Option<std::sync::Arc<str>>| name.map(|name| name.to_string());
    RevocationView {
        id: revocation_id(&one.target),
        subject: text(one.target.subject),
        token_id: text(one.target.token_id),
        group: text(one.target.group),
        serial: text(one.target.serial),
        issuer: text(one.target.issuer),
        email: text(one.target.email),
        session_id: text(one.target.session_id),
        at: rfc3339(one.at),
        until: rfc3339(one.until),
    }
}
