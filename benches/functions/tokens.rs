//! Tokens: looked up in a worker's cache, and verified in full by each kind of signature.
//!
//! Keys come as in production, from an issuer's server, here on loopback: there is no other way in, which is on purpose.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use criterion::{BatchSize, Criterion};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use staunch::identify::cache::TokenCache;
use staunch::identify::oidc::{Algorithm, IssuerSettings, Issuers, Verdict};
use staunch::identify::slots::{Found, Slot, find, strip_names_holding};
use staunch::names::IssuerName;
use staunch::protocol::Fields;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An issuer's keys, one of each kind.
struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

/// ring cannot make RSA keys; this one serves tests and signs nothing else.
const RSA: &str = include_str!("../../src/identify/oidc/tests/rsa.b64");

pub(crate) fn token(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys = Keys::new();
    let (issuers, url) = runtime.block_on(issuer(keys.set()));
    let now = SystemTime::now();
    let mut group = criterion.benchmark_group("token");
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let token = keys.token(algorithm, &url, now);
        let fetched = |verdict: Verdict| match verdict {
            Verdict::Verified(identity) => identity,
            other => panic!("{algorithm}: {other:?}"),
        };
        let verify = |cache: &mut TokenCache| fetched(issuers.verify(cache, token.as_bytes(), now));
        assert_eq!(&*verify(&mut TokenCache::new()).subject, "ann@example.com");
        group.bench_function(format!("verify/{algorithm}"), |bencher| {
            bencher.iter_batched_ref(TokenCache::new, &verify, BatchSize::SmallInput);
        });
        let mut cache = TokenCache::new();
        verify(&mut cache);
        group.bench_function(format!("cached/{algorithm}"), |bencher| {
            bencher.iter(|| black_box(verify(&mut cache)))
        });
        assert_eq!(cache.len(), 1);
    }
    let mut fields = Fields::default();
    let token = keys.token(Algorithm::Es256, &url, now);
    crate::samples::FIELDS.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
    fields.push(b"authorization", format!("Bearer {token}").as_bytes());
    let slots = [Slot::Bearer, Slot::Token, Slot::XApiKey, Slot::ApiKey];
    group.bench_function("slots", |bencher| {
        bencher.iter(|| {
            let Found::One { token, .. } = find(&slots, black_box(&fields)) else {
                panic!("the token is there")
            };
            black_box(strip_names_holding(&slots, &fields, token).len())
        });
    });
    group.finish();
    issuers.stop();
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let rsa = STANDARD.decode(RSA.split_whitespace().collect::<String>()).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Keys {
            rsa: RsaKeyPair::from_der(&rsa).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    /// RFC 7517; each key is named after its algorithm.
    fn set(&self) -> Value {
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "RSA", "kid": "RS256", "use": "sig", "n": text(public.n), "e": text(public.e)},
            {"kty": "EC", "kid": "ES256", "crv": "P-256", "x": text(x), "y": text(y)},
            {"kty": "OKP", "kid": "EdDSA", "crv": "Ed25519", "x": text(self.ed.public_key())},
        ]})
    }

    fn token(&self, algorithm: Algorithm, issuer: &str, now: SystemTime) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": issuer, "aud": "staunch", "sub": "ann@example.com", "iat": now, "exp": now + 3_600,
            "groups": ["agents", "ml", "ops"], "tenant": "a", "email_verified": true, "azp": "notebook",
        });
        let header = json!({"alg": algorithm.name(), "kid": algorithm.name(), "typ": "JWT"});
        let message = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut out = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut out).unwrap();
                out
            }
            Algorithm::Es256 => self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", text(signature))
    }
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A server with these keys, and what believes it.
async fn issuer(keys: Value) -> (Arc<Issuers>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let certificate: CertificateDer<'static> = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = acceptor.accept(tcp).await.expect("the gateway's handshake");
            let mut request = vec![0; 4_096];
            let n = tls.read(&mut request).await.unwrap();
            let document = if request[..n].starts_with(b"GET /keys ") { &keys } else { &discovery };
            let body = document.to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            tls.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            // Who has read all may leave before it is told that this was all.
            let _ = tls.shutdown().await;
        }
    });
    let settings = IssuerSettings {
        name: IssuerName("corp".into()),
        url: url.clone(),
        audience: vec!["staunch".into()],
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        groups_claim: "groups".into(),
        azp: Vec::new(),
        ca: Some(vec![certificate]),
        jwks_hosts: Vec::new(),
    };
    let issuers = Issuers::new(vec![settings]).unwrap();
    issuers.start(&tokio::runtime::Handle::current());
    let soon = SystemTime::now() + Duration::from_secs(10);
    while !issuers.ready(SystemTime::now()) {
        assert!(SystemTime::now() < soon, "the keys did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (issuers, url)
}
