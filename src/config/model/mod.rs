//! The configuration file as it is written. Each field's text is what editors and `staunch schema` show.
//!
//! Values stay texts here, with their place in the file, so that one run can report all that is wrong with them.

mod acme;
mod mask;
mod parts;
mod process;
mod recording;
mod route;

pub use acme::{Acme, AcmeAuthority};
pub use mask::{MaskPattern, MaskRules, RouteMask};
pub use parts::{DURATION, KeyPair, OneOrMany, SIZE, ServerCertificate, Text};
pub use process::{Admin, Honeytoken, Limits, Log, OperatorLogin, OperatorRule, System, Traces, Workers};
pub use recording::{AskedWitness, Record, Recording, Retention, Witness};
pub use route::{
    Allow, CertificateIdentity, Credential, Inject, Route, SubjectGroups, Timeouts, Upstream, UpstreamTable,
};

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The JSON schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// The configuration of a gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect. At least one.
    #[schemars(with = "Vec<Listener>")]
    pub listener: Vec<Spanned<Listener>>,
    /// Who issues tokens.
    #[schemars(with = "Vec<Issuer>")]
    pub issuer: Vec<Spanned<Issuer>>,
    /// Name = where the secret stands, never the secret: `file:PATH` (readable by its owner alone), `env:NAME`, or
    /// `credential:NAME` (systemd's credentials directory).
    #[schemars(with = "BTreeMap<String, String>")]
    pub secrets: BTreeMap<String, Text>,
    /// What clients can reach, under which name, and who may.
    #[schemars(with = "Vec<Route>")]
    pub route: Vec<Spanned<Route>>,
    /// Identities and tokens that nobody uses in earnest: their use is an alarm.
    pub honeytoken: Vec<Honeytoken>,
    /// Certificates from ACME authorities.
    pub acme: Acme,
    /// Named sets of masking rules, for `mask` of routes.
    #[schemars(with = "Vec<MaskRules>")]
    pub mask: Vec<Spanned<MaskRules>>,
    /// Limits of the gateway as a whole.
    pub limits: Limits,
    /// Recordings of sessions. Default: nothing is recorded.
    #[schemars(with = "Option<Recording>")]
    pub recording: Option<Spanned<Recording>>,
    /// This gateway as a witness of other gateways' logs of recordings. Default: it is none.
    #[schemars(with = "Option<Witness>")]
    pub witness: Option<Spanned<Witness>>,
    /// Threads.
    pub workers: Workers,
    /// The operator's HTTP.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// OpenTelemetry traces. Default: none.
    #[schemars(with = "Option<Traces>")]
    pub traces: Option<Spanned<Traces>>,
    /// What the running gateway may still ask of the system.
    pub system: System,
}

/// An address on which clients are served.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// Address and port: `0.0.0.0:443`, `[::]:443` (both families), `127.0.0.1:8443`.
    #[schemars(with = "String")]
    pub address: Text,
    /// Networks (CIDR) whose connections begin with a PROXY protocol header, v1 or v2, which is then required and
    /// believed. Default: none.
    ///
    /// Cost: a read before the TLS handshake; whoever is in these networks names the client's address.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub proxy_protocol_from: Vec<Text>,
    /// The names of the routes that are reached on this listener, under their `sni` or by its tunnel. A name in a TLS
    /// handshake leads to one route on each listener. Default: all routes.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub routes: Option<Spanned<Vec<Text>>>,
    /// The route of clients that send no name in their TLS handshake (ioredis and node-redis by default, Java for names
    /// without a dot, whoever connects to an address). Default: they are refused.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub default_route: Option<Text>,
    /// For PostgreSQL's clients that cancel without TLS (JDBC's `setQueryTimeout`, psycopg, psycopg2, DBeaver, all with a
    /// libpq before 17): a CancelRequest is taken in clear. Whoever reads it on the way can stop that session's statements.
    /// Nothing else is ever read in clear. Default false.
    ///
    /// Cost: cancel keys may be read on the way.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub postgres_cancel_in_clear: Option<Spanned<bool>>,
    /// For MySQL's and MariaDB's clients, which wait for the server to begin: this listener greets them, and serves mysql
    /// routes only. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<MysqlListener>")]
    pub mysql: Option<Spanned<MysqlListener>>,
    /// A name under which clients open any route with HTTP/1.1 `CONNECT route` and `Proxy-Authorization: Bearer <token>`;
    /// `staunch connect` does. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<Tunnel>")]
    pub tunnel: Option<Spanned<Tunnel>>,
}

/// How clients of MySQL's are greeted, before it is known where they want to go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct MysqlListener {
    /// The version that clients are told, best the upstream's own: `8.0.36`, `10.11.6-MariaDB`. Default `8.0.11-staunch`.
    #[schemars(with = "Option<String>")]
    pub version: Option<Text>,
    /// The mysql route of clients that send no name in their TLS handshake, as many do. Default: they are refused.
    #[schemars(with = "Option<String>")]
    pub route: Option<Text>,
}

/// A name that leads to every route.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tunnel {
    /// The name in the client's TLS handshake; no route of the gateway has it.
    #[schemars(with = "String")]
    pub sni: Text,
    /// The certificate that clients are shown.
    #[schemars(with = "ServerCertificate")]
    pub certificate: Spanned<ServerCertificate>,
    /// Post-quantum key exchange (X25519MLKEM768) with clients: `prefer`, `require`, `off`. Default `prefer`.
    ///
    /// Cost: about a tenth more for a new connection.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub pq: Option<Text>,
}

/// An OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Issuer {
    /// How routes call it.
    #[schemars(with = "String")]
    pub name: Text,
    /// Its URL, exactly as in `iss`; discovery stands below it. Always https.
    #[schemars(with = "String")]
    pub oidc: Text,
    /// Values of `aud` that are accepted; at least one.
    #[schemars(with = "Vec<String>")]
    pub audience: Spanned<Vec<Text>>,
    /// The claim that holds groups; dots lead into objects (`realm_access.roles`). Default `groups`.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// Signature algorithms that are accepted: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA.
    /// Default RS256, ES256, EdDSA.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub algorithms: Option<Spanned<Vec<Text>>>,
    /// Values of `azp` that are accepted. Default: any, or none at all.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub azp: Option<Spanned<Vec<String>>>,
    /// PEM file with the authority of the issuer's own certificate. Default: the system's authorities.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// Hosts (`host` or `host:port`) besides the issuer's own from which its keys may be fetched.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub jwks_hosts: Vec<Text>,
    /// The issuer's security events (OpenID Shared Signals, CAEP) end sessions and refuse tokens. Default: none are taken.
    #[serde(default)]
    pub signals: Option<Signals>,
}

/// Security events of an issuer: signed with its keys, pushed to `/api/events/caep` of the operator's listener, or polled.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Signals {
    /// Values of `aud` that events may have; at least one. Best none of those that tokens have.
    #[schemars(with = "Vec<String>")]
    pub audience: Spanned<Vec<Text>>,
    /// Where the key stands that the issuer must send as `Authorization: Bearer` with what it pushes. Default: the signature is
    /// enough.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub push_key: Option<Text>,
    /// The URL where events are polled (RFC 8936). Default: they are pushed.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub poll: Option<Text>,
    /// Where the key stands that is sent as `Authorization: Bearer` with polls.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub poll_key: Option<Text>,
}

fn groups() -> String {
    "groups".into()
}
