//! Frames: nine bytes of head, then a payload (RFC 9113 section 4).

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Where the stream's number begins in a head, and the bit of that byte which means nothing (section 4.1).
pub(super) const STREAM: usize = 5;
pub(super) const RESERVED: u8 = 0x80;
/// The largest payload before anybody announced another limit, and the one that we keep to (section 6.5.2).
pub(super) const MAX_FRAME: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITISED: u8 = 0x20;

/// Settings (section 6.5.2).
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Error codes (section 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const COMPRESSION_ERROR: u32 = 9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s @ ..] = *bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Head { length, kind, flags, stream: u32::from_be_bytes(s) & 0x7fff_ffff }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    write_head(out, Head { length: payload.len(), kind, flags, stream });
    out.extend_from_slice(payload);
}

/// Appends a frame's head, whose payload is to follow.
pub(super) fn write_head(out: &mut Vec<u8>, head: Head) {
    let [_, a, b, c] = (head.length as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, head.kind, head.flags]);
    out.extend_from_slice(&head.stream.to_be_bytes());
}

/// What whole frames take of flow-control windows: the payloads of DATA, padding included (section 6.9.1).
pub(super) fn data_bytes(mut frames: &[u8]) -> usize {
    let mut sum = 0;
    while let Some((head, rest)) = frames.split_first_chunk::<HEAD>() {
        let head = Head::parse(head);
        sum += if head.kind == DATA { head.length } else { 0 };
        frames = rest.get(head.length..).unwrap_or_default();
    }
    sum
}

/// Appends a header block as HEADERS and as many CONTINUATION frames as it needs.
pub(super) fn write_block(out: &mut Vec<u8>, stream: u32, end_stream: bool, block: &[u8]) {
    let (mut kind, mut flags) = (HEADERS, if end_stream { END_STREAM } else { 0 });
    let mut rest = block;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_FRAME));
        if later.is_empty() {
            flags |= END_HEADERS;
        }
        write(out, kind, flags, stream, now);
        if later.is_empty() {
            return;
        }
        (kind, flags, rest) = (CONTINUATION, 0, later);
    }
}

pub(super) fn write_reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    write(out, RST_STREAM, 0, stream, &code.to_be_bytes());
}

pub(super) fn write_credit(out: &mut Vec<u8>, bytes: u32) {
    write(out, WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
}

pub(super) fn write_goaway(out: &mut Vec<u8>, last: u32, code: u32) {
    write(out, GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
}

/// The settings of a payload: identifier and value.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .chunks_exact(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
}

pub(super) fn push_setting(payload: &mut Vec<u8>, id: u16, value: u32) {
    payload.extend_from_slice(&id.to_be_bytes());
    payload.extend_from_slice(&value.to_be_bytes());
}

/// True for a HEADERS or PRIORITY payload that makes its stream depend on itself (RFC 7540 section 5.3.1).
pub(super) fn depends_on_itself(head: &Head, payload: &[u8]) -> bool {
    if head.kind == HEADERS && !head.has(PRIORITISED) {
        return false;
    }
    let at = usize::from(head.kind == HEADERS && head.has(PADDED));
    let dependency = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    dependency.is_some_and(|dependency| dependency & 0x7fff_ffff == head.stream)
}

/// Bytes that a HEADERS payload has at least: what its flags name.
pub(super) fn least_payload(head: &Head) -> usize {
    usize::from(head.has(PADDED)) + 5 * usize::from(head.has(PRIORITISED))
}

/// The header block fragment of a HEADERS payload, padding and priority taken off (section 6.2).
pub(super) fn fragment<'a>(head: &Head, payload: &'a [u8]) -> Option<&'a [u8]> {
    let (padding, rest) = match head.has(PADDED) {
        true => payload.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        false => (0, payload),
    };
    let rest = if head.has(PRIORITISED) { rest.get(5..)? } else { rest };
    rest.get(..rest.len().checked_sub(padding)?)
}
