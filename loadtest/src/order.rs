//! What a client asks of the load's own upstream, and what the answer is made of.
//!
//! On raw bytes an [`Order`] is a head of 16 bytes, on HTTP it is the path: `/events/120/275/40000`. Bulk is a run of
//! numbered records, so that a lost, doubled or exchanged one changes the digest. An event carries the moment at which
//! it was meant to be sent.

use crate::options::MaskedText;
use bytes::{Buf, BytesMut};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the upstream is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Send `count` records of `size`.
    Down,
    /// Take `count` records of `size`, then answer with a [`Receipt`].
    Up,
    /// The same, and hash them.
    UpHashed,
    /// Send back what comes.
    Echo,
    /// Send `count` events, `gap_us` apart.
    Events,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Down, "down"),
    (Kind::Up, "up"),
    (Kind::UpHashed, "uphashed"),
    (Kind::Echo, "echo"),
    (Kind::Events, "events"),
];

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    /// Bytes of a record or an event. 0: events as long as those of a language model.
    pub(crate) size: u32,
    pub(crate) count: u32,
    pub(crate) gap_us: u32,
}

/// Bytes of an order on a raw connection.
pub(crate) const HEAD: usize = 16;

impl Order {
    pub(crate) fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[0] = KINDS.iter().position(|(kind, _)| *kind == self.kind).unwrap_or_default() as u8;
        for (at, field) in [(4, self.size), (8, self.count), (12, self.gap_us)] {
            head[at..at + 4].copy_from_slice(&field.to_be_bytes());
        }
        head
    }

    pub(crate) fn from_head(head: &[u8; HEAD]) -> Option<Order> {
        let field = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (kind, _) = KINDS.get(usize::from(head[0]))?;
        Some(Order { kind: *kind, size: field(4), count: field(8), gap_us: field(12) })
    }

    pub(crate) fn path(&self) -> String {
        let name = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        format!("/{name}/{}/{}/{}", self.size, self.count, self.gap_us)
    }

    pub(crate) fn from_path(path: &str) -> Option<Order> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let name = parts.next()?;
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == name)?;
        let mut number = || parts.next()?.parse().ok();
        Some(Order { kind: *kind, size: number()?, count: number()?, gap_us: number()? })
    }

    /// Bytes of the whole run of records.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.size) * u64::from(self.count)
    }
}

const FILL: u8 = b'x';
const PROSE: &str =
    "The committee met on Tuesday and spoke for some 45 minutes about what the harbour needs. ";
const VALUES: &str = "Pay 4111 1111 1111 1111 for jane.doe@example.com, call +49 30 901820 or 10.20.30.40.\n";
/// Lines of prose between two values of a sparse text: 4 KiB.
const LINES_APART: usize = 46;
/// Blanks at a record's end, so that no value goes on in the number of the next.
const MARGIN: usize = 32;

/// The text of records; `None`: one byte over and over.
static TEXT: OnceLock<MaskedText> = OnceLock::new();

/// Records hold such a text from here on.
pub(crate) fn fill_with(text: MaskedText) {
    TEXT.get_or_init(|| text);
}

/// An empty record, to be numbered with [`number`].
pub(crate) fn record(size: u32) -> Vec<u8> {
    let mut record = vec![FILL; size as usize];
    let Some(text) = TEXT.get() else { return record };
    let apart = if *text == MaskedText::Sparse { LINES_APART } else { 0 };
    let line = |n: usize| if n % (apart + 1) == apart { VALUES } else { PROSE };
    let room = (size as usize).saturating_sub(MARGIN + NUMBERED);
    let text = (0..).flat_map(|n| line(n).bytes()).take(room);
    let body = record.iter_mut().skip(NUMBERED);
    body.zip(text.chain(std::iter::repeat(b' '))).for_each(|(byte, text)| *byte = text);
    record
}

/// Bytes at a record's front that its number and a blank take.
const NUMBERED: usize = 5;

/// Writes the record's number into it, as far as it has room.
pub(crate) fn number(record: &mut [u8], n: u32) {
    let digits = n.to_be_bytes();
    let room = record.len().min(digits.len());
    record[..room].copy_from_slice(&digits[digits.len() - room..]);
}

