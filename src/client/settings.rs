//! Settings that are remembered for a profile. No secret is among them.

use super::secrets::Reference;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is remembered of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Settings {
    /// Tokens come from a file that something else renews.
    TokenFile(PathBuf),
    /// Tokens come from an issuer.
    Issuer(Box<IssuerSettings>),
}

/// A client of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerSettings {
    /// The issuer's identifier, character for character.
    pub issuer: String,
    /// `client_id`.
    pub client_id: String,
    /// How tokens are asked for.
    pub method: Method,
    /// Which of them the gateway is shown.
    pub token_use: TokenUse,
    /// `scope`; `None`: what the issuer offers of `openid offline_access`.
    pub scope: Option<String>,
    /// `audience`, as some issuers want it.
    pub audience: Option<String>,
    /// `resource` (RFC 8707).
    pub resource: Option<String>,
    /// `prompt` (OpenID Connect Core 1.0 section 3.1.2.1); `None`: `consent` where offline access needs it.
    pub prompt: Option<String>,
    /// The loopback redirect; `None`: `http://127.0.0.1/callback` with a random port.
    pub redirect: Option<String>,
    /// The authorities that vouch for the issuer's server; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Where the client's secret stands; public clients have none.
    pub client_secret: Option<Reference>,
}

impl IssuerSettings {
    /// A client of which nothing else is known.
    pub(super) fn new(issuer: String, client_id: String) -> Self {
        IssuerSettings {
            issuer,
            client_id,
            method: Method::Browser,
            token_use: TokenUse::default(),
            scope: None,
            audience: None,
            resource: None,
            prompt: None,
            redirect: None,
            ca: None,
            client_secret: None,
        }
    }
}

/// How tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    /// Authorisation code with PKCE, a browser on this machine (RFC 8252).
    Browser,
    /// A code that is typed in elsewhere (RFC 8628).
    Device,
    /// A program's own secret (RFC 6749 section 4.4).
    ClientCredentials,
}

/// Which token the gateway is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// The access token. Right where the issuer makes it a JWT whose `aud` names the gateway.
    #[default]
    Access,
    /// The ID token. Its `aud` is the client's id; for issuers whose access tokens are opaque or only for themselves.
    Id,
}

impl TokenUse {
    /// For sentences.
    pub(super) fn name(self) -> &'static str {
        match self {
            TokenUse::Access => "access token",
            TokenUse::Id => "ID token",
        }
    }
}
