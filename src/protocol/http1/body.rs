//! Message bodies: followed, never touched. Known lengths pass in O(1), chunked in O(chunks).

use super::head_end::{Broken, HeadEnd, check_field};
use super::limits::Limits;
use crate::mask::{Kind, Stream};
use crate::protocol::head_rules;
use crate::protocol::masked::{self, UNMASKABLE};
use crate::protocol::{Edit, Fields, RefusalReason};

/// Where in a message body the next byte belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing is left of the message.
    Done,
    /// So many bytes are left.
    Length(u64),
    /// Chunked coding (RFC 9112 7.1).
    Chunked(Chunk),
    /// Until the peer closes; responses only.
    UntilClose,
}

/// Where in the chunked coding the next byte belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the size, `digits` of it read.
    Size { digits: u8, size: u64 },
    /// In an extension, `seen` bytes of it read.
    Extension { seen: usize, size: u64 },
    /// The line feed that ends the size line.
    SizeLf(u64),
    /// In the data, so many bytes left.
    Data(u64),
    /// The carriage return after the data.
    DataCr,
    /// The line feed after the data.
    DataLf,
    /// In the trailer section, which ends with an empty line.
    Trailer(HeadEnd),
}

impl Chunk {
    /// Before a chunk's size line.
    pub(super) const START: Chunk = Chunk::Size { digits: 0, size: 0 };
}

impl Body {
    /// The body of a message that announced its length.
    pub(super) fn of_length(length: u64) -> Body {
        if length == 0 { Body::Done } else { Body::Length(length) }
    }

    /// Keeps what belongs to this body, and counts its payload bytes, also where a rule is broken behind them. `trailer` collects the trailer
    /// section for the check of its names; `guarded` are names that the gateway took out of or put into the head.
    pub(super) fn pass(
        &mut self,
        edit: &mut Edit<'_>,
        limits: &Limits,
        trailer: &mut Vec<u8>,
        guarded: &Fields,
        payload: &mut u64,
    ) -> Result<(), Broken> {
        while !edit.is_done() {
            match self {
                Body::Done => break,
                Body::UntilClose => {
                    let n = edit.rest().len();
                    edit.keep(n);
                    *payload += n as u64;
                }
                Body::Length(left) => {
                    *payload += keep_up_to(edit, left);
                    if *left == 0 {
                        *self = Body::Done;
                    }
                }
                Body::Chunked(Chunk::Data(left)) => {
                    *payload += keep_up_to(edit, left);
                    if *left == 0 {
                        *self = Body::Chunked(Chunk::DataCr);
                    }
                }
                Body::Chunked(Chunk::Trailer(end)) => {
                    let rest = edit.rest();
                    let found = end.find(rest, limits.trailer_bytes)?;
                    let n = found.unwrap_or(rest.len());
                    trailer.extend_from_slice(&rest[..n]);
                    if found.is_some() {
                        check_trailer(trailer, guarded)?;
                        trailer.clear();
                        *self = Body::Done;
                    }
                    edit.keep(n);
                }
                Body::Chunked(chunk) => {
                    chunk.step(edit.rest()[0], limits)?;
                    edit.keep(1);
                }
            }
        }
        Ok(())
    }
}

