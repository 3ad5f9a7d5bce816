//! The rules for one token: each attack is a test.

use super::*;

const ES: Algorithm = Algorithm::Es256;

/// One issuer with one P-256 key named `k`.
fn one() -> (Signer, Arc<Issuers>) {
    let signer = Signer::ec("P-256");
    let issuers = issuers(settings(URL, &[ES]), &[signer.jwk("k")]);
    (signer, issuers)
}

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_changed_byte() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::for_algorithm(algorithm);
        let issuers = issuers(settings(URL, &[algorithm]), &[signer.jwk("k")]);
        let token = signer.good(algorithm, "k", &claims());
        assert_eq!(verdict(&issuers, &token), "verified ann", "{algorithm}");
        let mut bad = token.clone();
        let middle = bad.len() - 20;
        bad[middle] = if bad[middle] == b'A' { b'B' } else { b'A' };
        assert_eq!(verdict(&issuers, &bad), "signature does not verify", "{algorithm}");
        let other = format!("{}.", String::from_utf8(token).unwrap().rsplit_once('.').unwrap().0);
        assert_eq!(verdict(&issuers, other.as_bytes()), "signature does not verify", "{algorithm}, empty");
    }
}

#[test]
fn an_identity_carries_subject_groups_claims_and_expiry() {
    let (signer, issuers) = one();
    let token = signer.good(ES, "k", &claims());
    let Verdict::Verified(identity) = issuers.verify(&mut TokenCache::new(), &token, now()) else { panic!() };
    assert_eq!(identity.issuer.0.as_ref(), "corp");
    assert_eq!(identity.groups.iter().map(|g| &**g).collect::<Vec<_>>(), ["ml", "ops"]);
    assert!(identity.claims.has("tenant", "a"));
    assert_eq!(identity.expires, now() + Duration::from_secs(300));
}

#[test]
fn algorithm_none_is_refused_in_every_spelling() {
    let (_, issuers) = one();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = b64(json!({"alg": alg, "kid": "k"}).to_string());
        let token = format!("{head}.{}.", b64(claims().to_string()));
        assert_eq!(verdict(&issuers, token.as_bytes()), "algorithm not allowed for this issuer", "{alg}");
    }
}

