//! A route's stored credentials: headers of HTTP, accounts of a database.

use super::allow::texts;
use super::context::Context;
use super::mistakes;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Inject, Text};
use crate::config::{pasted, secrets};
use crate::credential::{Account, HeaderInjection};
use crate::gateway::RouteProtocol;
use crate::names::IssuerName;
use crate::protocol::postgres::startup::MAX_NAME;
use crate::protocol::redis::DEFAULT_USER;
use crate::secret::Secret;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;

/// Headers that frame messages or belong to one connection: setting them would break or smuggle.
const NOT_INJECTABLE: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

impl<'a> Context<'a> {
    /// The headers of an HTTP route.
    pub(super) fn headers(
        &mut self,
        written: &Option<Spanned<Inject>>,
        protocol: Option<RouteProtocol>,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<HeaderInjection> {
        let Some(inject) = written else { return Vec::new() };
        match protocol {
            Some(RouteProtocol::Raw) => {
                notes.fault(inject.span(), "a raw route has no headers; remove inject");
                return Vec::new();
            }
            Some(RouteProtocol::Postgres | RouteProtocol::Mysql | RouteProtocol::Redis) | None => {
                return Vec::new();
            }
            Some(RouteProtocol::Http) => {}
        }
        let mut all: Vec<HeaderInjection> = Vec::new();
        for (written, span) in entries(inject) {
            let of_accounts = [
                (written.user.as_ref().map(Spanned::span), "user"),
                (written.password.as_ref().map(Spanned::span), "password"),
                (written.issuer.as_ref().map(Spanned::span), "issuer"),
                (written.groups.as_ref().map(Spanned::span), "groups"),
                (written.subjects.as_ref().map(Spanned::span), "subjects"),
            ];
            for (span, key) in of_accounts {
                if let Some(span) = span {
                    notes.fault(span, format!("an http route logs in nowhere; remove {key}"));
                }
            }
            for (text, key) in [(&written.header, "header"), (&written.value, "value")] {
                if text.is_none() && !notes.lost {
                    notes.fault(span.clone(), format!("`{key}` is missing"));
                }
            }
            if let Some(header) = &written.header {
                header_name(header, &all, notes);
            }
            let value = written.value.as_ref().and_then(|value| self.header_value(value, notes));
            if let (Some(header), Some(value)) = (&written.header, value) {
                let written = written.value.as_ref();
                let template = written.map_or("", |written| written.get_ref());
                if let Some(warning) = header_value_warning(header.get_ref(), template, value.expose()) {
                    notes.warn(written.map_or(0..0, Spanned::span), warning);
                }
                let name = header.get_ref().to_ascii_lowercase().into();
                all.push(HeaderInjection { name, value: Arc::new(value) });
            }
        }
        all
    }

    fn header_value(&mut self, written: &Text, notes: &mut FaultCollector<'_>) -> Option<Secret> {
        let template = written.get_ref();
        if template.bytes().any(|byte| byte.is_ascii_control()) || template.trim() != template {
            notes
                .fault(written.span(), "a header value holds no control characters, and no blanks around it");
        }
        let value = self.fill(written, notes)?;
        if value.expose().trim_ascii() != value.expose() {
            notes.fault(written.span(), "the value with its secret filled in has blanks around it");
        }
        Some(value)
    }

    /// The accounts of a database route. `shows_certificate`: a PostgreSQL upstream may know the gateway without a
    /// password, by its certificate or as a user of this machine.
    pub(super) fn accounts(
        &mut self,
        route: &Spanned<model::Route>,
        protocol: RouteProtocol,
        shows_certificate: bool,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<Account> {
        let redis = protocol == RouteProtocol::Redis;
        let kind = match protocol {
            RouteProtocol::Redis => "a redis route",
            RouteProtocol::Mysql => "a mysql route",
            _ => "a postgres route",
        };
        let needs_password = redis || protocol == RouteProtocol::Mysql;
        let Some(inject) = &route.get_ref().inject else {
            let advice = "write inject = { user = \"…\", password = \"{secret:NAME}\" }";
            if !notes.lost {
                let text = format!("{kind} needs an account to log in with; {advice}");
                notes.fault(route.span(), text);
            }
            return Vec::new();
        };
        let mut all: Vec<Account> = Vec::new();
        for (written, span) in entries(inject) {
            for (text, key) in [(&written.header, "header"), (&written.value, "value")] {
                if let Some(text) = text {
                    let advice = "write user and password";
                    notes.fault(text.span(), format!("{kind} has no headers; {advice}, not {key}"));
                }
            }
            match &written.user {
                None if notes.lost || redis => {}
                None => notes.fault(span.clone(), "`user` is missing"),
                Some(user) if !is_name(user.get_ref()) => notes.fault(
                    user.span(),
                    format!("a user's name has 1 to {MAX_NAME} bytes and no control characters"),
                ),
                Some(_) => {}
            }
            let password = match &written.password {
                Some(written) => self.password(written, notes),
                None if shows_certificate && !needs_password || notes.lost => None,
                None => {
                    let advice = "write password = \"{secret:NAME}\"";
                    let unless = " (only an upstream that is shown a certificate may do without)";
                    let unless = if needs_password { "" } else { unless };
                    notes.fault(span.clone(), format!("`password` is missing; {advice}{unless}"));
                    None
                }
            };
            whose(written, &route.get_ref().allow, span.clone(), notes);
            if let Some(place) = all.iter().position(Account::is_for_all) {
                let place = place + 1;
                notes.fault(
                    span,
                    format!(
                        "account {place} of this list is for everybody, so nobody gets this one; move it up"
                    ),
                );
            }
            all.push(Account {
                user: written.user.as_ref().map_or(DEFAULT_USER, |user| user.get_ref()).into(),
                password: password.map(Arc::new),
                issuer: written.issuer.as_ref().map(|name| IssuerName(name.get_ref().as_str().into())),
                groups: texts(notes.list(&written.groups, "groups")),
                subjects: texts(notes.list(&written.subjects, "subjects")),
            });
        }
        all
    }

    fn password(&mut self, written: &Text, notes: &mut FaultCollector<'_>) -> Option<Secret> {
        if !written.get_ref().contains("{secret:") {
            notes.fault(
                written.span(),
                "a password is named by where it stands, never written here; write \"{secret:NAME}\"",
            );
            return None;
        }
        self.fill(written, notes)
    }

    /// A template with its secrets filled in.
    pub(super) fn fill(&mut self, written: &Text, notes: &mut FaultCollector<'_>) -> Option<Secret> {
        // In place of what could not be read, which was told: good as a header's value, a password and base64.
        let unread = Secret::new(b"unread00".to_vec());
        let value = secrets::fill(written.get_ref(), |name| match self.secrets.get_key_value(name) {
            Some((name, secret)) => {
                self.used_secrets.insert(name);
                Ok(secret.as_ref().unwrap_or(&unread))
            }
            None if self.unread_secrets => Ok(&unread),
            // The name is not repeated: it may be the secret itself.
            None => Err("there is no secret of the name that stands here; name it under [secrets]".into()),
        });
        notes.take(written.span(), value)
    }
}

/// Notes an account that would go by one issuer's groups or subjects and be given to another's.
fn whose(
    written: &model::Credential,
    allow: &[Spanned<model::Allow>],
    span: Range<usize>,
    notes: &mut FaultCollector<'_>,
) {
    let issuers: BTreeSet<&str> = allow.iter().map(|one| one.get_ref().issuer.get_ref().as_str()).collect();
    let unread = notes.lost || allow.iter().any(|one| notes.is_told(&one.get_ref().issuer.span()));
    match &written.issuer {
        Some(issuer) if !issuers.contains(issuer.get_ref().as_str()) && !unread => {
            let name = issuer.get_ref();
            notes.fault(
                issuer.span(),
                format!("`{name}` stands in no rule of allow, so nobody gets this account"),
            );
        }
        None if issuers.len() > 1 && (written.groups.is_some() || written.subjects.is_some()) && !unread => {
            let advice = "write issuer = \"…\" beside them";
            notes.fault(span, format!("groups and subjects of several issuers would count here; {advice}"));
        }
        _ => {}
    }
}

/// Each credential and where it stands.
fn entries(inject: &Spanned<Inject>) -> Vec<(&model::Credential, Range<usize>)> {
    match inject.get_ref() {
        Inject::One(one) => vec![(&**one, inject.span())],
        Inject::Many(all) => all.iter().map(|one| (one.get_ref(), one.span())).collect(),
    }
}

fn header_name(written: &Text, others: &[HeaderInjection], notes: &mut FaultCollector<'_>) {
    let name = written.get_ref().to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        let bare = name.trim().trim_end_matches(':').trim();
        let meant = match !bare.is_empty() && bare != name && bare.bytes().all(token) {
            true => format!("; write {bare:?}"),
            false => String::new(),
        };
        notes.fault(written.span(), format!("{name:?} is no header name{meant}"));
    } else if NOT_INJECTABLE.contains(&name.as_str()) {
        notes.fault(
            written.span(),
            format!("{name} frames messages or is set by the gateway; it cannot be injected"),
        );
    } else if others.iter().any(|other| *other.name == *name) {
        notes.fault(written.span(), format!("{name} is set twice; remove one"));
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What a header's value, its secret filled in, hardly means; nothing of what the secret's own warning says.
fn header_value_warning(name: &str, template: &str, value: &[u8]) -> Option<String> {
    if let Some(warning) = mistakes::of_header_value(name, value) {
        return Some(warning.to_owned());
    }
    let key = between(template, value).filter(|key| mistakes::of_secret(key.as_bytes()).is_none())?;
    pasted::fault(key).map(|why| format!("the stored secret is probably not what was meant: {why}"))
}

/// What was filled in behind a scheme, or in quotes: a value that is nothing but a secret may have a scheme within.
fn between<'a>(template: &str, filled: &'a [u8]) -> Option<&'a str> {
    let (before, rest) = template.split_once("{secret:")?;
    let (_, after) = rest.split_once('}')?;
    let filled = std::str::from_utf8(filled).ok()?;
    let secret = filled.strip_prefix(before)?.strip_suffix(after)?;
    (!after.contains('{') && (!before.is_empty() || secret.starts_with(['"', '\'']))).then_some(secret)
}
