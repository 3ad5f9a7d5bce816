//! What several tables are made of.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A text and where it stands.
pub type Text = Spanned<String>;

/// A certificate and its key, in PEM files.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeyPair {
    /// Certificates, the leaf first.
    #[schemars(with = "String")]
    pub chain: Text,
    /// The leaf's private key, in a file that only its owner can read.
    #[schemars(with = "String")]
    pub key: Text,
}
