//! What a database route has besides, and what of a route has no effect on which protocol.

use super::route::{Context, choice};
use crate::config::fault::Notes;
use crate::config::model;
use crate::dial::Negotiation;
use crate::gateway::{ApplicationName, Database, RouteProtocol};
use std::sync::Arc;
use toml::Spanned;

impl Context<'_> {
    /// The database part of a route; `None` for other protocols.
    pub(super) fn database(
        &mut self,
        written: &Spanned<model::Route>,
        protocol: Option<RouteProtocol>,
        notes: &mut Notes<'_>,
    ) -> Option<Arc<Database>> {
        let route = written.get_ref();
        let application_name =
            choice(&route.application_name.as_ref(), ApplicationName::Identity, &APPLICATION_NAMES, notes);
        if let Some(name) = &route.identity_guc
            && !is_setting(name.get_ref())
        {
            let advice = "write two names with a dot between them, for example \"staunch.subject\"";
            notes.fault(name.span(), format!("{:?} is no setting; {advice}", name.get_ref()));
        }
        let kind = protocol.filter(|protocol| protocol.is_database())?;
        let shows_certificate = match route.upstream.get_ref() {
            model::Upstream::Address(_) => false,
            model::Upstream::Table(table) => table.certificate.is_some(),
        };
        // On a socket of this machine PostgreSQL may know the gateway by its user (`peer`).
        let shows_certificate = shows_certificate || super::plaintext::is_meant(route);
        let accounts = self.accounts(written, kind, shows_certificate, notes);
        let by_token = |allow: &Spanned<model::Allow>| {
            self.issuers.iter().any(|issuer| *issuer.0 == **allow.get_ref().issuer.get_ref())
        };
        Some(Arc::new(Database {
            accounts,
            takes_tokens: route.allow.iter().any(by_token),
            application_name: application_name?,
            identity_guc: route.identity_guc.as_ref().map(|name| name.get_ref().as_str().into()),
            local_files: route.local_files.as_ref().is_some_and(|yes| *yes.get_ref()),
        }))
    }
}

/// How TLS with the upstream begins.
pub(super) fn negotiation(
    upstream: &Spanned<model::Upstream>,
    protocol: Option<RouteProtocol>,
    notes: &mut Notes<'_>,
) -> Option<Negotiation> {
    let written = match upstream.get_ref() {
        model::Upstream::Address(_) => None,
        model::Upstream::Table(table) => table.negotiation.as_ref(),
    };
    let words = [("request", Negotiation::Request), ("direct", Negotiation::Direct)];
    let chosen = choice(&written, Negotiation::Request, &words, notes);
    match protocol {
        Some(RouteProtocol::Postgres) => chosen,
        _ => Some(Negotiation::Direct),
    }
}

/// Notes what is written on a route and has no effect with its protocol.
pub(super) fn idle_settings(route: &model::Route, protocol: RouteProtocol, notes: &mut Notes<'_>) {
    let (http, postgres) = (protocol == RouteProtocol::Http, protocol == RouteProtocol::Postgres);
    let negotiation = match route.upstream.get_ref() {
        model::Upstream::Address(_) => &None,
        model::Upstream::Table(table) => &table.negotiation,
    };
    let of_http = [
        (&route.alpn, "alpn"),
        (&route.host, "host"),
        (&route.timeouts.between_requests, "between_requests"),
    ];
    let of_postgres = [
        (&route.application_name, "application_name"),
        (&route.identity_guc, "identity_guc"),
        (negotiation, "negotiation"),
    ];
    let idle = of_http.iter().filter(|_| !http).chain(of_postgres.iter().filter(|_| !postgres));
    let kind = match protocol {
        RouteProtocol::Http => "an http route",
        RouteProtocol::Raw => "a raw route",
        RouteProtocol::Postgres => "a postgres route",
        RouteProtocol::Mysql => "a mysql route",
        RouteProtocol::Redis => "a redis route",
    };
    if let (Some(written), true) = (&route.local_files, protocol != RouteProtocol::Mysql) {
        notes.fault(written.span(), format!("local_files has no effect on {kind}; remove it"));
    }
    for (text, key) in idle {
        if let Some(text) = text {
            notes.fault(text.span(), format!("{key} has no effect on {kind}; remove it"));
        }
    }
}

const APPLICATION_NAMES: [(&str, ApplicationName); 2] =
    [("identity", ApplicationName::Identity), ("client", ApplicationName::Client)];

/// PostgreSQL takes any setting of two plain names, and gives it no meaning of its own.
fn is_setting(text: &str) -> bool {
    let plain = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.len() <= crate::protocol::postgres::startup::MAX_NAME
        && text.split_once('.').is_some_and(|(class, name)| plain(class) && plain(name))
}
