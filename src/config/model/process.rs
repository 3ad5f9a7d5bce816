//! What holds for the gateway as a whole.

use super::parts::{Duration, KeyPair, Size, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// Limits of the gateway as a whole.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// From accept to the first permit; never reset. Default `10s`.
    ///
    /// Cost: so long a place among `half_open` for whoever connects and does not say who they are.
    #[schemars(with = "Option<Duration>")]
    pub permit_deadline: Option<Text>,
    /// Client connections in all; 0: no limit. Default: (descriptors − 512) / 2, or fewer where a control group limits the
    /// memory: as many as fit into it at 64 KiB each. The last tenth is for saying in the client's protocol that there is no
    /// room; beyond the limit connections are closed at once.
    ///
    /// Cost: two descriptors and about 6 KiB (raw) to 12 KiB (HTTP/2) for each idle connection.
    pub connections: Option<usize>,
    /// Client connections per source address (of IPv6: per /64); 0: no limit. Default 0. The last tenth is for saying so, as above.
    ///
    /// Cost: a count for each address that has connections.
    pub connections_per_address: usize,
    /// Connections that are not permitted yet, in all; 0: no limit. Default: a quarter of `connections`, none with
    /// `half_open_per_address = 0`. Beyond it, the address (of IPv6: the /64) with the most of them loses its oldest for each one that comes.
    ///
    /// Cost: up to 24 KiB for each.
    pub half_open: Option<usize>,
    /// Connections of a source address (of IPv6: a /64) that are not permitted yet; 0: no limit. Default 256. Four times
    /// as many more wait, unread, until an earlier one is permitted or ends; those beyond are closed at once. Behind a
    /// balancer it counts for the address that its PROXY header tells.
    ///
    /// Cost: as for `half_open`; those that wait hold a descriptor.
    pub half_open_per_address: Option<usize>,
    /// From TERM to the end. Default `30s`.
    ///
    /// Cost: so long a stop or an upgrade may take.
    #[schemars(with = "Option<Duration>")]
    pub drain: Option<Text>,
    /// Bytes of a request head. Default `32KiB`, at most `256KiB`.
    ///
    /// Cost: so much memory for a connection while a head arrives.
    #[schemars(with = "Option<Size>")]
    pub head: Option<Text>,
    /// Fields of a request head. Default 100, at most 128.
    ///
    /// Cost: some bytes for each field while a head is read.
    #[schemars(with = "Option<usize>")]
    pub fields: Option<Spanned<usize>>,
    /// Concurrent HTTP/2 streams of a connection. Default 100.
    ///
    /// Cost: a stream's state and its request's head for each that is open.
    #[schemars(with = "Option<u32>")]
    pub streams: Option<Spanned<u32>>,
    /// HTTP/2 streams of a connection that a client may reset as soon as it began them (within 50 ms, unanswered), or have reset by
    /// breaking rules, at once. Beyond it the connection ends (CVE-2023-44487). Default 100.
    ///
    /// Cost: at worst so many requests of a connection that begin upstream for nothing, at once.
    #[schemars(with = "Option<u32>")]
    pub resets: Option<Spanned<u32>>,
    /// Such resets that are forgiven each second. Default 33.
    ///
    /// Cost: at worst so many such requests of a connection each second.
    #[schemars(with = "Option<u32>")]
    pub resets_per_second: Option<Spanned<u32>>,
    /// Records sealed with one key before it is renewed (TLS 1.3) or the connection ends (TLS 1.2). Default 16777216,
    /// the limit for AES-GCM; it can only be lowered.
    ///
    /// Cost: a KeyUpdate each time; a TLS 1.2 connection ends there.
    #[schemars(with = "Option<u64>")]
    pub records_per_key: Option<Spanned<u64>>,
}

/// Threads of the data path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Workers {
    /// How many; 0: one per core, at most 1024. Default 0.
    ///
    /// Cost: a thread for each, with 256 KiB for reading bulk, listeners and a cache of tokens of its own.
    #[schemars(with = "Option<usize>")]
    pub count: Option<Spanned<usize>>,
    /// Whether each keeps to one core. Default true.
    ///
    /// Cost: none; without it, a worker that the kernel moves finds its caches cold.
    pub pin: bool,
    /// How long a worker that has nothing to do keeps asking the kernel before it sleeps, at most `1s`, so that events wait for
    /// no core to wake up. Default: it sleeps at once.
    ///
    /// Cost: up to so much of a core for each event; a whole core for each worker while sessions have traffic.
    #[schemars(with = "Option<Duration>")]
    pub busy_poll: Option<Text>,
}

impl Default for Workers {
    fn default() -> Self {
        Workers { count: None, pin: true, busy_poll: None }
    }
}

/// OpenTelemetry traces: a span for each session, for each HTTP request, and for each statement that has a line in the log, sent to a
/// collector by OTLP/HTTP in JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Traces {
    /// The collector's endpoint for traces: `https://collector.example.com:4318/v1/traces`.
    #[schemars(with = "String")]
    pub url: Text,
    /// Authorities that verify the collector (PEM). Default: the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// Where the key stands that is sent as `Authorization: Bearer`: `file:PATH`, `env:NAME` or `credential:NAME`. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub key: Option<Text>,
    /// Of the traces that begin at the gateway, the share that is kept: 0 to 1. Requests with a `traceparent` are kept as that says.
    /// Default 1.
    ///
    /// Cost: some microseconds for each span that is kept, and about 1 KiB until it is sent.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub share: Option<Spanned<f64>>,
}

