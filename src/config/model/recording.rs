//! Recordings.

use super::parts::{Duration, Size, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// Recordings of sessions, sealed to auditors. Without this section nothing is recorded.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Recording {
    /// Where they stand; a directory of this gateway's own, that nobody else can read or change.
    #[schemars(with = "String")]
    pub directory: Text,
    /// Who can read them: the public halves that `staunch audit keygen` or `age-keygen` print (`age1…`). Two at least, so
    /// that one lost key does not lose them all.
    #[schemars(with = "Vec<String>")]
    pub auditors: Spanned<Vec<Text>>,
    /// Allows a single auditor. Default false.
    #[serde(default)]
    pub unsafe_single_auditor: bool,
    /// Who can read facts alone, texts of statements among them, and no bytes of sessions. Default: nobody more.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub indexers: Vec<Text>,
    /// What has happened to bytes before they are forwarded: `process` (the kernel has them: nothing is lost when the
    /// gateway is killed), `1s` (besides, all is on the disk once a second), `commit` (they are on the disk). Default `process`.
    ///
    /// Cost: with `commit` about 1 ms for each turn of a worker, with `1s` one sync a second.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub durability: Option<Text>,
    /// What routes do that say nothing: `strict` (nothing is forwarded that is not recorded), `async` (recording holds
    /// nothing up; what does not fit is lost, counted and noted), or false. Default `strict`.
    #[serde(default)]
    #[schemars(with = "Option<Record>")]
    pub record: Option<Spanned<Record>>,
    /// Bytes at which a segment is closed, 4MiB to 4GiB. Default `256MiB`.
    ///
    /// Cost: two of them reserved on the disk for each worker and retention class in use.
    #[serde(default)]
    #[schemars(with = "Option<Size>")]
    pub segment_size: Option<Text>,
    /// Age at which a segment is closed. Default `10m`.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub segment_age: Option<Text>,
    /// Bytes of `async` sessions that may wait to be written, for each worker. Default `64MiB`.
    ///
    /// Cost: so much memory for each worker at most.
    #[serde(default)]
    #[schemars(with = "Option<Size>")]
    pub queue: Option<Text>,
    /// Classes of retention, which routes name. Default: one that keeps all.
    #[serde(default)]
    #[schemars(with = "Vec<Retention>")]
    pub retention: Vec<Spanned<Retention>>,
}

/// How long recordings of some routes are kept. What is held is kept longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retention {
    /// How routes call it. The first class is that of routes that name none.
    #[schemars(with = "String")]
    pub name: Text,
    /// Age at which a segment is deleted: `400d`. Default: never.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub age: Option<Text>,
    /// Bytes above which the oldest segments are deleted. Default: no limit.
    #[serde(default)]
    #[schemars(with = "Option<Size>")]
    pub size: Option<Text>,
}

/// Whether a route is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Record {
    /// `strict` or `async`.
    Mode(String),
    /// False: not at all.
    Off(bool),
}
