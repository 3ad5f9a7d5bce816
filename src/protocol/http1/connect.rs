//! The head that opens a tunnel: `CONNECT route HTTP/1.1` (RFC 9110 section 9.3.6).
//!
//! Only the name of a route is read from the target, never an address: what a client can reach is what is configured.

use super::Limits;
use super::answer::{self, Challenge};
use super::head::{CheckedLines, fields_room, one};
use super::head_end::{Broken, HeadEnd, check_field};
use crate::names::RequestId;
use crate::protocol::{Fields, HttpDate, RefusalReason, head_rules};
use std::fmt;

/// A whole head.
pub struct Connect {
    /// The route that is asked for, as it was written.
    pub route: String,
    fields: Fields,
    /// Its length in bytes, the empty line included. What follows it is for the route.
    pub length: usize,
}

/// It holds a token.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Connect {
    /// The value of `Proxy-Authorization` (RFC 9110 section 11.7.2).
    pub fn authorization(&self) -> Option<&[u8]> {
        self.fields.get("proxy-authorization")
    }
}

/// Why a tunnel is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} ({section})")]
pub struct NotOpened {
    /// What the client is told.
    pub why: RefusalReason,
    rule: &'static str,
    section: &'static str,
}

impl From<Broken> for NotOpened {
    fn from(Broken { why, rule, section }: Broken) -> Self {
        NotOpened { why, rule, section }
    }
}

/// A head that is being read.
#[derive(Debug, Default)]
pub struct ConnectHead {
    end: HeadEnd,
    lines: CheckedLines,
}

impl ConnectHead {
    /// Reads on in the first bytes of a connection, of which there are more each time; `None` while the head is not whole.
    pub fn read(&mut self, held: &[u8], limits: &Limits) -> Result<Option<Connect>, NotOpened> {
        let seen = self.end.seen();
        let end = self.end.find(&held[seen..], limits.head_bytes).map(|end| end.map(|n| seen + n));
        // A line that no head can hold counts before what is too large behind it, however the bytes were cut.
        let lines = match end {
            Ok(Some(length)) => length - b"\r\n".len(),
            Err(fault) if !fault.is_large() => return Err(fault.into()),
            _ => held.len().min(limits.head_bytes),
        };
        self.lines.check(&held[..lines])?;
        end?.map(|length| parse(&held[..length], limits)).transpose()
    }
}

/// Reads a whole head.
fn parse(head: &[u8], limits: &Limits) -> Result<Connect, NotOpened> {
    let mut room = fields_room();
    let allowed = limits.fields.min(room.len());
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut room[..allowed]) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Broken::large("more fields than the limit").into());
        }
        _ => return Err(Broken::bad("malformed request head", "RFC 9112 2.1").into()),
    }
    if parsed.method != Some("CONNECT") {
        let why = RefusalReason::MethodNotAllowed;
        return Err(NotOpened { why, rule: "only CONNECT opens a tunnel", section: "RFC 9110 9.3.6" });
    }
    if parsed.version != Some(1) {
        return Err(Broken::bad("CONNECT of another version than 1.1", "RFC 9112 2.3").into());
    }
    let mut fields = Fields::default();
    for field in parsed.headers.iter() {
        check_field(field)?;
        fields.push(field.name.as_bytes(), field.value);
    }
    let host = one(&fields, "host", "more than one Host", "RFC 9112 3.2")?;
    if host.is_none_or(|host| head_rules::check_authority(host).is_err()) {
        return Err(Broken::bad("Host missing or invalid", "RFC 9112 3.2").into());
    }
    let body = [fields.get("content-length"), fields.get("transfer-encoding")];
    if body.iter().any(Option::is_some) {
        // It has none; whoever thinks otherwise would take the route's first bytes for it.
        return Err(Broken::bad("CONNECT with a body", "RFC 9110 9.3.6").into());
    }
    if fields.all("proxy-authorization").count() > 1 {
        let rule = "more than one Proxy-Authorization";
        return Err(NotOpened { why: RefusalReason::TwoTokens, rule, section: "RFC 9110 11.7.2" });
    }
    let route = route_of(parsed.path.unwrap_or_default())?.to_owned();
    Ok(Connect { route, fields, length: head.len() })
}

/// The name in `name` or `name:port`. The port says nothing: programs that know only hosts and ports must write one.
fn route_of(target: &str) -> Result<&str, Broken> {
    let (name, port) = target.split_once(':').unwrap_or((target, "0"));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if name.is_empty() || !name.bytes().all(is_name) || !is_port {
        return Err(Broken::bad("the target is no route's name", "RFC 9112 3.2.3"));
    }
    Ok(name)
}