#[test]
fn an_hmac_with_the_public_key_as_secret_is_refused() {
    let signer = Signer::rsa();
    let jwk = signer.jwk("k");
    let issuers = issuers(settings(URL, &[Algorithm::Rs256]), std::slice::from_ref(&jwk));
    let secret = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for alg in ["HS256", "RS256"] {
        let message =
            format!("{}.{}", b64(json!({"alg": alg, "kid": "k"}).to_string()), b64(claims().to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let token = format!("{message}.{}", b64(ring::hmac::sign(&key, message.as_bytes())));
        let expected = if alg == "HS256" {
            "algorithm not allowed for this issuer"
        } else {
            "signature does not verify"
        };
        assert_eq!(verdict(&issuers, token.as_bytes()), expected);
    }
}

#[test]
fn an_algorithm_that_is_not_pinned_is_refused_though_the_signature_is_right() {
    let signer = Signer::rsa();
    let issuers = issuers(settings(URL, &[Algorithm::Ps256]), &[signer.jwk("k")]);
    let token = signer.good(Algorithm::Rs256, "k", &claims());
    assert_eq!(verdict(&issuers, &token), "algorithm not allowed for this issuer");
}

#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    let (rsa, ec) = (Signer::rsa(), Signer::ec("P-256"));
    let mut narrow = rsa.jwk("narrow");
    narrow["alg"] = json!("PS256");
    let pinned = [Algorithm::Rs256, Algorithm::Ps256, ES];
    let issuers = issuers(settings(URL, &pinned), &[rsa.jwk("r"), ec.jwk("e"), narrow]);
    assert_eq!(verdict(&issuers, &ec.good(ES, "r", &claims())), "algorithm does not fit the key");
    assert_eq!(
        verdict(&issuers, &rsa.good(Algorithm::Rs256, "e", &claims())),
        "algorithm does not fit the key"
    );
    assert_eq!(
        verdict(&issuers, &rsa.good(Algorithm::Rs256, "narrow", &claims())),
        "algorithm does not fit the key"
    );
    assert_eq!(verdict(&issuers, &rsa.good(Algorithm::Ps256, "narrow", &claims())), "verified ann");
}

#[test]
fn a_token_of_other_than_three_parts_is_refused() {
    let (signer, issuers) = one();
    let token = String::from_utf8(signer.good(ES, "k", &claims())).unwrap();
    for parts in [
        token.rsplit_once('.').unwrap().0.to_owned(),
        format!("{token}."),
        format!("{token}.AA.AA"),
        format!(".{token}"),
        token.replace('.', ""),
        String::new(),
    ] {
        assert_eq!(verdict(&issuers, parts.as_bytes()), "not a signed token in compact form", "{parts}");
    }
}

#[test]
fn base64_with_padding_spaces_or_the_other_alphabet_is_refused() {
    let (signer, issuers) = one();
    let token = String::from_utf8(signer.good(ES, "k", &claims())).unwrap();
    for bad in [format!("{token}="), format!("{token}\n"), format!(" {token}"), token.replacen('e', "+", 1)] {
        assert_eq!(verdict(&issuers, bad.as_bytes()), "not a signed token in compact form", "{bad}");
    }
}

#[test]
fn a_key_that_the_token_brings_along_is_ignored() {
    let (_, issuers) = one();
    let own = Signer::ec("P-256");
    for extra in [
        json!({"alg": "ES256", "kid": "k", "jwk": own.jwk("k")}),
        json!({"alg": "ES256", "kid": "k", "jku": "https://evil.example/jwks"}),
        json!({"alg": "ES256", "kid": "k", "x5u": "https://evil.example/x5u"}),
        json!({"alg": "ES256", "kid": "k", "x5c": ["AAAA"]}),
    ] {
        assert_eq!(
            verdict(&issuers, &own.token(ES, &extra, &claims())),
            "signature does not verify",
            "{extra}"
        );
    }
    let elsewhere = json!({"alg": "ES256", "kid": "mine", "jwk": own.jwk("mine")});
    assert_eq!(
        verdict(&issuers, &own.token(ES, &elsewhere, &claims())),
        "fetch, else: the issuer's keys are not available"
    );
}

#[test]
fn critical_header_parameters_are_refused() {
    let (signer, issuers) = one();
    for crit in [json!(["b64"]), json!([]), json!("exp"), Value::Null] {
        let header = json!({"alg": "ES256", "kid": "k", "crit": crit, "b64": false});
        assert_eq!(
            verdict(&issuers, &signer.token(ES, &header, &claims())),
            "the token has critical header parameters"
        );
    }
}

#[test]
fn tokens_of_other_kinds_are_no_bearer_tokens() {
    let (signer, issuers) = one();
    let kind = "the token is of a type that is no access or ID token";
    let by_type = |typ: Value| {
        let header = json!({"alg": "ES256", "kid": "k", "typ": typ});
        verdict(&issuers, &signer.token(ES, &header, &claims()))
    };
    for good in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        assert_eq!(by_type(json!(good)), "verified ann", "{good}");
    }
    for other in [
        "logout+jwt",
        "application/logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "dpop+jwt",
        "oauth-authz-req+jwt",
        "id_token+sd-jwt",
        "JOSE",
        "",
        " jwt",
        "application/",
    ] {
        assert_eq!(by_type(json!(other)), kind, "{other}");
    }
    assert_eq!(by_type(json!(["JWT"])), "not a signed token in compact form");
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    for (changes, expected) in [
        (json!({"events": event}), kind),
        (json!({"token_introspection": {"active": true}}), kind),
        (json!({"typ": "Bearer"}), "verified ann"),
        (json!({"typ": "ID"}), "verified ann"),
        (json!({"typ": "Refresh"}), kind),
        (json!({"typ": "Offline"}), kind),
        // As Keycloak writes them, and as others may.
        (json!({"typ": "InitialAccessToken"}), kind),
        (json!({"typ": "RegistrationAccessToken"}), kind),
        (json!({"typ": "initial-access-token"}), kind),
        (json!({"token_use": "refresh"}), kind),
        (json!({"token_type": "refresh_token"}), kind),
        (json!({"type": "Logout-Token"}), kind),
        (json!({"token_use": "access"}), "verified ann"),
        (json!({"token_type": "Bearer", "type": "user"}), "verified ann"),
        (json!({"typ": 7}), "verified ann"),
    ] {
        assert_eq!(verdict(&issuers, &signer.good(ES, "k", &with(changes.clone()))), expected, "{changes}");
    }
}