/// SHA-256 of all records of an order.
pub(crate) fn digest(order: &Order) -> ring::digest::Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut one = record(order.size);
    for n in 0..order.count {
        number(&mut one, n);
        context.update(&one);
    }
    context.finish()
}

/// Counts what is uploaded; its text is the answer: the bytes, and their SHA-256 where it was asked for.
pub(crate) struct Receipt {
    bytes: u64,
    hash: Option<ring::digest::Context>,
}

impl Receipt {
    pub(crate) fn new(order: &Order) -> Self {
        let hashed = order.kind == Kind::UpHashed;
        Receipt { bytes: 0, hash: hashed.then(|| ring::digest::Context::new(&ring::digest::SHA256)) }
    }

    pub(crate) fn take(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(part);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn text(self) -> String {
        let hash = self.hash.map_or_else(String::new, |hash| format!("{:?}", hash.finish()));
        format!("{} {hash}", self.bytes)
    }

    /// What an upstream says that got all of an order.
    pub(crate) fn expected(order: &Order) -> String {
        let hash = if order.kind == Kind::UpHashed { format!("{:?}", digest(order)) } else { String::new() };
        format!("{} {hash}", order.bytes())
    }
}

/// Nanoseconds of the wall clock, which both ends share when they are one process.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// How events stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `data: 01763915…  xxxx` and an empty line.
    Sse,
    /// A zero, the length in four bytes, the message: gRPC's framing, on raw bytes as well.
    Framed,
}

const SSE_LEAST: usize = 6 + 20 + 2;
/// An event of a text that masks look at; its moment stands behind this.
const CHUNK_HEAD: &str = "data: {\"created\":";
const CHUNK_TEXT: &str = ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
const CHUNK_END: &str = "\"}}]}\n\n";
const FRAMED_HEAD: usize = 5;
const FRAMED_LEAST: usize = FRAMED_HEAD + 8;

/// Puts an event of about `size` bytes into `out`.
pub(crate) fn event(style: Style, size: usize, intended: u64, out: &mut Vec<u8>) {
    out.clear();
    match style {
        Style::Sse if TEXT.get().is_some() => chunk(size, intended, out),
        Style::Sse => {
            out.extend_from_slice(format!("data: {intended:020}").as_bytes());
            out.resize(size.max(SSE_LEAST) - 2, FILL);
            out.extend_from_slice(b"\n\n");
        }
        Style::Framed => {
            let size = size.max(FRAMED_LEAST);
            out.push(0);
            out.extend_from_slice(&((size - FRAMED_HEAD) as u32).to_be_bytes());
            out.extend_from_slice(&intended.to_be_bytes());
            out.resize(size, FILL);
        }
    }
}

/// Puts a chunk of a chat completion without a value into `out`.
fn chunk(size: usize, intended: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(CHUNK_HEAD.as_bytes());
    out.extend_from_slice(format!("{intended:020}{CHUNK_TEXT}").as_bytes());
    let room = size.saturating_sub(out.len() + CHUNK_END.len());
    out.extend(PROSE.bytes().cycle().take(room.max(1)));
    out.extend_from_slice(CHUNK_END.as_bytes());
}

/// Cuts a body into events.
pub(crate) struct Events {
    style: Style,
    buffer: BytesMut,
}

impl Events {
    pub(crate) fn new(style: Style) -> Self {
        Events { style, buffer: BytesMut::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event: when it was meant to be sent, if it says so.
    pub(crate) fn next(&mut self) -> Option<Option<u64>> {
        match self.style {
            Style::Sse => {
                let end = self.buffer.windows(2).position(|w| w == b"\n\n")? + 2;
                let event = self.buffer.split_to(end);
                let at = if event.starts_with(CHUNK_HEAD.as_bytes()) { CHUNK_HEAD.len() } else { 6 };
                let digits = event.get(at..at + 20);
                Some(digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()))
            }
            Style::Framed => {
                let head = self.buffer.get(1..FRAMED_HEAD)?;
                let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let message = self.buffer.get(FRAMED_HEAD..FRAMED_HEAD + length)?;
                let stamp = message.first_chunk().map(|stamp| u64::from_be_bytes(*stamp));
                self.buffer.advance(FRAMED_HEAD + length);
                Some(stamp)
            }
        }
    }
}

/// Sizes of events as a model's service sends them: an envelope of some 190 bytes around a token of a few characters,
/// now and then several tokens at once. The same for the same stream in each run.
pub(crate) struct Sizes {
    fixed: usize,
    state: u64,
}

const ENVELOPE: usize = 190;

impl Sizes {
    pub(crate) fn new(fixed: u32, seed: u64) -> Self {
        Sizes { fixed: fixed as usize, state: seed }
    }

