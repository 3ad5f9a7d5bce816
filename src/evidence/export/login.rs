//! The fabricated log-in before a database session in a capture: capture tools need it, and recordings have none.

use crate::evidence::transcript::Protocol;
use crate::protocol::mysql;
use crate::recording::format::frame::Plane;

/// `CLIENT_SSL` and what every client of today has: long password, protocol 4.1, transactions, secure connection, results.
const FLAGS: u32 = 1 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 19;

/// Said before TLS begins.
pub(super) fn before_tls(protocol: Protocol, is_plain: bool) -> Vec<(Plane, Vec<u8>)> {
    match (protocol, is_plain) {
        (Protocol::Postgres, false) => {
            vec![(Plane::Up, vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]), (Plane::Down, b"S".to_vec())]
        }
        (Protocol::Mysql, false) => {
            let mut request = [&FLAGS.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45]].concat();
            request.resize(32, 0);
            vec![(Plane::Down, greeting()), (Plane::Up, packet(1, &request))]
        }
        (Protocol::Mysql, true) => vec![(Plane::Down, greeting())],
        _ => Vec::new(),
    }
}

/// Said once TLS stands.
pub(super) fn behind_tls(protocol: Protocol) -> Vec<(Plane, Vec<u8>)> {
    match protocol {
        Protocol::Mysql => {
            let mut response = [&FLAGS.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45]].concat();
            response.resize(32, 0);
            response.extend(b"recorded\0\0mysql_clear_password\0");
            let ok = packet(3, &[0, 0, 0, 2, 0, 0, 0]);
            vec![(Plane::Up, packet(2, &response)), (Plane::Down, ok)]
        }
        _ => Vec::new(),
    }
}

/// What of it the capture's comment says.
pub(super) fn describe(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Postgres => " So is the request for TLS before it.",
        Protocol::Mysql => " So are the server's greeting and the log-in, which recordings do not hold.",
        _ => "",
    }
}

fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a8.0.0-recorded\0\x01\0\0\0".to_vec();
    payload.extend([b'x'; 8]);
    payload.push(0);
    payload.extend((FLAGS as u16).to_le_bytes());
    payload.push(45);
    payload.extend([2, 0]);
    payload.extend(((FLAGS >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend([0; 10]);
    payload.extend([b'x'; 12]);
    payload.extend(b"\0mysql_clear_password\0");
    packet(0, &payload)
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    mysql::write(&mut out, sequence, payload);
    out
}
