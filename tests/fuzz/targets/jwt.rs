//! Tokens: nothing that nobody signed is ever verified.
#![no_main]

use libfuzzer_sys::fuzz_target;
use staunch::identify::cache::TokenCache;
use staunch::identify::oidc::{Algorithm, IssuerSettings, Issuers, Verdict};
use staunch::names::IssuerName;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

static ISSUERS: LazyLock<Arc<Issuers>> = LazyLock::new(|| {
    Issuers::new(vec![IssuerSettings {
        name: IssuerName("i".into()),
        url: "https://i".into(),
        audience: vec!["a".into()],
        algorithms: Algorithm::ALL.to_vec(),
        groups_claim: "groups".into(),
        azp: Vec::new(),
        ca: None,
        jwks_hosts: Vec::new(),
    }])
    .unwrap()
});

fuzz_target!(|data: &[u8]| {
    let verdict = ISSUERS.verify(&mut TokenCache::new(), data, SystemTime::UNIX_EPOCH);
    assert!(!matches!(verdict, Verdict::Verified(_)));
});
