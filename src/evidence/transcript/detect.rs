//! Which protocol a session speaks, by its first bytes.

use super::{Decoder, Limits, http1, http2, mysql, postgres, raw, redis};

/// Protocols that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1 with what it upgrades to, WebSocket among them.
    Http1,
    /// HTTP/2, gRPC among it.
    Http2,
    /// PostgreSQL behind its login.
    Postgres,
    /// MySQL behind its login.
    Mysql,
    /// Redis.
    Redis,
    /// Bytes as they are.
    Raw,
}

impl Protocol {
    pub(super) fn decoder(self, limits: Limits) -> Box<dyn Decoder> {
        match self {
            Protocol::Http1 => Box::new(http1::Http1::new(limits)),
            Protocol::Http2 => Box::new(http2::Http2::new(limits)),
            Protocol::Postgres => Box::new(postgres::Postgres::new(limits)),
            Protocol::Mysql => Box::new(mysql::Mysql::new(limits)),
            Protocol::Redis => Box::new(redis::Redis::new(limits)),
            Protocol::Raw => Box::new(raw::Raw(limits)),
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that the first bytes of both planes show, or none.
pub fn detect_protocol(up: &[u8], down: &[u8]) -> Protocol {
    detect(up, down).unwrap_or(Protocol::Raw)
}

/// The protocol, as soon as the first bytes of either plane show it.
pub(super) fn detect(up: &[u8], down: &[u8]) -> Option<Protocol> {
    if up.len() >= PREFACE.len() && up.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(&up[..up.len().min(PREFACE.len())]) && !up.is_empty() {
        return None;
    }
    if down.starts_with(b"HTTP/1.") || is_request_line(up) {
        return Some(Protocol::Http1);
    }
    if is_postgres(up, b"QPBDECSHFXdcf") || is_postgres(down, b"RSKZTDCEN123nstIGHWV") {
        return Some(Protocol::Postgres);
    }
    if is_redis(up) || up.is_empty() && is_redis_reply(down) {
        return Some(Protocol::Redis);
    }
    if is_mysql_command(up) {
        return Some(Protocol::Mysql);
    }
    None
}

/// `METHOD target HTTP/1.` at the front.
fn is_request_line(up: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', up) else {
        // A line that is long, and has a method that is known.
        let methods: [&[u8]; 9] = [
            b"GET /",
            b"POST /",
            b"PUT /",
            b"HEAD /",
            b"DELETE /",
            b"PATCH /",
            b"OPTIONS ",
            b"CONNECT ",
            b"PROPFIND /",
        ];
        return up.len() >= 32 && methods.iter().any(|method| up.starts_with(method));
    };
    let line = up[..end].strip_suffix(b"\r").unwrap_or(&up[..end]);
    line.len() > 9 && line[..line.len() - 1].ends_with(b" HTTP/1.")
}

/// Whole messages, each a type and a length, from the front to the end or to one that is cut.
fn is_postgres(mut bytes: &[u8], types: &[u8]) -> bool {
    let mut whole = 0;
    while let Some((head, _)) = bytes.split_first_chunk::<5>() {
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if !types.contains(&tag) || !(4..=1 << 30).contains(&length) {
            return false;
        }
        match bytes.get(1 + length..) {
            Some(rest) => bytes = rest,
            None => return whole > 0 || length < 1 << 16,
        }
        whole += 1;
    }
    whole > 0
}

fn is_redis(up: &[u8]) -> bool {
    let Some(rest) = up.strip_prefix(b"*") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(b"\r\n$")
}

fn is_redis_reply(down: &[u8]) -> bool {
    matches!(down.first(), Some(b'+' | b'-' | b':' | b'$' | b'*' | b'%' | b'>')) && down.contains(&b'\r')
}

/// A packet with number 0 and a command that is known.
fn is_mysql_command(up: &[u8]) -> bool {
    let Some(([l0, l1, l2, sequence, command], _)) = up.split_first_chunk::<5>() else { return false };
    let length = u32::from_le_bytes([*l0, *l1, *l2, 0]);
    length > 0 && *sequence == 0 && matches!(command, 0x01..=0x1f | 0xfa..=0xfe)
}
