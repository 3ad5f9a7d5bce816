//! Whether a request's `Host` or `:authority` names the route that its connection leads to.
//!
//! A browser sends requests for every name of a certificate over one HTTP/2 connection. A request for another route's name
//! must not go to this route's upstream with this route's credential, and with `host = "keep"` it would reach another virtual
//! host behind this route's policy: it is answered 421, and the client opens a connection of its own (RFC 9110 section 15.5.20).

use crate::protocol::head_rules::host_of;
use std::net::Ipv6Addr;

/// True when `authority` is one of `names`: without case, port and trailing dot; `*.` stands for exactly one label. So is a request
/// without any: an HTTP/1.0 client's that knows no `Host`. `None`: every name is served.
pub(super) fn names_route(names: Option<&[String]>, authority: &[u8]) -> bool {
    let Some(names) = names else { return true };
    if authority.is_empty() {
        return true;
    }
    let Some(host) = host_of(authority) else { return false };
    if let Some(literal) = ipv6_literal(host) {
        return names.iter().any(|name| name.parse() == Ok(literal));
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    names.iter().any(|name| match name.strip_prefix('*') {
        None => host.eq_ignore_ascii_case(name.as_bytes()),
        Some(parent) => {
            let label = memchr::memchr(b'.', host).unwrap_or(host.len());
            label > 0 && host[label..].eq_ignore_ascii_case(parent.as_bytes())
        }
    })
}

/// The address of `[…]` (RFC 3986 section 3.2.2), which has several spellings.
fn ipv6_literal(host: &[u8]) -> Option<Ipv6Addr> {
    let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inner).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_port_and_trailing_dot_and_a_wildcard_is_one_label() {
        let names = ["api.gw.test", "*.apps.gw.test", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        for authority in [
            "api.gw.test",
            "API.gw.test:8443",
            "api.gw.test.",
            "api.gw.test.:1",
            "a.apps.gw.test",
            "A.Apps.gw.test:9",
            "192.0.2.1:80",
            "[2001:DB8:0::1]:443",
            "",
        ] {
            assert!(names_route(Some(&names), authority.as_bytes()), "{authority}");
        }
        for authority in [
            "gw.test",
            "xapi.gw.test",
            "api.gw.test.evil",
            "apps.gw.test",
            ".apps.gw.test",
            "a.b.apps.gw.test",
            "*.apps.gw.test.x",
            "127.0.0.1",
            "[::1]:80",
            "api.gw.test..",
            "api.gw.test:x",
        ] {
            assert!(!names_route(Some(&names), authority.as_bytes()), "{authority}");
            assert!(names_route(None, authority.as_bytes()), "any name: {authority}");
        }
    }
}
