//! Bodies under masking, as the protocol machines see them: which bodies can be, and how bytes go through a [`Stream`].

use super::edit::Edit;
use super::fields::Fields;
use crate::mask::{Format, Kind, Mode, Rules, Span, Stream};
use crate::names::Direction;
use std::sync::Arc;

/// The rules for one exchange's bodies.
#[derive(Clone, Debug, Default)]
pub struct Masking {
    /// For the request's.
    pub up: Option<Arc<Rules>>,
    /// For the response's.
    pub down: Option<Arc<Rules>>,
    /// Where values are overwritten is wanted too.
    pub keep_spans: bool,
}

impl Masking {
    /// The values of a database's session: up, down.
    pub(super) fn streams(&self) -> [Option<Stream>; 2] {
        [&self.up, &self.down].map(|rules| {
            let rules = rules.as_ref()?.clone();
            Some(stream(self.keep_spans, rules, Format::Values))
        })
    }
}

/// A body under these rules.
pub(super) fn stream(keep_spans: bool, rules: Arc<Rules>, format: Format) -> Stream {
    let mut stream = Stream::new(rules, format);
    if keep_spans {
        stream.keep_spans();
    }
    stream
}

/// Values found in a body since the report before. Most bodies have one report, at their end.
#[derive(Debug)]
pub struct MaskReport {
    /// Which exchange.
    pub key: u32,
    /// Which of its bodies.
    pub direction: Direction,
    /// The rules that were in force.
    pub rules: Arc<Rules>,
    /// Values that were found, by rule.
    pub counts: Vec<u32>,
    /// How many times something was held for too long.
    pub forced: u32,
    /// Their spans, if recorded.
    pub spans: Vec<Span>,
    /// Why the exchange was cut: its body could not be masked any more.
    pub fault: Option<&'static str>,
}

/// The values of a database's session under masks.
pub trait Masked {
    /// What masks found: up, down.
    fn streams(&mut self) -> [Option<&mut Stream>; 2];

    /// True while something of this direction is held, or nothing of it passes any more.
    fn is_holding(&self, direction: Direction) -> bool;
}

/// In place of a rule's section: a body cannot be masked, and nothing of it may pass.
pub const UNMASKABLE: &str = "masking";

/// How a body is to be read by its head; `None`: it is not looked at. `Err`: it cannot be masked.
pub fn format_of(fields: &Fields, rules: &Rules) -> Result<Option<Format>, &'static str> {
    match format(fields) {
        Err(_) if rules.mode == Mode::Observe => Ok(None),
        known => known,
    }
}

fn format(fields: &Fields) -> Result<Option<Format>, &'static str> {
    let coded = |value: &[u8]| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
    if fields.all("content-encoding").any(coded) {
        return Err("a body is compressed although identity was asked for");
    }
    let announced = fields.all("trailer").flat_map(|names| names.split(|byte| *byte == b','));
    if fields.iter().map(|(name, _)| name).chain(announced).any(is_digest) {
        return Err(HAS_DIGEST);
    }
    if fields.get("content-range").is_some() {
        return Err("a body is part of another");
    }
    if fields.all("content-type").nth(1).is_some() {
        return Err("a body is of two types");
    }
    let Some(kind) = fields.get("content-type") else { return Ok(Some(Format::Text)) };
    let essence =
        kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    if charset(kind).is_some_and(|charset| !is_ascii_based(charset)) {
        return Err("a body is in a character set that is not followed");
    }
    Ok(Some(match &essence[..] {
        base64 if base64.starts_with(b"application/grpc-web-text") => {
            return Err("gRPC messages in base64 cannot be masked");
        }
        // Messages of Connect have the same heads.
        grpc if grpc.starts_with(b"application/grpc") || grpc.starts_with(b"application/connect+") => {
            Format::Grpc
        }
        message if MESSAGES.contains(&message) || message.ends_with(b"+proto") => Format::Message,
        b"text/event-stream" => Format::Events,
        b"application/json"
        | b"application/x-ndjson"
        | b"application/ndjson"
        | b"application/jsonl"
        | b"application/x-jsonlines"
        | b"application/json-seq" => Format::Json,
        json if json.ends_with(b"+json") => Format::Json,
        b"application/x-www-form-urlencoded" => Format::Form,
        b"multipart/byteranges" => return Err("a body is parts of another"),
        parts if parts.starts_with(b"multipart/") => Format::Parts,
        binary if BINARY.iter().any(|known| binary.ends_with(known)) => {
            return Err("a body is in a binary form that is not followed");
        }
        archive if ARCHIVES.contains(&archive) => {
            return Err("a body is an archive, which is not looked into");
        }
        b"application/vnd.amazon.eventstream" => return Err("a body's framing has checksums (eventstream)"),
        media if NOT_LOOKED_AT.iter().any(|kind| media.starts_with(kind)) => return Ok(None),
        _ => Format::Text,
    }))
}