/// What the running gateway may still ask of the system.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct System {
    /// Whether the kernel keeps the gateway, once its sockets are open, to the files that this configuration names (Landlock)
    /// and from system calls that it never needs, starting programs among them (seccomp): `auto` (as far as the kernel can; the
    /// log says how far), `require` (it does not start otherwise), `off`. Default `auto`.
    ///
    /// Cost: some nanoseconds for each system call before Linux 5.11, next to nothing since.
    #[schemars(with = "Option<String>")]
    pub sandbox: Option<Text>,
}

/// The operator's HTTP: the live page and its JSON API, `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    /// Address and port. Default `127.0.0.1:9901`.
    #[schemars(with = "Option<String>")]
    pub address: Option<Text>,
    /// Allows an address that is not loopback. It has no TLS, and tells everybody the metrics. The live page and orders stay
    /// with loopback, or with whoever has the key. Default false.
    ///
    /// Cost: metrics, and how the gateway is, are for everybody to read who reaches the address.
    pub unsafe_public_admin: bool,
    /// Where the key stands that the live page, `/api/` and orders ask for: `file:PATH`, `env:NAME` or `credential:NAME`, 16
    /// bytes at least. Default: whoever is at loopback may look and give orders.
    #[schemars(with = "Option<String>")]
    pub key: Option<Text>,
    /// Who may give orders from loopback where there is neither `key` nor `operate` nor `view`: `owner` (root, and the user as whom
    /// the gateway runs; other users of the machine look), or `anyone`. Default `owner`.
    #[schemars(with = "Option<String>")]
    pub loopback: Option<Text>,
    /// Names besides `localhost` and addresses under which browsers reach the page. Default: none.
    pub hosts: Vec<String>,
    /// A file in which revocations are kept over a restart; its folder must be writable. Default: a restart forgets them.
    #[schemars(with = "Option<String>")]
    pub revocations: Option<Text>,
    /// A certificate and its key: the listener speaks TLS then, and may have an address that is not loopback where it also has
    /// `key`, `operate` or `view`. A reload reads a new one; whether there is one at all is for a restart to change.
    pub certificate: Option<KeyPair>,
    /// Whose tokens let them look and give orders. Default: nobody's.
    pub operate: Vec<OperatorRule>,
    /// Whose tokens let them look. Default: nobody's.
    pub view: Vec<OperatorRule>,
    /// Where operators log in by their browser; `operate` and `view` say who may. Needs `certificate`. Default: they bring a token.
    pub login: Option<OperatorLogin>,
}

/// Log-ins of operators at an issuer, by authorization code and PKCE.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OperatorLogin {
    /// Name of an issuer. Its ID tokens must tell the groups that `operate` and `view` ask for.
    #[schemars(with = "String")]
    pub issuer: Text,
    /// The gateway's name at the issuer.
    pub client_id: String,
    /// Where the gateway's secret at the issuer stands. Default: it is a public client.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub client_secret: Option<Text>,
    /// What is asked for. Default `openid profile email`.
    #[serde(default)]
    pub scope: Option<String>,
    /// Where browsers reach this listener, without a path: `https://gateway-admin.example.com:9901`. The issuer must know
    /// this with `/login/callback` as a redirect URI.
    #[schemars(with = "String")]
    pub url: Text,
}

/// Operators by their token: of this issuer, and in one of the groups, or one of the subjects, where these are given.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OperatorRule {
    /// Name of an issuer.
    #[schemars(with = "String")]
    pub issuer: Text,
    /// At least one of these groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// One of these subjects.
    #[serde(default)]
    pub subjects: Vec<String>,
}

/// Something that nobody uses in earnest. Whoever shows it raises an alarm: a log line and a metric.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Honeytoken {
    /// How the alarm calls it.
    #[schemars(with = "String")]
    pub name: Text,
    /// The subject of an identity.
    #[serde(default)]
    pub subject: Option<String>,
    /// Its issuer or certificate authority, by name. Default: any.
    #[serde(default)]
    pub issuer: Option<String>,
    /// SHA-256 of a token, in hex; the token need not verify: `printf %s "$TOKEN" | sha256sum`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub token_sha256: Option<Text>,
    /// The user that a database client names.
    #[serde(default)]
    pub database_user: Option<String>,
    /// `cut` (refused, and the session ended) or `watch` (the alarm is all). Default `cut`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub action: Option<Text>,
}

/// The log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Log {
    /// `json`, `human`, or `auto` (human on a terminal). Default `auto`.
    #[schemars(with = "Option<String>")]
    pub format: Option<Text>,
    /// Which diagnostics: `error`, `warn`, `info`, `debug`, or per module as in `warn,staunch::dial=debug`. Evidence lines
    /// are always written. Default `info`.
    #[schemars(with = "Option<String>")]
    pub filter: Option<Text>,
    /// Bytes of lines that may wait to be written before new work is refused. Work that was permitted before may say three times
    /// as much. Default `8MiB`, or a 128th
    /// of the memory that a control group allows; `16KiB` to `1GiB`.
    ///
    /// Cost: at most seven times so much memory, while the log is slow or full.
    #[schemars(with = "Option<Size>")]
    pub buffer: Option<Text>,
    /// What wins when the log takes nothing any more, because its disk is full or its reader has stopped, and what waits for it
    /// has used up its reserve: `refuse` (the evidence: new work is refused, in the end live sessions are closed) or `drop` (the
    /// service: lines are counted and dropped). Default `refuse`.
    #[schemars(with = "Option<String>")]
    pub when_full: Option<Text>,
}
