//! A real, small OIDC issuer: discovery document, keys, token endpoint; ES256.
//!
//! It knows a handful of people and programs that it was told of, and hands out tokens for the client credentials
//! grant (RFC 6749 section 4.4). There is no login page: a client with the right secret may name the person it acts
//! for with `user=`, which no issuer outside a demo allows.

use super::ca::{Leaf, random_hex};
use super::server::{Answer, Encryption, Handler, Server, bind};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response, StatusCode};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A program that may ask for tokens.
#[derive(Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: String,
}

/// Somebody of whom the issuer speaks.
#[derive(Clone, Debug)]
pub struct User {
    /// `sub`.
    pub subject: String,
    /// `groups`.
    pub groups: Vec<String>,
}

/// The running issuer; it ends when dropped.
pub struct Issuer {
    inner: Arc<Inner>,
    _server: Server,
}

struct Inner {
    url: String,
    audience: String,
    key: EcdsaKeyPair,
    /// `kid`: the key's thumbprint (RFC 7638).
    kid: String,
    client: Client,
    users: Vec<User>,
}

impl Issuer {
    /// Starts it on a loopback port with a certificate that names `127.0.0.1`.
    pub fn start(leaf: Leaf, audience: &str, users: Vec<User>) -> Result<Issuer, String> {
        let listener = bind().map_err(|e| format!("the issuer's socket: {e}"))?;
        Self::on(listener, leaf, audience, users)
    }

    fn on(listener: TcpListener, leaf: Leaf, audience: &str, users: Vec<User>) -> Result<Issuer, String> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .ok()
            .and_then(|pkcs8| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).ok())
            .ok_or("the issuer's key cannot be made")?;
        let address = listener.local_addr().map_err(|e| format!("the issuer's socket: {e}"))?;
        let (x, y) = coordinates(&key);
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let inner = Arc::new(Inner {
            url: format!("https://{address}"),
            audience: audience.into(),
            kid: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes())),
            key,
            client: Client { id: "demo".into(), secret: random_hex::<16>() },
            users,
        });
        let server = Server::start("issuer", listener, leaf, inner.clone())?;
        Ok(Issuer { inner, _server: server })
    }

    /// The issuer's name, which is where its discovery document stands: `https://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The program that may ask the token endpoint.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// A signed token, without going through the token endpoint.
    pub fn token(&self, subject: &str, groups: &[String], lifetime: Duration) -> String {
        self.inner.token(subject, groups, lifetime, SystemTime::now())
    }

    /// Its keys (RFC 7517), as they stand at `jwks_uri`.
    pub fn jwks(&self) -> Value {
        self.inner.jwks()
    }

    /// Its public key: PEM, SubjectPublicKeyInfo (RFC 5480 section 2).
    pub fn public_key_pem(&self) -> String {
        // SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING } around the point.
        const PREFIX: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        let der = [&PREFIX[..], self.inner.key.public_key().as_ref()].concat();
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|l| std::str::from_utf8(l).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

impl Inner {
    fn token(&self, subject: &str, groups: &[String], lifetime: Duration, now: SystemTime) -> String {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let header = json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"});
        let claims = json!({
            "iss": self.url,
            "aud": self.audience,
            "sub": subject,
            "groups": groups,
            "iat": seconds(now),
            "exp": seconds(now + lifetime),
            "jti": random_hex::<8>(),
        });
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature =
            self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("the system has random bytes");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/jwks.json", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "authorization_endpoint": format!("{}/authorize", self.url),
            "response_types_supported": ["code"],
            "grant_types_supported": ["client_credentials"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "groups"],
        })
    }

    fn jwks(&self) -> Value {
        let (x, y) = coordinates(&self.key);
        let key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y});
        json!({"keys": [key]})
    }

    /// RFC 6749 sections 4.4 and 5.
    fn grant(&self, request: &Request<Bytes>) -> Result<Value, (StatusCode, &'static str)> {
        let form = form(request.body()).ok_or((StatusCode::BAD_REQUEST, "invalid_request"))?;
        let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let (id, secret) = basic(request)
            .or_else(|| Some((field("client_id")?, field("client_secret")?)))
            .ok_or((StatusCode::UNAUTHORIZED, "invalid_client"))?;
        // Digests are compared, so that the time tells nothing of the secret.
        let same = |a: &str, b: &str| {
            digest(&SHA256, a.as_bytes()).as_ref() == digest(&SHA256, b.as_bytes()).as_ref()
        };
        if !(same(&id, &self.client.id) & same(&secret, &self.client.secret)) {
            return Err((StatusCode::UNAUTHORIZED, "invalid_client"));
        }
        if field("grant_type").as_deref() != Some("client_credentials") {
            return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type"));
        }
        let user = match field("user") {
            None => self.users.first(),
            Some(name) => self.users.iter().find(|u| u.subject == name),
        }
        .ok_or((StatusCode::BAD_REQUEST, "invalid_grant"))?;
        let token = self.token(&user.subject, &user.groups, LIFETIME, SystemTime::now());
        Ok(json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME.as_secs()}))
    }
}

impl Handler for Inner {
    fn answer(&self, _: &Encryption, request: Request<Bytes>) -> Response<Answer> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/.well-known/openid-configuration") => {
                Answer::json(StatusCode::OK, &self.discovery())
            }
            (&Method::GET, "/jwks.json") => Answer::json(StatusCode::OK, &self.jwks()),
            (&Method::POST, "/token") => match self.grant(&request) {
                Ok(body) => Answer::json(StatusCode::OK, &body),
                Err((status, error)) => Answer::json(status, &json!({"error": error})),
            },
            _ => Answer::json(StatusCode::NOT_FOUND, &json!({"error": "not_found"})),
        }
    }
}

/// How long tokens live: long enough to try things after the tour.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

/// `x` and `y` of the public key, base64url: the key is 0x04, 32 bytes of x, 32 bytes of y.
fn coordinates(key: &EcdsaKeyPair) -> (String, String) {
    let point = key.public_key().as_ref();
    let encode = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
    (encode(1..33), encode(33..65))
}

/// Client credentials in `Authorization: Basic` (RFC 6749 section 2.3.1: each part is form-encoded first).
fn basic(request: &Request<Bytes>) -> Option<(String, String)> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decode(id)?, decode(secret)?))
}

/// `application/x-www-form-urlencoded`.
fn form(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let pairs = text.split('&').filter(|p| !p.is_empty());
    pairs.map(|pair| pair.split_once('=').and_then(|(n, v)| Some((decode(n)?, decode(v)?)))).collect()
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
