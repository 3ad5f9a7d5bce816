//! Request heads and trailers: from decoded fields to a [`Request`], and back to a header block.

use crate::protocol::{Fields, Kind, Request, Rewrite, hpack};

/// What a request's pseudo-header fields say that [`Request`] has no place for.
#[derive(Clone, Debug, Default)]
pub(super) struct Pseudo {
    pub(super) scheme: Vec<u8>,
    /// Extended CONNECT (RFC 8441).
    pub(super) protocol: Option<Vec<u8>>,
}

/// Fields that belong to one connection, which HTTP/2 forbids (RFC 9113 section 8.2.2).
const OF_CONNECTION: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// What proxies say of clients; only we may say it.
const FORWARDED: [&[u8]; 2] = [b"forwarded", b"x-real-ip"];

/// What trailers must not carry: framing, routing and authentication (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&[u8]; 9] = [
    b"authorization",
    b"api-key",
    b"content-length",
    b"cookie",
    b"host",
    b"proxy-authorization",
    b"te",
    b"x-api-key",
    b"x-request-id",
];

/// Reads a decoded head into `request`; the error says which rule it breaks (RFC 9113 section 8.3.1 unless said).
pub(super) fn read(decoded: &Fields, request: &mut Request) -> Result<Pseudo, &'static str> {
    let mut pseudo = Pseudo::default();
    let (mut method, mut path, mut authority) = (None, None, None);
    let mut scheme = None;
    request.fields.clear();
    for (name, value) in decoded.iter() {
        let Some(bare) = name.strip_prefix(b":") else {
            check_field(name, value)?;
            request.fields.push(name, value);
            continue;
        };
        if !request.fields.is_empty() {
            return Err("pseudo-header field after a regular one");
        }
        check_value(value)?;
        let place = match bare {
            b"method" => &mut method,
            b"path" => &mut path,
            b"scheme" => &mut scheme,
            b"authority" => &mut authority,
            b"protocol" => &mut pseudo.protocol,
            _ => return Err("unknown pseudo-header field"),
        };
        if place.replace(value.to_vec()).is_some() {
            return Err("pseudo-header field twice");
        }
    }
    request.method = method.filter(|m| is_token(m)).ok_or("no :method")?;
    let tunnel = request.method == b"CONNECT" && pseudo.protocol.is_none();
    if pseudo.protocol.is_some() && request.method != b"CONNECT" {
        return Err(":protocol without CONNECT (RFC 8441)");
    }
    request.target = path.unwrap_or_default();
    pseudo.scheme = scheme.unwrap_or_default();
    if !tunnel && (request.target.is_empty() || pseudo.scheme.is_empty()) {
        return Err("no :path or no :scheme");
    }
    if !(tunnel || request.target.starts_with(b"/") || request.target == b"*") {
        return Err(":path that is neither absolute nor *");
    }
    let host = request.fields.get("host").map(<[u8]>::to_vec);
    if request.fields.all("host").count() > 1 {
        return Err("host twice");
    }
    request.authority = match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(&host) => {
            return Err("host and :authority differ");
        }
        (Some(authority), _) => authority,
        (None, host) => host.unwrap_or_default(),
    };
    let grpc = request.fields.get("content-type").is_some_and(|v| v.starts_with(b"application/grpc"));
    request.kind = match () {
        () if pseudo.protocol.is_some() => Kind::Upgrade,
        () if grpc => Kind::Grpc,
        () => Kind::Plain,
    };
    Ok(pseudo)
}

/// Encodes a permitted head with literals.
pub(super) fn write(request: &Request, pseudo: &Pseudo, rewrite: &Rewrite<'_>, block: &mut Vec<u8>) {
    let authority = rewrite.authority.map_or(&request.authority[..], str::as_bytes);
    hpack::encode(b":method", &request.method, false, block);
    hpack::encode(b":scheme", &pseudo.scheme, false, block);
    hpack::encode(b":path", &request.target, false, block);
    if !authority.is_empty() {
        hpack::encode(b":authority", authority, false, block);
    }
    if let Some(protocol) = &pseudo.protocol {
        hpack::encode(b":protocol", protocol, false, block);
    }
    for (name, value) in request.fields.iter() {
        if !goes(name, rewrite) {
            hpack::encode(name, value, false, block);
        }
    }
    for (name, value) in rewrite.set {
        // Credentials among them must not end up in anybody's table.
        hpack::encode(name.as_bytes(), value, true, block);
    }
}

/// True for a field that must not reach the upstream.
fn goes(name: &[u8], rewrite: &Rewrite<'_>) -> bool {
    let stripped = rewrite.strip.iter().any(|strip| is_twin(name, strip.as_bytes()));
    let set = rewrite.set.iter().any(|(set, _)| is_twin(name, set.as_bytes()));
    name == b"host" || stripped || set || is_forwarding(name)
}

/// True for what proxies say of clients, and for what a server could take for it.
fn is_forwarding(name: &[u8]) -> bool {
    FORWARDED.iter().any(|f| is_twin(name, f))
        || name.get(..12).is_some_and(|start| is_twin(start, b"x-forwarded-"))
}

/// True when some server could take the one name for the other: `_` for `-` (CGI variables).
fn is_twin(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && name.iter().zip(known).all(|(a, b)| a == b || (*a == b'_' && *b == b'-'))
}

/// Encodes request trailers; the error says why they cannot pass. A server may merge them into the head, so `guarded`,
/// the names that the gateway strips and sets there, must not arrive here.
pub(super) fn write_trailers(
    decoded: &Fields,
    guarded: &Fields,
    block: &mut Vec<u8>,
) -> Result<(), &'static str> {
    for (name, value) in decoded.iter() {
        if name.starts_with(b":") {
            return Err("pseudo-header field in trailers");
        }
        check_field(name, value)?;
        let named = NOT_IN_TRAILERS.iter().any(|known| is_twin(name, known));
        if named || is_forwarding(name) || guarded.iter().any(|(known, _)| is_twin(name, known)) {
            return Err("trailer that carries framing or authentication");
        }
        hpack::encode(name, value, false, block);
    }
    Ok(())
}

/// RFC 9113 section 8.2.1 and 8.2.2.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err("field name that is no lower-case token");
    }
    check_value(value)?;
    if OF_CONNECTION.contains(&name) || (name == b"te" && value != b"trailers") {
        return Err("connection-specific field");
    }
    if name == b"content-length" && (value.is_empty() || !value.iter().all(u8::is_ascii_digit)) {
        return Err("content-length that is no number");
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), &'static str> {
    let blank = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b' ' | b'\t'));
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        || blank(value.first())
        || blank(value.last())
    {
        return Err("field value with NUL, line ends or blanks around it");
    }
    Ok(())
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}
