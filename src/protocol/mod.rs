//! Protocols as pure state machines: bytes in, bytes and events out; no I/O, no clock, no configuration.
//!
//! HTTP/1.1 ([`http1`]) and HTTP/2 ([`http2`]) follow heads and frame lengths in both directions and touch no
//! body: the work is O(heads and frames), not O(bytes). Both implement [`Http`], which is all that a session
//! knows of them. A new HTTP is one file here and one row in [`Sniffed`]; other protocols, such as PostgreSQL's
//! ([`postgres`]), MySQL's ([`mysql`]) and Redis' ([`redis`]), have their own rules and share [`Edit`] and [`Fault`].

mod bucket;
pub mod edit;
pub mod fields;
pub mod head_rules;
#[cfg(test)]
mod hostile_tests;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod http_date;
pub mod masked;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod require_auth;
pub mod sniff;
pub mod statement;
mod values;

pub use edit::Edit;
pub use fields::Fields;
pub use http_date::HttpDate;
pub use masked::{MaskReport, Masking};
pub use require_auth::RequireAuth;
pub use sniff::{Sniffed, sniff};

use crate::names::{Culprit, Direction, RequestId};

/// Names one exchange within its connection. HTTP/1.1: counted from 1. HTTP/2: the stream identifier.
pub type Key = u32;

/// A request's head, whole and strictly parsed, before any of it was sent on.
#[derive(Debug, Default)]
pub struct Request {
    /// Which exchange of this connection.
    pub key: Key,
    /// The method, case as sent.
    pub method: Vec<u8>,
    /// The request target as sent (`/v1/chat?x=1`, `*`); query values must not be logged, see [`Request::path`].
    pub target: Vec<u8>,
    /// `Host` or `:authority`, empty if absent.
    pub authority: Vec<u8>,
    /// All regular fields in order, pseudo-header fields left out.
    pub fields: Fields,
    /// What kind of exchange follows.
    pub kind: Kind,
    /// True when no body follows.
    pub ends: bool,
    /// Why nobody may have this request, whoever it is: such a request is refused with this and never permitted.
    pub barred: Option<RefusalReason>,
}

impl Request {
    /// The target without its query: what may be logged.
    pub fn path(&self) -> &[u8] {
        let end = memchr::memchr2(b'?', b'#', &self.target).unwrap_or(self.target.len());
        &self.target[..end]
    }
}

/// What kind of exchange a request opens; decides how a refusal is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary request.
    #[default]
    Plain,
    /// HTTP/2 with `content-type: application/grpc…`: refusals are trailers-only.
    Grpc,
    /// HTTP/1.1 `Upgrade`, or HTTP/2 extended CONNECT (RFC 8441): a tunnel once the upstream agreed.
    Upgrade,
}

/// How a permitted request's head is changed on its way up. Borrowed for one call.
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// Fields to take out, lower case: the token slots that held a token and what the gateway sets itself.
    pub strip: &'a [&'a str],
    /// Fields to put in, name in lower case. The values are the credential and forwarding facts.
    pub set: &'a [(&'a str, &'a [u8])],
    /// Replaces `Host` / `:authority`; `None` keeps the client's.
    pub authority: Option<&'a str>,
}

/// Why a request is refused, in the client's terms. Each protocol encodes it in its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request's id, also in the log.
    pub id: RequestId,
    /// What to say.
    pub why: RefusalReason,
}

