//! Rules that permit more, or fewer, than they seem to.

use crate::config::fault::FaultCollector;
use crate::config::model::{Allow, Config, OneOrMany, OperatorRule};
use std::ops::Range;

/// Issuers that give tokens to everybody: to name one alone permits the world.
const PUBLIC_ISSUERS: [&str; 23] = [
    "https://token.actions.githubusercontent.com",
    "https://accounts.google.com",
    "https://gitlab.com",
    "https://agent.buildkite.com",
    "https://login.microsoftonline.com/common/v2.0",
    "https://login.microsoftonline.com/consumers/v2.0",
    "https://login.microsoftonline.com/organizations/v2.0",
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
    "https://app.terraform.io",
    "https://appleid.apple.com",
    "https://oauth2.sigstore.dev/auth",
    "https://slack.com",
    "https://www.facebook.com",
    "https://www.linkedin.com/oauth",
    "https://api.pulumi.com/oidc",
    "https://cognito-identity.amazonaws.com",
    "https://discord.com",
    "https://huggingface.co",
    "https://id.twitch.tv/oauth2",
    "https://login.salesforce.com",
    "https://login.yahoo.com",
    "https://oidc.vercel.com",
    "https://www.paypal.com",
];

/// Claims whose value whoever asks a public issuer for a token can have: they name no owner.
const OWNERLESS_CLAIMS: [&str; 18] = [
    "aud",
    "azp",
    "base_ref",
    "branch",
    "build_branch",
    "email_verified",
    "environment",
    "event_name",
    "head_ref",
    "iss",
    "pipeline_source",
    "ref",
    "ref_protected",
    "ref_type",
    "repository_visibility",
    "runner_environment",
    "step_key",
    "workflow",
];

/// Claims that people change themselves at many issuers.
const SELF_SERVICE_CLAIMS: [&str; 8] =
    ["name", "given_name", "family_name", "nickname", "preferred_username", "unique_name", "upn", "profile"];

/// Why a claim is no proof; `None`: it may be one.
pub(super) fn self_chosen_reason(claim: &str) -> Option<&'static str> {
    let is_chosen = SELF_SERVICE_CLAIMS.contains(&claim) || claim == "email";
    is_chosen.then_some("which people choose or change themselves at many issuers")
}

fn public_issuer<'a>(name: &str, config: &'a Config) -> Option<&'a str> {
    let issuer = config.issuer.iter().find(|issuer| issuer.get_ref().name.get_ref() == name)?;
    let url = issuer.get_ref().oidc.get_ref().trim_end_matches('/');
    PUBLIC_ISSUERS.contains(&url).then_some(url)
}

fn of_public_issuer(url: &str, what: &str, span: Range<usize>, notes: &mut FaultCollector<'_>) {
    let text = format!(
        "everybody in the world gets tokens of {url}{what}; say whose are meant, such as claims = {{ repository_owner = \
         \"…\" }} or {{ hd = \"example.com\" }}"
    );
    notes.warn(span, text);
}

pub(super) fn of_rule(allow: &Allow, span: &Range<usize>, config: &Config, notes: &mut FaultCollector<'_>) {
    let narrow = allow.groups.is_some() || allow.subjects.is_some();
    if let (Some(url), false) = (public_issuer(allow.issuer.get_ref(), config), narrow) {
        let claims: Vec<&str> =
            allow.claims.iter().flat_map(|claims| claims.get_ref().keys()).map(String::as_str).collect();
        if claims.is_empty() {
            of_public_issuer(url, "", span.clone(), notes);
        } else if claims.iter().all(|claim| OWNERLESS_CLAIMS.contains(claim)) {
            of_public_issuer(url, &format!(" with {}", claims.join(", ")), span.clone(), notes);
        }
    }
    for (list, key) in [(&allow.groups, "groups"), (&allow.subjects, "subjects")] {
        for text in list.iter().flat_map(|list| list.get_ref()) {
            of_text(text, key, span, notes);
        }
    }
    let Some(claims) = &allow.claims else { return };
    for (name, values) in claims.get_ref() {
        let values: Vec<&str> = match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(all) => all.iter().map(|text| text.get_ref().as_str()).collect(),
        };
        values.into_iter().for_each(|value| of_text(value, name, &claims.span(), notes));
        if SELF_SERVICE_CLAIMS.contains(&name.as_str()) {
            let text = format!(
                "{name} is what people choose or change themselves at many issuers; name subjects (`sub`) or groups"
            );
            notes.warn(claims.span(), text);
        }
    }
    if claims.get_ref().keys().any(|name| name == "scope") {
        let text = "scope is one text of all scopes of a token and compared whole, as \"openid profile\"; name groups, or a claim with a list";
        notes.warn(claims.span(), text);
    }
    let unverified = claims.get_ref().get("email_verified").is_some_and(|value| match value {
        OneOrMany::One(value) => value == "false",
        OneOrMany::Many(all) => all.iter().any(|text| text.get_ref() == "false"),
    });
    if unverified {
        let text = "email_verified = \"false\" lets in whoever wrote any address; write \"true\"";
        notes.warn(claims.span(), text);
    }
    if claims.get_ref().contains_key("email") && !claims.get_ref().contains_key("email_verified") {
        let text = "at many issuers people choose their e-mail address; add email_verified = \"true\", or name subjects";
        notes.warn(claims.span(), text);
    }
}

/// A rule that names nobody is a fault of its own.
pub(super) fn of_operators(rule: &OperatorRule, notes: &mut FaultCollector<'_>) {
    let span = rule.issuer.span();
    rule.groups.iter().for_each(|text| of_text(text, "groups", &span, notes));
    rule.subjects.iter().for_each(|text| of_text(text, "subjects", &span, notes));
}

/// What looks like a pattern is compared as it stands.
pub(super) fn of_text(text: &str, key: &str, span: &Range<usize>, notes: &mut FaultCollector<'_>) {
    // Not a single `|` or `+`: these stand in subjects of Auth0's and in addresses.
    let regular = text.starts_with('^')
        || text.ends_with('$')
        || [".*", ".+", "(?", "\\.", "\\d", "\\w", "[a-z", "[0-9", "[A-Z", "[^"]
            .iter()
            .any(|part| text.contains(part));
    if text.is_empty() {
        let advice = format!("{key} names \"\", which nobody has; leave {key} out where anybody is meant");
        notes.warn(span.clone(), advice);
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