#[test]
fn a_token_that_is_bound_to_a_key_or_certificate_is_no_bearer_token() {
    let (signer, issuers) = one();
    for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({"jwk": {}}), json!({}), json!("x")] {
        assert_eq!(
            verdict(&issuers, &signer.good(ES, "k", &with(json!({ "cnf": cnf })))),
            "the token is bound to a key or a certificate and is no bearer token",
            "{cnf}"
        );
    }
}

#[test]
fn claims_are_looked_at_after_the_signature() {
    let (_, issuers) = one();
    let own = Signer::ec("P-256");
    for changes in [json!({"exp": NOW - 31}), json!({"aud": "x"}), json!({"sub": null}), json!({"cnf": {}})] {
        let forged = own.good(ES, "k", &with(changes));
        assert_eq!(verdict(&issuers, &forged), "signature does not verify");
    }
}

#[test]
fn a_refused_token_is_remembered_for_seconds_and_never_beyond_a_change_of_keys() {
    let signer = Signer::p521();
    let issuers = issuers(settings(URL, &[Algorithm::Es512]), &[signer.jwk("k")]);
    let metrics = Arc::new(crate::metrics::WorkerMetrics::default());
    let mut cache = TokenCache::counting(metrics.clone());
    let other = Signer::p521();
    let forged = other.good(Algorithm::Es512, "k", &claims());
    let mut at = |seconds: u64, token: &[u8]| {
        said(issuers.verify(&mut cache, token, now() + Duration::from_secs(seconds)))
    };
    let begun = std::time::Instant::now();
    assert_eq!(at(0, &forged), "signature does not verify");
    let first = begun.elapsed();
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(at(1, &forged), "signature does not verify");
    }
    assert!(begun.elapsed() < first * 50, "{:?} for a hundred, {first:?} for one", begun.elapsed());
    let text = crate::metrics::render(std::slice::from_ref(&metrics), &Default::default());
    for line in ["{outcome=\"hit\"} 100", "{outcome=\"miss\"} 1"] {
        assert!(text.contains(&format!("staunch_token_cache_total{line}\n")), "{text}");
    }
    // What does not hold yet is not held against it.
    let early = signer.good(Algorithm::Es512, "k", &with(json!({"nbf": NOW + 33})));
    assert_eq!(at(0, &early), "not yet valid");
    assert_eq!(at(3, &early), "verified ann");
    issuers.list[0].put(key_set(&[other.jwk("k")]));
    assert_eq!(at(2, &forged), "verified ann");
}

#[test]
fn two_configurations_that_serve_at_once_do_not_clear_each_others_tokens() {
    let (signer, before) = one();
    let after = issuers(settings(URL, &[ES]), &[signer.jwk("k")]);
    let metrics = Arc::new(crate::metrics::WorkerMetrics::default());
    let mut cache = TokenCache::counting(metrics.clone());
    let token = signer.good(ES, "k", &claims());
    for _ in 0..50 {
        assert_eq!(said(before.verify(&mut cache, &token, now())), "verified ann");
        assert_eq!(said(after.verify(&mut cache, &token, now())), "verified ann");
    }
    let text = crate::metrics::render(std::slice::from_ref(&metrics), &Default::default());
    assert!(text.contains("staunch_token_cache_total{outcome=\"miss\"} 2\n"), "{text}");
}

