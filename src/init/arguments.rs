//! What `staunch init` is told on the command line.

use super::kind::Kind;
use crate::client::Reference;
use std::path::PathBuf;

/// What `--acme` alone means.
pub(super) const LETS_ENCRYPT: &str = "letsencrypt";

/// `staunch init`. Has no `Debug`: somebody may have written a secret itself in the place of its reference.
#[derive(Default, clap::Args)]
pub struct Arguments {
    /// The folder to write, which is new or empty.
    #[arg(default_value = "staunch")]
    pub folder: PathBuf,
    /// What stands behind the gateway.
    #[arg(long, short, value_name = "WHAT")]
    pub protect: Option<Kind>,
    /// Who issues your tokens: its URL, as in `iss`.
    #[arg(long, env = "STAUNCH_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// Authorities that vouch for the issuer's server, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub issuer_ca: Option<PathBuf>,
    /// What `aud` of a token must hold; several times for several.
    #[arg(long, value_name = "AUD", default_value = "staunch")]
    pub audience: Vec<String>,
    /// A group that may use it; several times for several. Without any group or subject: everybody with a token for
    /// the audience.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Somebody who may use it, by `sub`; several times for several.
    #[arg(long, value_name = "SUB")]
    pub subject: Vec<String>,
    /// The claim that holds groups; dots lead into objects.
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    pub groups_claim: String,
    /// Where the service is: `host:port` with TLS; on this machine also `tcp://127.0.0.1:PORT` or `unix:/path` without.
    #[arg(long, value_name = "ADDRESS")]
    pub upstream: Option<String>,
    /// Authorities that vouch for the service, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Option<PathBuf>,
    /// The stored account's name, for databases.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Where the service's key or password stands now: env:NAME or file:PATH. It is copied into the folder, for its owner
    /// alone.
    #[arg(long, value_name = "REFERENCE")]
    pub secret: Option<Reference>,
    /// The name under which clients reach the gateway; `localhost` serves this machine alone.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub name: String,
    /// The gateway's port. Default: one that is usual for the protocol.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Order the certificate by ACME in place of a test certificate: from Let's Encrypt, or the authority with this directory.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = LETS_ENCRYPT)]
    pub acme: Option<String>,
    /// Authorities that vouch for the server of `--acme`, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE", requires = "acme")]
    pub acme_ca: Option<PathBuf>,
    /// Where the authority of `--acme` may write to.
    #[arg(long, value_name = "MAIL", requires = "acme")]
    pub acme_contact: Option<String>,
    /// The client that people log in with, as the issuer knows it.
    #[arg(long, env = "STAUNCH_CLIENT_ID", value_name = "ID", default_value = "staunch-cli")]
    pub client_id: String,
    /// Log in at the issuer at once, with a browser, so that the first request has its token.
    #[arg(long)]
    pub login: bool,
}
