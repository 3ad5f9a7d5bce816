//! From what is written to what is in force; notes every fault on the way and goes on.

mod allow;
mod database;
mod inject;
mod plaintext;
mod route;
mod tunnel;
mod upstream;

use super::fault::Notes;
use super::model::{self, Config};
use super::summary::{RouteSummary, Summary};
use super::{Admin, Loaded, Log, certificates, secrets, units};
use crate::audit::Format;
use crate::gateway::{Gateway, Limits, Listener, MysqlListener, Network, Route, RouteProtocol};
use crate::identify::oidc::{Algorithm, IssuerSettings, Issuers, Setting};
use crate::names::{IssuerName, RouteName};
use crate::protocol::mysql::Greeting;
use crate::protocol::mysql::greeting::version;
use crate::secret::Secret;
use crate::worker::Layout;
use route::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use toml::Spanned;

/// AES-GCM's limit for one key (RFC 8446 section 5.5; rustls keeps the same).
const MOST_RECORDS: u64 = 1 << 24;
/// Descriptors for everything that is not a session.
const SPARE_DESCRIPTORS: u64 = 512;
const ADMIN: &str = "127.0.0.1:9901";

/// Resolves a whole file. `None` when a part is missing without which nothing can be made.
pub(super) fn resolve(config: Config, base: &Path, notes: &mut Notes<'_>) -> Option<Loaded> {
    let listeners = listeners(&config.listener, notes);
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
        unread_issuers: config.issuer.iter().any(|i| notes.is_told(&i.get_ref().name.span())),
        unread_secrets: secrets.contains_key(""),
        used_secrets: BTreeSet::new(),
        used_issuers: BTreeSet::new(),
        names: BTreeMap::new(),
        sni: BTreeMap::new(),
        has_tunnel: notes.lost || config.listener.iter().any(|listener| listener.get_ref().tunnel.is_some()),
        system_roots: None,
    };
    if config.route.is_empty() && !notes.lost {
        notes.fault(
            0..0,
            "there is no route; write [[route]] with name, sni, protocol, upstream, certificate, allow",
        );
    }
    let resolved: Vec<_> = config.route.iter().filter_map(|route| context.route(route, notes)).collect();
    mysql_routes(&config, &resolved, notes);
    let tunnels = context.tunnels(&config.listener, &listeners, notes);
    let Context { used_secrets, used_issuers, .. } = context;
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
    let limits = limits(&config.limits, notes);
    let admin = admin(&config.admin, &listeners, notes);
    let log = log(&config.log, notes);
    let issuers_shown = settings.iter().map(|s| format!("{} ({})", s.name, s.url)).collect();
    if !notes.faults.is_empty() {
        return None;
    }
    let issuers = notes.take(0..0, Issuers::new(settings).map_err(|fault| fault.to_string()))?;
    let (routes, summaries) = resolved.into_iter().unzip();
    let (tunnels, tunnel_summaries) = tunnels.into_iter().unzip();
    let summary = Summary {
        listeners: listeners.iter().map(|l| l.address.to_string()).collect(),
        issuers: issuers_shown,
        tunnels: tunnel_summaries,
        routes: summaries,
    };
    let gateway = Gateway::new(listeners, routes, issuers, limits?).with_tunnels(tunnels);
    let workers = Layout { count: config.workers.count, pin: config.workers.pin };
    let warnings = super::Faults { path: Default::default(), list: Vec::new() };
    Some(Loaded { gateway, workers, admin: admin?, log: log?, summary, warnings })
}

