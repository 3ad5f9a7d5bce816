//! Stored credentials as they are written: secrets in the open, values that no service takes, accounts that may do everything.

use crate::config::fault::FaultCollector;
use crate::config::model::{self, Text};

/// Parts of names of headers that carry secrets.
const SECRET_HEADERS: [&str; 6] = ["authorization", "key", "token", "secret", "password", "cookie"];

/// How values of secrets begin.
const SECRET_BEGINNINGS: [&str; 10] =
    ["bearer ", "basic ", "token ", "sk-", "ghp_", "github_pat_", "glpat-", "xox", "akia", "eyj"];

/// Bytes from which on a word of letters and digits is hardly a name any more.
const LONG_WORD: usize = 32;

/// Accounts of databases that may do everything, as they are called from the start.
const SUPERUSERS: [&str; 13] = [
    "postgres",
    "root",
    "admin",
    "rdsadmin",
    "cloudsqladmin",
    "azure_superuser",
    "mysql.sys",
    "mariadb.sys",
    "doadmin",
    "avnadmin",
    "supabase_admin",
    "sa",
    // Of Redis: who writes it has a server that knows others.
    "default",
];

pub(super) fn of_credentials(credentials: Vec<&model::Credential>, notes: &mut FaultCollector<'_>) {
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
        for value in [&credential.value, &credential.password].into_iter().flatten() {
            if value.get_ref().contains("${secret:") {
                let text = "the $ before {secret:…} is no part of it and would be sent; take it away";
                notes.warn(value.span(), text);
            }
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

/// What a header's value, its secret filled in, hardly means. Does not repeat it.
pub(in crate::config::resolve) fn of_header_value(name: &str, value: &[u8]) -> Option<&'static str> {
    let value = std::str::from_utf8(value).ok()?.trim();
    let (first, rest) = value.split_once(' ').unwrap_or(("", value));
    let is_scheme = |word: &str| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "authorization" | "proxy-authorization" if is_scheme(first) => {
            if rest.split_once(' ').is_some_and(|(second, _)| is_scheme(second)) {
                return Some(
                    "a scheme such as Bearer stands before the secret and in it, too; take one away",
                );
            }
            let unencoded = first.eq_ignore_ascii_case("basic") && rest.contains(':');
            unencoded.then_some("Basic takes base64 of user:password, and no base64 holds a colon; encode it: printf %s 'user:password' | base64")
        }
        "x-api-key" | "api-key" | "x-goog-api-key" if is_scheme(first) => {
            Some("this header takes the key alone, without a scheme such as Bearer; take that away")
        }
        _ => None,
    }
}

/// Schemes of `Authorization` that people write.
const SCHEMES: [&str; 3] = ["bearer", "basic", "token"];

/// What a secret hardly is. Does not repeat it.
pub(in crate::config::resolve) fn of_secret(secret: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(secret).ok()?.trim();
    let lower = text.to_ascii_lowercase();
    let is_variable = |name: &str| {
        name.len() > 2
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let is_in = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text
        .split_once('=')
        .is_some_and(|(name, value)| is_variable(name) && name.contains('_') && !value.is_empty())
    {
        return Some(
            "the secret begins as a line of an environment file does; keep the value alone, without NAME=",
        );
    }
    if is_in('"') || is_in('\'') {
        return Some("quotes stand around the secret and would be sent with it; take them away");
    }
    let is_placeholder =
        PLACEHOLDERS.contains(&lower.as_str()) || lower.starts_with('<') && lower.ends_with('>');
    is_placeholder.then_some("the secret is what examples have in its place; put the real one there")
}

/// What examples have in the place of a secret.
const PLACEHOLDERS: [&str; 12] = [
    "changeme",
    "change-me",
    "change_me",
    "replaceme",
    "replace-me",
    "todo",
    "xxx",
    "your-api-key",
    "your_api_key",
    "your-key",
    "sk-...",
    "...",
];
