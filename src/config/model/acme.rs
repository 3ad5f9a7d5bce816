//! Certificates from ACME authorities: what all of them share.

use super::parts::Text;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// Certificates from ACME authorities: what all of them share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Acme {
    /// Directory for account keys and certificates, the gateway's alone (mode 0700). Default: `acme` below systemd's state
    /// directory, else `/var/lib/staunch/acme`.
    #[schemars(with = "Option<String>")]
    pub state: Option<Text>,
    /// Address and port that answer http-01 challenges and nothing else, such as `0.0.0.0:80`. Default: none.
    #[schemars(with = "Option<String>")]
    pub http: Option<Text>,
    /// Where authorities may write to: mail addresses. Default: none.
    #[schemars(with = "Vec<String>")]
    pub contact: Vec<Text>,
    /// The program that sets DNS records for dns-01, and its first arguments. `present` or `cleanup`, the record's name and
    /// its value come behind them. It ends with 0 once all servers of the zone have the record.
    #[schemars(with = "Option<Vec<String>>")]
    pub dns_hook: Option<Spanned<Vec<Text>>>,
    /// Authorities by the name that `acme` of a certificate calls them. `letsencrypt` and `letsencrypt-staging` are there
    /// without, and may be given more here.
    #[schemars(with = "BTreeMap<String, AcmeAuthority>")]
    pub authority: BTreeMap<String, Spanned<AcmeAuthority>>,
}

/// An ACME authority.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct AcmeAuthority {
    /// The directory's URL. Always https. May be left out for `letsencrypt` and `letsencrypt-staging`.
    #[schemars(with = "Option<String>")]
    pub directory: Option<Text>,
    /// The URL of a directory for trying things out, which the same `ca` vouches for: once an order has failed, the next goes
    /// there first, so that failures use up none of the authority's limits. Default: Let's Encrypt's for `letsencrypt`.
    #[schemars(with = "Option<String>")]
    pub staging: Option<Text>,
    /// PEM file with the authority of the directory's own certificate. Default: the system's authorities.
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// The identifier of an external account binding, where the authority wants one (ZeroSSL, Google, Sectigo).
    #[schemars(with = "Option<String>")]
    pub eab_key_id: Option<Text>,
    /// Its MAC key as the authority gives it (base64url), by reference: `{secret:NAME}`.
    #[schemars(with = "Option<String>")]
    pub eab_key: Option<Text>,
    /// The certificate profile to ask for. Default: the authority's own choice.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Text>,
}
