//! Heads: what they say, and how a permitted one is sent on.
//!
//! Stricter than RFC 9112 asks wherever two parsers could disagree: every disagreement is a smuggled request.

use super::body::{Body, Chunk};
use super::head_end::{Broken, check_field};
use super::limits::Limits;
use crate::protocol::head_rules::{self, Repeated, is_stripped, is_token};
use crate::protocol::{Fields, Kind, RefusalReason, Request, Rewrite, hidden, hidden_query};
use std::mem::MaybeUninit;

/// Facts of a request head beyond [`Request`].
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) body: Body,
    /// The connection ends after the response: `Connection: close` or HTTP/1.0.
    pub(super) close: bool,
    /// The client waits for a 100 before it sends its body.
    pub(super) expects: bool,
    old: bool,
}

/// Parses a whole request head into `request` (its key left alone).
pub(super) fn parse_request(head: &[u8], limits: &Limits, request: &mut Request) -> Result<Asked, Broken> {
    let line = memchr::memchr(b'\r', head).unwrap_or(head.len());
    let lowered = lower_version(head, line.saturating_sub(VERSION.len()));
    let head = lowered.as_deref().unwrap_or(head);
    let mut fields = fields_room();
    let allowed = limits.fields.min(FIELDS_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut fields[..allowed]) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            // As where the head came in pieces.
            CheckedLines::default().check(&head[..head.len() - b"\r\n".len()])?;
            return Err(Broken::large("more fields than the limit"));
        }
        _ => return Err(Broken::bad("malformed request head", "RFC 9112 2.1")),
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let old = parsed.version == Some(0);
    if method == "CONNECT" {
        // What follows such a head has no framing that both sides agree on.
        let why = RefusalReason::MethodNotAllowed;
        return Err(Broken { why, rule: "CONNECT cannot pass", section: "RFC 9110 9.3.6" });
    }
    request.method.clear();
    request.method.extend_from_slice(method.as_bytes());
    request.fields.clear();
    for field in parsed.headers.iter() {
        check_field(field)?;
        request.fields.push(field.name.as_bytes(), field.value);
    }
    let host = one(&request.fields, "host", "more than one Host", "RFC 9112 3.2")?;
    match host {
        Some(host) => head_rules::check_authority(host)?,
        None if old => {}
        None => return Err(Broken::bad("Host missing or invalid", "RFC 9112 3.2")),
    }
    request.authority.clear();
    request.authority.extend_from_slice(host.unwrap_or_default());
    let origin = origin_form(target.as_bytes(), method, host)?;
    request.target.clear();
    // Of an absolute target whose path is empty (RFC 9112 section 3.2.1).
    if origin.len() < target.len() && !origin.starts_with(b"/") && origin != b"*" {
        request.target.push(b'/');
    }
    request.target.extend_from_slice(origin);
    head_rules::check_target(method.as_bytes(), &request.target)?;
    request.barred = head_rules::barred_method(method.as_bytes(), &request.fields);

    one(&request.fields, "authorization", "more than one Authorization", "RFC 9110 5.3")?;
    let (mut close, mut upgrade) = (old, false);
    for (n, option) in options(&request.fields).enumerate() {
        if n == OPTIONS_MAX || head_rules::must_pass(option) {
            return Err(Broken::bad("Connection names a field that must pass", "RFC 9110 7.6.1"));
        }
        close |= option.eq_ignore_ascii_case(b"close");
        upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    let body = request_body(&request.fields, old)?;
    request.ends = body == Body::Done;
    request.kind = Kind::Plain;
    // h2c would hide further requests from the gateway (RFC 9113 withdrew it): the offer is not passed on.
    let offered = request.fields.all("upgrade").flat_map(list);
    let (mut any, mut h2c) = (false, false);
    for protocol in offered {
        any = true;
        h2c |= protocol.get(..3).is_some_and(|p| p.eq_ignore_ascii_case(b"h2c"));
    }
    if upgrade && any && !h2c && !old {
        request.kind = Kind::Upgrade;
    }
    let expects = request.fields.get("expect").is_some();
    Ok(Asked { body, close, expects, old })
}

/// How far the lines of a head were checked.
#[derive(Debug, Default)]
pub(super) struct CheckedLines {
    /// Where the first line begins that is not whole.
    pub(super) start: usize,
    /// Where the first byte stands that was not looked at.
    pub(super) seen: usize,
}

