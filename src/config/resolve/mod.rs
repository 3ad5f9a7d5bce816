//! From what is written to what is in force; notes every fault on the way and goes on.

mod acme;
mod admin;
mod allow;
mod context;
mod database;
mod honeytoken;
mod inject;
mod listen;
mod masks;
mod mistakes;
mod plaintext;
mod process;
mod recording;
mod route;
mod sandbox;
mod signals;
mod traces;
mod tunnel;
mod upstream;
mod witness;

use super::fault::{FaultCollector, Faults};
use super::loaded::Loaded;
use super::model::{self, Config};
use super::secrets;
use super::summary::Summary;
use crate::audit::BUFFER;
use crate::gateway::Gateway;
use crate::identify::oidc::{Algorithm, IssuerSettings, Issuers, Setting};
use crate::names::IssuerName;
use crate::sandbox::Plan;
use crate::secret::Secret;
use crate::worker::memory::MemoryLimit;
use context::{AcmeContext, Context};
use listen::{check_ports, listeners, mysql_routes, routes_of_listeners, served};
use process::{layout, limits, log};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;
use toml::Spanned;

/// What the running gateway needs of the system; `None` where that cannot be read.
pub(super) fn sandbox_plan(config: &Config, file: &Path) -> Option<Plan> {
    sandbox::plan(config, file, &mut FaultCollector::new(""))
}

/// Resolves a whole file. `None` when a part is missing without which nothing can be made.
pub(super) fn resolve(config: Config, file: &Path, notes: &mut FaultCollector<'_>) -> Option<Loaded> {
    let base = file.parent().unwrap_or(Path::new(""));
    let listeners = listeners(&config, notes);
    let settings = issuers(&config.issuer, base, notes);
    let secrets = read_secrets(&config.secrets, base, notes);
    let mut context = Context {
        base,
        now: SystemTime::now(),
        secrets: &secrets,
        // Those with faults of their own, too: using them is not a second fault.
        issuers: config
            .issuer
            .iter()
            .map(|i| IssuerName(i.get_ref().name.get_ref().as_str().into()))
            .collect(),
        audiences: settings.iter().map(|s| (s.name.to_string(), s.audience.clone())).collect(),
        unread_issuers: config.issuer.iter().any(|i| notes.is_told(&i.get_ref().name.span())),
        unread_secrets: secrets.contains_key(""),
        used_secrets: BTreeSet::new(),
        used_issuers: BTreeSet::new(),
        names: BTreeMap::new(),
        sni: BTreeMap::new(),
        masks: &config.mask,
        used_masks: BTreeSet::new(),
        served: served(&config.listener, notes),
        has_tunnel: notes.lost || config.listener.iter().any(|listener| listener.get_ref().tunnel.is_some()),
        acme: AcmeContext::default(),
        system_roots: None,
    };
    context.acme(&config.acme, notes);
    if config.route.is_empty() && !notes.lost {
        notes.fault(
            0..0,
            "there is no route; write [[route]] with name, sni, protocol, upstream, certificate, allow",
        );
    }
    let resolved: Vec<_> = config.route.iter().filter_map(|route| context.route(route, notes)).collect();
    mysql_routes(&config, &resolved, notes);
    routes_of_listeners(&config, notes);
    let tunnels = context.tunnels(&config.listener, &listeners, notes);
    let plan = context.acme_plan(&config.acme, notes);
    let admin = context.admin(&config.admin, &listeners, notes);
    let witness = context.witness(config.witness.as_ref(), notes);
    let taken = listeners.iter().map(|one| one.address).chain(admin.iter().map(|admin| admin.address));
    let http = config.acme.http.iter().zip(context.acme.http);
    let more = config.witness.iter().map(|one| &one.get_ref().address);
    check_ports(taken, http.chain(more.zip(witness.iter().map(|one| one.address))), notes);
    let Context { used_secrets, used_issuers, used_masks, acme, .. } = context;
    masks::check_sets(&config.mask, notes);
    for set in &config.mask {
        let name = set.get_ref().name.get_ref();
        if notes.is_told(&set.get_ref().name.span()) {
            continue;
        }
        if !used_masks.contains(name) && notes.is_unused(&format!("\"{name}\""), 1) {
            notes.fault(set.span(), format!("mask `{name}` is used by no route; use it or remove it"));
        }
    }
    for (name, reference) in &config.secrets {
        let users = format!("{{secret:{name}}}");
        if !used_secrets.contains(name.as_str()) && notes.is_unused(&users, 0) {
            notes.fault(
                reference.span(),
                format!("secret `{name}` is used nowhere; use it as {{secret:{name}}} or remove it"),
            );
        }
    }
    for issuer in &config.issuer {
        let (name, span) = (issuer.get_ref().name.get_ref(), issuer.get_ref().name.span());
        if notes.is_told(&span) {
            continue;
        }
        if !used_issuers.contains(name.as_str()) && notes.is_unused(&format!("\"{name}\""), 1) {
            notes.fault(
                issuer.span(),
                format!("issuer `{name}` is named by no route's allow; use it or remove it"),
            );
        }
    }
    let memory = MemoryLimit::find();
    let log = log(&config.log, memory.as_ref().map_or(BUFFER, MemoryLimit::log_buffer), notes);
    let room = memory.as_ref().zip(log.as_ref()).map(|(memory, log)| memory.connections(log.room.full));
    let limits = limits(&config.limits, room, notes);
    let workers = layout(&config.workers, notes);
    let recording = config.recording.as_ref().and_then(|section| recording::settings(section, base, notes));
    let witnesses = witness::asked(config.recording.as_ref(), base, notes);
    let timestamp = witness::timestamp(config.recording.as_ref(), base, notes);
    let mut recorded_routes = recording::routes(&config, recording.as_ref(), notes);
    let honeytokens = honeytoken::honeytokens(&config.honeytoken, notes);
    let signals = signals::signals(&config.issuer, &settings, base, notes);
    let tracer = traces::tracer(config.traces.as_ref(), base, notes);
    let sandbox = sandbox::plan(&config, file, notes);
    let issuers_shown = settings.iter().map(|s| format!("{} ({})", s.name, s.url)).collect();
    if !notes.faults.is_empty() {
        return None;
    }
    mistakes::warn(&config, base, notes);
    let issuers = notes.take(0..0, Issuers::new(settings).map_err(|fault| fault.to_string()))?;
    let mut resolved = resolved;
    for (route, summary) in &mut resolved {
        route.recording = recorded_routes.remove(&route.name);
        summary.records = route.recording.as_ref().map(recording::shown);
    }
    let (routes, summaries) = resolved.into_iter().unzip();
    let (tunnels, tunnel_summaries) = tunnels.into_iter().unzip();
    let (limits, sandbox) = (limits?, sandbox?);
    let summary = Summary {
        connections: limits.connections,
        memory_limit: memory.as_ref().map(|limit| limit.bytes),
        listeners: listeners.iter().map(|l| l.address.to_string()).collect(),
        recordings: recording.as_ref().map(|r| (r.directory.display().to_string(), r.auditors.len())),
        witnesses: witnesses.iter().map(|asked| asked.key.name().to_owned()).collect(),
        timestamps: timestamp.as_ref().map(|authority| authority.url.text()),
        witnesses_logs: witness.as_ref().map(|own| (own.address.to_string(), own.logs.len())),
        issuers: issuers_shown,
        sandbox: sandbox.summary(),
        tunnels: tunnel_summaries,
        routes: summaries,
    };
    let mut gateway = Gateway::new(listeners, routes, issuers, limits).with_tunnels(tunnels);
    gateway.acme.certificates = acme.shown;
    gateway.honeytokens = honeytokens;
    gateway.signals = signals;
    gateway.tracer = tracer;
    let warnings = Faults { path: Default::default(), list: Vec::new() };
    Some(Loaded {
        gateway,
        workers: workers?,
        admin: admin?,
        log: log?,
        memory,
        acme: plan,
        recording,
        sandbox,
        witnesses,
        timestamp,
        witness,
        summary,
        warnings,
    })
}

