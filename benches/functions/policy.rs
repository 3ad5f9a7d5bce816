//! Policy: a rule that names a group, found first or after many that do not hold.

use criterion::Criterion;
use staunch::names::{IssuerName, RouteName};
use staunch::policy::{Identity, OnExpiry, Policy, Proof, Rule};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) fn permit(criterion: &mut Criterion) {
    let now = SystemTime::now();
    let corp = IssuerName("corp".into());
    let identity = Arc::new(Identity {
        issuer: corp.clone(),
        subject: "ann@example.com".into(),
        groups: (0..20).map(|n| format!("team-{n}").into()).collect(),
        claims: [("tenant", "a"), ("plan", "large")].map(|(n, v)| (n.into(), v.into())).into_iter().collect(),
        proof: Proof::Token,
        expires: now + Duration::from_secs(3_600),
    });
    let route = RouteName("models".into());
    let group =
        |name: String| Rule { issuer: Some(corp.clone()), groups: vec![name.into()], ..Rule::default() };
    let mut benches = criterion.benchmark_group("policy");
    for (name, others, last) in
        [("first-rule", 0, "team-0"), ("fiftieth-rule", 49, "team-19"), ("no-rule", 50, "none")]
    {
        let mut rules: Vec<Rule> = (0..others).map(|n| group(format!("other-{n}"))).collect();
        rules.push(group(last.into()));
        let policy = Policy { rules, on_expiry: OnExpiry::Drain };
        let verdict = policy.permit(&route, &identity, now);
        assert_eq!(verdict.map(|permit| permit.rule()).ok(), (last != "none").then_some(others));
        benches.bench_function(name, |bencher| {
            bencher.iter(|| black_box(policy.permit(black_box(&route), black_box(&identity), now).is_ok()));
        });
    }
    benches.finish();
}