fn listeners(written: &[Spanned<model::Listener>], notes: &mut Notes<'_>) -> Vec<Listener> {
    if written.is_empty() && !notes.lost {
        notes.fault(0..0, "there is no listener; write [[listener]] with an address");
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (number, one) in written.iter().enumerate() {
        let model::Listener { address, proxy_protocol_from, .. } = one.get_ref();
        let proxy_protocol_from: Vec<_> = proxy_protocol_from
            .iter()
            .filter_map(|text| notes.take(text.span(), network(text.get_ref())))
            .collect();
        let Some(parsed) = notes.take(address.span(), socket_address(address.get_ref())) else { continue };
        if parsed.port() != 0 && listeners.iter().any(|other| other.address == parsed) {
            notes.fault(address.span(), format!("{parsed} is listened on twice; remove one"));
        }
        let mysql = one.get_ref().mysql.as_ref().and_then(|written| mysql(written.get_ref(), notes));
        listeners.push(Listener { number, address: parsed, mysql: mysql.map(Arc::new), proxy_protocol_from });
    }
    listeners
}

fn mysql(written: &model::MysqlListener, notes: &mut Notes<'_>) -> Option<MysqlListener> {
    let greeting = match &written.version {
        None => Greeting::default(),
        Some(text) => {
            let version = version(text.get_ref()).ok_or_else(|| {
                format!("{:?} is no version; write for example \"10.11.6-MariaDB\"", text.get_ref())
            });
            Greeting { version: notes.take(text.span(), version)? }
        }
    };
    let route = written.route.as_ref().map(|name| RouteName(name.get_ref().as_str().into()));
    Some(MysqlListener { greeting, route })
}

/// What must fit between listeners that greet and the routes behind them.
fn mysql_routes(config: &Config, routes: &[(Route, RouteSummary)], notes: &mut Notes<'_>) {
    let serves = |name: &str| {
        routes.iter().any(|(route, _)| &*route.name.0 == name && route.protocol == RouteProtocol::Mysql)
    };
    let greeting = || config.listener.iter().filter_map(|one| one.get_ref().mysql.as_ref());
    for name in greeting().filter_map(|mysql| mysql.get_ref().route.as_ref()) {
        if !serves(name.get_ref()) && notes.faults.is_empty() {
            notes.fault(name.span(), format!("there is no mysql route `{}`", name.get_ref()));
        }
    }
    let tunnel = config.listener.iter().any(|one| one.get_ref().tunnel.is_some());
    for route in config.route.iter().filter(|route| route.get_ref().protocol.get_ref() == "mysql") {
        if greeting().next().is_none() && !tunnel && !notes.lost {
            let advice = "write mysql = { route = \"…\" } on a listener of its own";
            let text = format!("no listener greets as MySQL's clients expect; {advice}");
            notes.fault(route.get_ref().protocol.span(), text);
        }
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address with a port; write for example \"0.0.0.0:443\" or \"[::]:443\"")
    })
}

