//! Plausible mistakes: what works, and is probably not meant. Reads what is written, and only warns.

mod files;
mod rules;

use crate::config::fault::Notes;
use crate::config::model::{self, Config, Inject, OneOrMany, Text, Upstream};
use crate::config::units;
use rules::{of_operators, of_rule, of_text};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Parts of names of headers that carry secrets.
const SECRET_HEADERS: [&str; 6] = ["authorization", "key", "token", "secret", "password", "cookie"];

/// How values of secrets begin.
const SECRET_BEGINNINGS: [&str; 10] =
    ["bearer ", "basic ", "token ", "sk-", "ghp_", "github_pat_", "glpat-", "xox", "akia", "eyj"];

/// Bytes from which on a word of letters and digits is hardly a name any more.
const LONG_WORD: usize = 32;

/// A log-in by hand in a browser takes less.
const LONG_DEADLINE: Duration = Duration::from_secs(120);

/// Warns of all of them.
pub(super) fn warn(config: &Config, base: &Path, notes: &mut Notes<'_>) {
    files::warn(config, base, notes);
    of_admin(&config.admin, notes);
    of_limits(config, notes);
    config.honeytoken.iter().for_each(|one| of_honeytoken(one, config, notes));
    config.issuer.iter().for_each(|one| of_issuer(one.get_ref(), &one.span(), notes));
    config.listener.iter().for_each(|one| of_listener(one.get_ref(), config, notes));
    let deadline = config.limits.permit_deadline.as_ref();
    let long = |text: &&Text| units::duration(text.get_ref()).is_ok_and(|time| time > LONG_DEADLINE);
    if let Some(deadline) = deadline.filter(long) {
        let text = "whoever connects may keep a place for so long without saying who they are; seconds are meant, such as \"10s\"";
        notes.warn(deadline.span(), text);
    }
    for route in &config.route {
        of_route(route.get_ref(), config, notes);
        route.get_ref().allow.iter().for_each(|allow| of_rule(allow.get_ref(), &allow.span(), config, notes));
    }
}

/// Where the operator's listener is without `address`.
const ADMIN: &str = "127.0.0.1:9901";

/// Ports and the protocol of ours that stands behind them nearly always.
const PORTS: [(&str, &str); 4] =
    [("5432", "postgres"), ("6432", "postgres"), ("3306", "mysql"), ("6379", "redis")];

fn of_admin(admin: &model::Admin, notes: &mut Notes<'_>) {
    for rule in admin.operate.iter().chain(&admin.view) {
        of_operators(rule, notes);
    }
    if let Some(anyone) = admin.loopback.as_ref().filter(|text| text.get_ref() == "anyone") {
        let text = "every account and every program of this machine may end sessions; write \"owner\", or set `key` or `operate`";
        notes.warn(anyone.span(), text);
    }
}

fn of_limits(config: &Config, notes: &mut Notes<'_>) {
    let limits = &config.limits;
    let public = config.listener.iter().find(|one| !is_local(one.get_ref()));
    let Some(public) = public else { return };
    if limits.half_open_per_address == Some(0) && limits.half_open.is_none_or(|limit| limit == 0) {
        let text = "half_open_per_address = 0 lifts the limit of connections that have not said who they are, and with it that of \
                    all of them together: one client can hold every place here; leave it out, or give half_open a number";
        notes.warn(public.get_ref().address.span(), text);
    } else if limits.half_open == Some(0) {
        let text = "half_open = 0 lifts the limit of connections that have not said who they are: some clients can hold every \
                    place here; leave it out";
        notes.warn(public.get_ref().address.span(), text);
    }
}

/// An alarm that somebody sets off by working.
fn of_honeytoken(token: &model::Honeytoken, config: &Config, notes: &mut Notes<'_>) {
    let Some(subject) = &token.subject else { return };
    let names = |allow: &model::Allow| {
        let subjects = allow.subjects.iter().flat_map(|list| list.get_ref());
        token.issuer.as_ref().is_none_or(|issuer| issuer == allow.issuer.get_ref())
            && subjects.into_iter().any(|one| one == subject)
    };
    let rules = config.route.iter().flat_map(|route| &route.get_ref().allow);
    if rules.into_iter().any(|rule| names(rule.get_ref())) {
        let text = format!(
            "a rule permits subject {subject:?}, whose every use is an alarm; name somebody who does not exist"
        );
        notes.warn(token.name.span(), text);
    }
}

fn is_local(listener: &model::Listener) -> bool {
    listener.address.get_ref().parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

/// True for networks that hold more than any operator's own: a share of all addresses that has no private ones around it.
fn is_nearly_everybody(network: &str) -> bool {
    let Some((address, bits)) = network.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>()) else { return false };
    match address {
        IpAddr::V4(_) => bits < 8,
        IpAddr::V6(v6) => {
            let is_private = v6.is_unique_local() || v6.is_unicast_link_local();
            let is_all_of_v4 = v6.to_ipv4_mapped().is_some() && (96..104).contains(&bits);
            is_all_of_v4 || (bits < 19 && !(is_private && bits >= 7))
        }
    }
}

