//! Policy: who may use a route. Pure: no clock, no I/O; the empty policy denies.

pub mod claims;
pub mod honeytoken;
pub mod revocation;

use crate::names::{IssuerName, RouteName};
use claims::Claims;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Who speaks, as proven by a token or a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which issuer vouches for it: a configured OIDC issuer, or a client certificate authority.
    pub issuer: IssuerName,
    /// `sub` of the token, or the name taken from the certificate.
    pub subject: Arc<str>,
    /// Groups from the configured claim, or mapped from the certificate.
    pub groups: Vec<Arc<str>>,
    /// Claims that policies may ask for, flattened with dots; only strings, numbers and booleans, as text, and lists of
    /// them. A token's `aud` is among them.
    pub claims: Claims,
    /// How it was proven.
    pub proof: Proof,
    /// When the proof ends (`exp`, or the certificate's notAfter).
    pub expires: SystemTime,
}

/// How an identity was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// An OIDC token (JWT).
    Token,
    /// A client certificate.
    Certificate,
}

impl Proof {
    /// The word used in logs.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Token => "token",
            Proof::Certificate => "certificate",
        }
    }
}

/// One line of a route's `allow` list. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Required issuer; `None` means any configured issuer.
    pub issuer: Option<IssuerName>,
    /// At least one of these groups; empty means no condition.
    pub groups: Vec<Arc<str>>,
    /// One of these subjects; empty means no condition.
    pub subjects: Vec<Arc<str>>,
    /// Each claim must be, or hold, one of these values; empty means no condition.
    pub claims: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// The token must be for one of these (`aud`); empty means no condition.
    pub audience: Vec<Arc<str>>,
}

impl Rule {
    /// Explains which conditions of this rule an identity does not meet: what it has, and what is required.
    fn misses(&self, identity: &Identity) -> Vec<String> {
        fn any<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
            let all: Vec<String> = texts.into_iter().map(|text| format!("{:?}", text.as_ref())).collect();
            if all.is_empty() { "none".into() } else { all.join(" or ") }
        }
        let mut misses = Vec::new();
        if let Some(issuer) = self.issuer.as_ref().filter(|issuer| **issuer != identity.issuer) {
            misses.push(format!("wants issuer {issuer}, has {}", identity.issuer));
        }
        if !self.groups.is_empty() && !self.groups.iter().any(|group| identity.groups.contains(group)) {
            misses.push(format!(
                "wants group {}, has {}",
                any(&self.groups),
                any(identity.groups.iter().take(MAX_SHOWN_VALUES))
            ));
        }
        if !self.subjects.is_empty() && !self.subjects.contains(&identity.subject) {
            misses.push(format!("wants subject {}, has {:?}", any(&self.subjects), identity.subject));
        }
        for (name, values) in &self.claims {
            if !values.iter().any(|value| identity.claims.has(name, value)) {
                misses.push(format!(
                    "wants {name} {}, has {}",
                    any(values),
                    any(identity.claims.values(name).take(MAX_SHOWN_VALUES))
                ));
            }
        }
        if !self.audience.is_empty() && !self.audience.iter().any(|one| identity.claims.has("aud", one)) {
            misses.push(format!(
                "wants aud {}, has {}",
                any(&self.audience),
                any(identity.claims.values("aud").take(MAX_SHOWN_VALUES))
            ));
        }
        misses
    }

    fn holds(&self, identity: &Identity) -> bool {
        self.issuer.as_ref().is_none_or(|i| *i == identity.issuer)
            && (self.groups.is_empty() || self.groups.iter().any(|g| identity.groups.contains(g)))
            && (self.subjects.is_empty() || self.subjects.contains(&identity.subject))
            && self.claims.iter().all(|(name, any)| any.iter().any(|value| identity.claims.has(name, value)))
            && (self.audience.is_empty() || self.audience.iter().any(|one| identity.claims.has("aud", one)))
    }
}

/// Values of an identity that an explanation shows.
const MAX_SHOWN_VALUES: usize = 8;

/// What happens to permitted work when its token expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExpiry {
    /// What was admitted may finish; what is new is refused.
    #[default]
    Drain,
    /// Ends it at the moment of expiry.
    Cut,
    /// Ends it this long after expiry.
    Grace(Duration),
}

/// A route's policy: the rules of `allow`, any of which permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules; none permits nobody.
    pub rules: Vec<Rule>,
    /// What expiry does to what was admitted.
    pub on_expiry: OnExpiry,
}

