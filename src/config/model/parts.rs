//! What several tables are made of.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::borrow::Cow;
use toml::Spanned;

/// A text and where it stands.
pub type Text = Spanned<String>;

/// What a duration looks like, in the schema alone: the value stays a text until its fault can be told with the others.
pub const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";

/// What a size looks like, in the schema alone.
pub const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

/// A text that is a duration, for the schema.
pub(super) enum Duration {}

/// A text that is a size, for the schema.
pub(super) enum Size {}

/// A text of a pattern, in the schema.
macro_rules! by_pattern {
    ($type:ident, $pattern:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

by_pattern!(Duration, DURATION);
by_pattern!(Size, SIZE);

/// The certificate that clients are shown: from PEM files (`chain` and `key`), or from an ACME authority (`acme`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct ServerCertificate {
    /// The certificates, the leaf first: a PEM file, or `credential:NAME` of systemd's.
    #[schemars(with = "Option<String>")]
    pub chain: Option<Text>,
    /// The leaf's private key in PEM: a file that only its owner can read, one of root's that this service's group can
    /// read, or `credential:NAME` of systemd's.
    #[schemars(with = "Option<String>")]
    pub key: Option<Text>,
    /// Authorities that issue and renew the certificate by ACME, asked in turn until one does: `letsencrypt`,
    /// `letsencrypt-staging`, a name of `[acme.authority]`, or a directory's URL. One or several.
    #[schemars(with = "Option<OneOrMany>")]
    pub acme: Option<Spanned<OneOrMany>>,
    /// acme: how control of the names is proven: `tls-alpn-01` (port 443 of each name leads here), `http-01` (port 80 leads
    /// to `http` of `[acme]`) or `dns-01` (by `dns_hook` of `[acme]`; the only one for wildcards). Default `tls-alpn-01`.
    #[schemars(with = "Option<String>")]
    pub challenge: Option<Text>,
    /// acme: names of the certificate besides those of `sni`: DNS names, or addresses.
    #[schemars(with = "Option<Vec<String>>")]
    pub names: Option<Spanned<Vec<Text>>>,
    /// acme: the profile to ask for, such as Let's Encrypt's `classic`, `tlsserver`, `shortlived`. Default: that of
    /// `[acme.authority]`, else the authority's own choice.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Text>,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeyPair {
    /// Certificates, the leaf first: a file, or `credential:NAME` of systemd's.
    #[schemars(with = "String")]
    pub chain: Text,
    /// The leaf's private key: a file that only its owner can read, one of root's that this service's group can read, or
    /// `credential:NAME` of systemd's.
    #[schemars(with = "String")]
    pub key: Text,
}

/// One text or a list of them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(#[schemars(with = "Vec<String>")] Vec<Text>),
}

/// Reads "one or several" by the shape of what stands there; serde's own way would lose the places of the parts.
macro_rules! by_shape {
    ($type:ty, $expecting:literal $(, text $text:expr)? $(, table $table:expr)? $(, list $list:expr)?) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Shape;
                impl<'de> serde::de::Visitor<'de> for Shape {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    $(fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text.to_owned()))
                    })?
                    $(fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map($table)
                    })?
                    $(fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<$type, A::Error> {
                        let mut all = Vec::new();
                        while let Some(one) = list.next_element()? {
                            all.push(one);
                        }
                        Ok($list(all))
                    })?
                }
                from.deserialize_any(Shape)
            }
        }
    };
}
pub(super) use by_shape;

by_shape!(OneOrMany, "a text or a list of texts", text OneOrMany::One, list OneOrMany::Many);
