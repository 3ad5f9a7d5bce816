//! Just enough HTTP/2 (RFC 9113) to speak in lockstep: a library's peers send credit and acknowledgements when they see
//! fit, which would move counts about.

use crate::requests::Upstream;
use staunch::protocol::sniff::HTTP2_PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What an end begins with: settings, and as much credit for the connection as there is, so that nobody gives any later.
pub(crate) fn greeting(client: bool) -> Vec<u8> {
    let preface = if client { HTTP2_PREFACE } else { &[] };
    let credit = (0x7fff_ffff_u32 - 65_535).to_be_bytes();
    [preface, &frame(SETTINGS, 0, 0, &[]), &frame(WINDOW_UPDATE, 0, 0, &credit)].concat()
}

/// True if a client's preface came.
pub(crate) async fn preface_came(from: &mut Upstream) -> bool {
    let mut preface = [0; HTTP2_PREFACE.len()];
    let came = from.read_exact(&mut preface).await.is_ok();
    assert!(!came || preface == HTTP2_PREFACE);
    came
}

/// Reads frames until the message on `stream` ends, and returns its body. Settings are acknowledged.
pub(crate) async fn read_message(
    peer: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    stream: u32,
) -> Vec<u8> {
    let (mut body, mut headed) = (Vec::new(), false);
    loop {
        let mut head = [0; 9];
        peer.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, kind, flags, id @ ..] = head;
        let id = u32::from_be_bytes(id);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        peer.read_exact(&mut payload).await.expect("a frame's payload");
        match kind {
            HEADERS if id == stream => headed = true,
            DATA if id == stream => body.extend_from_slice(&payload),
            SETTINGS if flags & ACK == 0 => peer.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap(),
            SETTINGS | WINDOW_UPDATE if id == 0 => {}
            _ => panic!("frame of type {kind} on stream {id}, {} bytes", payload.len()),
        }
        if id == stream && flags & END_STREAM != 0 {
            assert!(headed, "a body without a head");
            return body;
        }
    }
}
