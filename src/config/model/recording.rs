//! Recordings.

use super::parts::{Duration, KeyPair, Size, Text};
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
    ///
    /// Cost: with one lost key, all recordings are lost.
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
    ///
    /// Cost: a segment's head, keys and entry in the log each time.
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
    /// Witnesses that cosign the log (c2sp.org/tlog-witness): other gateways, or others that speak the protocol. They show
    /// when the log was rolled back or forked. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<AskedWitness>")]
    pub witness: Vec<Spanned<AskedWitness>>,
    /// An authority that time-stamps the log (RFC 3161), so that nobody can date what was recorded back. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<Timestamp>")]
    pub timestamp: Option<Spanned<Timestamp>>,
}

/// An authority that time-stamps the log of recordings (RFC 3161).
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timestamp {
    /// Where it takes queries: `http://timestamp.example.com`. It learns a SHA-256, and its answer is signed, so that http
    /// serves as well as https.
    #[schemars(with = "String")]
    pub url: Text,
    /// The authority that its signatures lead to, in a PEM file; the root is enough where answers hold the rest.
    #[schemars(with = "String")]
    pub authority: Text,
    /// The authority of its server's certificate, in a PEM file, for https. Default: the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// Between two requests at least. Default `1h`.
    ///
    /// Cost: about 7 KB on the disk for each, 60 MB a year with the default.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub interval: Option<Text>,
}

/// A witness that is asked to cosign the log of recordings.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AskedWitness {
    /// Its public key: what stands in `witness.pub` of a gateway, or what its operator says (`name+id+key`, Ed25519).
    #[schemars(with = "String")]
    pub key: Text,
    /// Where it takes checkpoints, without `/add-checkpoint`: `https://witness.example.com:9443`.
    #[schemars(with = "String")]
    pub url: Text,
    /// The authority of its certificate, in a PEM file. Default: the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// Between two requests. Default `10s`.
    ///
    /// Cost: a connection with TLS each time the log has grown.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub interval: Option<Text>,
}

/// This gateway as a witness of other gateways' logs (c2sp.org/tlog-witness), on a listener of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Witness {
    /// Address and port. In clear only on loopback, for a proxy in front of it.
    #[schemars(with = "String")]
    pub address: Text,
    /// Where its key stands, and what it has seen; a directory of its own, that nobody else can read or change.
    #[schemars(with = "String")]
    pub directory: Text,
    /// The name of its key, which stands in each cosignature: `gw.example.com/witness`.
    #[schemars(with = "String")]
    pub name: Text,
    /// Its certificate. Default: in clear, on loopback.
    #[serde(default)]
    pub certificate: Option<KeyPair>,
    /// Public keys of the logs that it witnesses: what stands in `log/log.pub` of their recordings. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub logs: Vec<Text>,
}

/// How long recordings of some routes are kept. What is held is kept longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retention {
    /// How routes call it. The first class is that of routes that name none.
    #[schemars(with = "String")]
    pub name: Text,
    /// Age at which a segment is deleted: `400d`. Default: never.
    ///
    /// Cost: the disk that the recordings of so long take.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub age: Option<Text>,
    /// Bytes above which the oldest segments are deleted. Default: no limit.
    ///
    /// Cost: so much disk.
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
