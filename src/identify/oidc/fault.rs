//! Why a token is refused.

use crate::protocol::RefusalReason;

/// Why a token is refused. The text names the rule and holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenFault {
    /// More than 16 KiB.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// Not three parts of base64url with JSON in them, or a claim of the wrong type. Encrypted tokens have five parts.
    #[error("not a signed token in compact form")]
    Malformed,
    /// A `crit` header parameter.
    #[error("the token has critical header parameters")]
    Critical,
    /// `iss` is not configured.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// `alg` is not in the issuer's list; `none` and HMAC never are.
    #[error("algorithm not allowed for this issuer")]
    Algorithm,
    /// A `typ` of another kind of token (RFC 8725 section 3.11).
    #[error("the token is of a type that is no access or ID token")]
    Type,
    /// `cnf`: good only together with a proof of possession, which is not taken here (RFC 7800).
    #[error("the token is bound to a key or a certificate and is no bearer token")]
    Bound,
    /// The issuer publishes no key of this `kid`.
    #[error("unknown key")]
    UnknownKey,
    /// No `kid`, and the issuer publishes several keys.
    #[error("the token names no key and the issuer has several")]
    UnnamedKey,
    /// The key is not for this algorithm.
    #[error("algorithm does not fit the key")]
    KeyMismatch,
    /// The signature is not by the issuer's key.
    #[error("signature does not verify")]
    Signature,
    /// A mandatory claim is absent or empty.
    #[error("claim {0} is missing")]
    Missing(&'static str),
    /// `aud` has none of the configured audiences.
    #[error("audience is not accepted")]
    Audience,
    /// `azp` is none of the configured ones.
    #[error("authorized party is not accepted")]
    AuthorizedParty,
    /// `exp` is past.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("not yet valid")]
    NotYetValid,
    /// No key of this issuer could be had, or not for a day; or the token's key is unknown and cannot be asked for just
    /// now.
    #[error("the issuer's keys are not available")]
    Unavailable,
}

impl TokenFault {
    /// True when the same token will be refused again, until the issuer's keys or the configuration change.
    pub(super) fn is_lasting(self) -> bool {
        !matches!(self, TokenFault::NotYetValid | TokenFault::Unavailable)
    }

    /// The reason in the client's terms.
    pub fn why(self) -> RefusalReason {
        match self {
            TokenFault::Expired => RefusalReason::ExpiredToken,
            TokenFault::Unavailable => RefusalReason::IssuerUnavailable,
            _ => RefusalReason::InvalidToken,
        }
    }
}