impl CheckedLines {
    /// Checks the lines of a head that is not whole, further ones than before: what cannot become a request is not waited for.
    /// HTTP/0.9 is such: its request is one line without a version (RFC 1945 section 4.1).
    pub(super) fn check(&mut self, held: &[u8]) -> Result<(), Broken> {
        while let Some(n) = memchr::memchr(b'\n', held.get(self.seen..).unwrap_or_default()) {
            self.seen += n;
            let line = held[self.start..self.seen].strip_suffix(b"\r").unwrap_or_default();
            let may_stand = match self.start {
                0 => {
                    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit())
                }
                _ => memchr::memchr(b':', line).is_some_and(|colon| colon == 0 || is_token(&line[..colon])),
            };
            if !may_stand {
                return Err(Broken::bad("malformed request head", "RFC 9112 2.1"));
            }
            self.seen += 1;
            self.start = self.seen;
        }
        // The empty line at the end is left out once it is whole, and may have begun before.
        self.seen = self.seen.max(held.len());
        Ok(())
    }
}

/// The version that the gateway speaks.
pub(super) const VERSION: &[u8] = b"HTTP/1.1";

/// A copy of a head whose version, at this place, is a later one of the same major: it is read as 1.1 (RFC 9110 section 2.5).
fn lower_version(head: &[u8], at: usize) -> Option<Vec<u8>> {
    let version = head.get(at..at + VERSION.len())?;
    let (minor, rest) = version.split_last()?;
    if *rest != VERSION[..rest.len()] || !(b'2'..=b'9').contains(minor) {
        return None;
    }
    let mut copy = head.to_vec();
    copy[at..at + VERSION.len()].copy_from_slice(VERSION);
    Some(copy)
}

