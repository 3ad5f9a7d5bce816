//! What the running gateway needs of the system: files that a reload reads again, directories in which it writes.

use super::acme;
use super::context::choice;
use crate::config::fault::FaultCollector;
use crate::config::model::{Config, KeyPair, ServerCertificate, Text, Upstream};
use crate::sandbox::{Mode, Plan};
use std::path::{Path, PathBuf};

/// `None`: the word for how much it is insisted on is none of those that there are.
pub(super) fn plan(config: &Config, file: &Path, notes: &mut FaultCollector<'_>) -> Option<Plan> {
    let modes = [("auto", Mode::Auto), ("require", Mode::Require), ("off", Mode::Off)];
    let mode = choice(&config.system.sandbox.as_ref(), Mode::Auto, &modes, notes)?;
    let base = file.parent().unwrap_or(Path::new(""));
    let mut files = Files { base, plan: Plan { mode, ..Plan::default() } };
    files.plan.read.insert(file.to_owned());
    config.secrets.values().for_each(|reference| files.secret(reference));
    for issuer in config.issuer.iter().map(|issuer| issuer.get_ref()) {
        files.public(&issuer.ca);
        let keys = issuer.signals.iter().flat_map(|signals| [&signals.push_key, &signals.poll_key]);
        keys.flatten().for_each(|key| files.secret(key));
    }
    let tunnels = config.listener.iter().filter_map(|listener| listener.get_ref().tunnel.as_ref());
    tunnels.for_each(|tunnel| files.shown(tunnel.get_ref().certificate.get_ref()));
    for route in config.route.iter().map(|route| route.get_ref()) {
        route.certificate.iter().for_each(|shown| files.shown(shown.get_ref()));
        files.public(&route.client_ca);
        files.public(&route.client_crl);
        if let Upstream::Table(table) = route.upstream.get_ref() {
            files.public(&table.ca);
            files.pair(&table.certificate);
        }
    }
    let admin = &config.admin;
    files.pair(&admin.certificate);
    admin.key.iter().for_each(|key| files.secret(key));
    admin.login.iter().flat_map(|login| &login.client_secret).for_each(|secret| files.secret(secret));
    if let Some(revocations) = &admin.revocations {
        let path = base.join(revocations.get_ref());
        files.plan.written.extend(path.parent().map(Path::to_owned));
    }
    if let Some(traces) = config.traces.as_ref().map(|traces| traces.get_ref()) {
        files.public(&traces.ca);
        traces.key.iter().for_each(|key| files.secret(key));
    }
    config.acme.authority.values().for_each(|authority| files.public(&authority.get_ref().ca));
    if orders(config) {
        files.plan.owned.insert(acme::state(config.acme.state.as_ref(), base));
        files.plan.runs_programs =
            config.acme.dns_hook.as_ref().is_some_and(|hook| !hook.get_ref().is_empty());
    }
    if let Some(recording) = &config.recording {
        files.plan.owned.insert(base.join(recording.get_ref().directory.get_ref()));
        recording.get_ref().witness.iter().for_each(|witness| files.public(&witness.get_ref().ca));
        if let Some(timestamp) = recording.get_ref().timestamp.as_ref().map(|written| written.get_ref()) {
            files.public(&timestamp.ca);
            files.plan.read.insert(base.join(timestamp.authority.get_ref()));
        }
    }
    if let Some(witness) = config.witness.as_ref().map(|witness| witness.get_ref()) {
        files.plan.owned.insert(base.join(witness.directory.get_ref()));
        files.pair(&witness.certificate);
    }
    Some(files.plan)
}

/// True where a certificate is ordered.
fn orders(config: &Config) -> bool {
    let routes = config.route.iter().filter_map(|route| route.get_ref().certificate.as_ref());
    let tunnels = config.listener.iter().filter_map(|listener| listener.get_ref().tunnel.as_ref());
    let of_routes = routes.map(|certificate| certificate.get_ref());
    let of_tunnels = tunnels.map(|tunnel| tunnel.get_ref().certificate.get_ref());
    of_routes.chain(of_tunnels).any(|certificate| certificate.acme.is_some())
}

struct Files<'a> {
    base: &'a Path,
    plan: Plan,
}

impl Files<'_> {
    fn secret(&mut self, reference: &Text) {
        let path = reference.get_ref().strip_prefix("file:").map(|path| self.base.join(path));
        self.plan.read.extend(path);
    }

    fn public(&mut self, file: &Option<Text>) {
        self.plan.read.extend(file.as_ref().and_then(|file| self.file(file)));
    }

    fn pair(&mut self, pair: &Option<KeyPair>) {
        let texts = pair.iter().flat_map(|pair| [&pair.chain, &pair.key]);
        let paths: Vec<PathBuf> = texts.filter_map(|text| self.file(text)).collect();
        self.plan.read.extend(paths);
    }

    fn shown(&mut self, certificate: &ServerCertificate) {
        self.public(&certificate.chain);
        self.public(&certificate.key);
    }

    fn file(&self, text: &Text) -> Option<PathBuf> {
        let is_credential = text.get_ref().starts_with("credential:");
        (!is_credential).then(|| self.base.join(text.get_ref()))
    }
}
