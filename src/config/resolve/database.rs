//! What a database route has besides, and what of a route has no effect on which protocol.

use super::context::{Context, choice};
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Text};
use crate::config::units::size;
use crate::dial::Negotiation;
use crate::gateway::{ApplicationName, Database, PROOFS_AT_ONCE, RouteProtocol};
use crate::protocol::RequireAuth;
use crate::protocol::require_auth::{MYSQL_METHODS, POSTGRES_METHODS};
use std::sync::Arc;
use tokio::sync::Semaphore;
use toml::Spanned;

impl Context<'_> {
    /// The database part of a route; `None` for other protocols.
    pub(super) fn database(
        &mut self,
        written: &Spanned<model::Route>,
        protocol: Option<RouteProtocol>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Arc<Database>> {
        let route = written.get_ref();
        // The identity has a place of its own there, and the client's name stays.
        let usual = match route.identity_guc {
            Some(_) => ApplicationName::Client,
            None => ApplicationName::Identity,
        };
        let application_name = choice(&route.application_name.as_ref(), usual, &APPLICATION_NAMES, notes);
        if let Some(name) = &route.identity_guc
            && !is_setting(name.get_ref())
        {
            let advice = "write two names with a dot between them, for example \"staunch.subject\"";
            notes.fault(name.span(), format!("{:?} is no setting; {advice}", name.get_ref()));
        }
        let statements = statements(&route.statements, notes);
        let kind = protocol.filter(|protocol| protocol.is_database())?;
        let require_auth = require_auth(&route.require_auth, kind, notes);
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
            require_auth: require_auth?,
            proofs: Arc::new(Semaphore::new(PROOFS_AT_ONCE)),
            local_files: route.local_files.as_ref().is_some_and(|yes| *yes.get_ref()),
            statements: statements?,
        }))
    }
}

/// Which proofs the upstream may ask for.
fn require_auth(
    written: &Option<Text>,
    kind: RouteProtocol,
    notes: &mut FaultCollector<'_>,
) -> Option<RequireAuth> {
    let known: &[&str] = match kind {
        RouteProtocol::Postgres => &POSTGRES_METHODS,
        RouteProtocol::Mysql => &MYSQL_METHODS,
        _ => return Some(RequireAuth::default()),
    };
    match written {
        Some(text) => notes.take(text.span(), RequireAuth::parse(text.get_ref(), known)),
        None => Some(RequireAuth::default()),
    }
}

/// How TLS with the upstream begins.
pub(super) fn negotiation(
    upstream: &Spanned<model::Upstream>,
    protocol: Option<RouteProtocol>,
    notes: &mut FaultCollector<'_>,
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
pub(super) fn idle_settings(route: &model::Route, protocol: RouteProtocol, notes: &mut FaultCollector<'_>) {
    let (http, postgres) = (protocol == RouteProtocol::Http, protocol == RouteProtocol::Postgres);
    let negotiation = match route.upstream.get_ref() {
        model::Upstream::Address(_) => &None,
        model::Upstream::Table(table) => &table.negotiation,
    };
    let of_http = [
        (&route.alpn, "alpn"),
        (&route.host, "host"),
        (&route.timeouts.between_requests, "between_requests"),
        (&route.timeouts.response, "response"),
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
    let of_sql = [(&route.statements, "statements"), (&route.require_auth, "require_auth")];
    for (written, key) in of_sql {
        if let (Some(written), RouteProtocol::Http | RouteProtocol::Raw | RouteProtocol::Redis) =
            (written, protocol)
        {
            notes.fault(written.span(), format!("{key} has no effect on {kind}; remove it"));
        }
    }
    for (text, key) in idle {
        if let Some(text) = text {
            notes.fault(text.span(), format!("{key} has no effect on {kind}; remove it"));
        }
    }
}

const APPLICATION_NAMES: [(&str, ApplicationName); 2] =
    [("identity", ApplicationName::Identity), ("client", ApplicationName::Client)];

/// How much of each statement is logged; inside, `None` is nothing at all.
#[expect(clippy::option_option, reason = "the outer one is a fault that was noted")]
fn statements(written: &Option<Text>, notes: &mut FaultCollector<'_>) -> Option<Option<usize>> {
    let Some(text) = written else { return Some(None) };
    match text.get_ref().as_str() {
        "off" => Some(None),
        "on" => Some(Some(DEFAULT_STATEMENT)),
        other => match size(other) {
            Ok(limit) if (MIN_STATEMENT..=MAX_STATEMENT).contains(&limit) => Some(Some(limit)),
            _ => {
                let advice = "write \"on\", \"off\" or a size from \"64B\" to \"64KiB\"";
                notes.fault(text.span(), format!("{other:?} is no limit of statements; {advice}"));
                None
            }
        },
    }
}

/// Bytes of a statement's text in the log: what people and most programs write is shorter.
const DEFAULT_STATEMENT: usize = 4 << 10;
/// Less would cut nearly every statement.
const MIN_STATEMENT: usize = 64;
/// What a line of the log may hold: sixteen of them fill what a session holds at once.
const MAX_STATEMENT: usize = 64 << 10;

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
