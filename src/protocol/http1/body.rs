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
        self.pass_through(&mut Unmasked, edit, limits, trailer, guarded, payload)
    }

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
        self.pass_through(stream, edit, limits, trailer, guarded, payload)
    }

    #[inline]
    fn pass_through(
        &mut self,
        way: &mut impl Way,
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
                    let mut endless = u64::MAX;
                    *payload += pass_up_to(way, edit, &mut endless)?;
                }
                Body::Length(left) => {
                    *payload += pass_up_to(way, edit, left)?;
                    if *left == 0 {
                        *self = Body::Done;
                    }
                }
                Body::Chunked(Chunk::Data(left)) => {
                    *payload += pass_up_to(way, edit, left)?;
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
                        *self = Body::Done;
                    }
                    way.trailer(edit, n, trailer, found.is_some())?;
                    if found.is_some() {
                        trailer.clear();
                    }
                }
                Body::Chunked(chunk) => {
                    chunk.step(edit.rest()[0], limits)?;
                    way.framing(edit, 1)?;
                }
            }
        }
        if *self == Body::Done {
            way.finish(edit);
        }
        Ok(())
    }
}

/// The way that a body's bytes go, as its state finds them.
trait Way {
    /// The next `n` bytes are the body's own.
    fn payload(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken>;

    /// The next `n` bytes are framing.
    fn framing(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken>;

    /// The next `n` bytes are of the trailer section, which `section` holds as far as it came, with them.
    fn trailer(
        &mut self,
        edit: &mut Edit<'_>,
        n: usize,
        section: &[u8],
        is_whole: bool,
    ) -> Result<(), Broken>;

    /// The body is over.
    fn finish(&mut self, edit: &mut Edit<'_>);
}

/// Nothing is looked at.
struct Unmasked;

impl Way for Unmasked {
    #[inline]
    fn payload(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken> {
        edit.keep(n);
        Ok(())
    }

    #[inline]
    fn framing(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken> {
        edit.keep(n);
        Ok(())
    }

    #[inline]
    fn trailer(&mut self, edit: &mut Edit<'_>, n: usize, _: &[u8], _: bool) -> Result<(), Broken> {
        edit.keep(n);
        Ok(())
    }

    #[inline]
    fn finish(&mut self, _: &mut Edit<'_>) {}
}

impl Way for Stream {
    fn payload(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken> {
        masked::pass(self, edit, n, Kind::Payload).map_err(unmaskable)
    }

    fn framing(&mut self, edit: &mut Edit<'_>, n: usize) -> Result<(), Broken> {
        masked::pass(self, edit, n, Kind::Framing).map_err(unmaskable)
    }

    /// Nothing of a section passes before it is known that there is no digest in it.
    fn trailer(
        &mut self,
        edit: &mut Edit<'_>,
        n: usize,
        section: &[u8],
        is_whole: bool,
    ) -> Result<(), Broken> {
        edit.skip(n);
        if !is_whole {
            return Ok(());
        }
        if has_digest(section) {
            return Err(unmaskable(masked::HAS_DIGEST));
        }
        masked::pass_copy(self, edit, section).map_err(unmaskable)
    }

    fn finish(&mut self, edit: &mut Edit<'_>) {
        let held = Stream::finish(self);
        self.release(held, |bytes| edit.put_back(bytes));
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
fn pass_up_to(way: &mut impl Way, edit: &mut Edit<'_>, left: &mut u64) -> Result<u64, Broken> {
    let n = (edit.rest().len() as u64).min(*left);
    way.payload(edit, n as usize)?;
    *left -= n;
    Ok(n)
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