    pub(crate) fn next(&mut self) -> usize {
        if self.fixed > 0 {
            return self.fixed;
        }
        // SplitMix64, by its published constants.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let token = 1 + (z % 5) as usize + (z >> 8 & 3) as usize;
        let together = if (z >> 16).is_multiple_of(20) { 2 + (z >> 24 & 7) as usize } else { 1 };
        ENVELOPE + token * together
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_both_ways_of_writing_it() {
        for (kind, _) in KINDS {
            let order = Order { kind, size: 120, count: 7, gap_us: 40_000 };
            assert_eq!(Order::from_head(&order.head()), Some(order));
            assert_eq!(Order::from_path(&order.path()), Some(order));
        }
        assert_eq!(Order::from_path("/events/1/2"), None);
        assert_eq!(Order::from_head(&[9; HEAD]), None);
    }

    #[test]
    fn events_are_found_again_however_they_are_cut() {
        for style in [Style::Sse, Style::Framed] {
            let (mut all, mut one) = (Vec::new(), Vec::new());
            for (n, size) in [(1, 0), (2, 120), (3, 400)] {
                event(style, size, n, &mut one);
                assert!(size == 0 || one.len() == size);
                all.extend_from_slice(&one);
            }
            for cut in 1..all.len() {
                let (mut events, mut seen) = (Events::new(style), Vec::new());
                for part in all.chunks(cut) {
                    events.push(part);
                    while let Some(stamp) = events.next() {
                        seen.push(stamp);
                    }
                }
                assert_eq!(seen, [Some(1), Some(2), Some(3)]);
            }
        }
    }

    #[test]
    fn chunks_of_a_text_that_masks_look_at_are_of_their_size_and_say_when_they_were_meant_to_be_sent() {
        let mut events = Events::new(Style::Sse);
        for (n, size) in [(7, 200), (u64::MAX, 1_000)] {
            let mut one = Vec::new();
            chunk(size, n, &mut one);
            assert_eq!(one.len(), size);
            events.push(&one);
            assert_eq!((events.next(), events.next()), (Some(Some(n)), None));
        }
    }

    #[test]
    fn sizes_look_like_tokens_and_repeat() {
        let draw = |seed| {
            let mut sizes = Sizes::new(0, seed);
            (0..1000).map(|_| sizes.next()).collect::<Vec<_>>()
        };
        let (a, b) = (draw(1), draw(2));
        assert_eq!(a, draw(1));
        assert_ne!(a, b);
        assert!(a.iter().all(|size| (ENVELOPE..ENVELOPE + 80).contains(size)));
    }

    #[test]
    fn a_receipt_tells_a_swapped_record_only_where_it_is_hashed() {
        for (kind, told) in [(Kind::Up, false), (Kind::UpHashed, true)] {
            let order = Order { kind, size: 16, count: 2, gap_us: 0 };
            let receipt = |numbers: [u32; 2]| {
                let (mut receipt, mut one) = (Receipt::new(&order), record(16));
                for n in numbers {
                    number(&mut one, n);
                    one.chunks(7).for_each(|part| receipt.take(part));
                }
                receipt.text()
            };
            assert_eq!(receipt([0, 1]), Receipt::expected(&order));
            assert_eq!(receipt([1, 0]) != Receipt::expected(&order), told);
        }
    }

    #[test]
    fn a_swapped_record_changes_the_digest() {
        let order = Order { kind: Kind::Down, size: 16, count: 2, gap_us: 0 };
        let (mut zero, mut one) = (record(16), record(16));
        number(&mut zero, 0);
        number(&mut one, 1);
        let right = ring::digest::digest(&ring::digest::SHA256, &[zero.clone(), one.clone()].concat());
        let wrong = ring::digest::digest(&ring::digest::SHA256, &[one, zero].concat());
        assert_eq!(digest(&order).as_ref(), right.as_ref());
        assert_ne!(digest(&order).as_ref(), wrong.as_ref());
    }
}