/// The reasons for which a request can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No token in any slot that the route reads: 401, `WWW-Authenticate: Bearer`.
    NoToken,
    /// The token does not verify: 401 `error="invalid_token"`.
    InvalidToken,
    /// No token but a key, as services give them out: 401 `error="invalid_token"`, says what to use.
    ServiceKey,
    /// The token verifies and has expired: 401 `error="invalid_token"`, says so.
    ExpiredToken,
    /// Two different tokens in one request: 400 `error="invalid_request"`.
    TwoTokens,
    /// The identity is known, the policy says no: 403 `error="insufficient_scope"`.
    Forbidden,
    /// The issuer's keys cannot be had just now: 503, culprit gateway side, `Retry-After`.
    IssuerUnavailable,
    /// The upstream cannot be reached or verified: 502.
    BadGateway,
    /// The upstream's answer is missing or breaks a rule of its protocol: 502.
    BadAnswer,
    /// The upstream took the request and did not begin to answer in time: 504.
    UpstreamTimeout,
    /// `Host` or `:authority` is none of the route's names: 421 (RFC 9110 section 15.5.20).
    Misdirected,
    /// The gateway is draining: 503, `Retry-After`, the connection closes.
    Draining,
    /// The gateway is at a limit: 503, `Retry-After`, the connection closes.
    Overloaded,
    /// The head breaks a rule of its protocol: 400, and on HTTP/1.1 the connection closes.
    BadRequest,
    /// The head is larger than the limit: 431.
    HeadTooLarge,
    /// A method that cannot pass: `CONNECT` outside RFC 8441, `TRACE`: 405.
    MethodNotAllowed,
    /// The route masks, and what the request asks for or carries cannot be: 415.
    Unmaskable,
    /// The route masks, and the upstream's answer cannot be: 502.
    UnmaskableAnswer,
}

