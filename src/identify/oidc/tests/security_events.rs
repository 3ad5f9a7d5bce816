//! Security events as an issuer and an attacker send them.

use super::*;

const ES: Algorithm = Algorithm::Es256;
const EVENT: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

fn event(changes: Value) -> Value {
    let mut claims = json!({"iss": URL, "aud": "signals", "iat": NOW, "jti": "e-1", "events": {EVENT: {}},
                            "sub_id": {"format": "opaque", "id": "ann"}});
    for (name, value) in changes.as_object().unwrap() {
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value.clone(),
        }
    }
    claims
}

async fn judged(issuers: &Issuers, token: &[u8]) -> String {
    match issuers.security_event(token, &["signals".into()], now()).await {
        Ok(event) => format!("event {} of {}", event.id, event.issuer),
        Err(fault) => fault.to_string(),
    }
}

#[tokio::test]
async fn only_what_says_that_it_is_an_event_is_one() {
    let signer = Signer::ec("P-256");
    let issuers = issuers(settings(URL, &[ES]), &[signer.jwk("k")]);
    let signed = |typ: Value, claims: &Value| {
        signer.token(ES, &json!({"alg": "ES256", "kid": "k", "typ": typ}), claims)
    };
    for typ in ["secevent+jwt", "application/secevent+jwt", "SECEVENT+JWT"] {
        let set = signed(json!(typ), &event(json!({})));
        assert_eq!(judged(&issuers, &set).await, "event e-1 of corp", "{typ}");
        // And it is no token, whatever it says besides.
        let token = signed(json!(typ), &event(json!({"aud": "staunch", "exp": NOW + 300, "sub": "ann"})));
        assert!(!verdict(&issuers, &token).starts_with("verified"), "{typ}");
    }
    for typ in [json!("JWT"), json!("at+jwt"), json!("logout+jwt"), json!(""), Value::Null] {
        let set = signed(typ.clone(), &event(json!({})));
        assert!(judged(&issuers, &set).await.starts_with("no security event token"), "{typ}");
        let token = signed(typ.clone(), &event(json!({"aud": "staunch", "exp": NOW + 300, "sub": "ann"})));
        assert!(!verdict(&issuers, &token).starts_with("verified"), "{typ}");
    }
    let unnamed = signer.token(ES, &json!({"alg": "ES256", "kid": "k"}), &event(json!({})));
    assert!(judged(&issuers, &unnamed).await.starts_with("no security event token"));
}

#[tokio::test]
async fn claims_of_an_event_are_held_to_the_standard() {
    let signer = Signer::ec("P-256");
    let issuers = issuers(settings(URL, &[ES]), &[signer.jwk("k")]);
    let header = json!({"alg": "ES256", "kid": "k", "typ": "secevent+jwt"});
    for (changes, part) in [
        (json!({"aud": ["other", "signals"]}), "event e-1"),
        (json!({"aud": "staunch"}), "audience"),
        (json!({"aud": null}), "claim aud is missing"),
        (json!({"iss": "https://evil.example"}), "unknown issuer"),
        (json!({"iss": null}), "claim iss is missing"),
        (json!({"jti": null}), "claim jti is missing"),
        (json!({"jti": ""}), "claim jti is missing"),
        (json!({"jti": "x".repeat(1_025)}), "jti has more than"),
        (json!({"iat": null}), "claim iat is missing"),
        (json!({"iat": NOW + 31}), "not yet valid"),
        (json!({"iat": NOW - 86_400}), "event e-1"),
        (json!({"exp": NOW + 300}), "does not expire"),
        (json!({"events": null}), "events is not"),
        (json!({"events": {}}), "events is not"),
        (json!({"events": [EVENT]}), "events is not"),
        (json!({"events": {EVENT: true}}), "events is not"),
    ] {
        let said = judged(&issuers, &signer.token(ES, &header, &event(changes.clone()))).await;
        assert!(said.contains(part), "{changes}: {said}");
    }
}

#[tokio::test]
async fn an_event_is_signed_by_its_own_issuer_with_a_pinned_algorithm() {
    let (signer, stranger) = (Signer::ec("P-256"), Signer::ec("P-256"));
    let issuers = issuers(settings(URL, &[ES]), &[signer.jwk("k")]);
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "secevent+jwt"});
    let claims = event(json!({}));
    let ed = Signer::ed();
    let mut unsigned = signer.token(ES, &header("none", "k"), &claims);
    unsigned.truncate(unsigned.iter().rposition(|byte| *byte == b'.').unwrap() + 1);
    for (set, part) in [
        (stranger.token(ES, &header("ES256", "k"), &claims), "signature does not verify"),
        (ed.token(Algorithm::EdDsa, &header("EdDSA", "k"), &claims), "algorithm not allowed"),
        (unsigned, "algorithm not allowed"),
        // Nobody fetches here: the key cannot be asked for.
        (stranger.token(ES, &header("ES256", "other"), &claims), "unknown key"),
        (b"a.b.c".to_vec(), "not a signed token"),
        (Vec::new(), "not a signed token"),
    ] {
        let said = judged(&issuers, &set).await;
        assert!(said.contains(part), "{part}: {said}");
    }
}
