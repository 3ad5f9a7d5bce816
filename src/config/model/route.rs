//! Routes: names that clients ask for, and what stands behind them.

use super::mask::RouteMask;
use super::parts::{Duration, KeyPair, OneOrMany, ServerCertificate, Text, by_shape};
use super::recording::Record;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// A name that clients ask for, and what stands behind it.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// How logs and metrics call it.
    #[schemars(with = "String")]
    pub name: Text,
    /// The name in the client's TLS handshake: one or several; `*.example.com` stands for one label. Without one, only a
    /// listener's `tunnel` leads to the route.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub sni: Option<Spanned<OneOrMany>>,
    /// http: further names that `Host` and `:authority` may have besides those of `sni`, without port: one or several DNS
    /// names, `*.example.com` or addresses, or the word `"any"`. A request for another name is answered 421, and what comes
    /// through a tunnel may name anything. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub hosts: Option<Spanned<OneOrMany>>,
    /// `http` (HTTP/1.1, HTTP/2, gRPC, WebSocket: a permit per request), `postgres` (a permit per connection, the token
    /// in the password field), `mysql` (MySQL and MariaDB, the same, on listeners with `mysql`), `redis` (the same, the
    /// token in the place of the password of AUTH or HELLO) or `raw` (any bytes: a permit per connection, for client
    /// certificates, or through a tunnel).
    #[schemars(with = "String")]
    pub protocol: Text,
    /// `tls://host:port`, or a table with more. For a service on this machine that has no TLS, and only with
    /// `unsafe_plaintext_upstream`: `tcp://127.0.0.1:port`, `tcp://[::1]:port` or `unix:/path`.
    #[schemars(with = "Upstream")]
    pub upstream: Spanned<Upstream>,
    /// Allows an upstream without TLS: a literal loopback address or a Unix socket, nothing else. Whoever may read the
    /// traffic of this machine reads what passes there, stored credentials included. Every session's log says so.
    /// Default false.
    ///
    /// Cost: none in time; whoever may read this machine's traffic reads along.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    pub unsafe_plaintext_upstream: Option<Spanned<bool>>,
    /// Upstream connections, handshake and all, that each worker keeps ready for the next sessions while there are some, so
    /// that the first byte does not wait for them; at most 64. None is shared or used twice, and one that nobody needed
    /// for 4 s is closed. They count in `limits.connections`, and there are none in its last tenth. Default 0.
    ///
    /// Cost: so many connections to the upstream for each worker while the route is in use, each with a descriptor and a handshake.
    #[serde(default)]
    #[schemars(with = "Option<u8>")]
    pub dial_ahead: Option<Spanned<u8>>,
    /// The certificate that clients are shown. Needed with `sni`.
    #[serde(default)]
    #[schemars(with = "Option<ServerCertificate>")]
    pub certificate: Option<Spanned<ServerCertificate>>,
    /// Whether clients show a certificate: `none`, `optional`, `required`. Default `none`.
    ///
    /// Cost: one more chain verified in each full handshake.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub client_certificates: Option<Text>,
    /// PEM file with the authorities of client certificates.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub client_ca: Option<Text>,
    /// PEM file with revocation lists for client certificates; when given, every authority in the chain needs one.
    ///
    /// Cost: a look-up for each certificate of the chain in each full handshake.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub client_crl: Option<Text>,
    /// What becomes of clients when a list of `client_crl` is past its next update: `refuse`, or `warn` (it counts as it
    /// is, and `check` and the log say so). Default `refuse`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub client_crl_expired: Option<Text>,
    /// How a client certificate becomes an identity. Default: it does not.
    #[serde(default)]
    #[schemars(with = "Option<CertificateIdentity>")]
    pub certificate_identity: Option<Spanned<CertificateIdentity>>,
    /// Where tokens are looked for: `bearer`, `token`, `x-api-key`, `api-key`. Default: all four. Every slot is taken
    /// out of the request, whatever it holds.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub token_slots: Option<Spanned<Vec<Text>>>,
    /// `auto` (what the upstream turns out to speak), `http/1.1` or `h2`. Default `auto`. An upstream without TLS cannot
    /// be asked: it must be written then, and `auto` means that it speaks both.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub alpn: Option<Text>,
    /// `upstream` (`Host` becomes the upstream's `sni`, without one the host of its address) or `keep` (the client's). Default `upstream`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub host: Option<Text>,
    /// A token for one of these (`aud`), out of the issuer's `audience`: without it, a token for any of them opens this
    /// route. Default: any of the issuer's.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub audience: Option<Spanned<Vec<Text>>>,
    /// Who may use the route: any rule that holds permits. Nobody may without one.
    #[serde(default)]
    #[schemars(with = "Vec<Allow>")]
    pub allow: Vec<Spanned<Allow>>,
    /// The stored credential. http: headers that the gateway sets, one table with `header` and `value` or a list of
    /// them. postgres, mysql, redis: the account as which it logs in, one table with `user` and `password`, or a list
    /// of which the first that fits the identity's `issuer`, `groups` and `subjects` counts.
    #[serde(default)]
    #[schemars(with = "Option<Inject>")]
    pub inject: Option<Spanned<Inject>>,
    /// postgres, mysql: which proofs of the stored account the upstream may ask for, a list as libpq has it. postgres:
    /// `scram-sha-256`, `md5`, `password`, `none`; mysql: `caching_sha2_password`, `mysql_native_password`,
    /// `client_ed25519`, `mysql_clear_password`. Default: any, but an upstream that asks for none although there is a
    /// password is refused. Without TLS the password itself is never sent, whatever stands here.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub require_auth: Option<Text>,
    /// postgres: what the upstream is told as `application_name`, `identity` (the identity's subject) or `client` (what
    /// the client says). Default `client` with `identity_guc`, else `identity`. Clients can set another one later: it informs, it proves nothing.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub application_name: Option<Text>,
    /// postgres: a setting of two names, such as `staunch.subject`, that begins each session with the identity's
    /// subject. Clients can set another one later: it informs, it proves nothing. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub identity_guc: Option<Text>,
    /// mysql: the upstream may ask clients for files of theirs (`LOAD DATA LOCAL`). Default false.
    ///
    /// Cost: the upstream may read each file that a client agrees to send.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    pub local_files: Option<Spanned<bool>>,
    /// postgres, mysql: whether each statement gets a line in the log, `off`, `on` (4 KiB of its text), or a size such
    /// as `16KiB` (64 B to 64 KiB). Passwords are masked and values of parameters left out; what a text quotes
    /// otherwise stands in the log. Default `off`.
    ///
    /// Cost: one log line for each statement, and its text copied up to the limit.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub statements: Option<Text>,
    /// http, postgres, mysql, redis: what is masked in the bodies of requests and answers, in rows and statements, in replies. Default: nothing is looked at.
    ///
    /// Cost: every byte of these is scanned; what may become a value waits.
    #[serde(default)]
    #[schemars(with = "Option<RouteMask>")]
    pub mask: Option<Spanned<RouteMask>>,
    /// What a token's expiry does to what was admitted: `drain` (it may finish), `cut`, or `grace 5m`. Default `drain`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub on_expiry: Option<Text>,
    /// Post-quantum key exchange (X25519MLKEM768) with clients: `prefer`, `require`, `off`. Default `prefer`.
    ///
    /// Cost: about a tenth more for a new connection.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub pq: Option<Text>,
    /// Whether sessions are recorded: `strict`, `async` or false, as in `[recording]`. Default: what that section says.
    ///
    /// Cost: what is forwarded is also written to the disk, with `strict` before it is forwarded.
    #[serde(default)]
    #[schemars(with = "Option<Record>")]
    pub record: Option<Spanned<Record>>,
    /// Headers whose values recordings of what clients send leave out, besides the token's; with a `?` before it, a parameter
    /// of the query: `["cookie", "?token"]`.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub redact: Option<Spanned<Vec<Text>>>,
    /// The retention class of its recordings. Default: the first.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub retention: Option<Text>,
    /// This route's timeouts.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Where a route leads.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Upstream {
    /// `tls://host:port`, or without TLS `tcp://127.0.0.1:port` or `unix:/path`.
    Address(String),
    /// With more to say.
    Table(Box<UpstreamTable>),
}

