//! Tokens and issuers as an attacker and an operator meet them.

mod fetching;
mod security_events;
mod tokens;

use super::refresh::Limits;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use std::time::Duration;

const URL: &str = "https://idp.example.com";
const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn settings(url: &str, algorithms: &[Algorithm]) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName("corp".into()),
        url: url.into(),
        audience: vec!["staunch".into(), "second".into()],
        algorithms: algorithms.to_vec(),
        groups_claim: "groups".into(),
        azp: vec![],
        ca: None,
        jwks_hosts: vec![],
    }
}

/// A private key of an issuer.
enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair, &'static str),
    P521(p521::ecdsa::SigningKey),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// RSA keys cannot be made with ring; this one was made for these tests and signs nothing else.
    fn rsa() -> Self {
        let der = STANDARD.decode(include_str!("rsa.b64").split_whitespace().collect::<String>()).unwrap();
        Signer::Rsa(Box::new(RsaKeyPair::from_der(&der).unwrap()))
    }

    fn ed() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::Ed(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    fn ec(curve: &'static str) -> Self {
        let rng = SystemRandom::new();
        let algorithm = match curve {
            "P-256" => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        Signer::Ec(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &rng).unwrap(), curve)
    }

    fn p521() -> Self {
        // A number below the curve's order, since its first byte is none of the 521 bits.
        let mut secret = ring::rand::generate::<[u8; 66]>(&SystemRandom::new()).unwrap().expose();
        secret[..2].copy_from_slice(&[0, 1]);
        Signer::P521(p521::ecdsa::SigningKey::from_slice(&secret).unwrap())
    }

    fn for_algorithm(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Signer::ec("P-256"),
            Algorithm::Es384 => Signer::ec("P-384"),
            Algorithm::Es512 => Signer::p521(),
            Algorithm::EdDsa => Signer::ed(),
            _ => Signer::rsa(),
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": b64(public.n), "e": b64(public.e)})
            }
            Signer::Ec(key, curve) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "kid": kid, "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Signer::P521(key) => {
                let point = p521::ecdsa::VerifyingKey::from(key).to_sec1_point(false);
                let (x, y) = point.as_bytes()[1..].split_at(66);
                json!({"kty": "EC", "kid": kid, "crv": "P-521", "x": b64(x), "y": b64(y)})
            }
            Signer::Ed(key) => {
                json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64(key.public_key())})
            }
        }
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match self {
            Signer::Rsa(key) => {
                let padding: &dyn sig::RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &sig::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &sig::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &sig::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &sig::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &sig::RSA_PSS_SHA512,
                    _ => &sig::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(padding, &rng, message, &mut out).unwrap();
                out
            }
            Signer::Ec(key, _) => key.sign(&rng, message).unwrap().as_ref().to_vec(),
            Signer::P521(key) => {
                let signature: p521::ecdsa::Signature = p521::ecdsa::signature::Signer::sign(key, message);
                signature.to_bytes().to_vec()
            }
            Signer::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with exactly this header and these claims.
    fn token(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> Vec<u8> {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", b64(signature)).into_bytes()
    }

    /// An ordinary token.
    fn good(&self, algorithm: Algorithm, kid: &str, claims: &Value) -> Vec<u8> {
        self.token(algorithm, &json!({"alg": algorithm.name(), "kid": kid, "typ": "JWT"}), claims)
    }
}

fn claims() -> Value {
    json!({"iss": URL, "aud": "staunch", "sub": "ann", "exp": NOW + 300, "iat": NOW, "groups": ["ml", "ops"],
           "tenant": "a"})
}

/// `claims` with some replaced; null takes one out.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value.clone(),
        }
    }
    claims
}

fn key_set(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes(), now() + Duration::from_secs(86_400))
        .unwrap()
}

fn issuers(settings: IssuerSettings, jwks: &[Value]) -> Arc<Issuers> {
    let issuers = Issuers::new(vec![settings]).unwrap();
    issuers.list[0].put(key_set(jwks));
    issuers
}

/// The verdict as one line.
fn said(verdict: Verdict) -> String {
    match verdict {
        Verdict::Verified(identity) => format!("verified {}", identity.subject),
        Verdict::Refused(fault) => fault.to_string(),
        Verdict::Fetch(wanted) => format!("fetch, else: {}", wanted.fault()),
    }
}

fn verdict(issuers: &Issuers, token: &[u8]) -> String {
    said(issuers.verify(&mut TokenCache::new(), token, now()))
}
