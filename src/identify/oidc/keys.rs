//! The keys that an issuer publishes (JWKS, RFC 7517), and the one signature check.
//!
//! Pure: bytes in, keys out. Only public keys for signatures are kept; what cannot be used here is passed over, so
//! that an issuer may publish keys for other purposes too. `x5c`, `x5u` and all private members are ignored.

use super::settings::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Verifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use ring::signature::{self as sig, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Keys in one document. Large issuers publish fewer than ten.
pub(super) const MAX_KEYS: usize = 100;
/// Shorter RSA keys are refused (RFC 7518 section 3.3), longer ones cost too much time per check.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The usable keys of one issuer at one time.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    generation: u64,
    serves_until: SystemTime,
}

/// One public key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    material: KeyMaterial,
}

#[derive(Debug, PartialEq, Eq)]
enum KeyMaterial {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a key set cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetFault {
    #[error("the key set is not the JSON that RFC 7517 section 5 asks for")]
    Malformed,
    #[error("the key set holds more than {MAX_KEYS} keys")]
    TooMany,
    #[error("the key set holds no key that can be used")]
    Empty,
}

/// What a token's `kid` and `alg` lead to.
pub(super) enum Search<'a> {
    Key(&'a Arc<Key>),
    /// No key of this name.
    Unknown,
    /// No name, and not exactly one key.
    Unnamed,
    /// The key is there, and is not for this algorithm.
    Unfit,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWKS document. The set serves until `serves_until`, fetched again or not.
    pub(super) fn parse(document: &[u8], serves_until: SystemTime) -> Result<Self, KeySetFault> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let document: Document = serde_json::from_slice(document).map_err(|_| KeySetFault::Malformed)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetFault::TooMany);
        }
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for value in document.keys {
            let Some(key) = serde_json::from_value(value).ok().and_then(Key::read) else { continue };
            // A name stands for one key of a kind: a second one could only make the choice depend on the order.
            let taken = |k: &Arc<Key>| {
                k.kid == key.kid
                    && std::mem::discriminant(&k.material) == std::mem::discriminant(&key.material)
            };
            if key.kid.is_none() || !keys.iter().any(taken) {
                keys.push(Arc::new(key));
            }
        }
        if keys.is_empty() {
            return Err(KeySetFault::Empty);
        }
        Ok(KeySet { keys, generation: GENERATION.fetch_add(1, Ordering::Relaxed), serves_until })
    }

    /// Different for every set of this process.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// True if exactly this key is in the set.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.iter().any(|k| **k == *key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn serves(&self, now: SystemTime) -> bool {
        now <= self.serves_until
    }

    /// The key for a token. `kid` is compared exactly; a token without one is taken only where there is no choice.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Search<'_> {
        let Some(kid) = kid else {
            return match &self.keys[..] {
                [key] if key.fits(algorithm) => Search::Key(key),
                [_] => Search::Unfit,
                _ => Search::Unnamed,
            };
        };
        let mut named = self.keys.iter().filter(|k| k.kid.as_deref() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Search::Unknown;
        }
        named.find(|k| k.fits(algorithm)).map_or(Search::Unfit, Search::Key)
    }

    #[cfg(test)]
    pub(super) fn first(&self) -> Arc<Key> {
        self.keys[0].clone()
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<Key> {
        let for_signatures = jwk.purpose.as_deref().is_none_or(|u| u == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures {
            return None;
        }
        let algorithm = match &jwk.alg {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let n = integer(&jwk.n?)?;
                RSA_BYTES.contains(&n.len()).then_some(())?;
                KeyMaterial::Rsa { n, e: integer(&jwk.e?)? }
            }
            ("EC", Some("P-256")) => KeyMaterial::P256(point(&jwk.x?, &jwk.y?, 32)?),
            ("EC", Some("P-384")) => KeyMaterial::P384(point(&jwk.x?, &jwk.y?, 48)?),
            ("EC", Some("P-521")) => {
                let point = point(&jwk.x?, &jwk.y?, 66)?;
                VerifyingKey::from_sec1_bytes(&point).ok()?;
                KeyMaterial::P521(point)
            }
            ("OKP", Some("Ed25519")) => {
                KeyMaterial::Ed25519(URL_SAFE_NO_PAD.decode(jwk.x?).ok().filter(|x| x.len() == 32)?)
            }
            _ => return None,
        };
        let key = Key { kid: jwk.kid, algorithm, material };
        algorithm.is_none_or(|a| key.fits(a)).then_some(key)
    }

    /// The kind of the key decides which algorithms it may serve: a public RSA key never becomes an HMAC secret.
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        let kind = match &self.material {
            KeyMaterial::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            KeyMaterial::P256(_) => algorithm == Es256,
            KeyMaterial::P384(_) => algorithm == Es384,
            KeyMaterial::P521(_) => algorithm == Es512,
            KeyMaterial::Ed25519(_) => algorithm == EdDsa,
        };
        kind && self.algorithm.is_none_or(|a| a == algorithm)
    }

    /// Checks a signature. `algorithm` comes from the issuer's pinned list, never from the token alone.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let done = match &self.material {
            KeyMaterial::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::Rs256 => &sig::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &sig::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &sig::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &sig::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &sig::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &sig::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            KeyMaterial::P256(point) => {
                UnparsedPublicKey::new(&sig::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            KeyMaterial::P384(point) => {
                UnparsedPublicKey::new(&sig::ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            KeyMaterial::P521(point) => return verifies_p521(point, message, signature),
            KeyMaterial::Ed25519(x) => UnparsedPublicKey::new(&sig::ED25519, x).verify(message, signature),
        };
        done.is_ok()
    }
}

/// ES512: `r` and `s` of 66 bytes each (RFC 7518 section 3.4).
fn verifies_p521(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_sec1_bytes(point), Signature::from_slice(signature))
    else {
        return false;
    };
    key.verify(message, &signature).is_ok()
}