fn of_issuer(issuer: &model::Issuer, span: &Range<usize>, notes: &mut Notes<'_>) {
    for audience in issuer.audience.get_ref().iter().filter(|text| text.get_ref() == "account") {
        let text = "\"account\" is an audience that Keycloak gives to nearly every token of a realm; make one for this \
                    gateway, with an audience mapper, and name that";
        notes.warn(audience.span(), text);
    }
    let all = issuer.audience.get_ref();
    for (place, audience) in all.iter().enumerate() {
        let (text, meant) = (audience.get_ref(), audience.get_ref().trim());
        if text != meant {
            let text = format!("{text:?} is compared with its blanks; write {meant:?}");
            notes.warn(audience.span(), text);
        } else if all[..place].iter().any(|other| other.get_ref() == text) {
            notes.warn(audience.span(), format!("{text:?} is named twice; remove one"));
        } else {
            of_text(text, "audience", &audience.span(), notes);
        }
    }
    for azp in issuer.azp.iter().flat_map(|list| list.get_ref()) {
        of_text(azp, "azp", issuer.azp.as_ref().map_or(span, |_| span), notes);
    }
    if let Some(why) = rules::chosen_by_people(&issuer.groups_claim) {
        let text = format!(
            "groups_claim is {:?}, {why}; name the claim that the issuer fills with groups",
            issuer.groups_claim
        );
        notes.warn(span.clone(), text);
    }
    if issuer.groups_claim.is_empty() {
        notes.warn(
            span.clone(),
            "groups_claim is empty, so nobody has groups; name the claim, such as \"groups\"",
        );
    }
    if issuer.oidc.get_ref().ends_with('/') {
        let text = "this issuer ends with a `/`: right only where `iss` of its tokens does, as with Auth0; else leave it out";
        notes.warn(issuer.oidc.span(), text);
    }
}

fn of_listener(listener: &model::Listener, config: &Config, notes: &mut Notes<'_>) {
    for network in &listener.proxy_protocol_from {
        if is_nearly_everybody(network.get_ref()) {
            let text = format!(
                "{} is nearly everybody: whoever connects says which address it has, in the log and for the limits per \
                 address; name the balancer's own, such as \"10.0.0.5/32\"",
                network.get_ref()
            );
            notes.warn(network.span(), text);
        }
    }
    let others = config.listener.iter().any(|other| is_local(other.get_ref()));
    if let (Some(tunnel), None, false, true) =
        (&listener.tunnel, &listener.routes, is_local(listener), others)
    {
        let text = "this tunnel can be reached from elsewhere and leads to every route, those too that only the loopback \
                    listener was to serve; name those that are meant: routes = [\"…\"] on this listener";
        notes.warn(tunnel.get_ref().sni.span(), text);
    }
}

fn of_route(route: &model::Route, config: &Config, notes: &mut Notes<'_>) {
    if let Some(asks) = route.client_certificates.as_ref().filter(|text| text.get_ref() == "optional") {
        let text = "clients come in without a certificate, too: a token alone, or a certificate alone, opens the route; \
                    write \"required\" where both are meant";
        notes.warn(asks.span(), text);
    }
    let address = |upstream: &Upstream| match upstream {
        Upstream::Address(address) => address.clone(),
        Upstream::Table(table) => table.address.get_ref().clone(),
    };
    let own = address(route.upstream.get_ref());
    let shared =
        config.route.iter().filter(|other| address(other.get_ref().upstream.get_ref()) == own).count() > 1;
    if let (Some(host), true) = (route.host.as_ref().filter(|text| text.get_ref() == "keep"), shared) {
        let text = "another route leads to the same upstream: with \"keep\" clients choose its virtual host, also that of the \
                    other route; write \"upstream\"";
        notes.warn(host.span(), text);
    }
    let local = |host: &str| {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || literal.is_ok_and(|address| address.is_loopback())
    };
    let target = own.split_once("://").map_or(&own[..], |(_, rest)| rest).rsplit_once(':');
    let is_own = |listener: &Spanned<model::Listener>| {
        let listened = listener.get_ref().address.get_ref().rsplit_once(':').map(|(_, port)| port);
        target.is_some_and(|(host, port)| local(host) && listened == Some(port))
    };
    if config.listener.iter().any(is_own) {
        let text = "this is a listener of the gateway's own: each session would come in once more; write the service's address";
        notes.warn(route.upstream.span(), text);
    }
    let operator = config.admin.address.as_ref().map_or(ADMIN, |text| text.get_ref());
    let operator = operator.rsplit_once(':').map(|(_, port)| port);
    if target.is_some_and(|(host, port)| local(host) && operator == Some(port)) {
        let text = "this is the operator's listener: whoever this route lets in comes from loopback there; leave it out";
        notes.warn(route.upstream.span(), text);
    }
    let protocol = route.protocol.get_ref().as_str();
    let usual = target.and_then(|(_, port)| PORTS.iter().find(|(usual, _)| *usual == port));
    if let Some((port, usual)) = usual.filter(|(_, usual)| *usual != protocol && protocol != "raw") {
        let text = format!(
            "port {port} nearly always speaks {usual}; write protocol = {usual:?}, or the right port"
        );
        notes.warn(route.protocol.span(), text);
    }
    let any = route.hosts.as_ref().filter(|hosts| match hosts.get_ref() {
        OneOrMany::One(text) => text == "any",
        OneOrMany::Many(all) => all.iter().any(|text| text.get_ref() == "any"),
    });
    if let (Some(hosts), true) = (any, route.host.as_ref().is_some_and(|text| text.get_ref() == "keep")) {
        let text = "with host = \"keep\", clients reach every virtual host of the upstream by its name; list the names that are \
                    meant, or leave `host` out";
        notes.warn(hosts.span(), text);
    }
    of_grace(route, notes);
    let credentials: Vec<&model::Credential> = match route.inject.as_ref().map(Spanned::get_ref) {
        None => Vec::new(),
        Some(Inject::One(one)) => vec![&**one],
        Some(Inject::Many(all)) => all.iter().map(Spanned::get_ref).collect(),
    };
    let Some(upstream) = own.strip_prefix("tls://") else { return of_credentials(credentials, notes) };
    if upstream.ends_with(":80") {
        let text = "port 80 hardly speaks TLS, which this upstream must; write its TLS port, often 443";
        notes.warn(route.upstream.span(), text);
    }
    of_credentials(credentials, notes);
}