fn issuers(
    written: &[Spanned<model::Issuer>],
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Vec<IssuerSettings> {
    let mut all: Vec<IssuerSettings> = Vec::new();
    for one in written {
        let issuer = one.get_ref();
        let (name, url) = (issuer.name.get_ref(), issuer.oidc.get_ref());
        if name.is_empty() {
            notes.fault(issuer.name.span(), "an issuer without a name cannot be used; write name = \"…\"");
        }
        if all.iter().any(|other| &*other.name.0 == name || other.url == *url) {
            notes
                .fault(one.span(), format!("issuer `{name}` has the name or the URL of another; remove one"));
        }
        let algorithms = match &issuer.algorithms {
            None => vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
            some => {
                let some = notes.list(some, "algorithms");
                some.iter().filter_map(|text| notes.take(text.span(), text.get_ref().parse())).collect()
            }
        };
        let ca = issuer.ca.as_ref().and_then(|ca| context::server_authorities(ca, base, notes));
        let settings = IssuerSettings {
            name: IssuerName(name.as_str().into()),
            url: url.clone(),
            audience: plain(issuer.audience.get_ref()),
            algorithms,
            groups_claim: issuer.groups_claim.clone(),
            azp: notes.list(&issuer.azp, "azp"),
            ca,
            jwks_hosts: plain(&issuer.jwks_hosts),
        };
        let told = |list: &[model::Text]| list.iter().any(|text| notes.is_told(&text.span()));
        let (audience_told, hosts_told) = (told(issuer.audience.get_ref()), told(&issuer.jwks_hosts));
        for (setting, fault) in settings.faults() {
            let span = match setting {
                Setting::Url => issuer.oidc.span(),
                // Told above: a list that is empty, or words that cannot be read.
                Setting::Algorithms => continue,
                Setting::Audience if audience_told => continue,
                Setting::JwksHosts if hosts_told => continue,
                Setting::Audience => issuer.audience.span(),
                Setting::Ca => issuer.ca.as_ref().map_or(one.span(), Spanned::span),
                Setting::JwksHosts => one.span(),
            };
            notes.fault(span, format!("issuer `{name}`: {fault}"));
        }
        all.push(settings);
    }
    all
}

fn plain(texts: &[model::Text]) -> Vec<String> {
    texts.iter().map(|text| text.get_ref().clone()).collect()
}

fn read_secrets<'a>(
    written: &'a BTreeMap<String, model::Text>,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> BTreeMap<&'a str, Option<Secret>> {
    // A secret that cannot be read still has a name: its use is not a second fault.
    let read = |reference: &model::Text, notes: &mut FaultCollector<'_>| {
        let secret = notes.take(reference.span(), secrets::read(reference.get_ref(), base))?;
        if let Some(doubt) = mistakes::of_secret(secret.expose()) {
            notes.warn(reference.span(), doubt);
        }
        Some(secret)
    };
    written.iter().map(|(name, reference)| (name.as_str(), read(reference, notes))).collect()
}