/// An upstream with more to say than its address.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamTable {
    /// `tls://host:port`, or without TLS `tcp://127.0.0.1:port` or `unix:/path`; all other keys but
    /// `peer_user` are for TLS.
    #[schemars(with = "String")]
    pub address: Text,
    /// PEM file with the authority of the upstream's certificate. Default: the system's authorities.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<Text>,
    /// `sha256/BASE64` of the upstream's public key (SubjectPublicKeyInfo); must match besides chain and name.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub pin: Option<Text>,
    /// The name to ask for and to verify, where it is not the host of the address. On http routes `Host` becomes this name too, with
    /// the port of the address.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub sni: Option<Text>,
    /// The certificate that the gateway shows.
    #[serde(default)]
    pub certificate: Option<KeyPair>,
    /// How long the addresses of the host are used before it is looked up again, at most `1h`. Default `10s`. While the
    /// name server does not answer, addresses of the last ten minutes are used.
    ///
    /// Cost: one lookup for each worker and such a time.
    #[serde(default)]
    #[schemars(with = "Option<Duration>")]
    pub dns_ttl: Option<Text>,
    /// `unix:` only: the user, by name or number, whose process must listen on the socket; nothing is sent to another's.
    /// Of a socket that systemd opened it is `root`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub peer_user: Option<Text>,
    /// Post-quantum key exchange with the upstream: `prefer`, `require`, `off`. Default `prefer`.
    ///
    /// Cost: about a tenth more for a new connection.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub pq: Option<Text>,
    /// postgres: how TLS begins, `request` (SSLRequest first, as every PostgreSQL understands) or `direct` (at once,
    /// with ALPN `postgresql`: PostgreSQL 17 and later). Default `request`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub negotiation: Option<Text>,
}

