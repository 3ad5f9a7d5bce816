//! Whom the gateway believes, and for whom tokens are made.

use super::rules::{of_text, self_chosen_reason};
use crate::config::fault::FaultCollector;
use crate::config::model;
use std::ops::Range;

/// Audiences that stand in guides of other services.
const FOREIGN_AUDIENCES: [(&str, &str); 9] = [
    ("sts.amazonaws.com", "AWS"),
    ("api://AzureADTokenExchange", "Azure"),
    ("00000003-0000-0000-c000-000000000000", "Microsoft Graph"),
    ("https://graph.microsoft.com", "Microsoft Graph"),
    ("https://management.azure.com", "Azure"),
    ("https://kubernetes.default.svc", "the Kubernetes API"),
    ("https://kubernetes.default.svc.cluster.local", "the Kubernetes API"),
    ("sigstore", "Sigstore"),
    ("vault", "Vault"),
];

/// Claims that say something else of everybody.
const NOT_GROUPS: [(&str, &str); 8] = [
    ("scope", "which is one text of all that the client was given and often what it asked for"),
    ("scp", "which holds what the client was given and often what it asked for"),
    ("sub", "which is the person; `subjects` of a rule names persons"),
    ("aud", "which says for whom the token is; `audience` of a rule names that"),
    ("azp", "which is the client program; `azp` of an issuer names that"),
    ("client_id", "which is the client program; `claims` of a rule can name that"),
    ("iss", "which is the issuer itself"),
    ("amr", "which says how somebody logged in"),
];

pub(super) fn of_issuer(issuer: &model::Issuer, span: &Range<usize>, notes: &mut FaultCollector<'_>) {
    for audience in issuer.audience.get_ref().iter().filter(|text| text.get_ref() == "account") {
        let text = "\"account\" is an audience that Keycloak gives to nearly every token of a realm; make one for this \
                    gateway, with an audience mapper, and name that";
        notes.warn(audience.span(), text);
    }
    for audience in issuer.audience.get_ref() {
        let meant_for = FOREIGN_AUDIENCES
            .iter()
            .find(|(foreign, _)| audience.get_ref().trim_end_matches('/') == *foreign);
        if let Some((_, service)) = meant_for {
            let text = format!(
                "tokens of this audience are made for {service}: whoever gets one there, or gives one away there, could use it here; \
                 have the issuer make them for an audience of this gateway's own"
            );
            notes.warn(audience.span(), text);
        }
    }
    for host in issuer.jwks_hosts.iter().filter(|host| host.get_ref().contains('*')) {
        of_text(host.get_ref(), "jwks_hosts", &host.span(), notes);
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
    if let Some(why) = self_chosen_reason(&issuer.groups_claim) {
        let text = format!(
            "groups_claim is {:?}, {why}; name the claim that the issuer fills with groups",
            issuer.groups_claim
        );
        notes.warn(span.clone(), text);
    }
    if let Some((_, why)) = NOT_GROUPS.iter().find(|(claim, _)| *claim == issuer.groups_claim) {
        notes.warn(
            span.clone(),
            format!(
                "groups_claim is {:?}, {why}; name the claim that the issuer fills with groups",
                issuer.groups_claim
            ),
        );
    }
    if issuer.groups_claim.is_empty() {
        notes.warn(
            span.clone(),
            "groups_claim is empty, so nobody has groups; name the claim, such as \"groups\"",
        );
    }
    if let Some(doubt) = doubts_about_url(issuer.oidc.get_ref()) {
        notes.warn(issuer.oidc.span(), doubt);
    }
    if issuer.oidc.get_ref().ends_with('/') {
        let text = "this issuer ends with a `/`: right only where `iss` of its tokens does, as with Auth0; else leave it out";
        notes.warn(issuer.oidc.span(), text);
    }
}

/// Ends of the addresses that a discovery document names.
const ENDPOINTS: [&str; 9] = [
    "/authorize",
    "/openid-connect/auth",
    "/token",
    "/userinfo",
    "/jwks",
    "/keys",
    "/certs",
    "/jwks.json",
    "/device_authorization",
];

/// Why no token will ever be of an issuer of this URL.
fn doubts_about_url(url: &str) -> Option<String> {
    let host_ends = url.get(8..)?.find('/').map_or(url.len(), |at| at + 8);
    let (origin, path) = url.split_at(host_ends);
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = origin.to_ascii_lowercase();
        return Some(format!(
            "`iss` of a token is compared letter by letter, and issuers write their host in lower case; write \"{lower}{path}\""
        ));
    }
    if origin.contains("..") {
        return Some("two dots stand in a row in the name of its host; take one away".into());
    }
    if path.contains(['{', '}', '<', '>', '$']) {
        return Some("this holds a placeholder of an example's; put the real name there".into());
    }
    if origin.ends_with("//login.microsoftonline.com") && !path.ends_with("/v2.0") {
        return Some(
            "issuers of Entra end with /v2.0 (tokens of its version 1 have https://sts.windows.net/TENANT/)"
                .into(),
        );
    }
    if origin.ends_with(".okta.com") && origin.contains("-admin.") {
        return Some("this is the console of Okta; its issuer has no -admin in its name".into());
    }
    ENDPOINTS.iter().find(|end| path.ends_with(**end)).map(|end| {
        format!("this looks like an address that the issuer names, and not like the issuer: its URL is what stands before \"{end}\" or higher, as `issuer` in its discovery document")
    })
}

#[cfg(test)]
mod tests {
    use super::doubts_about_url;

    #[test]
    fn urls_that_no_token_will_name_are_doubted() {
        for (url, words) in [
            ("https://IdP.example.com/x", "\"https://idp.example.com/x\""),
            ("HTTPS://idp.example.com", "\"https://idp.example.com\""),
            ("https://login.microsoftonline.com/organizations", "/v2.0"),
            ("https://login.microsoftonline.com/{tenant}/v2.0", "the real name"),
            ("https://login.microsoftonline.com/8c1f", "/v2.0"),
            ("https://idp..example.com", "two dots"),
            ("https://dev-1-admin.okta.com", "console"),
            ("https://idp.example.com/oauth2/v1/authorize", "/authorize"),
            ("https://idp.example.com/realms/x/protocol/openid-connect/certs", "/certs"),
            ("https://idp.example.com/realms/x/protocol/openid-connect/auth", "/auth"),
        ] {
            assert!(
                doubts_about_url(url).is_some_and(|doubt| doubt.contains(words)),
                "{url}: {:?}",
                doubts_about_url(url)
            );
        }
        for url in [
            "https://idp.example.com",
            "https://idp.example.com:8443/realms/agents",
            "https://login.microsoftonline.com/8c1f/v2.0",
            "https://sts.windows.net/8c1f/",
            "https://accounts.google.com",
            "https://oauth2.sigstore.dev/auth",
            "https://dev-1.okta.com/oauth2/default",
            "https://x",
        ] {
            assert_eq!(doubts_about_url(url), None, "{url}");
        }
    }
}
