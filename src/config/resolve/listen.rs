//! What is listened on, and who is believed there.

use crate::config::advice;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Config};
use crate::config::summary::RouteSummary;
use crate::gateway::{Listener, MysqlListener, Network, Route, RouteProtocol};
use crate::names::RouteName;
use crate::protocol::mysql::Greeting;
use crate::protocol::mysql::greeting::version;
use crate::secret::shown_url;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use toml::Spanned;
pub(super) fn listeners(config: &Config, notes: &mut FaultCollector<'_>) -> Vec<Listener> {
    let written = &config.listener;
    // Before a route is known, clients can only be offered what any of them wants.
    let wants_files = |route: &Spanned<model::Route>| {
        route.get_ref().local_files.as_ref().is_some_and(|yes| *yes.get_ref())
    };
    let local_files = config.route.iter().any(wants_files);
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
        match listeners.iter().find(|other| share_a_port(other.address, parsed)) {
            Some(other) if other.address == parsed => {
                notes.fault(address.span(), format!("{parsed} is listened on twice; remove one"));
            }
            Some(other) => {
                let text = format!(
                    "{parsed} and {} are one port of the same addresses ([::] is every address, of IPv4, too); remove one",
                    other.address
                );
                notes.fault(address.span(), text);
            }
            None => {}
        }
        let mysql =
            one.get_ref().mysql.as_ref().and_then(|written| mysql(written.get_ref(), local_files, notes));
        let cancel_in_clear =
            one.get_ref().postgres_cancel_in_clear.as_ref().is_some_and(|yes| *yes.get_ref());
        let named = |name: &model::Text| RouteName(name.get_ref().as_str().into());
        listeners.push(Listener {
            number,
            address: parsed,
            mysql: mysql.map(Arc::new),
            cancel_in_clear,
            proxy_protocol_from,
            routes: one.get_ref().routes.as_ref().map(|all| all.get_ref().iter().map(named).collect()),
            default_route: one.get_ref().default_route.as_ref().map(named),
        });
    }
    listeners
}

/// True when not both can be listened on: an unspecified address has the port on each, and that of IPv6 on those of IPv4, too.
pub(super) fn share_a_port(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

/// Notes each address, in the order of `more`, whose port one before it has.
pub(super) fn check_ports<'a>(
    taken: impl Iterator<Item = SocketAddr>,
    more: impl Iterator<Item = (&'a model::Text, SocketAddr)>,
    notes: &mut FaultCollector<'_>,
) {
    let mut taken: Vec<SocketAddr> = taken.collect();
    for (written, address) in more {
        if let Some(other) = taken.iter().find(|other| share_a_port(**other, address)) {
            notes.fault(
                written.span(),
                format!("{address} is listened on already, as {other}; write another"),
            );
        }
        taken.push(address);
    }
}

fn mysql(
    written: &model::MysqlListener,
    local_files: bool,
    notes: &mut FaultCollector<'_>,
) -> Option<MysqlListener> {
    let greeting = match &written.version {
        None => Greeting::default(),
        Some(text) => {
            let version = version(text.get_ref()).ok_or_else(|| {
                format!("{:?} is no version; write for example \"10.11.6-MariaDB\"", text.get_ref())
            });
            Greeting { version: notes.take(text.span(), version)?, is_given: true, ..Greeting::default() }
        }
    };
    let greeting = Greeting { local_files, ..greeting };
    let route = written.route.as_ref().map(|name| RouteName(name.get_ref().as_str().into()));
    Some(MysqlListener { greeting, route })
}

/// The names of the routes that each listener serves; `None`: all, or what could not be read.
pub(super) fn served(
    written: &[Spanned<model::Listener>],
    notes: &FaultCollector<'_>,
) -> Vec<Option<Vec<String>>> {
    let names = |one: &Spanned<model::Listener>| {
        let all = one.get_ref().routes.as_ref().filter(|all| {
            !notes.is_told(&all.span()) && !all.get_ref().iter().any(|one| notes.is_told(&one.span()))
        })?;
        Some(all.get_ref().iter().map(|one| one.get_ref().clone()).collect())
    };
    written.iter().map(names).collect()
}

/// What must fit between listeners and the routes that they name.
pub(super) fn routes_of_listeners(config: &Config, notes: &mut FaultCollector<'_>) {
    if notes.lost {
        return;
    }
    let served = served(&config.listener, notes);
    // A name that could not be read may be the one that is asked for.
    let unread = config.route.iter().any(|route| notes.is_told(&route.get_ref().name.span()));
    let route = |name: &str| config.route.iter().find(|route| route.get_ref().name.get_ref() == name);
    let is_served =
        |routes: &Option<Vec<String>>, name: &String| routes.as_ref().is_none_or(|all| all.contains(name));
    for (listener, routes) in config.listener.iter().map(Spanned::get_ref).zip(&served) {
        for name in listener.routes.iter().flat_map(|all| all.get_ref()) {
            if route(name.get_ref()).is_none() && !unread {
                notes.fault(name.span(), format!("there is no route `{}`", name.get_ref()));
            }
        }
        let Some(default) = &listener.default_route else { continue };
        let name = default.get_ref();
        let fault = match route(name) {
            None if unread => continue,
            None => format!("there is no route `{name}`"),
            Some(_) if !is_served(routes, name) => {
                format!("route `{name}` is not among this listener's `routes`; add it")
            }
            Some(_) if listener.mysql.is_some() => "write mysql = { route = \"…\" } instead".to_owned(),
            Some(route) if route.get_ref().sni.is_none() => {
                format!("route `{name}` has no `sni` and no `certificate` to show; set both")
            }
            Some(_) => continue,
        };
        notes.fault(default.span(), fault);
    }
    for route in config.route.iter().map(Spanned::get_ref) {
        let name = route.name.get_ref();
        if !served.is_empty() && !served.iter().any(|routes| is_served(routes, name)) {
            notes.fault(
                route.name.span(),
                format!("route `{name}` is in no listener's `routes`; add it to one"),
            );
        }
    }
}

/// What must fit between listeners that greet and the routes behind them.
pub(super) fn mysql_routes(
    config: &Config,
    routes: &[(Route, RouteSummary)],
    notes: &mut FaultCollector<'_>,
) {
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

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{} is no address with a port; {}", shown_url(text), advice::address(text)))
}

pub(super) fn network(text: &str) -> Result<Network, String> {
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
