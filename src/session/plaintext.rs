//! Connections that do not begin with a TLS handshake: refused, with an answer where that helps.

use crate::close::Plaintext;

/// Bytes that tell what a plaintext connection is.
pub const PEEK_BYTES: usize = 24;

/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
pub const TLS_HANDSHAKE: u8 = 22;

/// Tells what the first bytes look like; `None`: a TLS handshake record of a version that was ever 3.x.
pub fn look(first: &[u8]) -> Option<Plaintext> {
    match first {
        [TLS_HANDSHAKE, 3, ..] | [TLS_HANDSHAKE] => None,
        // An SSLv2-style hello: two length bytes with the top bit set, message type 1 (RFC 5246 appendix E.2).
        [length, _, 1, ..] if length & 0x80 != 0 => Some(Plaintext::OldTls),
        [TLS_HANDSHAKE, ..] => Some(Plaintext::OldTls),
        // SSLRequest and GSSENCRequest: length 8, codes 1234 5679 and 1234 5680; a startup packet: version 3.0.
        [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f | 0x30, ..] | [0, 0, _, _, 0, 3, 0, _, ..] => {
            Some(Plaintext::Postgres)
        }
        // CancelRequest: code 1234 5678.
        [0, 0, _, _, 0x04, 0xd2, 0x16, 0x2e, ..] => Some(Plaintext::PostgresCancel),
        _ if first.starts_with(b"SSH-") => Some(Plaintext::Ssh),
        _ if first.starts_with(b"PRI * HTTP/2.0") => Some(Plaintext::Http2),
        _ if is_http(first) => Some(Plaintext::Http),
        _ => Some(Plaintext::Other),
    }
}

fn is_http(first: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];
    METHODS.iter().any(|method| first.starts_with(method))
}

/// What a plaintext HTTP client is told, in the form of all refusals: SDKs show nothing of other texts.
pub const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: application/json\r\n\
    content-length: 121\r\n\
    connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"plaintext\",\"message\":\"This port speaks TLS 1.2 or later only. Use https:// instead of http:// here.\"}}\n";

/// The fatal alert `unrecognized_name` in a plaintext record (RFC 6066 section 3).
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// The fatal alert `no_application_protocol` in a plaintext record (RFC 7301 section 3.2).
pub const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_to_kind() {
        let table: &[(&[u8], Option<Plaintext>)] = &[
            (&[22], None),
            (&[22, 3, 1, 2, 0, 1], None),
            (&[22, 2, 0], Some(Plaintext::OldTls)),
            (&[0x80, 0x2e, 1, 3, 1], Some(Plaintext::OldTls)),
            (b"GET / HTTP/1.1\r\n", Some(Plaintext::Http)),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Some(Plaintext::Http2)),
            (&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], Some(Plaintext::Postgres)),
            (&[0, 0, 0, 41, 0, 3, 0, 0, b'u'], Some(Plaintext::Postgres)),
            (&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0], Some(Plaintext::PostgresCancel)),
            (b"SSH-2.0-OpenSSH", Some(Plaintext::Ssh)),
            (b"*1\r\n$4\r\nPING", Some(Plaintext::Other)),
            (&[0], Some(Plaintext::Other)),
        ];
        for (first, kind) in table {
            assert_eq!(look(first), *kind, "{first:?}");
        }
    }

    #[test]
    fn the_http_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
