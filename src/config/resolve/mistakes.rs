//! Plausible mistakes: what works, and is probably not meant. Reads what is written, and only warns.

use crate::config::fault::Notes;
use crate::config::model::{self, Config, Inject, OneOrMany, Text, Upstream};
use crate::config::units;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// Issuers that give tokens to everybody: to name one alone permits the world.
const PUBLIC_ISSUERS: [&str; 8] = [
    "https://token.actions.githubusercontent.com",
    "https://accounts.google.com",
    "https://gitlab.com",
    "https://login.microsoftonline.com/common/v2.0",
    "https://login.microsoftonline.com/consumers/v2.0",
    "https://login.microsoftonline.com/organizations/v2.0",
    "https://app.terraform.io",
    "https://appleid.apple.com",
];

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
pub(super) fn warn(config: &Config, notes: &mut Notes<'_>) {
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
        }
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
        let bits = network.get_ref().split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok());
        if bits.is_some_and(|bits| bits < 8) {
            let text = format!(
                "{} is nearly everybody: whoever connects says which address it has, in the log and for the limits per \
                 address; name the balancer's own, such as \"10.0.0.5/32\"",
                network.get_ref()
            );
            notes.warn(network.span(), text);
        }
    }
    let local = |one: &model::Listener| {
        one.address.get_ref().parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
    };
    let others = config.listener.iter().any(|other| local(other.get_ref()));
    if let (Some(tunnel), None, false, true) = (&listener.tunnel, &listener.routes, local(listener), others) {
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

fn of_credentials(credentials: Vec<&model::Credential>, notes: &mut Notes<'_>) {
    for credential in credentials {
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

fn of_rule(allow: &model::Allow, span: &Range<usize>, config: &Config, notes: &mut Notes<'_>) {
    let issuer =
        config.issuer.iter().find(|issuer| issuer.get_ref().name.get_ref() == allow.issuer.get_ref());
    let open = allow.groups.is_none() && allow.subjects.is_none() && allow.claims.is_none();
    if let (Some(issuer), true) = (issuer, open) {
        let url = issuer.get_ref().oidc.get_ref().trim_end_matches('/');
        if PUBLIC_ISSUERS.contains(&url) {
            let text = format!(
                "everybody in the world gets tokens of {url}; say whose are meant, such as claims = {{ repository_owner = \
                 \"…\" }} or {{ hd = \"example.com\" }}"
            );
            notes.warn(span.clone(), text);
        }
    }
    for (list, key) in [(&allow.groups, "groups"), (&allow.subjects, "subjects")] {
        for text in list.iter().flat_map(|list| list.get_ref()) {
            of_text(text, key, list.as_ref().map_or(span, |_| span), notes);
        }
    }
    let Some(claims) = &allow.claims else { return };
    for (name, values) in claims.get_ref() {
        let values: Vec<&str> = match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(all) => all.iter().map(|text| text.get_ref().as_str()).collect(),
        };
        values.into_iter().for_each(|value| of_text(value, name, &claims.span(), notes));
    }
    if claims.get_ref().contains_key("email") && !claims.get_ref().contains_key("email_verified") {
        let text = "at many issuers people choose their e-mail address; add email_verified = \"true\", or name subjects";
        notes.warn(claims.span(), text);
    }
}

/// What looks like a pattern is compared as it stands.
fn of_text(text: &str, key: &str, span: &Range<usize>, notes: &mut Notes<'_>) {
    let regular = text.starts_with('^') || text.ends_with('$') || text.contains(".*") || text.contains("(?");
    if text.is_empty() {
        notes.warn(
            span.clone(),
            format!("{key} names \"\", which nobody has; leave {key} out where anybody is meant"),
        );
    } else if regular || text.contains('*') {
        let text = format!(
            "{text:?} in {key} is compared as it stands, not as a pattern; write each one out, or leave {key} out"
        );
        notes.warn(span.clone(), text);
    } else if text.trim() != text {
        let meant = text.trim();
        notes.warn(span.clone(), format!("{text:?} in {key} is compared with its blanks; write {meant:?}"));
    }
}
