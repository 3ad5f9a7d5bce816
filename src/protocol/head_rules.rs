//! Rules of one head: the checker of both HTTP versions and of both directions.
//!
//! A head that breaks a rule here is never passed on, whoever sent it (RFC 9112 section 2.2, RFC 9113 section 8.1.1): the next hop may
//! read it differently, or turn it into another version of HTTP where its bytes mean something else. What a version frames by
//! itself (lines, pseudo-header fields, HPACK) is read in its own directory. Nothing here allocates.

use super::{Fields, RefusalReason, Rewrite};

/// A rule that a head breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// In a few words, for the log.
    pub rule: &'static str,
    /// Where the rule stands.
    pub section: &'static str,
}

/// A field value that begins or ends with a blank. Its meaning is that of the value without them, so whoever sent it can be
/// answered.
pub const BLANKS: BrokenRule = BrokenRule { rule: "blanks around a field value", section: "RFC 9113 8.2.1" };

fn broken<T>(rule: &'static str, section: &'static str) -> Result<T, BrokenRule> {
    Err(BrokenRule { rule, section })
}

/// True for a token (RFC 9110 section 5.6.2): a method, a field name.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| TOKEN[usize::from(b)])
}

/// Checks a field value: no control bytes but the tab (RFC 9110 section 5.5).
pub fn check_value(value: &[u8]) -> Result<(), BrokenRule> {
    let control = |b: u8| (b < b' ') & (b != b'\t') | (b == 0x7f);
    // Without an early exit the compiler looks at sixteen bytes at a time.
    match value.iter().fold(false, |found, &b| found | control(b)) {
        false => Ok(()),
        true => broken("control byte in a field value", "RFC 9110 5.5"),
    }
}

/// Checks a request target in origin form, or `*` for OPTIONS (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub fn check_target(method: &[u8], target: &[u8]) -> Result<(), BrokenRule> {
    let visible = target.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'#');
    match target.first() {
        Some(b'/') if visible => Ok(()),
        Some(b'*') if target.len() == 1 && method == b"OPTIONS" => Ok(()),
        _ => broken("invalid request target", "RFC 9112 3.2"),
    }
}

/// Checks `:scheme` (RFC 3986 section 3.1).
pub fn check_scheme(scheme: &[u8]) -> Result<(), BrokenRule> {
    let rest = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    match scheme.split_first() {
        Some((first, others)) if first.is_ascii_alphabetic() && others.iter().all(rest) => Ok(()),
        _ => broken("invalid :scheme", "RFC 3986 3.1"),
    }
}

/// The host of `host` or `host:port`; `None` for anything else: user information, blanks, slashes, an open bracket.
///
/// Stricter than RFC 3986 section 3.2.2, whose names may hold `!$&'()*+,;=`: no name in the DNS does, and parsers disagree.
pub fn host_of(authority: &[u8]) -> Option<&[u8]> {
    let (host, port) = match authority.first()? {
        b'[' => {
            let end = memchr::memchr(b']', authority)?;
            let inner = &authority[1..end];
            let literal = |b: &u8| b.is_ascii_hexdigit() || b":.".contains(b);
            if inner.len() < 2 || !inner.contains(&b':') || !inner.iter().all(literal) {
                return None;
            }
            (&authority[..=end], &authority[end + 1..])
        }
        _ => {
            let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            if host.is_empty() || !host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(b)) {
                return None;
            }
            (host, port)
        }
    };
    match port.split_first() {
        None => Some(host),
        Some((b':', digits)) if is_port(digits) => Some(host),
        Some(_) => None,
    }
}

/// True for nothing, or a number that a port can have.
fn is_port(digits: &[u8]) -> bool {
    let number = || digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && number() <= u32::from(u16::MAX)
}

/// Checks `Host` or `:authority` (RFC 9110 section 7.2).
pub fn check_authority(authority: &[u8]) -> Result<(), BrokenRule> {
    match host_of(authority) {
        Some(_) => Ok(()),
        None => broken("Host missing or invalid", "RFC 9110 7.2"),
    }
}

/// True when two authorities name the same host and port under this scheme (RFC 9110 section 4.2.3).
pub fn is_same_authority(a: &[u8], b: &[u8], scheme: &[u8]) -> bool {
    let port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") { b":443" } else { b":80" };
    let bare = |authority: &'_ [u8]| {
        let stripped = authority.strip_suffix(port).or(authority.strip_suffix(b":"));
        stripped.map_or(authority.len(), <[u8]>::len)
    };
    a.eq_ignore_ascii_case(b) || a[..bare(a)].eq_ignore_ascii_case(&b[..bare(b)])
}

/// Whether a message may name its length more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// Never: a client has no reason to, and it is how requests are smuggled.
    Refused,
    /// The same number again: what some servers do.
    Same,
}