/// The character set that a media type names (RFC 9110 section 8.3.2).
fn charset(kind: &[u8]) -> Option<&[u8]> {
    kind.split(|byte| *byte == b';').skip(1).find_map(|parameter| {
        let at = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (parameter[..at].trim_ascii(), parameter[at + 1..].trim_ascii());
        name.eq_ignore_ascii_case(b"charset")
            .then(|| value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// True for character sets in which the bytes of ASCII stand for ASCII and for nothing else, so that values are found.
fn is_ascii_based(charset: &[u8]) -> bool {
    let charset = charset.to_ascii_lowercase();
    let known: [&[u8]; 5] = [b"utf-8", b"utf8", b"us-ascii", b"ascii", b"latin1"];
    let families: [&[u8]; 4] = [b"iso-8859-", b"windows-125", b"koi8-", b"euc-"];
    charset.is_empty()
        || known.contains(&&charset[..])
        || families.iter().any(|family| charset.starts_with(family))
}

/// True when what follows an upgrade can be masked: WebSocket without extensions.
pub(super) fn check_upgrade(response: &Fields, rules: &Rules) -> Result<Option<Format>, &'static str> {
    let extends = response.get("sec-websocket-extensions").is_some();
    match rules.mode {
        Mode::Mask if extends => Err("a WebSocket has an extension that was not offered"),
        Mode::Observe if extends => Ok(None),
        _ => Ok(Some(Format::Frames)),
    }
}

/// True for a field that says what a body's bytes hash to, in a head or in a trailer.
pub(super) fn is_digest(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
    let begins = |known: &&str| {
        name.get(..known.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(known.as_bytes()))
    };
    DIGESTS.iter().any(is) || DIGEST_FAMILIES.iter().any(begins)
}

/// A body's digest stands behind it, or would.
pub(super) const HAS_DIGEST: &str = "a body has a digest, which masking would break";
/// Fields that say what a body's bytes hash to.
const DIGESTS: [&str; 6] =
    ["content-digest", "repr-digest", "digest", "content-md5", "x-goog-hash", "x-ms-content-crc64"];
/// What the names of more such fields begin with.
const DIGEST_FAMILIES: [&str; 2] = ["x-amz-checksum-", "x-amz-trailer"];
/// Kinds of bodies that are compressed in themselves.
const ARCHIVES: [&[u8]; 11] = [
    b"application/gzip",
    b"application/x-gzip",
    b"application/zip",
    b"application/x-zip-compressed",
    b"application/zstd",
    b"application/x-bzip2",
    b"application/x-xz",
    b"application/x-7z-compressed",
    b"application/vnd.rar",
    b"application/x-brotli",
    b"application/java-archive",
];
/// One message of protocol buffers.
const MESSAGES: [&[u8]; 5] = [
    b"application/proto",
    b"application/protobuf",
    b"application/x-protobuf",
    b"application/vnd.google.protobuf",
    b"application/x-google-protobuf",
];
/// How kinds of bodies end that have lengths before their texts, which may read as digits of them.
const BINARY: [&[u8]; 16] = [
    b"/msgpack",
    b"/x-msgpack",
    b"/vnd.msgpack",
    b"+msgpack",
    b"/cbor",
    b"+cbor",
    b"/cbor-seq",
    b"/bson",
    b"/ubjson",
    b"/x-jackson-smile",
    b"/avro",
    b"/x-thrift",
    b"/vnd.apache.thrift.binary",
    b"/vnd.apache.thrift.compact",
    b"/vnd.apache.parquet",
    b"/vnd.apache.arrow.stream",
];
/// Kinds of bodies that have no text.
const NOT_LOOKED_AT: [&[u8]; 4] = [b"image/", b"audio/", b"video/", b"font/"];

/// Fields of a request that must not go up where its answer is masked: what they ask for could not be.
pub const ASKS_FOR_MORE: [&str; 7] = [
    "accept-encoding",
    "grpc-accept-encoding",
    "range",
    "if-range",
    "want-content-digest",
    "want-repr-digest",
    "sec-websocket-extensions",
];

/// Lets the next `n` bytes go through: what passes goes on, the rest is held.
pub(super) fn pass(
    stream: &mut Stream,
    edit: &mut Edit<'_>,
    n: usize,
    kind: Kind,
) -> Result<(), &'static str> {
    let passed = stream.take(&mut edit.rest_mut()[..n], kind)?;
    if passed.held > 0 {
        stream.release(passed.held, |bytes| edit.put_back(bytes));
    }
    edit.keep(passed.at_hand);
    edit.skip(n - passed.at_hand);
    Ok(())
}

/// Lets framing go through that was taken out of its place.
pub(super) fn pass_copy(
    stream: &mut Stream,
    edit: &mut Edit<'_>,
    framing: &[u8],
) -> Result<(), &'static str> {
    let mut framing = framing.to_vec();
    let passed = stream.take(&mut framing, Kind::Framing)?;
    stream.release(passed.held, |bytes| edit.put_back(bytes));
    edit.put_back(&framing[..passed.at_hand]);
    Ok(())
}

/// What was found in a body that is over.
pub(super) fn report(key: u32, direction: Direction, stream: &mut Stream) -> Option<MaskReport> {
    let (counts, forced) = stream.take_counts();
    let spans = stream.take_spans();
    let any = forced > 0 || !spans.is_empty() || counts.iter().any(|count| *count > 0);
    let rules = stream.rules().clone();
    any.then_some(MaskReport { key, direction, rules, counts, forced, spans, fault: None })
}

/// Where values are overwritten in a body that goes on, once that is much.
pub(super) fn report_spans(key: u32, direction: Direction, stream: &mut Stream) -> Option<MaskReport> {
    stream.has_many_spans().then(|| {
        let (rules, spans) = (stream.rules().clone(), stream.take_spans());
        MaskReport { key, direction, rules, counts: Vec::new(), forced: 0, spans, fault: None }
    })
}

/// A body that cannot be masked any more.
pub(super) fn fault(key: u32, direction: Direction, rules: Arc<Rules>, rule: &'static str) -> MaskReport {
    MaskReport { key, direction, rules, counts: Vec::new(), forced: 0, spans: Vec::new(), fault: Some(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_its_type_says_or_does_not_pass() {
        let read = |types: &[&str]| {
            let mut fields = Fields::default();
            types.iter().for_each(|kind| fields.push(b"content-type", kind.as_bytes()));
            format(&fields)
        };
        let table = [
            ("multipart/form-data; boundary=b", Format::Parts),
            ("Multipart/Mixed; boundary=b", Format::Parts),
            ("application/connect+json", Format::Grpc),
            ("application/connect+proto", Format::Grpc),
            ("application/proto", Format::Message),
            ("application/x-protobuf; messageType=a", Format::Message),
            ("application/problem+json", Format::Json),
            ("application/octet-stream", Format::Text),
        ];
        for (kind, wanted) in table {
            assert_eq!(read(&[kind]), Ok(Some(wanted)), "{kind}");
        }
        for kind in
            ["application/msgpack", "application/x-msgpack", "application/cbor", "application/vnd.a+cbor"]
        {
            assert!(read(&[kind]).is_err(), "{kind}");
        }
        assert!(read(&["image/png", "application/json"]).is_err());
    }

    #[test]
    fn character_sets_that_hide_ascii_cannot_be_masked() {
        for kind in [
            "text/plain; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "text/html; a=b; Charset=ISO-8859-15",
        ] {
            assert!(charset(kind.as_bytes()).is_some_and(is_ascii_based), "{kind}");
        }
        for kind in [
            "text/plain; charset=utf-16",
            "text/plain; a=\"b\"; charset = \"UTF-32LE\"",
            "text/csv;charset=utf-7",
            "text/plain;charset=ibm037",
        ] {
            assert!(charset(kind.as_bytes()).is_some_and(|charset| !is_ascii_based(charset)), "{kind}");
        }
        assert_eq!(charset(b"text/plain; boundary=charset"), None);
    }
}
