//! Tokens: what nobody signed is never verified, what was signed is, and no byte of it can be another.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use staunch::identify::cache::TokenCache;
use staunch::identify::oidc::{Algorithm, IssuerSettings, Issuers, Verdict};
use staunch::names::IssuerName;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

/// Half an hour before the tokens that are meant to pass expire.
const NOW: Duration = Duration::from_secs(1_000_000);

struct Scene {
    issuers: Arc<Issuers>,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let name = IssuerName("i".into());
    let issuers = Issuers::new(vec![IssuerSettings {
        name: name.clone(),
        url: "https://i".into(),
        audience: vec!["a".into()],
        algorithms: Algorithm::ALL.to_vec(),
        groups_claim: "groups".into(),
        azp: Vec::new(),
        ca: None,
        jwks_hosts: Vec::new(),
    }])
    .unwrap();
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (BASE64.encode(x), BASE64.encode(y));
    let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
    issuers.provide(&name, jwks.as_bytes(), SystemTime::UNIX_EPOCH + 2 * NOW).unwrap();
    Scene { issuers, key, random }
});

fn verified(token: &[u8]) -> bool {
    let now = SystemTime::UNIX_EPOCH + NOW;
    matches!(SCENE.issuers.verify(&mut TokenCache::new(), token, now), Verdict::Verified(_))
}

fn signed(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = SCENE.key.sign(&SCENE.random, message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64.encode(signature)).into_bytes()
}

/// One input.
pub fn run(data: &[u8]) {
    assert!(!verified(data), "nobody signed this");

    // Whatever the issuer may sign, it does not make us fall over.
    let half = data.len() / 2;
    verified(&signed(br#"{"alg":"ES256","kid":"k"}"#, data));
    verified(&signed(&data[..half], &data[half..]));

    let subject: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let claims = format!(r#"{{"iss":"https://i","aud":"a","sub":"s{subject}","exp":1001800}}"#);
    let mut token = signed(br#"{"alg":"ES256","kid":"k"}"#, claims.as_bytes());
    assert!(verified(&token), "this was signed");
    if let [place, more, change, ..] = *data
        && change != 0
    {
        let place = usize::from(u16::from_be_bytes([place, more])) % token.len();
        token[place] ^= change;
        assert!(!verified(&token), "a byte was changed at {place}");
    }
}
