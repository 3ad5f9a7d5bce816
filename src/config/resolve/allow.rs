//! Who may use a route.

use super::context::Context;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, OneOrMany};
use crate::identify::certificate::CertificateMapping;
use crate::names::IssuerName;
use crate::policy::{OnExpiry, Policy, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::Spanned;

impl Context<'_> {
    /// The policy, and each rule as `check` shows it.
    pub(super) fn policy(
        &mut self,
        written: &Spanned<model::Route>,
        mapping: Option<&CertificateMapping>,
        reads_tokens: bool,
        notes: &mut FaultCollector<'_>,
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
            let is_by_certificate = mapping.is_some_and(|mapping| mapping.authority == issuer);
            if by_token {
                self.used_issuers.insert(issuer.0.to_string());
            } else if !is_by_certificate && !unread {
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
            let audience = self.audience(route, allow, &issuer, by_token, is_by_certificate, notes);
            let rule = Rule {
                issuer: Some(issuer),
                groups: texts(notes.list(&allow.groups, "groups")),
                subjects: texts(notes.list(&allow.subjects, "subjects")),
                claims: claims(&allow.claims, notes),
                audience,
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
        let unread = unread || route.allow.iter().any(|allow| notes.is_told(&allow.get_ref().issuer.span()));
        let by_token =
            |allow: &Spanned<model::Allow>| self.audiences.contains_key(allow.get_ref().issuer.get_ref());
        if let (Some(audience), false, false) = (&route.audience, unread, route.allow.iter().any(by_token)) {
            notes.fault(audience.span(), "audience has no effect where no rule is for tokens; remove it");
        }
        let on_expiry = match &route.on_expiry {
            None => OnExpiry::Drain,
            Some(text) => notes.take(text.span(), on_expiry(text.get_ref()))?,
        };
        Some((Policy { rules, on_expiry }, shown))
    }
}

impl Context<'_> {
    /// What a token must be for by this rule: its own word, or the route's.
    fn audience(
        &self,
        route: &model::Route,
        allow: &model::Allow,
        issuer: &IssuerName,
        by_token: bool,
        is_by_certificate: bool,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<Arc<str>> {
        let Some(known) = self.audiences.get(&*issuer.0).filter(|_| by_token) else {
            if let Some(written) = &allow.audience
                && is_by_certificate
            {
                notes.fault(written.span(), "a certificate has no audience; remove it");
            }
            return Vec::new();
        };
        let written = if allow.audience.is_some() { &allow.audience } else { &route.audience };
        // An issuer's list that could not be read may hold any.
        let unread = known.iter().any(String::is_empty);
        for one in notes.list(written, "audience") {
            if !unread && !known.contains(one.get_ref()) {
                notes.fault(
                    one.span(),
                    format!(
                        "{:?} is none of the audiences of issuer `{issuer}`, so no token could fit; write one of {}",
                        one.get_ref(),
                        known.join(", ")
                    ),
                );
            }
        }
        let distinct: BTreeSet<&String> = known.iter().collect();
        if written.is_none() && distinct.len() > 1 {
            notes.warn(
                allow.issuer.span(),
                format!(
                    "issuer `{issuer}` takes tokens for {}, and each of them opens this route; name the one that is meant: \
                     audience = [{:?}]",
                    known.join(", "),
                    known[0]
                ),
            );
        }
        let written = written.as_ref().map(Spanned::get_ref);
        written.into_iter().flatten().map(|text| text.get_ref().as_str().into()).collect()
    }
}

fn claims(
    written: &Option<Spanned<BTreeMap<String, OneOrMany>>>,
    notes: &mut FaultCollector<'_>,
) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
    let Some(claims) = written else { return BTreeMap::new() };
    if claims.get_ref().is_empty() {
        notes.fault(claims.span(), "claims is empty, which asks for nothing; name some, or remove claims");
    }
    let values = |(name, values): (&String, &OneOrMany)| {
        let values: Vec<Arc<str>> = match values {
            OneOrMany::One(value) => vec![value.as_str().into()],
            OneOrMany::Many(all) => all.iter().map(|value| value.get_ref().as_str().into()).collect(),
        };
        if values.is_empty() {
            notes.fault(claims.span(), format!("claim {name} has no value here, which permits nobody"));
        }
        (name.as_str().into(), values)
    };
    claims.get_ref().iter().map(values).collect()
}

/// True when `earlier` permits everybody whom `later` permits, so that `later` can never matter.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    let all_in = |few: &[Arc<str>], many: &[Arc<str>]| {
        many.is_empty() || (!few.is_empty() && few.iter().all(|one| many.contains(one)))
    };
    earlier.issuer == later.issuer
        && all_in(&later.groups, &earlier.groups)
        && all_in(&later.subjects, &earlier.subjects)
        && all_in(&later.audience, &earlier.audience)
        && earlier.claims.iter().all(|(name, any)| {
            later.claims.get(name).is_some_and(|few| few.iter().all(|one| any.contains(one)))
        })
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
    for (name, values) in &rule.claims {
        text += &format!(", {name} = {}", values.join(" | "));
    }
    if !rule.audience.is_empty() {
        text += &format!(", for {}", rule.audience.join(" | "));
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
