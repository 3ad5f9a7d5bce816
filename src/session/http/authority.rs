//! Whether a request's `Host` or `:authority` names the route that its connection leads to.
//!
//! A browser sends requests for every name of a certificate over one HTTP/2 connection. A request for another route's name
//! must not go to this route's upstream with this route's credential, and with `host = "keep"` it would reach another virtual
//! host behind this route's policy: it is answered 421, and the client opens a connection of its own (RFC 9110 section 15.5.20).

use crate::protocol::head_rules::host_of;

/// True when `authority` is one of `names`: without case, port and trailing dot; `*.` stands for exactly one label. So is a request
/// without any: an HTTP/1.0 client's that knows no `Host`.
pub(super) fn names_route(names: &[String], authority: &[u8]) -> bool {
    if authority.is_empty() {
        return true;
    }
    let Some(host) = host_of(authority) else { return false };
    let host = host.strip_suffix(b".").unwrap_or(host);
    names.iter().any(|name| match name.strip_prefix('*') {
        None => host.eq_ignore_ascii_case(name.as_bytes()),
        Some(parent) => {
            let label = memchr::memchr(b'.', host).unwrap_or(host.len());
            label > 0 && host[label..].eq_ignore_ascii_case(parent.as_bytes())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_port_and_trailing_dot_and_a_wildcard_is_one_label() {
        let names = ["api.gw.test".to_owned(), "*.apps.gw.test".to_owned()];
        for authority in [
            "api.gw.test",
            "API.gw.test:8443",
            "api.gw.test.",
            "api.gw.test.:1",
            "a.apps.gw.test",
            "A.Apps.gw.test:9",
            "",
        ] {
            assert!(names_route(&names, authority.as_bytes()), "{authority}");
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
            assert!(!names_route(&names, authority.as_bytes()), "{authority}");
        }
    }
}
