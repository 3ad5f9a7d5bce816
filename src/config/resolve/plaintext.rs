//! Upstreams without TLS: said twice, by the address and by `unsafe_plaintext_upstream`, or not at all.
//!
//! Neither word alone does anything but a fault, so that no slip of the pen takes the encryption off a leg.

use crate::config::fault::FaultCollector;
use crate::config::model::{self, Text};
use crate::dial::Upstream;
use crate::dial::plaintext::PlaintextUpstream;
use crate::gateway::RouteProtocol;
use crate::secret::shown_url;
use toml::Spanned;

/// How addresses without TLS begin.
const SCHEMES: [&str; 2] = ["tcp:", "unix:"];

/// True where the address of a route's upstream says that there is no TLS.
pub(super) fn is_meant(route: &model::Route) -> bool {
    SCHEMES.iter().any(|scheme| address(route).starts_with(scheme))
}

fn address(route: &model::Route) -> &str {
    match route.upstream.get_ref() {
        model::Upstream::Address(address) => address,
        model::Upstream::Table(table) => table.address.get_ref(),
    }
}

/// The upstream of a route whose address says that there is no TLS, and the authority that requests to it carry.
pub(super) fn upstream(
    route: &model::Route,
    protocol: Option<RouteProtocol>,
    notes: &mut FaultCollector<'_>,
) -> Option<(Upstream, String)> {
    let (text, span, table) = match route.upstream.get_ref() {
        model::Upstream::Address(address) => (address, route.upstream.span(), None),
        model::Upstream::Table(table) => (table.address.get_ref(), table.address.span(), Some(&**table)),
    };
    let parsed = PlaintextUpstream::parse(text)
        .map_err(|fault| format!("{} is no upstream: {fault}", shown_url(text)));
    let address = notes.take(span.clone(), parsed);
    let address = match table.and_then(|table| table.peer_user.as_ref()) {
        None => address,
        Some(text) => {
            let user = notes.take(text.span(), user_id(text.get_ref()));
            let served = |(address, user): (PlaintextUpstream, u32)| {
                notes.take(text.span(), address.with_peer_user(user).map_err(|fault| fault.to_string()))
            };
            address.zip(user).and_then(served)
        }
    };
    let allowed = route.unsafe_plaintext_upstream.as_ref().is_some_and(|flag| *flag.get_ref());
    if !allowed && !notes.lost {
        let advice = "write tls://host:port, or add unsafe_plaintext_upstream = true to the route";
        notes.fault(span.clone(), format!("{text:?} has no TLS; {advice}"));
    }
    for (key, place) in table.into_iter().flat_map(of_tls) {
        notes.fault(place, format!("{key} has no effect on an upstream without TLS; remove it"));
    }
    if protocol == Some(RouteProtocol::Http) && route.alpn.is_none() && !notes.lost {
        let advice = "write alpn = \"h2\" (gRPC), \"http/1.1\", or \"auto\" if it speaks both";
        let text = "an upstream without TLS cannot be asked for its version of HTTP";
        notes.fault(span.clone(), format!("{text}; {advice}"));
    }
    let address = address?;
    let text = format!("nothing encrypts or verifies the way to {address} (unsafe_plaintext_upstream)");
    notes.warn(span, text);
    let authority = address.authority();
    Some((Upstream::plaintext(address), authority))
}

/// Notes the permission for what is not there.
pub(super) fn idle_permission(route: &model::Route, notes: &mut FaultCollector<'_>) {
    // An address that is none may have been meant for one without TLS.
    if let Some(flag) = route.unsafe_plaintext_upstream.as_ref().filter(|flag| *flag.get_ref())
        && address(route).starts_with("tls:")
    {
        let text = "unsafe_plaintext_upstream has no effect on an upstream with TLS; remove it";
        notes.fault(flag.span(), text);
    }
}

/// A user's number, or that of a name in the system's list of users.
fn user_id(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let users = std::fs::read_to_string(USERS).map_err(|error| format!("{USERS}: {error}"))?;
    let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user[0] == text);
    let number = user.and_then(|user| user.get(2)?.parse().ok());
    number
        .ok_or_else(|| format!("{text:?} is no user in {USERS}; write the number that `id -u {text}` shows"))
}

/// The users of this machine (passwd(5)). Those of a directory are not in it.
const USERS: &str = "/etc/passwd";

/// What is written of an upstream that only TLS has a use for.
fn of_tls(table: &model::UpstreamTable) -> impl Iterator<Item = (&'static str, std::ops::Range<usize>)> {
    let texts = [
        ("ca", &table.ca),
        ("pin", &table.pin),
        ("sni", &table.sni),
        ("pq", &table.pq),
        ("negotiation", &table.negotiation),
        ("dns_ttl", &table.dns_ttl),
    ];
    let place = |(key, text): (&'static str, &Option<Text>)| Some((key, text.as_ref()?.span()));
    let certificate = table.certificate.as_ref().map(|pair| ("certificate", Spanned::span(&pair.chain)));
    texts.into_iter().filter_map(place).chain(certificate).collect::<Vec<_>>().into_iter()
}