/// The value of Content-Length (RFC 9110 section 8.6): digits only, one number.
pub fn content_length(fields: &Fields, repeated: Repeated) -> Result<Option<u64>, BrokenRule> {
    let mut length = None;
    for value in fields.all("content-length") {
        let value = number(value)?;
        match length.replace(value) {
            Some(_) if repeated == Repeated::Refused => {
                return broken("more than one Content-Length", "RFC 9112 6.3");
            }
            Some(before) if before != value => {
                return broken("two different Content-Length", "RFC 9112 6.3");
            }
            _ => {}
        }
    }
    Ok(length)
}

fn number(value: &[u8]) -> Result<u64, BrokenRule> {
    let digit = |n: u64, b: &u8| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    };
    match value.iter().try_fold(0, digit) {
        Some(n) if !value.is_empty() => Ok(n),
        _ => broken("Content-Length is not a number", "RFC 9110 8.6"),
    }
}

/// Checks a field of an HTTP/2 message, of either direction: lower case, no blanks around the value, nothing that belongs to one
/// connection (RFC 9113 sections 8.2.1 and 8.2.2).
pub fn check_http2_field(name: &[u8], value: &[u8]) -> Result<(), BrokenRule> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return broken("field name that is no lower-case token", "RFC 9113 8.2.1");
    }
    if without_blanks(value).len() != value.len() {
        return Err(BLANKS);
    }
    if CONNECTION_SPECIFIC.contains(&name) || name == b"te" && !value.eq_ignore_ascii_case(b"trailers") {
        return broken("connection-specific field", "RFC 9113 8.2.2");
    }
    check_value(value)
}

/// The value without spaces and tabs at its ends.
pub fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Why nobody may have a request of this method: CONNECT makes an open proxy; TRACE, and the TRACK of old, make the upstream send
/// back the head that it got, with the stored credential in it (RFC 9110 section 9.3.8).
pub fn barred_method(method: &[u8], fields: &Fields) -> Option<RefusalReason> {
    let barred = |method: &[u8]| REFUSED_METHODS.iter().any(|b| method.eq_ignore_ascii_case(b));
    let overridden = |(name, value): (&[u8], &[u8])| OVERRIDES.has(name) && barred(value.trim_ascii());
    (barred(method) || fields.iter().any(overridden)).then_some(RefusalReason::MethodNotAllowed)
}

/// True when some server could take the one name for the other: without case, and with everything but letters and digits read as
/// `_`, as CGI does.
pub fn is_alike(a: &[u8], b: &[u8]) -> bool {
    let fold = |c: u8| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { b'_' };
    a.len() == b.len() && a.iter().zip(b).all(|(&x, &y)| x == y || fold(x) == fold(y))
}

/// Names that are looked for in any spelling.
struct Names {
    names: &'static [&'static [u8]],
    /// A bit for each length that one of them has: most names are none of them by this alone.
    lengths: u64,
}

impl Names {
    const fn new(names: &'static [&'static [u8]]) -> Self {
        let (mut lengths, mut at) = (0, 0);
        while at < names.len() {
            lengths |= 1 << names[at].len();
            at += 1;
        }
        Names { names, lengths }
    }

    /// True when some server could take `name` for one of them.
    #[inline]
    fn has(&self, name: &[u8]) -> bool {
        let may = name.len() < 64 && self.lengths >> name.len() & 1 != 0;
        may && self.names.iter().any(|n| is_alike(name, n))
    }
}

/// True for what proxies say of clients; only the gateway may say it.
pub fn is_forwarding(name: &[u8]) -> bool {
    name.get(..12).is_some_and(|p| is_alike(p, b"x-forwarded-")) || FORWARDING.has(name)
}

/// True for a field of a request that must not reach the upstream: what belongs to this connection, what the gateway takes out or
/// says itself, and what a server could take for one of these or for the framing.
pub fn is_stripped(name: &[u8], rewrite: &Rewrite<'_>) -> bool {
    HOP.has(name)
        || is_forwarding(name)
        || FRAMING.has(name) && !FRAMING.names.iter().any(|f| name.eq_ignore_ascii_case(f))
        || rewrite.strip.iter().any(|s| is_alike(name, s.as_bytes()))
        || rewrite.set.iter().any(|(s, _)| is_alike(name, s.as_bytes()))
}

/// True for a field that a trailer may not carry (RFC 9110 section 6.5.1).
fn is_guarded(name: &[u8]) -> bool {
    GUARDED.has(name) || is_forwarding(name)
}

/// True for a field that a `Connection` option may not name (RFC 9110 section 7.6.1). Those of one connection it may, and TE it must.
pub fn must_pass(name: &[u8]) -> bool {
    is_guarded(name) && !HOP.has(name)
}