/// Appends the head as it goes to the upstream. HTTP/1.0 stays 1.0, so that the upstream frames its response for it.
pub(super) fn write_request(out: &mut Vec<u8>, request: &Request, asked: &Asked, rewrite: &Rewrite<'_>) {
    out.extend_from_slice(&request.method);
    out.push(b' ');
    out.extend_from_slice(&request.target);
    out.extend_from_slice(if asked.old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    if let (Some(authority), None) = (rewrite.authority, request.fields.get("host")) {
        push(out, b"Host", authority.as_bytes());
    }
    let upgrade = request.kind == Kind::Upgrade;
    let mut te = false;
    for (name, value) in request.fields.iter() {
        if name.eq_ignore_ascii_case(b"host") {
            push(out, name, rewrite.authority.map_or(value, str::as_bytes));
        } else if name.eq_ignore_ascii_case(b"te") {
            te |= list(value).any(|v| v.eq_ignore_ascii_case(b"trailers"));
        } else if name.eq_ignore_ascii_case(b"upgrade") && upgrade
            || !is_stripped(name, rewrite) && !options(&request.fields).any(|o| o.eq_ignore_ascii_case(name))
        {
            push(out, name, value);
        }
    }
    for (name, value) in rewrite.set {
        push(out, name.as_bytes(), value);
    }
    if te {
        push(out, b"TE", b"trailers");
    }
    let connection: &[u8] = match (asked.close, upgrade, te) {
        (true, true, true) => b"close, upgrade, TE",
        (true, true, false) => b"close, upgrade",
        (true, false, true) => b"close, TE",
        (true, false, false) => b"close",
        (false, true, true) => b"upgrade, TE",
        (false, true, false) => b"upgrade",
        (false, false, true) => b"TE",
        (false, false, false) => b"",
    };
    if !connection.is_empty() {
        push(out, b"Connection", connection);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head as its client sent it, without the values that are hidden.
pub(super) fn write_view(out: &mut Vec<u8>, request: &Request, asked: &Asked, hides: &dyn Fn(&[u8]) -> bool) {
    out.extend_from_slice(&request.method);
    out.push(b' ');
    out.extend_from_slice(&hidden_query(&request.target, hides));
    out.extend_from_slice(if asked.old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    for (name, value) in request.fields.iter() {
        match hides(name) {
            true => push(out, name, &hidden(value)),
            false if name.eq_ignore_ascii_case(b"referer") => push(out, name, &hidden_query(value, hides)),
            false => push(out, name, value),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A parsed response head.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Body,
    pub(super) close: bool,
    /// It says another version than HTTP/1.1.
    pub(super) old: bool,
}

/// Parses a whole response head; `to_head`: it answers a `HEAD` (RFC 9112 6.3).
pub(super) fn parse_response(head: &[u8], to_head: bool, fields: &mut Fields) -> Result<Answered, Broken> {
    let lowered = lower_version(head, 0);
    let head = lowered.as_deref().unwrap_or(head);
    let mut room = fields_room();
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut room) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        _ => return Err(Broken::bad("malformed response head", "RFC 9112 4")),
    }
    let (status, old) = (parsed.code.unwrap_or_default(), parsed.version == Some(0));
    if !(100..=599).contains(&status) {
        return Err(Broken::bad("status out of range", "RFC 9110 15"));
    }
    fields.clear();
    for field in parsed.headers.iter() {
        check_field(field)?;
        fields.push(field.name.as_bytes(), field.value);
    }
    let length = head_rules::content_length(fields, Repeated::Same)?;
    let chunked = is_chunked(fields, old)?;
    if chunked && length.is_some() {
        return Err(Broken::bad("Content-Length with Transfer-Encoding", "RFC 9112 6.3"));
    }
    let body = match length {
        _ if to_head || status < 200 || status == 204 || status == 304 => Body::Done,
        _ if chunked => Body::Chunked(Chunk::START),
        Some(length) => Body::of_length(length),
        None => Body::UntilClose,
    };
    let says = |word: &[u8]| options(fields).any(|o| o.eq_ignore_ascii_case(word));
    let close = body == Body::UntilClose || says(b"close") || old && !says(b"keep-alive");
    Ok(Answered { status, body, close, old: old || lowered.is_some() })
}

/// Appends a response head with its connection fields replaced by `Connection: close`.
pub(super) fn write_closing(out: &mut Vec<u8>, head: &[u8], fields: &Fields) {
    let line = memchr::memchr(b'\n', head).map_or(head.len(), |i| i + 1);
    out.extend_from_slice(&head[..line]);
    for (name, value) in fields.iter() {
        if !name.eq_ignore_ascii_case(b"connection") && !name.eq_ignore_ascii_case(b"keep-alive") {
            push(out, name, value);
        }
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn one<'a>(
    fields: &'a Fields,
    name: &'a str,
    rule: &'static str,
    section: &'static str,
) -> Result<Option<&'a [u8]>, Broken> {
    let mut all = fields.all(name);
    let first = all.next();
    if all.next().is_some() { Err(Broken::bad(rule, section)) } else { Ok(first) }
}

/// The target without scheme and authority, which must agree with `Host`.
fn origin_form<'a>(target: &'a [u8], method: &str, host: Option<&[u8]>) -> Result<&'a [u8], Broken> {
    let bad = Err(Broken::bad("invalid request target", "RFC 9112 3.2"));
    if !target.first().is_some_and(u8::is_ascii_alphabetic) {
        return Ok(target);
    }
    let scheme = |s: &[u8]| target.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s));
    let (rest, scheme) = match (scheme(b"http://"), scheme(b"https://")) {
        (true, _) => (&target[7..], &target[..4]),
        (_, true) => (&target[8..], &target[..5]),
        _ => return bad,
    };
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    match host {
        Some(host) if head_rules::is_same_authority(&rest[..end], host, scheme) => {
            // OPTIONS for the whole host (RFC 9112 section 3.2.4).
            if end == rest.len() && method == "OPTIONS" { Ok(b"*") } else { Ok(&rest[end..]) }
        }
        _ => Err(Broken::bad("absolute target and Host disagree", "RFC 9112 3.2.2")),
    }
}

fn request_body(fields: &Fields, old: bool) -> Result<Body, Broken> {
    let length = head_rules::content_length(fields, Repeated::Refused)?;
    let chunked = is_chunked(fields, old)?;
    match (length, chunked) {
        (Some(_), true) => Err(Broken::bad("Content-Length with Transfer-Encoding", "RFC 9112 6.1")),
        (Some(length), false) => Ok(Body::of_length(length)),
        (None, true) => Ok(Body::Chunked(Chunk::START)),
        (None, false) => Ok(Body::Done),
    }
}

fn is_chunked(fields: &Fields, old: bool) -> Result<bool, Broken> {
    match one(fields, "transfer-encoding", "more than one Transfer-Encoding", "RFC 9112 6.1")? {
        None => Ok(false),
        Some(_) if old => Err(Broken::bad("Transfer-Encoding on HTTP/1.0", "RFC 9112 6.1")),
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(true),
        Some(_) => Err(Broken::bad("Transfer-Encoding other than chunked", "RFC 9112 6.1")),
    }
}

fn options(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    fields.all("connection").flat_map(list)
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|v| !v.is_empty())
}

/// Room on the stack for one head's fields; limits above it have no effect.
pub(super) const FIELDS_MAX: usize = 128;

/// That room.
pub(super) fn fields_room<'a>() -> [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX] {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// Clients send one to three; more would make the removal quadratic.
const OPTIONS_MAX: usize = 16;
