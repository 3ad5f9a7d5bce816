//! What is configured of an issuer.

use crate::names::IssuerName;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;

/// One configured issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The name under which policies speak of it.
    pub name: IssuerName,
    /// Its identifier, character for character as in `iss` and in its discovery document; `https` only.
    pub url: String,
    /// A token must be for at least one of these.
    pub audience: Vec<String>,
    /// The only algorithms that are accepted from this issuer.
    pub algorithms: Vec<Algorithm>,
    /// The claim that holds groups: a name, or a path with dots.
    pub groups_claim: String,
    /// If not empty, `azp` must be there and be one of these.
    pub azp: Vec<String>,
    /// The authorities that vouch for the issuer's server; `None` means those of the system.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// Hosts besides the issuer's own that may serve its keys (`host` or `host:port`). Google's issuer needs
    /// `www.googleapis.com`. Empty is usual: a discovery document must not choose where the gateway connects to.
    pub jwks_hosts: Vec<String>,
}

/// A signature algorithm of RFC 7518 or RFC 8037. HMAC and `none` do not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSA PKCS#1 1.5, SHA-256.
    Rs256,
    /// RSA PKCS#1 1.5, SHA-384.
    Rs384,
    /// RSA PKCS#1 1.5, SHA-512.
    Rs512,
    /// RSA PSS, SHA-256.
    Ps256,
    /// RSA PSS, SHA-384.
    Ps384,
    /// RSA PSS, SHA-512.
    Ps512,
    /// ECDSA P-256, SHA-256.
    Es256,
    /// ECDSA P-384, SHA-384.
    Es384,
    /// ECDSA P-521, SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 10] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// The name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Algorithm::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| {
            let hint = match text {
                "none" | "HS256" | "HS384" | "HS512" => "only signatures with public keys are accepted",
                _ => "unknown algorithm",
            };
            format!("{hint}; use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA")
        })
    }
}

/// A setting of an issuer, for whoever shows where a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// [`IssuerSettings::url`].
    Url,
    /// [`IssuerSettings::audience`].
    Audience,
    /// [`IssuerSettings::algorithms`].
    Algorithms,
    /// [`IssuerSettings::jwks_hosts`].
    JwksHosts,
    /// [`IssuerSettings::ca`].
    Ca,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer {issuer}: {what}")]
pub struct IssuerFault {
    /// Which issuer.
    pub issuer: IssuerName,
    /// What is wrong, and what to write instead.
    pub what: String,
}
