//! Who may use a route.

use super::context::Context;
use crate::config::fault::Notes;
use crate::config::model;
use crate::identify::certificate::CertificateMapping;
use crate::names::IssuerName;
use crate::policy::{OnExpiry, Policy, Rule};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::Spanned;

impl Context<'_> {
    /// The policy, and each rule as `check` shows it.
    pub(super) fn policy(
        &mut self,
        written: &Spanned<model::Route>,
        mapping: Option<&CertificateMapping>,
        reads_tokens: bool,
        notes: &mut Notes<'_>,
    ) -> Option<(Policy, Vec<String>)> {
        let route = written.get_ref();
        if route.allow.is_empty() && !notes.lost {
            let advice = "write allow = [{ issuer = \"…\", groups = [\"…\"] }]";
            notes.fault(written.span(), format!("nobody may use route `{}`; {advice}", route.name.get_ref()));
        }
        // A name that could not be read may be the one that is asked for.
        let unread = notes.lost
            || self.unread_issuers
            || route.certificate_identity.as_ref().is_some_and(|i| notes.is_told(&i.get_ref().name.span()));
        let (mut rules, mut shown): (Vec<Rule>, _) = (Vec::new(), Vec::new());
        for one in &route.allow {
            let allow = one.get_ref();
            let issuer = IssuerName(allow.issuer.get_ref().as_str().into());
            let by_token = self.issuers.contains(&issuer);
            if by_token {
                self.used_issuers.insert(issuer.0.to_string());
            } else if mapping.is_none_or(|mapping| mapping.authority != issuer) && !unread {
                notes.fault(
                    allow.issuer.span(),
                    format!("`{issuer}` is no issuer, and no certificate_identity of this route"),
                );
            }
            if by_token && !reads_tokens {
                notes.fault(
                    allow.issuer.span(),
                    format!("this route reads no tokens, so nobody of `{issuer}` can use it"),
                );
            }
            let empty = BTreeMap::new();
            let claims = allow.claims.as_ref().map_or(&empty, |claims| {
                if claims.get_ref().is_empty() {
                    notes.fault(
                        claims.span(),
                        "claims is empty, which asks for nothing; name some, or remove claims",
                    );
                }
                claims.get_ref()
            });
            let rule = Rule {
                issuer: Some(issuer),
                groups: texts(notes.list(&allow.groups, "groups")),
                subjects: texts(notes.list(&allow.subjects, "subjects")),
                claims: claims.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect(),
            };
            if let Some(place) = rules.iter().position(|earlier| covers(earlier, &rule)) {
                notes.fault(
                    one.span(),
                    format!("rule {} of this list permits all that this one does; remove one", place + 1),
                );
            } else if let Some(place) = rules.iter().position(|earlier| covers(&rule, earlier)) {
                notes.fault(
                    one.span(),
                    format!("this rule permits all that rule {} of this list does; remove one", place + 1),
                );
            }
            shown.push(show(&rule));
            rules.push(rule);
        }
        if let (Some(mapping), Some(written)) = (mapping, &route.certificate_identity)
            && !rules.iter().any(|rule| rule.issuer.as_ref() == Some(&mapping.authority))
            && !unread
            && !route.allow.iter().any(|allow| notes.is_told(&allow.get_ref().issuer.span()))
        {
            let name = &mapping.authority;
            let advice = format!("write allow = [{{ issuer = \"{name}\" }}] or remove certificate_identity");
            notes.fault(written.span(), format!("no rule allows anybody of `{name}`; {advice}"));
        }
        let on_expiry = match &route.on_expiry {
            None => OnExpiry::Drain,
            Some(text) => notes.take(text.span(), on_expiry(text.get_ref()))?,
        };
        Some((Policy { rules, on_expiry }, shown))
    }
}

/// True when `earlier` permits everybody whom `later` permits, so that `later` can never matter.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    let all_in = |few: &[Arc<str>], many: &[Arc<str>]| {
        many.is_empty() || (!few.is_empty() && few.iter().all(|one| many.contains(one)))
    };
    earlier.issuer == later.issuer
        && all_in(&later.groups, &earlier.groups)
        && all_in(&later.subjects, &earlier.subjects)
        && earlier.claims.iter().all(|(name, value)| later.claims.get(name) == Some(value))
}

pub(super) fn texts(list: Vec<String>) -> Vec<Arc<str>> {
    list.into_iter().map(Arc::from).collect()
}

fn show(rule: &Rule) -> String {
    let mut text = rule.issuer.as_ref().map_or(String::new(), |issuer| issuer.to_string());
    for (word, list) in [("groups", &rule.groups), ("subjects", &rule.subjects)] {
        if !list.is_empty() {
            text += &format!(", {word} {}", list.join(" | "));
        }
    }
    for (name, value) in &rule.claims {
        text += &format!(", {name} = {value}");
    }
    text
}

fn on_expiry(text: &str) -> Result<OnExpiry, String> {
    match text.split_once(' ') {
        None if text == "drain" => Ok(OnExpiry::Drain),
        None if text == "cut" => Ok(OnExpiry::Cut),
        Some(("grace", extra)) => Ok(OnExpiry::Grace(crate::config::units::duration(extra)?)),
        _ => Err(format!("{text:?} is no way to end; write \"drain\", \"cut\" or \"grace 5m\"")),
    }
}
