//! The operator's listener: where, over TLS or not, and who may look and give orders.

use super::context::{Context, choice};
use super::listen::{share_a_port, socket_address};
use crate::admin::{Settings, revoked};
use crate::config::fault::FaultCollector;
use crate::config::{Admin, model, secrets};
use crate::gateway::Listener;
use crate::identify::oidc::LoginSettings;
use crate::names::IssuerName;
use crate::net::https::HttpsUrl;
use crate::policy::revocation::Revocations;
use crate::policy::{Policy, Rule};
use crate::secret::shown_url;
use crate::tls::PostQuantum;
use crate::tls::server::{ClientCertificates, ServerIdentity, ServerSettings, server_config};
use rustls::ServerConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ADMIN: &str = "127.0.0.1:9901";

/// Bytes of the key to the live page: shorter ones are guessed.
const MIN_KEY: usize = 16;

impl Context<'_> {
    /// Where revocations are kept, and what would keep the gateway from reading or writing them.
    fn kept_revocations(&self, text: &model::Text, notes: &mut FaultCollector<'_>) -> PathBuf {
        let path = self.base.join(text.get_ref());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let shown = folder.display();
        if !folder.is_dir() {
            // The service manager may make it at the first start (StateDirectory= of systemd).
            let why = format!(
                "its folder {shown} is not there, and a restart forgets what cannot be kept; make it: mkdir -m 700 {shown}"
            );
            notes.warn(text.span(), why);
        } else if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
            let why = format!(
                "this user cannot write to {shown}, and a restart forgets what cannot be kept there; chown it"
            );
            notes.warn(text.span(), why);
        } else if let Err(error) = revoked::read(&path, &Revocations::default()) {
            let path = path.display();
            let why = format!("{path} cannot be read: {error}; move it away to begin without revocations");
            notes.fault(text.span(), why);
        }
        path
    }

    pub(super) fn admin(
        &mut self,
        written: &model::Admin,
        listeners: &[Listener],
        notes: &mut FaultCollector<'_>,
    ) -> Option<Admin> {
        let (address, span) = match &written.address {
            None => (socket_address(ADMIN).ok()?, 0..0),
            Some(text) => (notes.take(text.span(), socket_address(text.get_ref()))?, text.span()),
        };
        if let Some(other) = listeners.iter().find(|other| share_a_port(other.address, address)) {
            notes.fault(
                span.clone(),
                format!("admin's address {address} is that of listener {}; write another", other.address),
            );
        }
        let asks = written.key.is_some() || !written.operate.is_empty() || !written.view.is_empty();
        let is_safe = written.certificate.is_some() && asks;
        if !address.ip().is_loopback() && !written.unsafe_public_admin && !is_safe {
            let advice = "write a loopback address, or certificate and operate (or key), or set unsafe_public_admin = true";
            notes.fault(
                span,
                format!("{address} is not loopback and this listener asks nobody who they are; {advice}"),
            );
        }
        let key = match &written.key {
            None => None,
            Some(text) => {
                let key = notes.take(text.span(), secrets::read(text.get_ref(), self.base))?;
                if key.expose().len() < MIN_KEY {
                    let advice = "make one with `openssl rand -base64 32`";
                    notes.fault(text.span(), format!("the key has fewer than {MIN_KEY} bytes; {advice}"));
                }
                Some(Arc::new(key))
            }
        };
        let mut hosts = written.hosts.clone();
        let login = match &written.login {
            None => None,
            Some(login) => Some(self.login(login, written, &mut hosts, notes)?),
        };
        let tls = match &written.certificate {
            None => None,
            Some(pair) => Some(self.http_tls(pair, notes)?),
        };
        let settings = Settings {
            key,
            hosts,
            revocations: written.revocations.as_ref().map(|text| self.kept_revocations(text, notes)),
            tls,
            operate: self.operators(&written.operate, notes),
            view: self.operators(&written.view, notes),
            is_public: written.unsafe_public_admin,
            is_shared_loopback: choice(
                &written.loopback.as_ref(),
                false,
                &[("owner", false), ("anyone", true)],
                notes,
            )?,
            login,
        };
        Some(Admin { address, settings })
    }

    fn login(
        &mut self,
        written: &model::OperatorLogin,
        admin: &model::Admin,
        hosts: &mut Vec<String>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<LoginSettings> {
        let issuer = self.known_issuer(&written.issuer, notes);
        let span = written.url.span();
        if admin.certificate.is_none() {
            notes.fault(span.clone(), "log-ins by browser need TLS; write certificate = { … } in [admin]");
        }
        if admin.operate.is_empty() && admin.view.is_empty() {
            notes.fault(span.clone(), "nobody may log in; write operate = [{ … }] or view = [{ … }]");
        }
        let url = written.url.get_ref().trim_end_matches('/');
        let name = url.parse::<HttpsUrl>().ok().filter(|_| url.matches('/').count() == 2).map(|url| {
            let host = url.host();
            host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned()
        });
        let fault =
            || format!("{} is not where browsers reach this; write https://name[:port]", shown_url(url));
        let name = notes.take(span, name.ok_or_else(fault))?;
        if !hosts.contains(&name) {
            hosts.push(name);
        }
        let client_secret = match &written.client_secret {
            None => None,
            Some(text) => Some(Arc::new(notes.take(text.span(), secrets::read(text.get_ref(), self.base))?)),
        };
        let scope = written.scope.clone().unwrap_or_else(|| "openid profile email".into());
        if !scope.split(' ').any(|one| one == "openid") {
            notes.fault(written.issuer.span(), "scope has no `openid`, without which there is no ID token");
        }
        Some(LoginSettings {
            issuer,
            client_id: written.client_id.clone(),
            client_secret,
            scope,
            redirect: format!("{url}/login/callback"),
        })
    }

    /// The issuer of this name, which must be there.
    fn known_issuer(&mut self, written: &model::Text, notes: &mut FaultCollector<'_>) -> IssuerName {
        let name = written.get_ref();
        self.used_issuers.insert(name.clone());
        let issuer = IssuerName(name.as_str().into());
        if !self.issuers.contains(&issuer) && !self.unread_issuers {
            let advice = "write an [[issuer]] with this name";
            notes.fault(written.span(), format!("there is no issuer `{name}`; {advice}"));
        }
        issuer
    }

    /// TLS of a listener for HTTP/1.1 outside the data path.
    pub(super) fn http_tls(
        &self,
        written: &model::KeyPair,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Arc<ServerConfig>> {
        let pair = self.pair(&written.chain, &written.key, notes)?;
        let settings = ServerSettings {
            identity: ServerIdentity::Fixed { chain: pair.chain, key: pair.key },
            pq: PostQuantum::Prefer,
            client_certificates: ClientCertificates::None,
            client_ca: Vec::new(),
            client_crl: Vec::new(),
            expired_crl: Default::default(),
        };
        let made = server_config(settings).map_err(|fault| fault.to_string());
        let mut config = (*notes.take(written.chain.span(), made)?).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Arc::new(config))
    }

    fn operators(&mut self, written: &[model::OperatorRule], notes: &mut FaultCollector<'_>) -> Policy {
        let mut rules = Vec::new();
        for rule in written {
            let issuer = self.known_issuer(&rule.issuer, notes);
            let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
            let (groups, subjects) = (texts(&rule.groups), texts(&rule.subjects));
            if rule.groups.is_empty() && rule.subjects.is_empty() {
                let advice = "write groups = [\"…\"] or subjects = [\"…\"]";
                notes.fault(rule.issuer.span(), format!("this lets in everybody of `{issuer}`; {advice}"));
            }
            rules.push(Rule { issuer: Some(issuer), groups, subjects, ..Rule::default() });
        }
        Policy { rules, ..Policy::default() }
    }
}