/// Appends the answer after which the bytes are the route's. `protocol`: what is spoken inside.
pub fn opened(out: &mut Vec<u8>, protocol: &str) {
    out.extend_from_slice(b"HTTP/1.1 200 Connection Established\r\nstaunch-protocol: ");
    out.extend_from_slice(protocol.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the answer after which the connection ends. What would be 401 of an origin is 407 of a proxy.
pub fn not_opened(out: &mut Vec<u8>, why: RefusalReason, id: RequestId, now: HttpDate) {
    answer::write(out, why, Some(id), true, false, Challenge::Proxy, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SessionId;

    fn read(head: &str) -> Result<Option<Connect>, NotOpened> {
        ConnectHead::default().read(head.as_bytes(), &Limits::default())
    }

    #[test]
    fn a_head_names_a_route_and_ends_where_the_routes_bytes_begin() {
        let head = "CONNECT warehouse:5432 HTTP/1.1\r\nHost: warehouse:5432\r\nProxy-Authorization: Bearer a.b.c\r\n\r\n";
        let whole = format!("{head}\0\0\0\x08");
        let mut reader = ConnectHead::default();
        for cut in 0..head.len() {
            assert!(reader.read(&whole.as_bytes()[..cut], &Limits::default()).unwrap().is_none(), "{cut}");
        }
        let resumed = reader.read(whole.as_bytes(), &Limits::default()).unwrap().unwrap();
        let read = read(&whole).unwrap().unwrap();
        assert_eq!((&resumed.route, resumed.length), (&read.route, read.length));
        assert_eq!((read.route.as_str(), read.length), ("warehouse", head.len()));
        assert_eq!(read.authorization(), Some(&b"Bearer a.b.c"[..]));
        assert!(!format!("{read:?}").contains("a.b.c"));
    }

    #[test]
    fn targets_to_route_names() {
        let table = [
            ("warehouse", Some("warehouse")),
            ("pg_1.eu-west:1", Some("pg_1.eu-west")),
            ("warehouse:", None),
            ("warehouse:x", None),
            ("warehouse:123456", None),
            (":443", None),
            ("[::1]:443", None),
            ("a@b:443", None),
            ("/warehouse", None),
            ("http://warehouse/", None),
            ("*", None),
        ];
        for (target, expected) in table {
            let read = read(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(read.ok().flatten().map(|connect| connect.route).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_line_that_no_head_can_hold_counts_before_what_is_too_large_however_it_is_cut() {
        let limits = Limits { head_bytes: 60, fields: 2, ..Limits::default() };
        let start = "CONNECT r HTTP/1.1\r\nHost: r\r\n";
        let (much, many) = ("b".repeat(100), "a: b\r\n".repeat(3));
        let table = [
            (format!("{start}no colon\r\na: {much}\r\n\r\n"), RefusalReason::BadRequest),
            (format!("{start}{many}no colon\r\n\r\n"), RefusalReason::BadRequest),
            (format!("{start}a: {much}\r\nno colon\r\n\r\n"), RefusalReason::HeadTooLarge),
            (format!("{start}{many}\r\n"), RefusalReason::HeadTooLarge),
        ];
        for (head, why) in table {
            for step in 1..=head.len() {
                let ends = (0..head.len()).step_by(step).chain([head.len()]);
                let mut reader = ConnectHead::default();
                let found = ends.map(|end| reader.read(&head.as_bytes()[..end], &limits));
                let fault = found.filter_map(Result::err).next();
                assert_eq!(fault.map(|fault| fault.why), Some(why), "{step}: {head}");
            }
        }
    }

    #[test]
    fn what_opens_nothing() {
        let many = format!("CONNECT r HTTP/1.1\r\nHost: r\r\n{}\r\n", "a: b\r\n".repeat(100));
        let long = format!("CONNECT r HTTP/1.1\r\nHost: r\r\na: {}\r\n\r\n", "b".repeat(40_000));
        let table = [
            ("GET / HTTP/1.1\r\nHost: r\r\n\r\n", RefusalReason::MethodNotAllowed),
            ("connect r HTTP/1.1\r\nHost: r\r\n\r\n", RefusalReason::MethodNotAllowed),
            ("CONNECT r HTTP/1.0\r\nHost: r\r\n\r\n", RefusalReason::BadRequest),
            ("CONNECT r HTTP/1.1\r\n\r\n", RefusalReason::BadRequest),
            ("CONNECT r HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", RefusalReason::BadRequest),
            ("CONNECT r HTTP/1.1\nHost: r\n\n", RefusalReason::BadRequest),
            ("CONNECT r HTTP/1.1\r\nHost: r\r\n folded\r\n\r\n", RefusalReason::BadRequest),
            ("CONNECT r HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n", RefusalReason::BadRequest),
            (
                "CONNECT r HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n",
                RefusalReason::BadRequest,
            ),
            (
                "CONNECT r HTTP/1.1\r\nHost: r\r\nProxy-Authorization: a\r\nproxy-authorization: a\r\n\r\n",
                RefusalReason::TwoTokens,
            ),
            (&many, RefusalReason::HeadTooLarge),
            (&long, RefusalReason::HeadTooLarge),
        ];
        for (head, why) in table {
            assert_eq!(read(head).unwrap_err().why, why, "{head}");
        }
    }

    #[test]
    fn a_missing_token_is_asked_for_as_a_proxy_does() {
        let mut out = Vec::new();
        not_opened(
            &mut out,
            RefusalReason::NoToken,
            RequestId { session: SessionId(7), number: 0 },
            HttpDate(0),
        );
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"), "{text}");
        assert!(text.contains("\r\nproxy-authenticate: Bearer realm=\"staunch\"\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n") && !text.contains("www-authenticate"), "{text}");
        let mut out = Vec::new();
        not_opened(
            &mut out,
            RefusalReason::MethodNotAllowed,
            RequestId { session: SessionId(7), number: 0 },
            HttpDate(0),
        );
        assert!(String::from_utf8(out).unwrap().contains("\r\nallow: CONNECT\r\n"));
    }
}