impl RefusalReason {
    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            RefusalReason::NoToken
            | RefusalReason::InvalidToken
            | RefusalReason::ServiceKey
            | RefusalReason::ExpiredToken => 401,
            RefusalReason::TwoTokens | RefusalReason::BadRequest => 400,
            RefusalReason::Forbidden => 403,
            RefusalReason::BadGateway | RefusalReason::BadAnswer | RefusalReason::UnmaskableAnswer => 502,
            RefusalReason::Unmaskable => 415,
            RefusalReason::IssuerUnavailable | RefusalReason::Draining | RefusalReason::Overloaded => 503,
            RefusalReason::UpstreamTimeout => 504,
            RefusalReason::Misdirected => 421,
            RefusalReason::HeadTooLarge => 431,
            RefusalReason::MethodNotAllowed => 405,
        }
    }

    /// gRPC status code (`UNAUTHENTICATED` 16, `PERMISSION_DENIED` 7, `UNIMPLEMENTED` 12, `UNAVAILABLE` 14, `INTERNAL` 13,
    /// `DEADLINE_EXCEEDED` 4, `RESOURCE_EXHAUSTED` 8).
    pub fn grpc_status(self) -> u8 {
        match self {
            RefusalReason::NoToken
            | RefusalReason::InvalidToken
            | RefusalReason::ServiceKey
            | RefusalReason::ExpiredToken => 16,
            RefusalReason::UpstreamTimeout => 4,
            RefusalReason::Forbidden => 7,
            RefusalReason::Unmaskable => 12,
            RefusalReason::BadGateway
            | RefusalReason::BadAnswer
            | RefusalReason::UnmaskableAnswer
            | RefusalReason::Misdirected
            | RefusalReason::IssuerUnavailable
            | RefusalReason::Draining => 14,
            RefusalReason::Overloaded | RefusalReason::HeadTooLarge => 8,
            RefusalReason::TwoTokens | RefusalReason::BadRequest | RefusalReason::MethodNotAllowed => 13,
        }
    }

    /// The word in the JSON body, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            RefusalReason::NoToken => "no_token",
            RefusalReason::InvalidToken => "invalid_token",
            RefusalReason::ServiceKey => "service_key",
            RefusalReason::ExpiredToken => "expired_token",
            RefusalReason::TwoTokens => "two_tokens",
            RefusalReason::Forbidden => "forbidden",
            RefusalReason::IssuerUnavailable => "issuer_unavailable",
            RefusalReason::BadGateway => "bad_gateway",
            RefusalReason::BadAnswer => "bad_answer",
            RefusalReason::UpstreamTimeout => "upstream_timeout",
            RefusalReason::Misdirected => "misdirected",
            RefusalReason::Draining => "draining",
            RefusalReason::Overloaded => "overloaded",
            RefusalReason::BadRequest => "bad_request",
            RefusalReason::HeadTooLarge => "head_too_large",
            RefusalReason::MethodNotAllowed => "method_not_allowed",
            RefusalReason::Unmaskable => "unmaskable",
            RefusalReason::UnmaskableAnswer => "unmaskable_answer",
        }
    }

    /// One sentence for the person who reads the answer.
    pub fn message(self) -> &'static str {
        match self {
            RefusalReason::NoToken => "This route needs a token; send it as 'Authorization: Bearer <token>'.",
            RefusalReason::InvalidToken => {
                "The token does not verify for this route; the gateway's log says why, under this id."
            }
            RefusalReason::ServiceKey => "That is a key of the service's; use a token of your issuer.",
            RefusalReason::ExpiredToken => "The token has expired; get a new one.",
            RefusalReason::TwoTokens => {
                "The request carries more than one token, or one field twice; send one."
            }
            RefusalReason::Forbidden => "The identity is known, and this route's policy does not permit it.",
            RefusalReason::IssuerUnavailable => "The issuer's keys cannot be fetched just now; try again.",
            RefusalReason::BadGateway => "The upstream cannot be reached or does not verify.",
            RefusalReason::BadAnswer => "The upstream's answer is missing or breaks a rule of HTTP.",
            RefusalReason::UpstreamTimeout => "The upstream did not answer in time.",
            RefusalReason::Misdirected => "This connection does not lead to the host that the request names.",
            RefusalReason::Draining => "The gateway is going away; open a new connection.",
            RefusalReason::Overloaded => "The gateway is at a limit; try again.",
            RefusalReason::BadRequest => "The request breaks a rule of HTTP.",
            RefusalReason::HeadTooLarge => "The request head is larger than this gateway takes.",
            RefusalReason::MethodNotAllowed => "This method cannot pass the gateway.",
            RefusalReason::Unmaskable => {
                "This route masks content, and that of this request cannot be masked: compressed, with a digest, \
                 or gRPC."
            }
            RefusalReason::UnmaskableAnswer => {
                "This route masks content, and the upstream's answer cannot be masked."
            }
        }
    }

    /// The `WWW-Authenticate` value (RFC 6750 section 3), where one belongs.
    pub fn challenge(self) -> Option<&'static str> {
        match self {
            RefusalReason::NoToken => Some(r#"Bearer realm="staunch""#),
            RefusalReason::InvalidToken | RefusalReason::ServiceKey => {
                Some(r#"Bearer realm="staunch", error="invalid_token""#)
            }
            RefusalReason::ExpiredToken => Some(
                r#"Bearer realm="staunch", error="invalid_token", error_description="the token has expired""#,
            ),
            RefusalReason::TwoTokens => Some(r#"Bearer realm="staunch", error="invalid_request""#),
            RefusalReason::Forbidden => Some(r#"Bearer realm="staunch", error="insufficient_scope""#),
            _ => None,
        }
    }
}

impl Refusal {
    /// The JSON body of a refusal: `{"error":{"code","message","id"}}`, shaped like the model APIs' own errors.
    pub fn body(&self) -> String {
        format!(
            r#"{{"error":{{"code":"{}","message":"{}","id":"{}"}}}}"#,
            self.why.code(),
            self.why.message(),
            self.id
        )
    }
}

/// Placeholder for a redacted value in a recording.
pub(crate) fn hidden(value: &[u8]) -> Vec<u8> {
    vec![b'*'; value.len()]
}

/// What stands in a recording for a URL: without the values of its query's parameters for whose name, behind a `?`, `hides` is
/// true. No field's name begins so.
pub(crate) fn hidden_query(url: &[u8], hides: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut shown = url.to_vec();
    let end = url.iter().position(|byte| *byte == b'#').unwrap_or(url.len());
    let Some(mut at) = url[..end].iter().position(|byte| *byte == b'?') else { return shown };
    for parameter in url[at + 1..end].split(|byte| matches!(byte, b'&' | b';')) {
        at += 1;
        let name = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let mut asked = vec![b'?'];
        unescape(&parameter[..name], &mut asked);
        if hides(&asked) {
            let value = (at + name + 1).min(at + parameter.len());
            shown[value..at + parameter.len()].fill(b'*');
        }
        at += parameter.len();
    }
    shown
}

/// Undoes `%41` (RFC 3986 section 2.1); anything else stays as it is.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = |place: usize| after.get(place).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
}

/// Events of an [`Http`], drained with [`Http::event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The final (not 1xx, but 101 counts) response head went down.
    Response {
        /// Which exchange.
        key: Key,
        /// HTTP status.
        status: u16,
    },
    /// What masks hold is not what it was: [`Http::mask_due`] says something else.
    Held,
    /// There is a [`Http::mask_report`] although its body is not over.
    Masked,
    /// The exchange has ended.
    Ended {
        /// Which exchange.
        key: Key,
        /// Body bytes (payload of DATA frames, decoded chunks) that went up.
        up: u64,
        /// Body bytes that went down.
        down: u64,
        /// How it ended.
        how: Ended,
    },
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Both messages are complete.
    Whole,
    /// The client reset the stream or left before the response was complete.
    ByClient,
    /// The upstream reset the stream or left before the response was complete.
    ByUpstream,
    /// The gateway refused or cut it.
    ByGateway,
}