/// Proof that a policy said yes to an identity on a route. Only [`Policy::permit`] makes one,
/// and an upstream cannot be dialled without one.
#[derive(Clone, Debug)]
pub struct Permit {
    route: RouteName,
    identity: Arc<Identity>,
    rule: usize,
    ends: Option<SystemTime>,
}

impl Permit {
    /// The route that was permitted.
    pub fn route(&self) -> &RouteName {
        &self.route
    }
    /// Who was permitted.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
    /// Which line of `allow` said yes, from 0.
    pub fn rule(&self) -> usize {
        self.rule
    }
    /// When what was admitted under this permit must end; `None` lets it finish (`drain`).
    pub fn ends(&self) -> Option<SystemTime> {
        self.ends
    }
}

/// The policy said no: the identity is known, and nothing in `allow` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No rule names this identity.
    NoRule,
    /// The identity's proof had expired at the time of asking.
    Expired,
}

impl Policy {
    /// Why no rule names an identity: for each rule what it wants and what was there.
    pub fn explain(&self, identity: &Identity) -> String {
        if self.rules.is_empty() {
            return "the route has no rule in allow, which permits nobody".into();
        }
        let one = |(number, rule): (usize, &Rule)| {
            format!("rule {}: {}", number + 1, rule.misses(identity).join(", "))
        };
        self.rules.iter().enumerate().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Asks whether `identity` may use `route` at the time `now`.
    pub fn permit(
        &self,
        route: &RouteName,
        identity: &Arc<Identity>,
        now: SystemTime,
    ) -> Result<Permit, Refused> {
        if identity.expires + CLOCK_SKEW < now {
            return Err(Refused::Expired);
        }
        let rule = self.rules.iter().position(|rule| rule.holds(identity)).ok_or(Refused::NoRule)?;
        let ends = match self.on_expiry {
            OnExpiry::Drain => None,
            OnExpiry::Cut => Some(identity.expires),
            OnExpiry::Grace(extra) => Some(identity.expires + extra),
        };
        Ok(Permit { route: route.clone(), identity: identity.clone(), rule, ends })
    }
}

/// How far two honest clocks may differ; granted on `exp` and `nbf`.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: &str, subject: &str, groups: &[&str], claims: &[(&str, &str)]) -> Arc<Identity> {
        Arc::new(Identity {
            issuer: IssuerName(issuer.into()),
            subject: subject.into(),
            groups: groups.iter().map(|g| Arc::from(*g)).collect(),
            claims: claims.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect(),
            proof: Proof::Token,
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000),
        })
    }

    fn rule(issuer: Option<&str>, groups: &[&str], subjects: &[&str], claims: &[(&str, &str)]) -> Rule {
        Rule {
            issuer: issuer.map(|i| IssuerName(i.into())),
            groups: groups.iter().map(|g| Arc::from(*g)).collect(),
            subjects: subjects.iter().map(|g| Arc::from(*g)).collect(),
            claims: claims.iter().map(|(k, v)| (Arc::from(*k), vec![Arc::from(*v)])).collect(),
            audience: vec![],
        }
    }

    fn verdict(rules: Vec<Rule>, identity: &Arc<Identity>) -> Result<usize, Refused> {
        let policy = Policy { rules, on_expiry: OnExpiry::Drain };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(500);
        policy.permit(&RouteName("r".into()), identity, now).map(|p| p.rule())
    }

    #[test]
    fn identity_times_rule_to_verdict() {
        let ann = identity("corp", "ann", &["ml", "ops"], &[("tenant", "a")]);
        let table: Vec<(&str, Vec<Rule>, Result<usize, Refused>)> = vec![
            ("the empty policy denies", vec![], Err(Refused::NoRule)),
            ("any identity of the issuer", vec![rule(Some("corp"), &[], &[], &[])], Ok(0)),
            ("another issuer", vec![rule(Some("other"), &[], &[], &[])], Err(Refused::NoRule)),
            ("one group of two", vec![rule(None, &["agents", "ml"], &[], &[])], Ok(0)),
            ("a group it lacks", vec![rule(None, &["agents"], &[], &[])], Err(Refused::NoRule)),
            ("group names do not match by prefix", vec![rule(None, &["m"], &[], &[])], Err(Refused::NoRule)),
            ("subject", vec![rule(None, &[], &["ann"], &[])], Ok(0)),
            ("subject is case-sensitive", vec![rule(None, &[], &["Ann"], &[])], Err(Refused::NoRule)),
            ("claim", vec![rule(None, &[], &[], &[("tenant", "a")])], Ok(0)),
            ("claim of another value", vec![rule(None, &[], &[], &[("tenant", "b")])], Err(Refused::NoRule)),
            ("absent claim", vec![rule(None, &[], &[], &[("plan", "x")])], Err(Refused::NoRule)),
            (
                "all conditions of a rule",
                vec![rule(Some("corp"), &["ml"], &["bob"], &[])],
                Err(Refused::NoRule),
            ),
            ("the second rule", vec![rule(None, &[], &["bob"], &[]), rule(None, &["ops"], &[], &[])], Ok(1)),
        ];
        for (name, rules, expected) in table {
            assert_eq!(verdict(rules, &ann), expected, "{name}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_there_and_what_would_do() {
        let ann = identity("corp", "ann", &["visitors"], &[("tenant", "a")]);
        let said = |rules| Policy { rules, on_expiry: OnExpiry::Drain }.explain(&ann);
        assert_eq!(
            said(vec![rule(Some("corp"), &["ml", "ops"], &[], &[])]),
            r#"rule 1: wants group "ml" or "ops", has "visitors""#
        );
        let two = said(vec![
            rule(Some("other"), &[], &["bob"], &[]),
            rule(None, &[], &[], &[("tenant", "b"), ("plan", "x")]),
        ]);
        assert!(
            two.contains(r#"rule 1: wants issuer other, has corp, wants subject "bob", has "ann""#),
            "{two}"
        );
        assert!(two.contains(r#"rule 2: wants plan "x", has none, wants tenant "b", has "a""#), "{two}");
        assert!(said(vec![]).contains("permits nobody"));
    }

    #[test]
    fn a_claim_holds_when_it_is_or_has_one_of_the_values() {
        let roles = claims::join(["reader", "writer"].map(str::to_owned)).unwrap();
        let ann = identity("corp", "ann", &[], &[("roles", &roles), ("tenant", "a b")]);
        let any = |name: &str, values: &[&str]| {
            let values = values.iter().map(|v| Arc::from(*v)).collect();
            let rule = Rule { claims: [(Arc::from(name), values)].into(), ..Rule::default() };
            verdict(vec![rule], &ann).is_ok()
        };
        assert!(any("roles", &["writer"]) && any("roles", &["admin", "reader"]) && any("tenant", &["a b"]));
        assert!(!any("roles", &["read"]) && !any("roles", &["reader writer"]) && !any("roles", &[&roles]));
        assert!(!any("tenant", &["a"]) && !any("absent", &[""]) && !any("roles", &[]));
    }

    #[test]
    fn a_token_for_one_service_does_not_open_another() {
        let audience = |aud: &[&str]| claims::join(aud.iter().map(|a| (*a).to_owned())).unwrap();
        let of = |aud: &[&str]| identity("corp", "ann", &[], &[("aud", &audience(aud))]);
        let payroll = || vec![Rule { audience: vec!["payroll".into()], ..Rule::default() }];
        assert_eq!(verdict(payroll(), &of(&["api"])), Err(Refused::NoRule));
        assert_eq!(verdict(payroll(), &of(&["payroll"])), Ok(0));
        assert_eq!(verdict(payroll(), &of(&["api", "payroll"])), Ok(0));
        assert_eq!(verdict(payroll(), &identity("corp", "ann", &[], &[])), Err(Refused::NoRule));
    }

    #[test]
    fn an_expired_identity_is_refused_beyond_the_skew() {
        let ann = identity("corp", "ann", &[], &[]);
        let policy = Policy { rules: vec![rule(None, &[], &[], &[])], on_expiry: OnExpiry::Cut };
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let route = RouteName("r".into());
        assert!(policy.permit(&route, &ann, at(1_030)).is_ok());
        assert_eq!(policy.permit(&route, &ann, at(1_031)).unwrap_err(), Refused::Expired);
    }

    #[test]
    fn expiry_policy_sets_the_end_of_what_was_admitted() {
        let ann = identity("corp", "ann", &[], &[]);
        let ends = |on_expiry| {
            let policy = Policy { rules: vec![rule(None, &[], &[], &[])], on_expiry };
            policy.permit(&RouteName("r".into()), &ann, SystemTime::UNIX_EPOCH).unwrap().ends()
        };
        assert_eq!(ends(OnExpiry::Drain), None);
        assert_eq!(ends(OnExpiry::Cut), Some(ann.expires));
        assert_eq!(ends(OnExpiry::Grace(Duration::from_secs(5))), Some(ann.expires + Duration::from_secs(5)));
    }
}