impl Body {
    /// [`Body::pass`] with the payload shown to masks: what they hold, and all behind it, waits in `stream`.
    pub(super) fn pass_masked(
        &mut self,
        stream: &mut Stream,
        edit: &mut Edit<'_>,
        limits: &Limits,
        trailer: &mut Vec<u8>,
        guarded: &Fields,
        payload: &mut u64,
    ) -> Result<(), Broken> {
        while !edit.is_done() {
            let available = edit.rest().len();
            let left = match self {
                Body::Done => break,
                Body::UntilClose => u64::MAX,
                Body::Length(left) | Body::Chunked(Chunk::Data(left)) => *left,
                Body::Chunked(Chunk::Trailer(end)) => {
                    let rest = edit.rest();
                    let found = end.find(rest, limits.trailer_bytes)?;
                    let n = found.unwrap_or(rest.len());
                    trailer.extend_from_slice(&rest[..n]);
                    if found.is_some() {
                        check_trailer(trailer, guarded)?;
                        if has_digest(trailer) {
                            return Err(unmaskable(masked::HAS_DIGEST));
                        }
                        trailer.clear();
                        *self = Body::Done;
                    }
                    masked::pass(stream, edit, n, Kind::Framing).map_err(unmaskable)?;
                    continue;
                }
                Body::Chunked(chunk) => {
                    chunk.step(edit.rest()[0], limits)?;
                    masked::pass(stream, edit, 1, Kind::Framing).map_err(unmaskable)?;
                    continue;
                }
            };
            let n = (available as u64).min(left) as usize;
            masked::pass(stream, edit, n, Kind::Payload).map_err(unmaskable)?;
            *payload += n as u64;
            match self {
                Body::Length(left) | Body::Chunked(Chunk::Data(left)) => *left -= n as u64,
                _ => {}
            }
            match self {
                Body::Length(0) => *self = Body::Done,
                Body::Chunked(Chunk::Data(0)) => *self = Body::Chunked(Chunk::DataCr),
                _ => {}
            }
        }
        if *self == Body::Done {
            let held = stream.finish();
            stream.release(held, |bytes| edit.put_back(bytes));
        }
        Ok(())
    }
}

/// A body that cannot be followed.
pub(super) fn unmaskable(rule: &'static str) -> Broken {
    Broken { why: RefusalReason::UnmaskableAnswer, rule, section: UNMASKABLE }
}

impl Chunk {
    /// One byte of framing.
    #[inline]
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<(), Broken> {
        *self = match (&*self, byte) {
            (&Chunk::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == SIZE_DIGITS {
                    return Err(Broken::bad("chunk size beyond 16 hex digits", "RFC 9112 7.1"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                Chunk::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (&Chunk::Size { digits: 1.., size }, b'\r') => Chunk::SizeLf(size),
            (&Chunk::Size { digits: 1.., size }, b';') => Chunk::Extension { seen: 1, size },
            (Chunk::Size { .. }, _) => {
                return Err(Broken::bad("chunk size is not hexadecimal", "RFC 9112 7.1"));
            }
            (&Chunk::Extension { size, .. }, b'\r') => Chunk::SizeLf(size),
            (&Chunk::Extension { seen, size }, b'\t' | b' '..=b'~' | 0x80..)
                if seen < limits.chunk_extension =>
            {
                Chunk::Extension { seen: seen + 1, size }
            }
            (Chunk::Extension { .. }, _) => {
                return Err(Broken::bad("chunk extension too long or malformed", "RFC 9112 7.1.1"));
            }
            (Chunk::SizeLf(0), b'\n') => Chunk::Trailer(HeadEnd::default()),
            (&Chunk::SizeLf(size), b'\n') => Chunk::Data(size),
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::START,
            _ => return Err(Broken::bad("chunk not ended by CRLF", "RFC 9112 7.1")),
        };
        Ok(())
    }
}

#[inline]
fn keep_up_to(edit: &mut Edit<'_>, left: &mut u64) -> u64 {
    let n = (edit.rest().len() as u64).min(*left);
    edit.keep(n as usize);
    *left -= n;
    n
}

/// A recipient may merge trailer fields into the head, so what counts there must not arrive here.
fn check_trailer(block: &[u8], guarded: &Fields) -> Result<(), Broken> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(block, &mut fields) else {
        return Err(Broken::bad("malformed trailer section", "RFC 9112 7.1.2"));
    };
    for field in fields {
        check_field(field)?;
        head_rules::check_trailer(field.name.as_bytes(), guarded)?;
    }
    Ok(())
}

/// True for a trailer section that says what the body's bytes hash to.
fn has_digest(block: &[u8]) -> bool {
    let mut lines = block.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b':').next().is_some_and(masked::is_digest))
}

/// As many as a `u64` holds.
const SIZE_DIGITS: u8 = 16;

/// Trailers in use carry a checksum or a status; more is an attack on the parser.
const TRAILER_FIELDS: usize = 32;