/// Result of [`Http::up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// All input was dealt with.
    Done,
    /// A request head is whole and withheld: read it with [`Http::request`], then call [`Http::permit`] or
    /// [`Http::refuse`] with the same edit (or, after a wait, a new edit of the rest), then [`Http::up`] again.
    Request,
    /// Input beyond this point waits for something that comes from above or below (HTTP/1.1: the answer to an
    /// `Upgrade`; pipelined requests beyond the limit). The rest of the edit was not dealt with: keep it, and call
    /// again after the next [`Http::down`].
    Wait,
}

/// A rule was broken; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} ({source_of_rule})", source_of_rule = self.section)]
pub struct Fault {
    /// Who broke it.
    pub culprit: Culprit,
    /// Which rule, in a few words for the log.
    pub rule: &'static str,
    /// Where the rule stands: an RFC section, a CVE, or `limit`.
    pub section: &'static str,
}

/// One client connection's HTTP, both directions.
///
/// The session feeds opened plaintext of each direction through [`Http::up`] and [`Http::down`] and seals what
/// comes out. What the gateway itself has to say (refusals, credits, resets, GOAWAY) is queued inside and comes out
/// at the next boundary: call `up` or `down` with an empty edit when [`Http::wants_up`] or [`Http::wants_down`].
pub trait Http {
    /// Processes bytes from the client. On a fault nothing further may be sent upstream; [`Http::wants_down`] may
    /// hold a last answer (a 400, a GOAWAY) for the client. Answers to what was permitted before may still be owed, while
    /// [`Http::is_over`] is false: go on with [`Http::down`].
    fn up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault>;
    /// The head that [`Up::Request`] spoke of. One that is barred is to be refused.
    fn request(&self) -> &Request;
    /// Appends the withheld head as its client sent it, for a recording. The values of parameters of the query for whose name,
    /// behind a `?`, and of fields for which `hides` is true are
    /// overwritten at equal length.
    fn write_view(&self, out: &mut Vec<u8>, hides: &dyn Fn(&[u8]) -> bool);
    /// Sends the withheld head on, rewritten.
    fn permit(&mut self, edit: &mut Edit<'_>, rewrite: &Rewrite<'_>);
    /// The bodies of the withheld request and of its answer are masked by these rules, if it is permitted. Those that cannot be
    /// are refused by the session (the request) or with a 502 (the answer); HTTP/1.1 ends where one breaks off in its middle.
    fn mask(&mut self, masking: Masking);
    /// The next report of a masked body. Asked after [`Event::Masked`] and before an exchange's end is dealt with.
    fn mask_report(&mut self) -> Option<MaskReport>;
    /// When the time is up for the oldest of what masks hold, on the machine's clock; and that clock. Asked after
    /// [`Event::Held`], when the time was told.
    fn mask_due(&mut self) -> Option<(u64, u64)>;
    /// Handles held bytes whose hold time is over. `Err`: the connection ends, because nothing more of a body may pass.
    fn expire_masks(&mut self) -> Result<(), Fault>;
    /// Nothing follows in this direction: what masks hold of a body that ends with it goes first.
    fn finish_masks(&mut self, direction: Direction);
    /// Drops the withheld head and answers in its place, in order; what else of it arrives is swallowed.
    fn refuse(&mut self, refusal: &Refusal);
    /// Processes bytes from the upstream, and inserts the gateway's own where that is allowed.
    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault>;
    /// The upstream is gone without a close. Requests that no answer has begun for are answered 502, or with `why`, in
    /// their turn; what had begun is cut. False: something was.
    fn upstream_lost(&mut self, why: RefusalReason) -> bool;
    /// The upstream timed out on one exchange: answers 504 in its place. False where the connection can only end with it
    /// (HTTP/1.1).
    fn give_up(&mut self, key: Key, why: RefusalReason) -> bool;
    /// True when all of an exchange's request was sent and no answer to it has begun.
    fn awaits_answer(&self, key: Key) -> bool;
    /// True when a request's head has begun and is not whole.
    fn is_in_head(&self) -> bool;
    /// Ends every exchange in flight this way, with the bytes counted so far.
    fn end_all(&mut self, how: Ended);
    /// The time, for `Date` in the gateway's own answers. Told before such an answer can come out.
    fn set_time(&mut self, now: HttpDate);
    /// The next event, if any.
    fn event(&mut self) -> Option<Event>;
    /// True when `up` with an empty edit would emit something now.
    fn wants_up(&self) -> bool;
    /// True when `down` with an empty edit would emit something now.
    fn wants_down(&self) -> bool;
    /// True while something that the upstream sent waits for the client's credit.
    fn holds_down(&self) -> bool;
    /// The client ended its direction cleanly (close_notify). `Err`: in the middle of a message.
    fn up_ended(&mut self) -> Result<(), Fault>;
    /// The upstream ended its direction cleanly (close_notify). `Err`: in the middle of a message.
    fn down_ended(&mut self) -> Result<(), Fault>;
    /// No more new requests: GOAWAY, or `Connection: close` semantics; what is under way goes on.
    fn drain(&mut self);
    /// Ends one exchange now: RST_STREAM both ways. `false` where the protocol can only cut the connection (HTTP/1.1).
    fn cut(&mut self, key: Key) -> bool;
    /// An answer was cut in its middle by nothing but the end of the connection, which must not look like one.
    fn is_cut(&self) -> bool;
    /// Exchanges under way: permitted and not yet over.
    fn in_flight(&self) -> usize;
    /// True when the connection is to be closed once what `wants_down` tells of was sent
    /// (HTTP/1.1: `Connection: close`, a refused body; drained with nothing in flight).
    fn is_over(&self) -> bool;
    /// True after a 101 (HTTP/1.1): bytes are opaque from here on, both ways, and half-close is the peers' business.
    fn is_tunnel(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::hidden_query;

    #[test]
    fn values_of_a_query_are_hidden_by_the_name_of_their_parameter() {
        let hides = |name: &[u8]| name.eq_ignore_ascii_case(b"?token") || name == b"?key";
        let cases = [
            ("/a", "/a"),
            ("/token=a", "/token=a"),
            ("/a?token=secret", "/a?token=******"),
            ("/a?x=1&token=secret&y=2", "/a?x=1&token=******&y=2"),
            ("/a?x=1;TOKEN=s=e?c&key=", "/a?x=1;TOKEN=*****&key="),
            ("/a?to%6ben=secret", "/a?to%6ben=******"),
            ("/a?to%6=secret&%", "/a?to%6=secret&%"),
            ("/a?token&keys=1&tokens=2&&=", "/a?token&keys=1&tokens=2&&="),
            ("/a?token=s#token=f?key=f", "/a?token=*#token=f?key=f"),
            ("/a#?token=f", "/a#?token=f"),
            ("https://h/a?key=k", "https://h/a?key=*"),
            ("?token=", "?token="),
            ("", ""),
        ];
        for (url, shown) in cases {
            let got = hidden_query(url.as_bytes(), &hides);
            assert_eq!(String::from_utf8_lossy(&got), shown, "{url}");
        }
    }
}
