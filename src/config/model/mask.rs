//! Masking: named sets of rules, and how a route uses them.

use super::parts::{Duration, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A named set of masking rules.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MaskRules {
    /// How routes call it.
    #[schemars(with = "String")]
    pub name: Text,
    /// Known kinds of values: `personal` (`card`, `iban`, `email`, `ssn`, `phone`, `ip`), `keys` (`aws`, `gcp`, `azure`,
    /// `github`, `gitlab`, `slack`, `stripe`, `openai`, `anthropic`, `huggingface`, `jwt`, `private-key`, `password`,
    /// `authorization`), or single ones of them.
    ///
    /// Cost: as for `mask` of a route.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub detect: Option<Spanned<Vec<Text>>>,
    /// Kinds of values of your own.
    #[serde(default)]
    #[schemars(with = "Vec<MaskPattern>")]
    pub pattern: Vec<Spanned<MaskPattern>>,
    /// Names of JSON members whose values are overwritten as a whole, compared without case.
    ///
    /// Cost: as for `mask` of a route.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub members: Option<Spanned<Vec<Text>>>,
    /// postgres, mysql: names of columns whose values are overwritten as a whole, compared without case, as results name them.
    ///
    /// Cost: as for `mask` of a route.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub columns: Option<Spanned<Vec<Text>>>,
}

/// A kind of value of your own: an anchor, which may pass, and what follows it, which is held and overwritten.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MaskPattern {
    /// How logs and metrics call it.
    #[schemars(with = "String")]
    pub name: Text,
    /// The text directly before each value, at least two characters, case as written. It may pass, and is shown.
    ///
    /// Cost: as for `mask` of a route.
    #[schemars(with = "String")]
    pub anchor: Text,
    /// The value: a regular expression over bytes that takes at most 512 of them.
    #[schemars(with = "String")]
    pub follows: Text,
}

/// What is masked on a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouteMask {
    /// Sets of rules for what comes down: answers. Default: none; the route's own credential is looked for in any case.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub down: Option<Spanned<Vec<Text>>>,
    /// Sets of rules for what goes up: requests. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub up: Option<Spanned<Vec<Text>>>,
    /// `mask` (values are overwritten) or `observe` (they are counted; nothing is changed or held). Default `mask`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub mode: Option<Text>,
    /// How many further events of a stream what might become a value is held. Default 64.
    ///
    /// Cost: so many events may come together instead of one by one.
    #[serde(default)]
    #[schemars(with = "Option<u32>")]
    pub hold_events: Option<Spanned<u32>>,
    /// How long what might become a value is held. Default `5s`.
    ///
    /// Cost: what is held comes so much later at most.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub hold_time: Option<Text>,
    /// What then becomes of it: `mask` (it is overwritten), `cut` (its stream ends as `unmaskable`) or `pass` (it passes as it is,
    /// which is unsafe: whoever can make the sender pause has values pass). Default `mask`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub on_hold_limit: Option<Text>,
}