#[test]
fn a_header_parameter_that_stands_twice_is_refused() {
    let (signer, issuers) = one();
    let message =
        format!("{}.{}", b64(r#"{"alg":"none","alg":"ES256","kid":"k"}"#), b64(claims().to_string()));
    let token = format!("{message}.{}", b64(signer.sign(ES, message.as_bytes())));
    assert_eq!(verdict(&issuers, token.as_bytes()), "not a signed token in compact form");
}

#[test]
fn kid_is_exact_and_needed_where_there_are_two_keys() {
    let (a, b) = (Signer::ec("P-256"), Signer::ec("P-256"));
    let two = issuers(settings(URL, &[ES]), &[a.jwk("a"), b.jwk("b")]);
    assert_eq!(verdict(&two, &b.good(ES, "b", &claims())), "verified ann");
    assert_eq!(verdict(&two, &b.good(ES, "a", &claims())), "signature does not verify");
    assert_eq!(
        verdict(&two, &b.good(ES, "B", &claims())),
        "fetch, else: the issuer's keys are not available"
    );
    let unnamed = b.token(ES, &json!({"alg": "ES256"}), &claims());
    assert_eq!(verdict(&two, &unnamed), "the token names no key and the issuer has several");
    let one = issuers(settings(URL, &[ES]), &[b.jwk("b")]);
    assert_eq!(verdict(&one, &unnamed), "verified ann");
}

#[test]
fn claims_to_verdict() {
    let (signer, issuers) = one();
    let malformed = "not a signed token in compact form";
    let table = [
        (json!({"iss": null}), "claim iss is missing"),
        (json!({"iss": "https://idp.example.com/"}), "unknown issuer"),
        (json!({"iss": "https://IDP.example.com"}), "unknown issuer"),
        (json!({"iss": ["https://idp.example.com"]}), malformed),
        (json!({"aud": null}), "claim aud is missing"),
        (json!({"aud": "other"}), "audience is not accepted"),
        (json!({"aud": "Staunch"}), "audience is not accepted"),
        (json!({"aud": []}), "audience is not accepted"),
        (json!({"aud": ["other", "second"]}), "verified ann"),
        (json!({"aud": ["staunch", 7]}), malformed),
        (json!({"aud": {"staunch": true}}), malformed),
        (json!({"exp": null}), "claim exp is missing"),
        (json!({"exp": "2000000000"}), malformed),
        (json!({"exp": NOW - 30}), "verified ann"),
        (json!({"exp": NOW - 31}), "expired"),
        (json!({"nbf": NOW + 30}), "verified ann"),
        (json!({"nbf": NOW + 31}), "not yet valid"),
        (json!({"nbf": "soon"}), malformed),
        (json!({"iat": NOW + 30}), "verified ann"),
        (json!({"iat": NOW + 31}), "not yet valid"),
        (json!({"iat": null}), "verified ann"),
        (json!({"sub": null}), "claim sub is missing"),
        (json!({"sub": ""}), "claim sub is missing"),
        (json!({"sub": 7}), malformed),
    ];
    for (changes, expected) in table {
        let token = signer.good(ES, "k", &with(changes.clone()));
        assert_eq!(verdict(&issuers, &token), expected, "{changes}");
    }
}

#[test]
fn azp_must_be_one_of_the_configured_when_any_is() {
    let signer = Signer::ec("P-256");
    let mut strict = settings(URL, &[ES]);
    strict.azp = vec!["cli".into(), "ide".into()];
    let issuers = issuers(strict, &[signer.jwk("k")]);
    for (changes, expected) in [
        (json!({"azp": "ide"}), "verified ann"),
        (json!({"azp": "web"}), "authorized party is not accepted"),
        (json!({}), "claim azp is missing"),
        (json!({"azp": ["ide"]}), "not a signed token in compact form"),
    ] {
        assert_eq!(verdict(&issuers, &signer.good(ES, "k", &with(changes.clone()))), expected, "{changes}");
    }
}

#[test]
fn a_token_beyond_sixteen_kib_is_refused_and_one_of_that_size_is_read() {
    let (signer, issuers) = one();
    let small = signer.good(ES, "k", &claims()).len();
    let sized = |pad: usize| signer.good(ES, "k", &with(json!({"pad": "x".repeat(pad)})));
    let fits =
        (0..).map(|less| sized((16_384 - small) * 3 / 4 - 12 - less)).find(|t| t.len() <= 16_384).unwrap();
    assert!(fits.len() > 16_300);
    assert_eq!(verdict(&issuers, &fits), "verified ann");
    assert_eq!(verdict(&issuers, &sized(13_000)), "the token is longer than 16 KiB");
}

#[test]
fn a_refused_token_of_an_unknown_key_is_not_worth_a_fetch() {
    let (signer, issuers) = one();
    assert_eq!(verdict(&issuers, &signer.good(ES, "new", &with(json!({"exp": NOW - 31})))), "expired");
    assert_eq!(
        verdict(&issuers, &signer.good(ES, "new", &with(json!({"aud": "x"})))),
        "audience is not accepted"
    );
    assert_eq!(
        verdict(&issuers, &signer.good(ES, "new", &claims())),
        "fetch, else: the issuer's keys are not available"
    );
}

#[test]
fn a_remembered_token_expires_and_goes_with_its_key() {
    let (signer, issuers) = one();
    let mut cache = TokenCache::new();
    let token = signer.good(ES, "k", &claims());
    let mut at =
        |seconds: u64| said(issuers.verify(&mut cache, &token, now() + Duration::from_secs(seconds)));
    assert_eq!(at(0), "verified ann");
    assert_eq!(at(330), "verified ann");
    assert_eq!(at(331), "expired");
    assert_eq!(at(0), "verified ann");
    issuers.list[0].put(key_set(&[signer.jwk("k"), Signer::ec("P-256").jwk("next")]));
    assert_eq!(at(0), "verified ann");
    issuers.list[0].put(key_set(&[Signer::ec("P-256").jwk("k")]));
    assert_eq!(at(0), "signature does not verify");
    assert_eq!(cache.len(), 1);
}

#[test]
fn keys_serve_until_a_day_beyond_their_time_and_no_longer() {
    let (signer, issuers) = one();
    let token = signer.good(ES, "k", &with(json!({"exp": NOW + 200_000})));
    let mut cache = TokenCache::new();
    let mut at =
        |seconds: u64| said(issuers.verify(&mut cache, &token, now() + Duration::from_secs(seconds)));
    assert_eq!(at(86_400), "verified ann");
    assert_eq!(at(86_401), "fetch, else: the issuer's keys are not available");
}

#[test]
fn another_configuration_does_not_see_what_this_one_verified() {
    let (signer, before) = one();
    let mut cache = TokenCache::new();
    let token = signer.good(ES, "k", &claims());
    assert_eq!(said(before.verify(&mut cache, &token, now())), "verified ann");
    let mut changed = settings(URL, &[ES]);
    changed.audience = vec!["elsewhere".into()];
    let after = issuers(changed, &[signer.jwk("k")]);
    assert_eq!(said(after.verify(&mut cache, &token, now())), "audience is not accepted");
}

#[test]
fn a_reload_keeps_the_keys_of_unchanged_issuers_only() {
    let (signer, before) = one();
    let token = signer.good(ES, "k", &claims());
    let same = Issuers::new(vec![settings(URL, &[ES])]).unwrap();
    same.adopt(&before);
    assert!(same.ready(now()));
    assert_eq!(verdict(&same, &token), "verified ann");
    let mut changed = settings(URL, &[ES]);
    changed.jwks_hosts = vec!["keys.example.com".into()];
    let changed = Issuers::new(vec![changed]).unwrap();
    changed.adopt(&before);
    assert!(!changed.ready(now()));
    assert_eq!(verdict(&changed, &token), "fetch, else: the issuer's keys are not available");
}

#[test]
fn settings_that_cannot_work_are_named() {
    let change = |f: &dyn Fn(&mut IssuerSettings)| {
        let mut one = settings(URL, &[ES]);
        f(&mut one);
        Issuers::new(vec![one]).map(|_| ()).unwrap_err().to_string()
    };
    for (fault, part) in [
        (change(&|s| s.url = "http://idp.example.com".into()), "is no https URL"),
        (change(&|s| s.url = "https://idp.example.com?x".into()), "query"),
        (change(&|s| s.audience.clear()), "no audience"),
        (change(&|s| s.algorithms.clear()), "no algorithm"),
        (change(&|s| s.jwks_hosts = vec!["a/b".into()]), "jwks_hosts"),
        (change(&|s| s.ca = Some(vec![])), "ca holds no certificate"),
        (change(&|s| s.ca = Some(vec![b"x".to_vec().into()])), "certificate of ca"),
    ] {
        assert!(fault.starts_with("issuer corp: ") && fault.contains(part), "{fault}");
    }
    assert!(Issuers::new(vec![settings(URL, &[ES]), settings(URL, &[ES])]).is_err(), "the same twice");
    assert!("HS256".parse::<Algorithm>().unwrap_err().contains("public keys"));
    assert!(Algorithm::ALL.iter().all(|a| a.to_string().parse() == Ok(*a)));
}

#[test]
fn no_fault_shows_any_of_the_token() {
    let (signer, issuers) = one();
    let token =
        signer.good(ES, "canary-kid", &with(json!({"iss": "https://canary.example", "sub": "canary"})));
    let verdict = issuers.verify(&mut TokenCache::new(), &token, now());
    assert!(
        !format!("{verdict:?} {}", said(issuers.verify(&mut TokenCache::new(), &token, now())))
            .contains("canary")
    );
}
