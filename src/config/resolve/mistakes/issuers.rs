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
    if issuer.oidc.get_ref().ends_with('/') {
        let text = "this issuer ends with a `/`: right only where `iss` of its tokens does, as with Auth0; else leave it out";
        notes.warn(issuer.oidc.span(), text);
    }
}
