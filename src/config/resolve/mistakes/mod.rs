//! Plausible mistakes: what works, and is probably not meant. Reads what is written, and only warns.

mod credentials;
mod files;
mod issuers;
mod rules;
mod times;

use crate::config::fault::FaultCollector;
use crate::config::model::{self, Config, Inject, OneOrMany, Upstream};
use crate::protocol::require_auth::NONE;
use credentials::of_credentials;
pub(super) use credentials::{of_header_value, of_secret};
use issuers::of_issuer;
use rules::{of_operators, of_rule};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use toml::Spanned;

/// Warns of all of them.
pub(super) fn warn(config: &Config, base: &Path, notes: &mut FaultCollector<'_>) {
    files::warn(config, base, notes);
    of_admin(&config.admin, notes);
    of_limits(config, notes);
    config.honeytoken.iter().for_each(|one| of_honeytoken(one, config, notes));
    config.issuer.iter().for_each(|one| of_issuer(one.get_ref(), &one.span(), notes));
    config.listener.iter().for_each(|one| of_listener(one.get_ref(), config, notes));
    times::warn(config, notes);
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

/// Ports at which servers speak plain HTTP: of the web, of servers under development, and Ollama's.
const PLAINTEXT_PORTS: [&str; 3] = ["80", "8080", "11434"];

fn of_admin(admin: &model::Admin, notes: &mut FaultCollector<'_>) {
    for rule in admin.operate.iter().chain(&admin.view) {
        of_operators(rule, notes);
    }
    if let Some(anyone) = admin.loopback.as_ref().filter(|text| text.get_ref() == "anyone") {
        let text = "every account and every program of this machine may end sessions; write \"owner\", or set `key` or `operate`";
        notes.warn(anyone.span(), text);
    }
}

fn of_limits(config: &Config, notes: &mut FaultCollector<'_>) {
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
fn of_honeytoken(token: &model::Honeytoken, config: &Config, notes: &mut FaultCollector<'_>) {
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
fn covers_most_addresses(network: &str) -> bool {
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

fn of_listener(listener: &model::Listener, config: &Config, notes: &mut FaultCollector<'_>) {
    if listener.address.get_ref().ends_with(":80") {
        let text = "clients speak plain HTTP at port 80, and all that comes here must be TLS; write 443";
        notes.warn(listener.address.span(), text);
    }
    for network in &listener.proxy_protocol_from {
        if covers_most_addresses(network.get_ref()) {
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

fn of_route(route: &model::Route, config: &Config, notes: &mut FaultCollector<'_>) {
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
    let credentials: Vec<&model::Credential> = match route.inject.as_ref().map(Spanned::get_ref) {
        None => Vec::new(),
        Some(Inject::One(one)) => vec![&**one],
        Some(Inject::Many(all)) => all.iter().map(Spanned::get_ref).collect(),
    };
    of_credentials(credentials, notes);
    if let Some(text) =
        route.require_auth.as_ref().filter(|text| text.get_ref().split(',').any(|one| one.trim() == NONE))
    {
        let why = "with \"none\", whoever answers at the upstream's address without asking for a proof is taken for it; leave \"none\" out";
        notes.warn(text.span(), why);
    }
    let Some(("tls", _)) = own.split_once("://") else { return };
    if let Some((_, port)) = target.filter(|(_, port)| PLAINTEXT_PORTS.contains(port)) {
        let text =
            format!("port {port} hardly speaks TLS, which this upstream must; write its TLS port, often 443");
        notes.warn(route.upstream.span(), text);
    }
}
