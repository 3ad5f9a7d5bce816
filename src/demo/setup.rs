//! What stands around the gateway: authority, issuer, upstream, configuration file.

use super::ca::{Ca, Folder, random_hex};
use super::client::Client;
use super::issuer::{Issuer, User};
use super::upstream::Upstream;
use crate::recording::format::envelope::Identities;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything but the gateway.
pub(super) struct Setup {
    pub(super) issuer: Issuer,
    pub(super) upstream: Upstream,
    /// The gateway's address, free until the gateway takes it.
    pub(super) gateway: SocketAddr,
    /// Where the live page is.
    pub(super) admin: SocketAddr,
    pub(super) client: Client,
    /// Keeps a session alive that the live page shows.
    pub(super) watched: Option<Client>,
    /// What the upstream asks for and the client must never see.
    pub(super) stored_key: String,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    pub(super) token_file: PathBuf,
    /// Where the gateway records.
    pub(super) recordings: PathBuf,
    /// Who can read it.
    pub(super) auditors: [Identities; 2],
    auditor_file: PathBuf,
    ca_file: PathBuf,
    /// Last, so that it is removed when nobody uses its files any more.
    pub(super) folder: Folder,
}

/// The name that clients ask the gateway for. Names under `localhost` never leave the machine (RFC 6761 section 6.3).
pub(super) const NAME: &str = "model.localhost";

/// The route's name.
pub(super) const ROUTE: &str = "model";

/// Who may use the route, and who may not.
pub(super) const PERMITTED: (&str, &str) = ("ann", "agents");
pub(super) const STRANGER: (&str, &str) = ("eve", "visitors");

/// Whom tokens must be for.
const AUDIENCE: &str = "staunch-demo";

/// Of the authority and its certificates: longer than anybody watches a demo, short as such certificates are.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// The port that is tried first.
const PORT: u16 = 8443;

impl Setup {
    pub(super) fn new(port: Option<u16>) -> Result<Setup, String> {
        let ca = Ca::lasting("Staunch demo", CERTIFICATE_LIFETIME)
            .map_err(|e| format!("its certificate authority: {e}"))?;
        let leaf = |name: &str| ca.leaf(&[name]).map_err(|e| format!("a certificate for {name}: {e}"));
        let users = [PERMITTED, STRANGER]
            .map(|(subject, group)| User { subject: subject.into(), groups: vec![group.into()] });
        let issuer = Issuer::start(leaf("127.0.0.1")?, AUDIENCE, users.into())?;
        let stored_key = format!("sk-demo-{}", random_hex::<16>());
        let upstream = Upstream::start(leaf("127.0.0.1")?, &stored_key)?;
        let gateway = free(port)?;
        let admin = free(Some(0))?;

        let folder = Folder::new().map_err(|e| format!("its folder: {e}"))?;
        let write =
            |name: &str, text: &str| folder.write(name, text).map_err(|e| format!("its file {name}: {e}"));
        let own = leaf(NAME)?;
        let ca_file = write("ca.pem", ca.pem())?;
        let chain = write("gateway.pem", own.certificate_pem())?;
        let key = write("gateway.key", own.key_pem())?;
        let secret = write("model.key", &stored_key)?;
        let auditors = [Identities::generate(), Identities::generate()];
        let auditor_file = write("auditor.key", &auditors[0].expose())?;
        let recordings = folder.path().join("recordings");
        let text = configuration(&gateway, &admin, &issuer, &upstream, &ca_file, &chain, &key, &secret)
            + &recording(&recordings, &auditors);
        let config = write("staunch.toml", &text)?;
        Ok(Setup {
            issuer,
            upstream,
            gateway,
            admin,
            client: Client::new(ca.roots())?,
            watched: Some(Client::new(ca.roots())?),
            stored_key,
            config,
            log: folder.path().join("gateway.log"),
            token_file: folder.path().join("token"),
            recordings,
            auditors,
            auditor_file,
            ca_file,
            folder,
        })
    }

    /// Command lines to copy that read the recordings.
    pub(super) fn read_recordings(&self) -> String {
        let (recordings, auditor) = (self.recordings.display(), self.auditor_file.display());
        format!(
            "  export STAUNCH_RECORDINGS={recordings}\n  staunch sessions list\n  staunch sessions show SESSION --identity {auditor}"
        )
    }

    /// A command line to copy.
    pub(super) fn curl(&self) -> String {
        let port = self.gateway.port();
        format!(
            "  sed 's/^/Authorization: Bearer /' {token} | \\\n  \
             curl --no-buffer --cacert {ca} --resolve {NAME}:{port}:127.0.0.1 \\\n    \
             -H @- -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\":\"demo-1\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}' \\\n    \
             https://{NAME}:{port}/v1/chat/completions",
            ca = self.ca_file.display(),
            token = self.token_file.display(),
        )
    }
}

/// An address that nobody listens on just now.
fn free(port: Option<u16>) -> Result<SocketAddr, String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr());
    match port {
        Some(port) => bind(port).map_err(|e| format!("port {port}: {e}")),
        None => bind(PORT).or_else(|_| bind(0)).map_err(|e| format!("a port for the gateway: {e}")),
    }
}

fn recording(directory: &Path, auditors: &[Identities]) -> String {
    let directory = toml::Value::String(directory.display().to_string());
    let recipients: Vec<String> =
        auditors.iter().flat_map(Identities::recipients).map(|one| one.to_string()).collect();
    // Small, so that a demo takes little of the disk.
    format!("\n[recording]\ndirectory = {directory}\nauditors = {recipients:?}\nsegment_size = \"4MiB\"\n")
}

#[expect(clippy::too_many_arguments, reason = "each is one line of the file")]
fn configuration(
    gateway: &SocketAddr,
    admin: &SocketAddr,
    issuer: &Issuer,
    upstream: &Upstream,
    ca: &Path,
    chain: &Path,
    key: &Path,
    secret: &Path,
) -> String {
    // A path may hold characters that mean something in TOML.
    let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let secret = toml::Value::String(format!("file:{}", secret.display())).to_string();
    let (ca, chain, key) = (quote(ca), quote(chain), quote(key));
    let (issuer, upstream, group) = (issuer.url(), upstream.address(), PERMITTED.1);
    format!(
        r#"# Written by 'staunch demo'.
[[listener]]
address = "{gateway}"

[admin]
address = "{admin}"

[[issuer]]
name = "demo"
oidc = "{issuer}"
audience = ["{AUDIENCE}"]
groups_claim = "groups"
ca = {ca}

[secrets]
model-key = {secret}

[[mask]]
name = "people"
detect = ["personal"]

[[route]]
name = "{ROUTE}"
sni = "{NAME}"
protocol = "http"
upstream = {{ address = "tls://{upstream}", ca = {ca} }}
certificate = {{ chain = {chain}, key = {key} }}
allow = [{{ issuer = "demo", groups = ["{group}"] }}]
inject = {{ header = "authorization", value = "Bearer {{secret:model-key}}" }}
mask = {{ down = ["people"] }}
"#
    )
}