/// Longer than a token lives: expiry then ends nothing.
const LONG_GRACE: Duration = Duration::from_secs(3600);

fn of_grace(route: &model::Route, notes: &mut Notes<'_>) {
    let Some(text) = &route.on_expiry else { return };
    let grace = text.get_ref().strip_prefix("grace").map(str::trim).map(units::duration);
    if grace.is_some_and(|time| time.is_ok_and(|time| time > LONG_GRACE)) {
        let text = "for so long somebody works on whose token has expired, also once the issuer has shut them out; write minutes, \
                    such as \"grace 5m\"";
        notes.warn(route.on_expiry.as_ref().map_or(0..0, Spanned::span), text);
    }
}

/// Accounts of databases that may do everything, as they are called from the start.
const SUPERUSERS: [&str; 8] =
    ["postgres", "root", "admin", "rdsadmin", "cloudsqladmin", "azure_superuser", "mysql.sys", "mariadb.sys"];

fn of_credentials(credentials: Vec<&model::Credential>, notes: &mut Notes<'_>) {
    for credential in credentials {
        let is_superuser = |text: &&Text| SUPERUSERS.contains(&text.get_ref().to_ascii_lowercase().as_str());
        if let Some(user) = credential.user.as_ref().filter(is_superuser) {
            let text = format!(
                "{:?} may do everything at most servers, and all whom this route permits share it; write an account that has the \
                 rights which they need",
                user.get_ref()
            );
            notes.warn(user.span(), text);
        }
        let bare = credential.value.as_ref().filter(|value| {
            let header = credential
                .header
                .as_ref()
                .is_some_and(|name| name.get_ref().eq_ignore_ascii_case("authorization"));
            header && value.get_ref().starts_with("{secret:")
        });
        if let Some(value) = bare {
            let text = "authorization has a scheme before the secret, unless the secret holds it; write \"Bearer {secret:…}\"";
            notes.warn(value.span(), text);
        }
        let secret = |name: &Text| {
            let name = name.get_ref().to_ascii_lowercase();
            SECRET_HEADERS.iter().any(|part| name.contains(part))
        };
        let values = [
            credential.value.as_ref().filter(|value| {
                credential.header.as_ref().is_some_and(secret) || looks_like_a_secret(value.get_ref())
            }),
            credential.password.as_ref(),
        ];
        for value in values.into_iter().flatten().filter(|text| !text.get_ref().contains("{secret:")) {
            let others = match notes.is_open_to_others {
                true => ", and others can read this file",
                false => "",
            };
            let text = format!(
                "a secret stands here itself{others}; put it into a file, name that under [secrets], and write {{secret:NAME}}"
            );
            notes.warn(value.span(), text);
        }
    }
}

/// True for what can hardly be anything else: a scheme of `Authorization`, the beginning of a known kind of key, or a long word.
fn looks_like_a_secret(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    SECRET_BEGINNINGS.iter().any(|start| lower.starts_with(start))
        || (value.len() >= LONG_WORD
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+/=".contains(&byte)))
}
