//! Request checks and response headers of the admin listener.
//!
//! A loopback port is reachable from every web page in a browser of the machine. So the `Host` must be a loopback name, an
//! address literal or a configured name (DNS rebinding is answered with 421), a foreign `Origin` is turned away, and what
//! changes something needs a content type that no foreign page can send, or the token of a form of ours.

use super::Admin;
use super::fault::{Fault, MAX_BODY, clear_answer};
use super::orders::SessionOrder;
use super::page;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// Refuses invalid requests and sets the response headers.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let takes = methods(request.uri().path());
    let is_order = !matches!(*request.method(), Method::GET | Method::HEAD);
    let wants_page = wants_page(request.headers(), request.uri().path());
    let may_be_left_unread = request.version() < Version::HTTP_2 && has_body(request.headers());
    let response = if is_order && !takes.split(", ").any(|method| method == request.method().as_str()) {
        ([(ALLOW, takes)], StatusCode::METHOD_NOT_ALLOWED).into_response()
    } else if is_ambiguous(request.headers()) {
        Fault::ambiguous().into_response()
    } else if is_too_large(request.headers()) {
        // Before anybody who waits to be told to go on (`Expect: 100-continue`) is told to.
        StatusCode::PAYLOAD_TOO_LARGE.into_response()
    } else if !names_this_host(&request, &admin.rules().settings.hosts) {
        Fault::foreign_host().into_response()
    } else if is_foreign(request.headers(), is_order) {
        Fault::foreign_origin().into_response()
    } else {
        next.run(request).await
    };
    let mut response = clear_answer(response, |fault| page::fault_page(fault, None), wants_page);
    for (name, value) in ANSWER_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // What is refused may leave its body unread, and the server then ends the connection: a client that is not told could
    // have its next request on the way.
    if may_be_left_unread && (response.status().is_client_error() || response.status().is_server_error()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if admin.is_tls {
        let value = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// True for a browser that goes somewhere: what it is told should be a page.
fn wants_page(headers: &HeaderMap, path: &str) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepts.contains("text/html") && !path.starts_with("/api") && path != "/events"
}

/// The methods that a path takes.
fn methods(path: &str) -> &'static str {
    match path {
        "/login" => "GET, HEAD, POST",
        _ if takes_orders(path) => "POST",
        _ if path.strip_prefix("/api/revocations/").is_some_and(|id| !id.is_empty() && !id.contains('/')) => {
            "GET, HEAD, DELETE"
        }
        _ => "GET, HEAD",
    }
}

/// The paths that take POST.
fn takes_orders(path: &str) -> bool {
    if path.strip_prefix("/revocations/").is_some_and(|rest| rest.ends_with("/withdraw")) {
        return true;
    }
    let path = path.strip_prefix("/api").unwrap_or(path);
    matches!(path, "/revoke" | "/login" | "/logout" | "/events/caep")
        || path.strip_prefix("/recordings/").is_some_and(|rest| rest.ends_with("/transcript"))
        || path
            .strip_prefix("/sessions/")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, order)| SessionOrder::named(order).is_some())
}

/// True for what another site's page sends. What browsers say of a request's origin nobody else can say in their place.
fn is_foreign(headers: &HeaderMap, is_order: bool) -> bool {
    let own = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let is_own = |origin: &[u8]| {
        let host = origin.strip_prefix(b"https://").or(origin.strip_prefix(b"http://"));
        host.is_some_and(|host| host.eq_ignore_ascii_case(own))
    };
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    origin.is_some_and(|origin| !is_own(origin))
        || is_order && site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
}

/// True for a body that is announced as larger than any order. One that is not announced is counted as it is read.
fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length > MAX_BODY)
}

/// True where readers could differ about what a request says: a field that decides comes twice. How long it is only one
/// field says by here: where both do, the server goes by Transfer-Encoding, and no proxy before it differs.
fn is_ambiguous(headers: &HeaderMap) -> bool {
    let is_repeated = |name: HeaderName| headers.get_all(name).iter().nth(1).is_some();
    DECIDING.into_iter().any(is_repeated)
}

/// Fields by which it is decided who asks for what.
const DECIDING: [HeaderName; 5] =
    [HOST, ORIGIN, AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("sec-fetch-site")];

/// True when `Host` names this host, and so does the target where it is a whole URL (RFC 9112 section 3.2.2).
fn names_this_host(request: &Request, names: &[String]) -> bool {
    let target = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    request.headers().get(HOST).is_some_and(|host| is_own(host, names))
        && target.is_none_or(|authority| authority.is_ok_and(|authority| is_own(&authority, names)))
}

/// True for `localhost`, address literals and configured names, with or without a port. An address cannot be rebound.
fn is_own(host: &HeaderValue, names: &[String]) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((name, "")) => name,
            Some((name, port)) if port.strip_prefix(':').is_some_and(is_port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

pub(super) const ANSWER_HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    // With `no-referrer`, browsers would call the origin of our own forms `null`.
    (REFERRER_POLICY, "same-origin"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'self'",
    ),
];
