//! Blocks of a capture file (draft-ietf-opsawg-pcapng), little-endian.

use std::io::{self, Write};

/// Raw IP, version 4 or 6.
const LINK_TYPE: u16 = 101;

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let padding = body.len().next_multiple_of(4) - body.len();
    let length = ((12 + body.len() + padding) as u32).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&[0; 3][..padding])?;
    out.write_all(&length)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Section header with a comment, and one interface with times in nanoseconds.
pub(super) fn write_head(out: &mut impl Write, comment: &str) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend([1, 0, 0, 0]);
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 1, comment.as_bytes());
    option(&mut body, 4, concat!("staunch ", env!("CARGO_PKG_VERSION")).as_bytes());
    option(&mut body, 0, &[]);
    block(out, 0x0a0d_0d0a, &body)?;
    let mut body = Vec::new();
    body.extend(LINK_TYPE.to_le_bytes());
    body.extend([0; 6]);
    option(&mut body, 9, &[9]);
    option(&mut body, 0, &[]);
    block(out, 1, &body)
}

/// Decryption secrets: a TLS key log.
pub(super) fn write_secrets(out: &mut impl Write, key_log: &str) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend(0x544c_534b_u32.to_le_bytes());
    body.extend((key_log.len() as u32).to_le_bytes());
    body.extend(key_log.as_bytes());
    block(out, 10, &body)
}

/// A packet, at `time` ns since 1970.
pub(super) fn write_packet(out: &mut impl Write, time: u64, packet: &[u8]) -> io::Result<()> {
    let mut body = Vec::with_capacity(packet.len() + 24);
    body.extend(0_u32.to_le_bytes());
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend(packet);
    block(out, 6, &body)
}