/// How a client certificate becomes an identity.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CertificateIdentity {
    /// What `allow` calls the authority, as `issuer`.
    #[schemars(with = "String")]
    pub name: Text,
    /// Where the subject stands, the most wanted first: `uri`, `dns`, `email`, `cn`.
    #[schemars(with = "Vec<String>")]
    pub subject: Spanned<Vec<Text>>,
    /// Groups by subject.
    #[serde(default)]
    pub groups: Vec<SubjectGroups>,
}

/// The groups of subjects that match a pattern.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubjectGroups {
    /// A subject that stands in `uri`: itself, or a pattern such as `spiffe://corp/ci/*` for all below a path.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub uri: Option<Text>,
    /// A subject that stands in `dns`: itself, or a pattern such as `*.example.com` for one label.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub dns: Option<Text>,
    /// A subject that stands in `email`: itself, or a pattern such as `*@example.com` for a domain.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub email: Option<Text>,
    /// A subject that stands in `cn`: itself, or a pattern with one `*` at its start or end.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub cn: Option<Text>,
    /// The same where `certificate_identity` reads one place only.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub subject: Option<Text>,
    /// Their groups.
    pub groups: Vec<String>,
}

/// One rule: every condition that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Allow {
    /// An issuer's name, or the name of a `certificate_identity`.
    #[schemars(with = "String")]
    pub issuer: Text,
    /// One of these groups.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub groups: Option<Spanned<Vec<String>>>,
    /// One of these subjects.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub subjects: Option<Spanned<Vec<String>>>,
    /// Each of these claims with exactly this value, or one of several; dots lead into objects. Of a list, such as
    /// `roles`, one element must be it; of `scope`, one word.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, OneOrMany>>")]
    pub claims: Option<Spanned<BTreeMap<String, OneOrMany>>>,
    /// A token for one of these (`aud`), out of the issuer's `audience`. Default: the route's `audience`.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub audience: Option<Spanned<Vec<Text>>>,
}

/// One credential or several.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Inject {
    /// One.
    One(Box<Credential>),
    /// Several.
    Many(#[schemars(with = "Vec<Credential>")] Vec<Spanned<Credential>>),
}

/// A header that the gateway sets in place of the client's, or an account as which it logs in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Credential {
    /// http: the header's name.
    #[schemars(with = "Option<String>")]
    pub header: Option<Text>,
    /// http: the header's value; `{secret:NAME}` stands for a secret.
    #[schemars(with = "Option<String>")]
    pub value: Option<Text>,
    /// postgres, mysql, redis: the user that the upstream knows. Default for redis: `default`.
    #[schemars(with = "Option<String>")]
    pub user: Option<Text>,
    /// postgres, mysql, redis: its password, `{secret:NAME}`. Only a postgres upstream may do without, that is shown a
    /// certificate or has no TLS.
    #[schemars(with = "Option<String>")]
    pub password: Option<Text>,
    /// postgres, mysql, redis: the account is for identities of this issuer (or `certificate_identity`). Default: for
    /// all. Needed beside `groups` or `subjects` where `allow` names several: each has groups and subjects of its own.
    #[schemars(with = "Option<String>")]
    pub issuer: Option<Text>,
    /// postgres, mysql, redis: the account is for identities in one of these groups. Default: for all.
    #[schemars(with = "Option<Vec<String>>")]
    pub groups: Option<Spanned<Vec<String>>>,
    /// postgres, mysql, redis: the account is for these subjects. Default: for all.
    #[schemars(with = "Option<Vec<String>>")]
    pub subjects: Option<Spanned<Vec<String>>>,
}

/// Timeouts of a route. What a stream costs does not depend on them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// Resolving, connecting, shaking hands and, for a database, logging in at the upstream, all together. Default `5s`.
    ///
    /// Cost: so long a client waits for its refusal where the upstream is out of reach.
    #[schemars(with = "Option<Duration>")]
    pub connect: Option<Text>,
    /// HTTP with no request under way. Default `5m`.
    ///
    /// Cost: so long an idle connection keeps its place among `limits.connections`.
    #[schemars(with = "Option<Duration>")]
    pub between_requests: Option<Text>,
    /// HTTP: the upstream has a whole request and does not begin to answer; the client gets a 504. Default: as long as `idle`, for
    /// models think for minutes.
    ///
    /// Cost: so long a request waits for an upstream that hangs.
    #[schemars(with = "Option<Duration>")]
    pub response: Option<Text>,
    /// Nothing moves either way, and nothing waits for a peer that does not read (`stall`): raw bytes, tunnels, a response that is
    /// awaited. Default `1h`.
    ///
    /// Cost: so long a connection on which nothing happens keeps its place.
    #[schemars(with = "Option<Duration>")]
    pub idle: Option<Text>,
    /// A peer reads nothing although there is something for it. Default `2m`.
    ///
    /// Cost: so long a peer that reads nothing keeps its place, and up to 64 KiB and a record.
    #[schemars(with = "Option<Duration>")]
    pub stall: Option<Text>,
}

by_shape!(Upstream, "\"tls://host:port\" or a table with an address", text Upstream::Address, table Upstream::Table);
by_shape!(Inject, "a table with header and value, or with user and password, or a list of them", table Inject::One, list Inject::Many);