fn network(text: &str) -> Result<Network, String> {
    let wrong = || format!("{text:?} is no network; write for example \"10.0.0.0/8\"");
    let (base, bits) = text.split_once('/').ok_or_else(wrong)?;
    let (base, bits): (IpAddr, u8) = (base.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
    let most = if base.is_ipv4() { 32 } else { 128 };
    if bits > most {
        return Err(wrong());
    }
    let meant = first_of(base, bits);
    if meant != base {
        // Whoever wrote this may have meant one host; guessing would trust sixteen million.
        return Err(format!(
            "{text:?} has bits behind its length; write \"{meant}/{bits}\" or \"{base}/{most}\""
        ));
    }
    Ok(Network { base, bits })
}

/// The first address of a network.
fn first_of(base: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match base {
        IpAddr::V4(ip) => {
            IpAddr::from((ip.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(ip) => {
            IpAddr::from((ip.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).to_be_bytes())
        }
    }
}

fn issuers(written: &[Spanned<model::Issuer>], base: &Path, notes: &mut Notes<'_>) -> Vec<IssuerSettings> {
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
        let ca = issuer
            .ca
            .as_ref()
            .and_then(|ca| notes.take(ca.span(), certificates::certificates(&base.join(ca.get_ref()))));
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
    notes: &mut Notes<'_>,
) -> BTreeMap<&'a str, Option<Secret>> {
    // A secret that cannot be read still has a name: its use is not a second fault.
    let read = |reference: &model::Text, notes: &mut Notes<'_>| {
        notes.take(reference.span(), secrets::read(reference.get_ref(), base))
    };
    written.iter().map(|(name, reference)| (name.as_str(), read(reference, notes))).collect()
}

fn limits(written: &model::Limits, notes: &mut Notes<'_>) -> Option<Limits> {
    let permit_deadline = duration(&written.permit_deadline, Duration::from_secs(10), notes);
    let drain = duration(&written.drain, Duration::from_secs(30), notes);
    let head = match &written.head {
        None => Some(32 * 1024),
        Some(text) => notes.take(text.span(), units::size(text.get_ref())),
    };
    if let (Some(head), Some(text)) = (head, &written.head)
        && !(1024..=256 * 1024).contains(&head)
    {
        notes.fault(text.span(), "head must lie between 1KiB and 256KiB");
    }
    let mut bounded = |value: Option<(u64, std::ops::Range<usize>)>, default: u64, most: u64| match value {
        None => default,
        Some((value, span)) => {
            if value == 0 || value > most {
                notes.fault(span, format!("{value} is out of range; write 1 to {most}"));
            }
            value
        }
    };
    let fields = bounded(written.fields.as_ref().map(|v| (*v.get_ref() as u64, v.span())), 100, 128);
    let streams = bounded(written.streams.as_ref().map(|v| (u64::from(*v.get_ref()), v.span())), 100, 10_000);
    let records_per_key = bounded(
        written.records_per_key.as_ref().map(|v| (*v.get_ref(), v.span())),
        MOST_RECORDS,
        MOST_RECORDS,
    );
    Some(Limits {
        permit_deadline: permit_deadline?,
        connections: written.connections.unwrap_or_else(default_connections),
        connections_per_address: written.connections_per_address,
        half_open_per_address: written.half_open_per_address.unwrap_or(256),
        drain: drain?,
        head: head?,
        fields: fields as usize,
        streams: streams as u32,
        records_per_key,
    })
}

/// Each session takes two descriptors, and some are for everything else.
fn default_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    descriptors.map_or(100_000, |all| (all.saturating_sub(SPARE_DESCRIPTORS) / 2).max(1) as usize)
}

fn duration(written: &Option<model::Text>, default: Duration, notes: &mut Notes<'_>) -> Option<Duration> {
    let Some(text) = written else { return Some(default) };
    let read = notes.take(text.span(), units::duration(text.get_ref()))?;
    if read.is_zero() {
        notes.fault(text.span(), "a duration of nothing ends everything at once; write for example \"30s\"");
        return None;
    }
    Some(read)
}

fn admin(written: &model::Admin, listeners: &[Listener], notes: &mut Notes<'_>) -> Option<Admin> {
    let (address, span) = match &written.address {
        None => (socket_address(ADMIN).ok()?, 0..0),
        Some(text) => (notes.take(text.span(), socket_address(text.get_ref()))?, text.span()),
    };
    // A listener on every address of the family takes the port on each.
    let clashes = |other: &Listener| {
        let ip = other.address.ip();
        other.address.port() == address.port()
            && address.port() != 0
            && (ip == address.ip() || (ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4())))
    };
    if let Some(other) = listeners.iter().find(|other| clashes(other)) {
        notes.fault(
            span.clone(),
            format!("admin's address {address} is that of listener {}; write another", other.address),
        );
    }
    if !address.ip().is_loopback() && !written.unsafe_public_admin {
        let advice = "write a loopback address, or set unsafe_public_admin = true";
        notes.fault(
            span,
            format!("{address} is not loopback and this listener asks nobody who they are; {advice}"),
        );
    }
    Some(Admin { address })
}

fn log(written: &model::Log, notes: &mut Notes<'_>) -> Option<Log> {
    let format = match written.format.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
        None | Some(("auto", _)) => Format::Auto,
        Some(("json", _)) => Format::Json,
        Some(("human", _)) => Format::Human,
        Some((other, span)) => {
            notes.fault(span, format!("{other:?} is no format; write \"json\", \"human\" or \"auto\""));
            return None;
        }
    };
    Some(Log { format, filter: written.filter.clone().unwrap_or_else(|| "info".into()) })
}
