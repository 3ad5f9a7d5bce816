//! Request heads and trailers: from decoded fields to a [`Request`], and back to a header block.

use crate::protocol::head_rules::{self, BrokenRule, Repeated};
use crate::protocol::{Fields, Kind, RefusalReason, Request, Rewrite, hidden, hidden_query, hpack};

/// What a request's pseudo-header fields say that [`Request`] has no place for.
#[derive(Clone, Debug, Default)]
pub(super) struct Pseudo {
    pub(super) scheme: Vec<u8>,
    /// Extended CONNECT (RFC 8441).
    pub(super) protocol: Option<Vec<u8>>,
    /// The Content-Length, which DATA must come to.
    pub(super) length: Option<u64>,
}

const NO_METHOD: BrokenRule = BrokenRule { rule: "no :method", section: "RFC 9113 8.3.1" };

fn broken<T>(rule: &'static str) -> Result<T, BrokenRule> {
    Err(BrokenRule { rule, section: "RFC 9113 8.3.1" })
}

/// Reads a decoded head into `request`. The length of the body that it announces is held against DATA by the caller.
///
/// A head with [`head_rules::BLANKS`] is malformed as others are, but often an honest mistake (`Bearer ` before an empty variable):
/// it is barred, so that an answer says what is wrong (RFC 9113 section 8.1.1 permits one).
pub(super) fn read(decoded: &Fields, request: &mut Request) -> Result<Pseudo, BrokenRule> {
    let mut pseudo = Pseudo::default();
    let (mut method, mut path, mut authority) = (None, None, None);
    let (mut scheme, mut authorized) = (None, false);
    request.fields.clear();
    for (name, value) in decoded.iter() {
        let Some(bare) = name.strip_prefix(b":") else {
            let mut value = value;
            if let Err(fault) = head_rules::check_http2_field(name, value) {
                value = head_rules::without_blanks(value);
                if fault != head_rules::BLANKS {
                    return Err(fault);
                }
                head_rules::check_http2_field(name, value)?;
                request.barred.get_or_insert(RefusalReason::BadRequest);
            }
            // It is no list (RFC 9110 section 5.3), and here it can be answered.
            if name == b"authorization" && std::mem::replace(&mut authorized, true) {
                request.barred.get_or_insert(RefusalReason::TwoTokens);
            }
            request.fields.push(name, value);
            continue;
        };
        if !request.fields.is_empty() {
            return broken("pseudo-header field after a regular one");
        }
        let place = match bare {
            b"method" => &mut method,
            b"path" => &mut path,
            b"scheme" => &mut scheme,
            b"authority" => &mut authority,
            b"protocol" => &mut pseudo.protocol,
            _ => return broken("unknown pseudo-header field"),
        };
        if place.replace(value.to_vec()).is_some() {
            return broken("pseudo-header field twice");
        }
    }
    request.method = method.filter(|m| head_rules::is_token(m)).ok_or(NO_METHOD)?;
    let tunnel = request.method == b"CONNECT" && pseudo.protocol.is_none();
    if pseudo.protocol.as_ref().is_some_and(|p| request.method != b"CONNECT" || !head_rules::is_token(p)) {
        return broken(":protocol without CONNECT, or none (RFC 8441)");
    }
    request.target = path.unwrap_or_default();
    pseudo.scheme = scheme.unwrap_or_default();
    if !tunnel {
        head_rules::check_target(&request.method, &request.target)?;
        head_rules::check_scheme(&pseudo.scheme)?;
    }
    let mut hosts = request.fields.all("host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return broken("host twice");
    }
    request.authority = match (authority, host) {
        (Some(authority), Some(host)) if !head_rules::is_same_authority(&authority, host, &pseudo.scheme) => {
            return broken("host and :authority differ");
        }
        (Some(authority), _) => authority,
        (None, host) => host.unwrap_or_default().to_vec(),
    };
    head_rules::check_authority(&request.authority)?;
    pseudo.length = head_rules::content_length(&request.fields, Repeated::Refused)?;
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
        if name != b"host" && !head_rules::is_stripped(name, rewrite) || name == b"te" {
            hpack::encode(name, value, false, block);
        }
    }
    for (name, value) in rewrite.set {
        // Credentials among them must not end up in anybody's table.
        hpack::encode(name.as_bytes(), value, true, block);
    }
}

/// Encodes the head as its client sent it, without the values that are hidden; literals only, so that it can be read by itself.
pub(super) fn write_view(
    request: &Request,
    pseudo: &Pseudo,
    hides: &dyn Fn(&[u8]) -> bool,
    block: &mut Vec<u8>,
) {
    hpack::encode(b":method", &request.method, false, block);
    hpack::encode(b":scheme", &pseudo.scheme, false, block);
    hpack::encode(b":path", &hidden_query(&request.target, hides), false, block);
    if !request.authority.is_empty() {
        hpack::encode(b":authority", &request.authority, false, block);
    }
    if let Some(protocol) = &pseudo.protocol {
        hpack::encode(b":protocol", protocol, false, block);
    }
    for (name, value) in request.fields.iter() {
        match hides(name) {
            true => hpack::encode(name, &hidden(value), true, block),
            false if name == b"referer" => hpack::encode(name, &hidden_query(value, hides), false, block),
            false => hpack::encode(name, value, false, block),
        }
    }
}

/// Encodes request trailers. A server may merge them into the head, so `guarded`, the names that the gateway strips and sets
/// there, must not arrive here.
pub(super) fn write_trailers(
    decoded: &Fields,
    guarded: &Fields,
    block: &mut Vec<u8>,
) -> Result<(), BrokenRule> {
    for (name, value) in decoded.iter() {
        head_rules::check_http2_field(name, value)?;
        head_rules::check_trailer(name, guarded)?;
        hpack::encode(name, value, false, block);
    }
    Ok(())
}

/// What a response head, or the trailers of one, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// `None`: trailers.
    pub(super) status: Option<u16>,
    pub(super) length: Option<u64>,
}

/// Reads a decoded block of a response (RFC 9113 section 8.3.2).
pub(super) fn read_response(decoded: &Fields) -> Result<Answered, BrokenRule> {
    let (mut status, mut regular) = (None, false);
    for (name, value) in decoded.iter() {
        if name.first() != Some(&b':') {
            regular = true;
            head_rules::check_http2_field(name, value)?;
            continue;
        }
        let code = match value {
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] if name == b":status" => {
                value.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
            }
            _ => return broken("pseudo-header field that no response has"),
        };
        if regular || status.replace(code).is_some() || !(100..=599).contains(&code) || code == 101 {
            return broken(":status out of place or range");
        }
    }
    let length = if status.is_some() { head_rules::content_length(decoded, Repeated::Same)? } else { None };
    Ok(Answered { status, length })
}