/// An unsigned big-endian integer without leading zeros, as ring wants it. Some issuers publish one zero byte more.
fn integer(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let start = bytes.iter().position(|b| *b != 0)?;
    Some(bytes[start..].to_vec())
}

/// `04 x y`: an uncompressed point; ring checks that it is on the curve. RFC 7518 section 6.2.1.2 wants full length.
fn point(x: &str, y: &str, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![4];
    for part in [x, y] {
        bytes.extend(URL_SAFE_NO_PAD.decode(part).ok().filter(|p| p.len() == length)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Result<KeySet, KeySetFault> {
        KeySet::parse(document.as_bytes(), SystemTime::UNIX_EPOCH)
    }

    fn ed(members: &str) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"{members}}}"#, "A".repeat(43))
    }

    #[test]
    fn keys_for_other_purposes_and_weak_keys_are_passed_over() {
        let rsa = |bytes: usize| {
            format!(
                r#"{{"kty":"RSA","kid":"r","n":"{}","e":"AQAB"}}"#,
                URL_SAFE_NO_PAD.encode(vec![255; bytes])
            )
        };
        for unusable in [
            ed(r#","use":"enc""#),
            ed(r#","key_ops":["sign"]"#),
            ed(r#","alg":"RSA-OAEP""#),
            ed(r#","alg":"ES256""#),
            ed(r#","kid":7"#),
            rsa(255),
            rsa(1025),
            r#"{"kty":"oct","kid":"h","k":"c2VjcmV0"}"#.into(),
            r#"{"kty":"EC","crv":"P-521","kid":"e","x":"AA","y":"AA"}"#.into(),
            r#"{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"}"#.into(),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.into(),
            "7".into(),
        ] {
            assert_eq!(
                parse(&format!(r#"{{"keys":[{unusable}]}}"#)).unwrap_err(),
                KeySetFault::Empty,
                "{unusable}"
            );
            let beside = parse(&format!(r#"{{"keys":[{unusable},{}]}}"#, ed(r#","kid":"good""#))).unwrap();
            assert_eq!(beside.len(), 1);
        }
        assert_eq!(
            parse(&format!(r#"{{"keys":[{},{}]}}"#, rsa(256), rsa(1024))).unwrap().len(),
            1,
            "one name"
        );
    }

    /// RFC 7515 appendix A.4: a signature that was made elsewhere.
    #[test]
    fn the_example_of_the_rfc_for_es512_verifies_and_no_change_of_it() {
        let jwk = r#"{"kty":"EC","crv":"P-521","kid":"rfc",
            "x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
        let message = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
        let signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xdt\
                         AG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let set = parse(&format!(r#"{{"keys":[{jwk}]}}"#)).unwrap();
        let Search::Key(key) = set.find(Some("rfc"), Algorithm::Es512) else { panic!("no key") };
        assert!(key.verifies(Algorithm::Es512, message, &signature));
        assert!(!key.verifies(Algorithm::Es384, message, &signature));
        assert!(!key.verifies(Algorithm::Es512, b"another", &signature));
        assert!(!key.verifies(Algorithm::Es512, message, &signature[1..]));
        signature[70] ^= 1;
        assert!(!key.verifies(Algorithm::Es512, message, &signature));
    }

    #[test]
    fn a_document_that_is_no_key_set_or_too_long_is_refused() {
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]} x"#] {
            assert_eq!(parse(document).unwrap_err(), KeySetFault::Malformed, "{document}");
        }
        assert_eq!(parse(r#"{"keys":[]}"#).unwrap_err(), KeySetFault::Empty);
        let many = |n: usize| format!(r#"{{"keys":[{}]}}"#, vec![ed(""); n].join(","));
        assert_eq!(parse(&many(MAX_KEYS)).unwrap().len(), MAX_KEYS);
        assert_eq!(parse(&many(MAX_KEYS + 1)).unwrap_err(), KeySetFault::TooMany);
    }

    #[test]
    fn kid_is_compared_exactly_and_needed_where_there_is_a_choice() {
        let one = parse(&format!(r#"{{"keys":[{}]}}"#, ed(r#","kid":"Key-1""#))).unwrap();
        let is_key = |s: Search<'_>| matches!(s, Search::Key(_));
        assert!(is_key(one.find(Some("Key-1"), Algorithm::EdDsa)));
        for near in ["key-1", "Key-1 ", "Key-", "", "../Key-1", "Key-1\0"] {
            assert!(matches!(one.find(Some(near), Algorithm::EdDsa), Search::Unknown), "{near:?}");
        }
        assert!(is_key(one.find(None, Algorithm::EdDsa)));
        assert!(matches!(one.find(None, Algorithm::Rs256), Search::Unfit));
        assert!(matches!(one.find(Some("Key-1"), Algorithm::Es256), Search::Unfit));
        let two = parse(&format!(r#"{{"keys":[{},{}]}}"#, ed(r#","kid":"a""#), ed(r#","kid":"b""#))).unwrap();
        assert!(matches!(two.find(None, Algorithm::EdDsa), Search::Unnamed));
        assert!(is_key(two.find(Some("b"), Algorithm::EdDsa)));
    }
}