/// Checks a field of a trailer section: a recipient may merge it into the head, so what counts there must not arrive here.
/// `guarded`: what the head of the same request had taken out and put in.
pub fn check_trailer(name: &[u8], guarded: &Fields) -> Result<(), BrokenRule> {
    match is_guarded(name) || guarded.iter().any(|(g, _)| is_alike(name, g)) {
        false => Ok(()),
        true => broken("trailer carries authentication or framing", "RFC 9110 6.5.1"),
    }
}

/// Bytes that a token may hold.
const TOKEN: [bool; 256] = {
    let (mut token, mut byte, others) = ([false; 256], 0, b"!#$%&'*+-.^_`|~");
    while byte < 128 {
        token[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        token[others[at] as usize] = true;
        at += 1;
    }
    token
};

/// Fields of one connection that HTTP/2 forbids.
const CONNECTION_SPECIFIC: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// Between the client and the gateway only (RFC 9110 section 7.6.1). `Max-Forwards` counts proxies, and the gateway answers for the
/// origin; passed on, it would make the next hop answer with what it was sent (RFC 9110 section 7.6.2).
const HOP: Names = Names::new(&[
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"upgrade",
    b"http2-settings",
    b"proxy-authorization",
    b"max-forwards",
]);

/// What proxies say of clients, beside `X-Forwarded-…`.
const FORWARDING: Names = Names::new(&[b"forwarded", b"x-real-ip"]);

const FRAMING: Names = Names::new(&[b"host", b"content-length", b"transfer-encoding"]);

const REFUSED_METHODS: [&[u8]; 3] = [b"CONNECT", b"TRACE", b"TRACK"];

/// By these, frameworks let another method stand in for POST.
const OVERRIDES: Names = Names::new(&[b"x-http-method-override", b"x-http-method", b"x-method-override"]);

const GUARDED: Names = Names::new(&[
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"te",
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"x-api-key",
    b"api-key",
    b"x-goog-api-key",
    b"x-request-id",
    b"max-forwards",
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_schemes_and_authorities_are_held_to_their_grammar() {
        for target in ["/", "/a?b=/?", "/%20", "/~'()*,;=:@", "*"] {
            assert_eq!(check_target(b"OPTIONS", target.as_bytes()), Ok(()), "{target}");
        }
        for target in ["", "a", "*a", "/a b", "/a\tb", "/a#b", "/\x01", "/\x7f", "/\u{e4}", "http://a/"] {
            assert!(check_target(b"OPTIONS", target.as_bytes()).is_err(), "{target}");
        }
        assert!(check_target(b"GET", b"*").is_err());
        for scheme in ["https", "http", "a+b-c.1"] {
            assert_eq!(check_scheme(scheme.as_bytes()), Ok(()), "{scheme}");
        }
        for scheme in ["", "1a", "ht tp", "http:", "https://a/?", "h\tt", "\u{e4}"] {
            assert!(check_scheme(scheme.as_bytes()).is_err(), "{scheme}");
        }
        for (authority, host) in [
            ("a", "a"),
            ("a.b:443", "a.b"),
            ("a.b.", "a.b."),
            ("a_b:", "a_b"),
            ("[::1]:80", "[::1]"),
            ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]"),
            ("127.0.0.1:65535", "127.0.0.1"),
        ] {
            assert_eq!(host_of(authority.as_bytes()), Some(host.as_bytes()), "{authority}");
        }
        for authority in [
            "", ":80", "a b", "a/b", "u@a", "u:p@a", "a:b", "a:80:80", "a:123456", "a:65536", "a:99999",
            "a:+1", "[::1", "[::1]a", "[]", "[a]", "::1", "a\\b", "a#b", "a?b", "a,b", "a\x01", "\u{e4}",
            "[v1.x:y]",
        ] {
            assert_eq!(host_of(authority.as_bytes()), None, "{authority}");
        }
    }

    #[test]
    fn twins_of_any_spelling_are_alike() {
        for twin in ["x-tenant-key", "x_tenant_key", "X-Tenant_Key", "x.tenant.key", "x!tenant~key"] {
            assert!(is_alike(twin.as_bytes(), b"x-tenant-key"), "{twin}");
            assert!(is_alike(b"x_tenant_key", twin.as_bytes()), "{twin}");
        }
        assert!(!is_alike(b"x-tenant-key2", b"x-tenant-key") && !is_alike(b"xtenant-key", b"x-tenant-key"));
    }

    #[test]
    fn a_method_that_mirrors_the_head_is_barred_by_whatever_name() {
        let mut fields = Fields::default();
        for method in ["TRACE", "trace", "TRACK", "CONNECT"] {
            assert!(barred_method(method.as_bytes(), &fields).is_some(), "{method}");
        }
        fields.push(b"X_HTTP-Method-Override", b" Trace ");
        assert!(barred_method(b"POST", &fields).is_some());
        fields.clear();
        fields.push(b"x-http-method-override", b"PATCH");
        assert_eq!(barred_method(b"POST", &fields), None);
    }
}
